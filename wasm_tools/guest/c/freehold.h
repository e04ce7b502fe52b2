/* What a tool written in C stands on. There is no libc and no WASI: these functions, and the
 * compiler's own headers (stdint.h, stddef.h, stdbool.h, stdarg.h), are what there is.
 *
 * A tool defines `fh_functions`, ended by an entry without a name. A function reads its arguments,
 * adds to its answer, and returns; once something has failed, what it does after that is ignored
 * (no capability is asked any more) and the call ends with the first failure's words. Text is
 * UTF-8 with a NUL behind it, and lives as long as the call: nothing is ever freed. */
#ifndef FREEHOLD_H
#define FREEHOLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct fh_call fh_call;

typedef struct {
  const char *name;
  void (*run)(fh_call *call);
} fh_function;

extern const fh_function fh_functions[];

/* Arguments. A missing one, or one of another type, fails the call and reads as "" or 0. */
bool fh_has(fh_call *call, const char *name);
const char *fh_text(fh_call *call, const char *name);
double fh_number(fh_call *call, const char *name);
bool fh_bool(fh_call *call, const char *name);

/* The answer is a JSON object; each of these adds one member. */
void fh_answer_text(fh_call *call, const char *name, const char *text);
void fh_answer_number(fh_call *call, const char *name, double number);
void fh_answer_bool(fh_call *call, const char *name, bool value);
void fh_answer_json(fh_call *call, const char *name, const char *json);

/* Ends the call with an error in plain words. */
void fh_fail(fh_call *call, const char *words);

/* Memory (never null) and the little of string.h that most tools need. */
void *fh_alloc(fh_call *call, size_t bytes);
size_t fh_length(const char *text);
bool fh_same(const char *a, const char *b);
const char *fh_join(fh_call *call, const char *a, const char *b);

/* Capabilities. Use one, and name it under `capabilities` in tool.toml. A refusal by the host fails
 * the call with the host's words, and reads as "" or 0. */
const char *fh_workspace_list(fh_call *call, const char *path);
const char *fh_workspace_read(fh_call *call, const char *path);
uint64_t fh_workspace_write(fh_call *call, const char *path, const char *content);
void fh_workspace_remove(fh_call *call, const char *path);
const char *fh_http_fetch(fh_call *call, const char *request);
const char *fh_knowledge_search(fh_call *call, const char *query, uint32_t limit);
const char *fh_store_get(fh_call *call, const char *key); /* null where the key has no value */
void fh_store_set(fh_call *call, const char *key, const char *value);
void fh_store_delete(fh_call *call, const char *key);
const char *fh_store_keys(fh_call *call);
uint64_t fh_clock_now(void);
uint64_t fh_random_bits(void);

#endif

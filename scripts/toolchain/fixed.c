/* Preloaded into a componentizer so that what it builds is the same each time.
 *
 * A memory snapshot holds whatever the interpreter drew while it started: hash seeds and the
 * time. Here the randomness is a fixed sequence, wall time stands at SOURCE_DATE_EPOCH, and
 * monotonic time goes in steps of a thousand seconds. Linux only. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>

static void fill(unsigned char *out, size_t length) {
  for (size_t i = 0; i < length; i++) out[i] = (unsigned char)(i * 37 + 11);
}

static time_t epoch(void) {
  const char *text = getenv("SOURCE_DATE_EPOCH");
  return text ? (time_t)atoll(text) : 0;
}

ssize_t getrandom(void *out, size_t length, unsigned flags) {
  (void)flags;
  fill(out, length);
  return (ssize_t)length;
}

int getentropy(void *out, size_t length) {
  fill(out, length);
  return 0;
}

long syscall(long number, ...) {
  static long (*real)(long, ...);
  long a[6];
  va_list list;
  va_start(list, number);
  for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
  va_end(list);
  if (number == SYS_getrandom) return getrandom((void *)a[0], (size_t)a[1], 0);
  if (!real) real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
  return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int clock_gettime(clockid_t clock, struct timespec *out) {
  static int (*real)(clockid_t, struct timespec *);
  if (clock == CLOCK_REALTIME) {
    out->tv_sec = epoch();
    out->tv_nsec = 0;
    return 0;
  }
  if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
  int failed = real(clock, out);
  out->tv_sec -= out->tv_sec % 1000;
  out->tv_nsec = 0;
  return failed;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
  (void)zone;
  out->tv_sec = epoch();
  out->tv_usec = 0;
  return 0;
}

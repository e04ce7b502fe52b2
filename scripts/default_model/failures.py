"""Results that are errors, and the honest sentence after one."""

from __future__ import annotations

from tasks import Call, finished
from words import Words

_COULD_NOT = {
    "calc": "calculate {expression}",
    "files_list": "list {path}",
    "files_read": "read {path}",
    "files_write": "write {path}",
    "files_search": "search for {query}",
    "web_fetch": "fetch {url}",
    "text_match": "match {pattern}",
    "text_query": "find {path}",
    "text_diff": "compare the texts",
    "text_count": "count the text",
    "js_run": "run the program",
    "python_run": "run the program",
}
_MESSAGES = {
    "calc": [
        "division by zero",
        "unexpected {word} at character {n}",
        "the expression ends too early",
        "the number is too large",
        "an exponent must be a whole number",
        "missing )",
        "the expression takes too long to calculate",
    ],
    "files_list": [
        "no such folder: {path}",
        "there is no such folder",
        "it is not a folder",
        "permission denied",
        "no such file: {path}",
    ],
    "files_read": [
        "no such file: {path}",
        "no such file: {path}",
        "no such file: {path}",
        "not a text file: {path}",
        "permission denied: {path}",
        "the path names a folder, not a file",
        "the file is larger than file_bytes = {n}",
        "it is not a regular file",
        "the file is not UTF-8 text",
        "a path may not lead up (..)",
        "there is no such file",
        "there is no such file: {path}",
        "a path is relative, with / between names",
    ],
    "files_write": [
        "permission denied",
        "the workspace is granted read-only",
        "it is a folder",
        "a path may not lead up (..)",
        "the workspace is full: workspace_files = {n}",
        "file exists: {path}",
    ],
    "files_search": ["too many files", "permission denied"],
    "web_fetch": [
        "address not allowed: {url}",
        "connection refused",
        "timed out",
        "no such host: {word}",
        "host not found",
        "private address",
        "response too large",
    ],
    "text_match": ["invalid pattern: {pattern}", "unbalanced parenthesis", "step limit reached"],
    "text_query": ["no such path: {path}", "invalid JSON at {n}"],
    "text_diff": ["text too long"],
    "text_count": ["text too long"],
    "js_run": [
        "ReferenceError: {word} is not defined",
        "SyntaxError: unexpected token",
        "time limit reached",
        "TypeError: not a function",
    ],
    "python_run": [
        "NameError: name {word} is not defined",
        "SyntaxError: invalid syntax",
        "time limit reached",
        "ZeroDivisionError: division by zero",
    ],
}
_ANY = [
    "denied by policy",
    "budget exhausted",
    "timed out after {n} s",
    "not allowed",
    "the tool failed",
    "the call was cancelled",
    "the tool went over its limit seconds = {n} and was stopped",
    "denied by policy: {word}",
    "{word} {word2}",
    "no answer",
    "cancelled",
    "memory limit reached",
]


def fail(call: Call, words: Words) -> tuple[Call, str]:
    """The call with an error as its result, and what to say of it."""
    rng = words.rng
    options = _MESSAGES.get(call.kind, _ANY) if rng.random() < 0.75 else _ANY
    slots = {key: str(value) for key, value in call.arguments.items()} | {
        "word": words.word(),
        "word2": words.word(),
        "n": str(rng.randint(1, 99)),
    }
    pattern = rng.choice(options)
    message = pattern
    for key, value in slots.items():
        message = message.replace("{" + key + "}", value)
    failed = Call(call.kind, call.arguments, {"error": message})
    return failed, could_not(failed)


def could_not(call: Call) -> str:
    """The honest sentence after an error; what was tried is not said twice."""
    doing = _COULD_NOT.get(call.kind, "do that")
    for key, value in call.arguments.items():
        doing = doing.replace("{" + key + "}", str(value))
    message = str(call.result["error"])
    if ": " in message and doing.endswith(" " + message.split(": ", 1)[1]):
        message = message.split(": ", 1)[0]
    return finished(f"I could not {doing}: {message}")

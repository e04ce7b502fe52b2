"""Runs a program given as text: what it printed, and the value of its last expression.

A call is a function of its source: there are no files, no clock and no chance (`random` begins
at the same place each time). The program is given the modules of `modules.py` and no others.
"""

import ast
import io
import json
import math
import sys

import modules

MAX_OUTPUT = 65_536
MAX_RESULT = 65_536
MAX_INT_BITS = 14_000
MAX_RECURSION = 350
MAX_DEPTH = 50


class Output(io.StringIO):
    """Standard output that keeps the first MAX_OUTPUT characters."""

    def write(self, text):
        room = MAX_OUTPUT - self.tell()
        if room >= 0:
            super().write(text[:room])
            if len(text) > room:
                super().write("\n… (more was printed)\n")
        return len(text)


def python_run(arguments):
    code = arguments.get("code")
    if not isinstance(code, str):
        raise ValueError("the argument code must be text")
    output = Output()
    sys.stdout = sys.stderr = output
    sys.stdin = io.StringIO()
    limit_recursion()
    sys.addaudithook(modules.no_files)
    try:
        result = plain(execute(code))
    except BaseException as error:
        raise RuntimeError(explain(error, output.getvalue())) from None
    return {"output": output.getvalue(), "result": result}


def limit_recursion():
    """Past MAX_RECURSION the interpreter would use up the sandbox's stack and trap."""
    set_limit = sys.setrecursionlimit
    set_limit(MAX_RECURSION)
    sys.setrecursionlimit = lambda limit: set_limit(min(limit, MAX_RECURSION))


def execute(code):
    """The value of the last statement if it is an expression, else None."""
    tree = ast.parse(code, "<program>")
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    scope = {"__name__": "__main__", "__builtins__": modules.BUILTINS}
    try:
        exec(compile(tree, "<program>", "exec"), scope)  # noqa: S102 - what the tool is for
        if last is not None:
            expression = compile(ast.Expression(last.value), "<program>", "eval")
            return eval(expression, scope)  # noqa: S307
    except SystemExit as leaving:
        if leaving.code not in (None, 0):
            raise
    return None


def plain(value):
    """The value as JSON where it is JSON, and its repr where it is not."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and value.bit_length() > MAX_INT_BITS:
        raise ValueError("the result has too many digits: print a part of it")
    try:
        text = json.dumps(value, ensure_ascii=False) if is_json(value) else repr(value)
    except RecursionError:
        text = object.__repr__(value)
    if len(text) > MAX_RESULT:
        raise ValueError(f"the result is too long: {len(text)} characters")
    return value if is_json(value) else text


def is_json(value, depth=0):
    if isinstance(value, int):  # a bool too
        return value.bit_length() <= MAX_INT_BITS
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list | tuple):
        return depth < MAX_DEPTH and all(is_json(item, depth + 1) for item in value)
    if type(value) is dict:
        texts = all(isinstance(key, str) for key in value)
        return depth < MAX_DEPTH and texts and all(is_json(v, depth + 1) for v in value.values())
    return value is None or isinstance(value, str)


def explain(error, output):
    if isinstance(error, SyntaxError) and error.filename == "<program>":
        words = f"SyntaxError: {error.msg} (line {error.lineno})"
    else:
        said = str(error)
        words = f"{type(error).__name__}: {said}" if said else type(error).__name__
        line = program_line(error.__traceback__)
        words += f" (line {line})" if line else ""
    return f"{words}\nprinted before: {output}" if output else words


def program_line(traceback):
    line = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == "<program>":
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line


functions = {"python_run": python_run}

# Once now, so that the snapshot holds an interpreter that has run a program before.
json.dumps({"output": Output().getvalue(), "result": plain(execute("import math\nmath.pi + 1"))})

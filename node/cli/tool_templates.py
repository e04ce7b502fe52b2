"""What `freehold tool new` writes: the same small tool in each language.

It greets someone by name and fails in words where there is nobody: an argument, an answer, an
error and an example of each, which is what one changes first.
"""

from __future__ import annotations

from pathlib import Path

from node.errors import ToolError

_MANIFEST = """\
name = "NAME"
version = "0.1.0"
about = "Greets people"
language = "LANGUAGE"
capabilities = []
sha256 = ""

[[functions]]
name = "NAME_greet"
description = "Greet someone by name"
read_only = true
idempotent = true

[functions.parameters]
type = "object"
required = ["name"]
additionalProperties = false

[functions.parameters.properties.name]
type = "string"
description = "Who to greet"

[[examples]]
function = "NAME_greet"
arguments = { name = "Ada" }
result = { greeting = "Hello, Ada!" }

[[examples]]
function = "NAME_greet"
arguments = { name = "" }
error = "nobody"
"""

_ZIG = """\
const guest = @import("guest");
const std = @import("std");

pub const functions = .{ .NAME_greet = greet };

fn greet(call: *guest.Call) guest.Error!void {
    const name = try call.text("name");
    if (name.len == 0) return call.fail("there is nobody to greet", .{});
    const greeting = try std.fmt.allocPrint(call.arena, "Hello, {s}!", .{name});
    try call.answer(.{ .greeting = greeting });
}
"""

_C = """\
#include "freehold.h"

static void greet(fh_call *call) {
  const char *name = fh_text(call, "name");
  if (fh_length(name) == 0) return fh_fail(call, "there is nobody to greet");
  fh_answer_text(call, "greeting", fh_join(call, fh_join(call, "Hello, ", name), "!"));
}

const fh_function fh_functions[] = {{"NAME_greet", greet}, {0}};
"""

_JS = """\
export const functions = {
  NAME_greet({ name }) {
    if (!name) throw new Error("there is nobody to greet");
    return { greeting: `Hello, ${name}!` };
  },
};
"""

_PYTHON = """\
def greet(arguments):
    name = arguments["name"]
    if not name:
        raise ValueError("there is nobody to greet")
    return {"greeting": f"Hello, {name}!"}


functions = {"NAME_greet": greet}
"""

_SOURCES = {
    "zig": ("tool.zig", _ZIG),
    "c": ("tool.c", _C),
    "js": ("tool.js", _JS),
    "python": ("tool.py", _PYTHON),
}


def write(folder: Path, name: str, language: str) -> Path:
    """Writes the tool into `folder`, which must not exist.

    Raises:
        ToolError: the name cannot be a tool's, or the folder is there or cannot be made.
    """
    from node.sandbox import parse_manifest

    manifest = _MANIFEST.replace("NAME", name).replace("LANGUAGE", language)
    parse_manifest(manifest.encode(), folder / "tool.toml")
    file, source = _SOURCES[language]
    try:
        folder.mkdir(parents=True)
        (folder / "tool.toml").write_text(manifest, encoding="utf-8")
        (folder / file).write_text(source.replace("NAME", name), encoding="utf-8")
    except OSError as error:
        raise ToolError(
            f"cannot write the tool into {folder}: {error.strerror}",
            hint="Choose another name, or another place with --into.",
        ) from error
    return folder

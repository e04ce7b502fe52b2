"""From a tool's source to its component, one function a language.

C and Zig are compiled to a freestanding core module (so that nothing of WASI is imported) over
the runtime in `wasm_tools/guest/zig`, made smaller by binaryen's optimizer, and made into a
component by wasm-tools as jco carries it.
JavaScript and Python come with their interpreter, from componentize-qjs and componentize-py.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from environment import FOLDER, PYTHON, ROOT, ToolchainError, run
from source import ToolSource

GUEST = ROOT / "wasm_tools" / "guest"
STACK_BYTES = 256 * 1024
# What Zig's generic WebAssembly has; the optimizer takes a tenth off what the compiler made.
FEATURES = (
    "--enable-bulk-memory-opt",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-sign-ext",
    "--enable-multivalue",
    "--enable-reference-types",
)
WASM_OPT = "node_modules/binaryen/bin/wasm-opt"
EXPORTS = ("describe", "call", "cabi_realloc", "cabi_post_call")


def build(tool: ToolSource) -> bytes:
    """The component's bytes. Raises ToolchainError with the compiler's words."""
    with tempfile.TemporaryDirectory(prefix="freehold-tool-") as name:
        work = Path(name)
        (work / "tool.wit").write_text(tool.wit())
        (work / "describe.json").write_text(tool.describe())
        BUILDERS[tool.language](tool, work)
        return (work / "tool.wasm").read_bytes()


def _zig(tool: ToolSource, work: Path) -> None:
    _core_module(tool, work, f"tool/{tool.entry.name}")


def _c(tool: ToolSource, work: Path) -> None:
    flags = ["-Iguest/c", "-cflags", "-Os", "-Wall", "-Wextra", "-Werror", "--"]
    sources = sorted(path.name for path in tool.folder.glob("*.c"))
    _core_module(tool, work, "guest/c.zig", *flags, *(f"tool/{name}" for name in sources))


def _core_module(tool: ToolSource, work: Path, root: str, *c_sources: str) -> None:
    """Compiles `root` as the tool's module over the runtime, and makes it a component."""
    runtime = shutil.copytree(GUEST / "zig", work / "guest")
    shutil.copytree(GUEST / "c", runtime / "c")
    shutil.copy(work / "describe.json", runtime)
    shutil.copytree(tool.folder, work / "tool", ignore=shutil.ignore_patterns("*.wasm"))
    cache = Path(os.environ.get("FREEHOLD_TOOL_CACHE", ROOT / ".cache" / "zig"))
    command = [str(PYTHON), "-m", "ziglang", "build-exe", "-target", "wasm32-freestanding"]
    command += ["-fstrip", "-fno-entry", "--stack", str(STACK_BYTES)]
    command += [f"--export={name}" for name in EXPORTS]
    command += ["--cache-dir", str(cache), "--global-cache-dir", str(cache), *c_sources]
    # Zig checks overflow and bounds in every module, or in none, as the root module's mode says.
    modules = [
        *("--dep", "guest", "--dep", "tool", "-OReleaseSafe", "-Mroot=guest/abi.zig"),
        *("-OReleaseSmall", "-Mguest=guest/guest.zig"),
        *("--dep", "guest", "-OReleaseSmall", f"-Mtool={root}"),
    ]
    run([*command, *modules, "-femit-bin=built.wasm"], cwd=work)
    _node(WASM_OPT, "-O2", *FEATURES, "built.wasm", "-o", "core.wasm", cwd=work)
    _node("component.mjs", "core.wasm", "tool.wit", "tool.wasm", cwd=work)


def _javascript(tool: ToolSource, work: Path) -> None:
    shutil.copytree(tool.folder, work / "tool", ignore=shutil.ignore_patterns("*.wasm"))
    shutil.copy(GUEST / "js" / "main.js", work)
    description = json.dumps(tool.describe())
    (work / "describe.js").write_text(f"export const description = {description};\n")
    _node("javascript.mjs", "main.js", "tool.wit", "tool.wasm", cwd=work, fixed=_fixed(work))


def _python(tool: ToolSource, work: Path) -> None:
    shutil.copytree(tool.folder, work / "app", ignore=shutil.ignore_patterns("*.wasm", "__*"))
    shutil.copy(GUEST / "python" / "main.py", work / "app")
    (work / "app" / "describe.py").write_text(f"DESCRIPTION = {tool.describe()!r}\n")
    command = [str(PYTHON.parent / "componentize-py"), "-d", "tool.wit", "-w", "built"]
    run([*command, "componentize", "--stub-wasi", "-p", "app", "-o", "tool.wasm", "main"], cwd=work)


def _fixed(work: Path) -> dict[str, str]:
    """What makes a memory snapshot the same each time, where the dynamic linker is Linux's."""
    if sys.platform != "linux":
        return {}
    library = work / "fixed.so"
    compiler = [str(PYTHON), "-m", "ziglang", "cc", "-shared", "-fPIC", "-O2"]
    run([*compiler, "-o", str(library), str(FOLDER / "fixed.c")])
    return {"LD_PRELOAD": str(library), "SOURCE_DATE_EPOCH": "0"}


def _node(script: str, *arguments: str, cwd: Path, fixed: dict[str, str] | None = None) -> None:
    node = shutil.which("node")
    if node is None:
        raise ToolchainError("node is missing: install Node.js 20 or newer")
    run([node, str(FOLDER / script), *arguments], cwd=cwd, extra=fixed)


BUILDERS = {"zig": _zig, "c": _c, "js": _javascript, "python": _python}

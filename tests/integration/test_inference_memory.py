"""What a model is said to need, against what libllama allocates for it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from node.inference.models import memory
from node.inference.models.gguf import read_header
from node.inference.testing.gguf import CONTROL, TinyModel, write_tiny_gguf

LOAD = """
import ctypes, json, os, sys
import llama_cpp.llama_cpp as lib
said = []
@lib.llama_log_callback
def log(level, text, data):
    said.append(text.decode(errors="replace"))
lib.llama_log_set(log, ctypes.c_void_p())
for path, context, batch, sequences in json.load(sys.stdin):
    said.clear()
    model = lib.llama_model_load_from_file(os.fsencode(path), lib.llama_model_default_params())
    params = lib.llama_context_default_params()
    params.n_ctx, params.n_seq_max, params.kv_unified = context, sequences, True
    params.n_batch = params.n_ubatch = batch
    made = lib.llama_init_from_model(model, params)
    print(json.dumps("".join(said)))
    lib.llama_free(made)
    lib.llama_model_free(model)
"""
WORDS = tuple((f"word{number}", 1) for number in range(9000))
SHAPES = [
    (TinyModel(width=64, heads=4), 1024, 128, 1),
    (TinyModel(width=64, heads=4, specials=(("<|im_end|>", CONTROL), *WORDS)), 1000, 512, 8),
    (TinyModel(width=256, heads=4, ff=1024), 4096, 512, 1),
    (TinyModel(width=256, heads=4, ff=1024, layers=1), 20000, 128, 4),
    (TinyModel(width=512, heads=8, ff=512, layers=1), 8192, 256, 2),
]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("shapes")
    paths = [
        write_tiny_gguf(folder / f"{number}.gguf", shape[0]) for number, shape in enumerate(SHAPES)
    ]
    asked = [[str(path), *shape[1:]] for path, shape in zip(paths, SHAPES, strict=True)]
    done = subprocess.run(
        [sys.executable, "-c", LOAD],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return list(zip(paths, map(json.loads, done.stdout.splitlines()), strict=True))


def mib(pattern: str, said: str) -> float:
    return sum(float(found) for found in re.findall(pattern + r" =\s+([\d.]+) MiB", said))


@pytest.mark.parametrize("number", range(len(SHAPES)))
def test_need_is_what_libllama_takes(measured: list[tuple[Path, str]], number: int) -> None:
    path, said = measured[number]
    _, context, batch, sequences = SHAPES[number]
    header = read_header(path)
    need = memory.need(header, context_tokens=context, sequences=sequences, batch_tokens=batch)
    assert need.cache / 2**20 == pytest.approx(mib("KV buffer size", said), abs=0.01)
    buffers = mib(r"(?:compute|output) buffer size", said)
    assert buffers <= need.buffers / 2**20 <= 1.35 * buffers + 0.25
    assert need.weights / 2**20 == pytest.approx(mib("model buffer size", said), abs=0.01)

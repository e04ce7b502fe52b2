"""The bench on a real engine; the model is of random weights, so only the forms are looked at."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from node.inference import LlamaEngine, ModelStore, run_bench
from node.inference.models import bench
from node.inference.models.exam_cases import CASES
from node.inference.testing.gguf import TinyModel, write_tiny_gguf


async def test_a_model_is_measured_and_examined_with_and_without_the_grammar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "_CASE_TOKENS", (48, 48))
    store = ModelStore(tmp_path / "models", shipped=tmp_path)
    store.add(write_tiny_gguf(tmp_path / "tiny.gguf", TinyModel(context=8192)), "tiny")
    engine = LlamaEngine(store)
    try:
        found = await run_bench(
            engine,
            "tiny",
            memory=lambda: psutil.Process(engine.loaded()["tiny"]).memory_info().rss,
            cases=CASES[6:8],
        )
    finally:
        await engine.aclose()
    record = found.record()
    assert record.sha256 == store.get("tiny").sha256
    assert [speed.agents for speed in found.speeds] == [1, 4, 8]
    assert all(speed.prompt > 0 and speed.generated > 0 for speed in found.speeds)
    assert record.first_token_kept_s < record.first_token_cold_s
    assert record.memory_bytes > 1 << 20
    assert record.verdict == "not fit"
    ways = {mark.constrained: mark.problem for mark in found.exam.marks}
    assert set(ways) == {True, False}
    assert all("could not be asked" not in mark.problem for mark in found.exam.marks)

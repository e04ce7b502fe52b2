"""Models that do not fit, and files that are not what they should be: errors, never a dead node."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from helpers.inference import finish_of

from node.errors import InferenceError, ModelError, ModelMemoryError, RunnerCrashedError
from node.inference import (
    EngineLimits,
    Generation,
    LlamaEngine,
    Message,
    ModelStore,
    Room,
    Sampling,
)
from node.inference import engine as engine_module
from node.inference.models.gguf import read_header
from node.inference.testing.gguf import USER_DEFINED, TinyModel, write_tiny_gguf

FILES = int(os.environ.get("FREEHOLD_TEST_HOSTILE_FILES", "6"))
MIB = 2**20


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    made = ModelStore(tmp_path / "models", shipped=tmp_path)
    for name in ("a", "b"):
        made.add(write_tiny_gguf(tmp_path / f"{name}.gguf", TinyModel(context=4096)), name)
    return made


@pytest.fixture
async def engine(store: ModelStore) -> AsyncIterator[LlamaEngine]:
    made = LlamaEngine(store, limits=EngineLimits(context_tokens=4096))
    yield made
    await made.aclose()


async def said(engine: LlamaEngine, model: str) -> str:
    asked = (Message("user", "Hello"),)
    request = Generation(model, asked, sampling=Sampling(max_tokens=3))
    return (await finish_of(engine, request)).raw


async def test_what_does_not_fit_is_refused_before_it_is_loaded(
    engine: LlamaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Room(99 * MIB, 200 * MIB, "this machine's memory")
    monkeypatch.setattr(engine_module, "room", lambda **_: found)
    with pytest.raises(ModelMemoryError, match=r"with a context of 4096 tokens needs .* are free"):
        await engine.info("a")
    assert engine.loaded() == {}
    monkeypatch.undo()
    assert (await engine.info("a")).context_tokens == 4096


@pytest.fixture
def narrow(engine: LlamaEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has room for one model."""

    def room(**_: int) -> Room:
        return Room((90 if engine.loaded() else 200) * MIB, 200 * MIB, "this machine's memory")

    monkeypatch.setattr(engine_module, "room", room)


@pytest.mark.usefixtures("narrow")
async def test_an_idle_model_makes_way_for_another(engine: LlamaEngine) -> None:
    for name in ("a", "b", "a"):
        await said(engine, name)
        assert list(engine.loaded()) == [name]


@pytest.mark.usefixtures("narrow")
async def test_models_that_load_at_once_do_not_take_the_same_memory(engine: LlamaEngine) -> None:
    await asyncio.gather(engine.info("a"), engine.info("b"))
    assert len(engine.loaded()) == 1


@pytest.mark.usefixtures("narrow")
async def test_a_model_in_use_is_waited_for(engine: LlamaEngine) -> None:
    sampling = Sampling(max_tokens=2000, temperature=1.0)
    asked = Generation("a", (Message("user", "Hello"),), sampling=sampling)
    async with aclosing(engine.generate(asked)) as stream:
        await anext(stream)
        waiting = asyncio.create_task(said(engine, "b"))
        for _ in range(20):
            await anext(stream)
        assert list(engine.loaded()) == ["a"]
        assert not waiting.done()
    await waiting
    assert list(engine.loaded()) == ["b"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere what is mapped is not available")
async def test_weights_that_are_mapped_are_not_free(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int] = []

    def room(*, mapped: int) -> Room:
        found.append(mapped)
        return Room(10_000 * MIB, 10_000 * MIB, "this machine's memory")

    monkeypatch.setattr(engine_module, "room", room)
    wide = TinyModel(width=512, heads=8, ff=2048, layers=4, context=512)
    weights = store.add(write_tiny_gguf(tmp_path / "wide.gguf", wide)).size
    engine = LlamaEngine(store, limits=EngineLimits(context_tokens=512, kv_tokens=512))
    for name in ("wide", "a"):
        await engine.info(name)
    await engine.aclose()
    assert found[0] == 0
    assert weights // 2 < found[-1] < 2 * weights


def damaged(path: Path, seed: int) -> Path:
    """A file whose header still passes, with other values in it; sound weights or not."""
    rng = random.Random(seed)
    whole = write_tiny_gguf(path, TinyModel(layers=1, seed=seed)).read_bytes()
    header = whole.index(b"output_norm.weight")
    while True:
        data = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(24, header)
            data[at] = rng.choice((0, 1, 2, 255, rng.randrange(256)))
        if rng.random() < 0.3:
            data[header + 100 :] = rng.randbytes(len(data) - header - 100)
        path.write_bytes(data)
        try:
            read_header(path)
        except ModelError:
            continue
        if data != whole:
            return path


async def test_damaged_files_are_errors_of_that_model(
    engine: LlamaEngine, store: ModelStore, tmp_path: Path
) -> None:
    for seed in range(FILES):
        store.add(damaged(tmp_path / "d.gguf", seed), f"d{seed}", in_place=True)
        with contextlib.suppress(InferenceError):
            await said(engine, f"d{seed}")
        await engine.unload(f"d{seed}")
        assert isinstance(await said(engine, "a"), str)
        assert list(engine.loaded()) == ["a"]


async def test_words_of_a_megabyte_do_not_fill_the_daemon(
    store: ModelStore, engine: LlamaEngine, tmp_path: Path
) -> None:
    """A vocabulary may have any words; an answer of some tokens is no gigabyte all the same."""
    words = tuple(("A" * 1_000_000 + str(number), USER_DEFINED) for number in range(20))
    model = TinyModel(specials=TinyModel().specials + words)
    store.add(write_tiny_gguf(tmp_path / "wordy.gguf", model))
    request = Generation(
        "wordy", (Message("user", "hi"),), sampling=Sampling(max_tokens=1000, temperature=2.0)
    )
    came = 0

    async def listen() -> None:
        nonlocal came
        async with aclosing(engine.generate(request)) as tokens:
            async for token in tokens:
                came += len(token.text) + len(token.reasoning)

    with pytest.raises(RunnerCrashedError, match="more text than was asked for"):
        await listen()
    assert came < 2_000_000

"""The embedder with its runner process: parts, limits, crashes, requests given up."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest

from node.errors import ContextOverflowError, InferenceError, ModelError, RunnerCrashedError
from node.inference import EngineLimits, LlamaEngine, ModelStore
from node.inference.embeddings import process as process_module
from node.inference.embeddings.embedder import EmbedderLimits, LlamaEmbedder
from node.inference.llama.protocol import Frame
from node.inference.testing.bert import TinyBert, write_tiny_bert
from node.inference.testing.gguf import write_tiny_gguf
from node.types import JsonObject

NEAR = 1e-3  # attention and GELU are in half precision, in batches of other shapes
TEXTS = [f"the cat sat {number} times by the river bank" for number in range(75)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    folder = tmp_path_factory.mktemp("models")
    store = ModelStore(folder / "models")
    store.add(write_tiny_bert(folder / "words.gguf"), "words")
    store.add(write_tiny_bert(folder / "ranks.gguf", TinyBert(pooling="rank")), "ranks")
    store.add(write_tiny_gguf(folder / "chat.gguf"), "chat")
    return store


@pytest.fixture
async def embedder(store: ModelStore) -> AsyncIterator[LlamaEmbedder]:
    embedder = LlamaEmbedder(store)
    yield embedder
    await embedder.aclose()
    assert embedder.loaded() == {}


async def test_many_texts_come_in_their_order(embedder: LlamaEmbedder) -> None:
    rows = await embedder.embed("words", TEXTS)
    info = await embedder.info("words")
    assert rows.shape == (75, info.dimensions)
    assert (rows.dtype, info.pooling, info.context_tokens) == (np.float32, "mean", 64)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    for number in (0, 31, 32, 74):
        one = await embedder.embed("words", [TEXTS[number]])
        np.testing.assert_allclose(one[0], rows[number], atol=NEAR)
    assert len(np.unique(rows.round(4), axis=0)) > 40
    assert (await embedder.embed("words", [])).shape == (0, info.dimensions)


async def test_texts_are_ranked(embedder: LlamaEmbedder) -> None:
    scores = await embedder.rank("ranks", "the cat", TEXTS[:40])
    assert len(scores) == 40
    assert await embedder.rank("ranks", "the cat", TEXTS[33:34]) == pytest.approx(
        scores[33:34], abs=NEAR
    )
    assert (await embedder.info("ranks")).dimensions == 0
    with pytest.raises(ModelError, match="is a reranker"):
        await embedder.embed("ranks", ["x"])
    with pytest.raises(ModelError, match="no reranker"):
        await embedder.rank("words", "x", ["y"])


async def test_a_text_that_is_too_long_is_named_and_never_cut(embedder: LlamaEmbedder) -> None:
    long = [*TEXTS[:40], "a " * 63]
    with pytest.raises(ContextOverflowError, match="text 41 has 65 tokens; the model takes 64"):
        await embedder.embed("words", long)
    assert (await embedder.embed("words", ["a " * 62])).shape[0] == 1
    with pytest.raises(ContextOverflowError, match="text 1 has"):
        await embedder.rank("ranks", "the cat " * 40, ["sun"])
    with pytest.raises(InferenceError, match="cannot be sent"):
        await embedder.embed("words", ["\ud800"])


async def _again_and_again(embedder: LlamaEmbedder) -> None:
    """Until it fails: one more answer may come before the process is gone."""
    while True:
        await embedder.embed("words", TEXTS[:3])


async def test_a_process_that_died_is_started_afresh(embedder: LlamaEmbedder) -> None:
    expected = await embedder.embed("words", TEXTS[:3])
    first = embedder.loaded()["words"]
    os.kill(first, signal.SIGKILL)
    with pytest.raises(RunnerCrashedError, match="runner of words died"):
        await _again_and_again(embedder)
    assert np.array_equal(await embedder.embed("words", TEXTS[:3]), expected)
    assert embedder.loaded()["words"] != first


async def test_a_process_that_hangs_is_ended_and_started_afresh(
    embedder: LlamaEmbedder, pass_time: Callable[[float], None]
) -> None:
    expected = await embedder.embed("words", TEXTS[:3])
    first = embedder.loaded()["words"]
    os.kill(first, signal.SIGSTOP)
    with pytest.raises(TimeoutError):  # who asks may give up sooner
        await asyncio.wait_for(embedder.embed("words", TEXTS[:3]), 0.1)
    patient = asyncio.create_task(embedder.embed("words", TEXTS[:3]))
    await asyncio.sleep(0)  # it has asked
    pass_time(600)
    with pytest.raises(RunnerCrashedError, match="said nothing for"):
        await asyncio.wait_for(patient, 20)
    assert np.array_equal(await embedder.embed("words", TEXTS[:3]), expected)
    assert embedder.loaded()["words"] != first


async def test_closing_does_not_wait_for_a_process_that_hangs(embedder: LlamaEmbedder) -> None:
    await embedder.embed("words", TEXTS[:3])
    os.kill(embedder.loaded()["words"], signal.SIGSTOP)
    asked = asyncio.create_task(embedder.embed("words", TEXTS[:3]))
    await asyncio.sleep(0)
    await asyncio.wait_for(embedder.aclose(), 20)
    with pytest.raises(RunnerCrashedError):
        await asked
    assert embedder.loaded() == {}


@pytest.mark.parametrize(
    "answer",
    [{}, {"vectors": 7}, {"vectors": "!"}, {"vectors": "AAAA"}, {"vectors": "AADAfw=="},
     {"scores": [1.0, 2.0]}, {"scores": [1]}, {"scores": [1e999]}],
)  # fmt: skip
async def test_what_is_no_answer_is_an_error(
    embedder: LlamaEmbedder, monkeypatch: pytest.MonkeyPatch, answer: JsonObject
) -> None:
    async def told(_process: object, frame: Frame) -> Frame:
        facts = {"architecture": "a", "pooling": "mean", "dimensions": 1, "context_tokens": 64}
        return facts if frame["op"] == "load" else {"event": "embedded", **answer}

    monkeypatch.setattr(process_module.EmbeddingProcess, "ask", told)
    ranks = "scores" in answer
    asked = embedder.rank("ranks", "q", ["x"]) if ranks else embedder.embed("words", ["x"])
    with pytest.raises(InferenceError):
        await asked


async def test_an_answer_nobody_waits_for_is_dropped(embedder: LlamaEmbedder) -> None:
    expected = await embedder.embed("words", TEXTS[:2])
    for _ in range(5):
        task = asyncio.create_task(embedder.embed("words", TEXTS))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert np.array_equal(await embedder.embed("words", TEXTS[:2]), expected)


async def test_many_may_ask_at_once(embedder: LlamaEmbedder) -> None:
    expected = await embedder.embed("words", TEXTS)
    found = await asyncio.gather(
        *(embedder.embed("words", TEXTS[start : start + 5]) for start in range(0, 75, 5))
    )
    np.testing.assert_allclose(np.concatenate(found), expected, atol=NEAR)


async def test_what_cannot_be_an_embedder_says_so(store: ModelStore, tmp_path: Path) -> None:
    embedder = LlamaEmbedder(store)
    with pytest.raises(ModelError, match="no model 'missing'"):
        await embedder.embed("missing", ["x"])
    with pytest.raises(ModelError, match="does not say how one vector"):
        await embedder.embed("chat", ["x"])
    assert embedder.loaded() == {}
    await embedder.aclose()
    pooled = LlamaEmbedder(store, limits=EmbedderLimits(pooling="mean", context_tokens=16))
    info = await pooled.info("chat")
    assert (info.pooling, info.context_tokens, info.dimensions) == ("mean", 16, 32)
    await pooled.aclose()


async def test_models_for_words_and_for_vectors_share_a_cap(store: ModelStore) -> None:
    """The engine's idle model makes way for vectors; what holds those is counted and stays."""
    probe = LlamaEngine(store)
    await probe.preload("chat")
    (chat,) = probe.metrics()
    await probe.aclose()
    limits = EngineLimits(memory_bytes=chat.rss_bytes + (100 << 20))
    engine = LlamaEngine(store, limits=limits)
    embedder = LlamaEmbedder(store, beside=engine)
    await engine.preload("chat")
    assert (await embedder.embed("words", ["x"])).shape[0] == 1
    assert engine.loaded() == {}
    assert embedder.memory_bytes() > 1 << 20
    with pytest.raises(ModelError, match="of which embedding models take"):
        await engine.preload("chat")
    await embedder.aclose()
    await engine.preload("chat")
    assert embedder.memory_bytes() == 0
    small = LlamaEngine(store, limits=EngineLimits(memory_bytes=9))
    tight = LlamaEmbedder(store, beside=small)
    with pytest.raises(ModelError, match="may take 9 together"):
        await tight.embed("words", ["x"])
    await engine.aclose()


async def test_a_name_that_is_another_model_s_now_is_that_one(tmp_path: Path) -> None:
    """As soon as nobody is in the middle of a request: vectors of two models cannot be compared."""
    store = ModelStore(tmp_path / "models")
    store.add(write_tiny_bert(tmp_path / "words.gguf"), "words")
    embedder = LlamaEmbedder(store)
    before = await embedder.embed("words", TEXTS)
    running = asyncio.create_task(embedder.embed("words", TEXTS))
    await asyncio.sleep(0)  # it has begun
    store.remove("words")
    pin = store.add(write_tiny_bert(tmp_path / "other.gguf", TinyBert(seed=2)), "words")
    among = await embedder.embed("words", TEXTS[:1])
    assert np.array_equal(await running, before)
    np.testing.assert_allclose(among, before[:1], atol=NEAR)
    after = await embedder.embed("words", TEXTS[:1])
    assert not np.allclose(after, before[:1], atol=NEAR)
    assert (await embedder.info("words")).sha256 == pin.sha256
    await embedder.aclose()


async def test_a_file_that_changed_is_refused(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    store.add(write_tiny_bert(tmp_path / "words.gguf"), "words")
    write_tiny_bert(tmp_path / "models" / "words.gguf", TinyBert(seed=2))
    embedder = LlamaEmbedder(store)
    with pytest.raises(ModelError, match="not what was pinned"):
        await embedder.embed("words", ["x"])
    await embedder.aclose()

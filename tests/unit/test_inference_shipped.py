"""The model that ships in the package is what its lock says, and can be used by an agent."""

from __future__ import annotations

from pathlib import Path

from node.inference import ModelStore, recognise
from node.inference.prompts.template import ChatTemplate

MAX_BYTES = 4 * 1024 * 1024


def test_the_shipped_model_is_pinned_small_and_complete(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    checked = store.verify("default")
    assert checked.pin.shipped
    assert checked.pin.size == checked.path.stat().st_size <= MAX_BYTES
    header = store.header("default")
    assert header.architecture == "llama"
    assert header.context_tokens >= 1024
    assert recognise(header.chat_template).name == "hermes"
    turns = [{"role": "user", "content": "hello"}]
    assert "hello" in ChatTemplate(header.chat_template).render({"messages": turns})

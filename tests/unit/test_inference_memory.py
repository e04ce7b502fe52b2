"""What models need and what there is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from node.errors import ModelMemoryError
from node.inference.llama import build
from node.inference.llama.build import Device
from node.inference.models import memory
from node.inference.models.gguf import read_header
from node.inference.models.gguf_header import Header
from node.inference.models.memory import Need, Room, fits, most_context, need, room
from node.inference.testing.gguf import array, pack_gguf, pair

MIB, GIB = 2**20, 2**30


def header(tmp_path: Path, architecture: str = "llama", **values: int | list[int]) -> Header:
    """A header with these values of its architecture; `__` stands for a dot."""
    meta = [pair("general.architecture", "str", architecture)]
    for key, value in values.items():
        name = f"{architecture}.{key.replace('__', '.')}"
        meta.append(
            array(name, "u32", value) if isinstance(value, list) else pair(name, "u32", value)
        )
    path = tmp_path / "a.gguf"
    path.write_bytes(pack_gguf(meta, {"a": np.ones((1, 32))}))
    return read_header(path)


def cache(known: Header, tokens: int = 1024) -> int:
    return need(known, context_tokens=tokens).cache


def test_heads_that_are_shared_take_less(tmp_path: Path) -> None:
    plain = {"block_count": 4, "embedding_length": 256, "attention__head_count": 8}
    assert cache(header(tmp_path, **plain)) == 1024 * 4 * 2 * 256 * 2
    grouped = header(tmp_path, **plain, attention__head_count_kv=2)
    assert cache(grouped) == 1024 * 4 * 2 * 64 * 2
    assert cache(grouped, 1) == cache(grouped, 256) == cache(grouped, 257) // 2


def test_heads_may_be_wider_than_the_model_says(tmp_path: Path) -> None:
    wide = header(
        tmp_path,
        block_count=2,
        embedding_length=256,
        attention__head_count=4,
        attention__head_count_kv=1,
        attention__key_length=256,
        attention__value_length=128,
    )
    assert cache(wide) == 1024 * 2 * (256 + 128) * 2


def test_layers_without_attention_keep_a_state_of_one_size(tmp_path: Path) -> None:
    ssm = {"ssm__conv_kernel": 4, "ssm__inner_size": 512, "ssm__state_size": 16}
    mamba = header(
        tmp_path, "mamba", block_count=3, embedding_length=256, attention__head_count=0, **ssm
    )
    state = 3 * (3 * 512 + 16 * 512) * 4
    assert cache(mamba) == cache(mamba, 8192) == state
    assert need(mamba, context_tokens=256, sequences=8).cache == 8 * state
    hybrid = header(
        tmp_path,
        "jamba",
        block_count=3,
        embedding_length=256,
        attention__head_count=4,
        attention__head_count_kv=[0, 0, 4],
        **ssm,
    )
    assert cache(hybrid) == 1024 * 2 * 256 * 2 + state
    interval = header(
        tmp_path,
        "qwen3next",
        block_count=8,
        embedding_length=256,
        attention__head_count=4,
        full_attention_interval=4,
    )
    assert cache(interval) == 2 * 1024 * 2 * 256 * 2


def test_latent_attention_keeps_no_values(tmp_path: Path) -> None:
    latent = header(
        tmp_path,
        "deepseek2",
        block_count=2,
        embedding_length=512,
        attention__head_count=8,
        attention__head_count_kv=1,
        attention__key_length=576,
        attention__value_length=512,
        attention__key_length_mla=192,
    )
    assert cache(latent) == 1024 * 2 * 576 * 2


def big(tmp_path: Path) -> Header:
    return header(
        tmp_path,
        block_count=32,
        embedding_length=4096,
        feed_forward_length=14336,
        context_length=131072,
        attention__head_count=32,
        attention__head_count_kv=8,
        vocab_size=128256,
    )


def test_what_does_not_fit_is_refused_with_the_numbers(tmp_path: Path) -> None:
    known, have = big(tmp_path), Room(4 * GIB, 8 * GIB, "this machine's memory")
    assert need(known, context_tokens=16384).cache == 2 * GIB
    assert isinstance(fits("m", known, context_tokens=8192, have=have), Need)
    with pytest.raises(ModelMemoryError) as caught:
        fits("m", known, context_tokens=131072, have=have)
    assert "context 16.0 GiB" in caught.value.message
    assert "4,096 MiB of 8,192 MiB of this machine's memory are free" in caught.value.message
    most = most_context(known, have)
    assert f"models.context_tokens = {most}`" in caught.value.hint
    fits("m", known, context_tokens=most, have=have)
    with pytest.raises(ModelMemoryError):
        fits("m", known, context_tokens=most + 1, have=have)


def test_no_context_makes_too_large_a_model_fit(tmp_path: Path) -> None:
    with pytest.raises(ModelMemoryError, match="needs") as caught:
        fits("m", big(tmp_path), context_tokens=256, have=Room(MIB, GIB, "this machine's memory"))
    assert "smaller model" in caught.value.hint


def groups(tmp_path: Path, line: str, files: dict[str, str]) -> Room:
    (tmp_path / "mine").write_text(line + "\n")
    for name, text in files.items():
        path = tmp_path / "cg" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return room(
        machine=lambda: Room(9 * GIB, 16 * GIB, "this machine's memory"),
        cgroups=tmp_path / "cg",
        mine=tmp_path / "mine",
        devices=lambda: (),
    )


STAT = f"anon 5\ninactive_file {512 * MIB}\nactive_file {256 * MIB}\nfile 1\n"


def test_the_tightest_group_above_us_bounds(tmp_path: Path) -> None:
    found = groups(
        tmp_path,
        "0::/user/app",
        {
            "user/app/memory.max": "max\n",
            "user/app/memory.current": "1\n",
            "user/app/memory.stat": STAT,
            "user/memory.max": f"{4 * GIB}\n",
            "user/memory.current": f"{2 * GIB}\n",
            "user/memory.stat": STAT,
        },
    )
    assert found == Room(2 * GIB + 768 * MIB, 4 * GIB, "the control group's memory limit")


def test_version_one_of_control_groups(tmp_path: Path) -> None:
    files = {
        "memory/memory.limit_in_bytes": f"{3 * GIB}",
        "memory/memory.usage_in_bytes": f"{GIB}",
        "memory/memory.stat": "",
    }
    assert groups(tmp_path, "5:memory:/", files).free == 2 * GIB
    files["memory/memory.limit_in_bytes"] = "9223372036854771712"
    assert groups(tmp_path, "5:memory:/docker/abc", files).free == 9 * GIB


@pytest.mark.parametrize("line", ["", "junk", "0::/../../etc", "0::/missing"])
def test_groups_that_cannot_be_read_bound_nothing(tmp_path: Path, line: str) -> None:
    assert groups(tmp_path, line, {"memory.max": "junk"}).free == 9 * GIB


def test_a_gpu_with_memory_of_its_own_counts_instead() -> None:
    own = Device("CUDA0", "a card", 20 * GIB, 24 * GIB, shared=False)
    shared = Device("Metal", "a chip", GIB, GIB, shared=True)
    machine = Room(GIB, 2 * GIB, "this machine's memory")
    nothing = Path("/nonexistent")

    def found(*devices: Device) -> Room:
        return room(machine=lambda: machine, cgroups=nothing, mine=nothing, devices=lambda: devices)

    assert found(own, shared) == Room(20 * GIB, 24 * GIB, "the memory of CUDA0")
    assert found(shared) == machine


def test_what_other_models_have_mapped_is_not_free() -> None:
    """Linux says that pages of files are available, whoever reads them."""
    card = Device("CUDA0", "a card", 20 * GIB, 24 * GIB, shared=False)
    machine = Room(9 * GIB, 16 * GIB, "this machine's memory")
    nothing = Path("/nonexistent")

    def free(mapped: int, *devices: Device) -> int:
        where = {"cgroups": nothing, "mine": nothing}
        return room(mapped=mapped, machine=lambda: machine, devices=lambda: devices, **where).free

    assert (free(2 * GIB), free(99 * GIB)) == (7 * GIB, 0)
    assert free(2 * GIB, card) == 20 * GIB


def test_this_machine_has_room_for_something() -> None:
    found = room()
    assert 0 < found.free <= found.total


def test_a_build_is_told_from_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))
    for name in ("libggml-base.so.0", "libggml-cpu-haswell.so", "libggml-blas.dylib"):
        (tmp_path / name).touch()
    build._accelerated.cache_clear()
    assert build.gpus() == ()
    assert str(build.inspect()) == "CPU only"
    (tmp_path / "libggml-cuda.so").touch()
    build._accelerated.cache_clear()
    assert build._accelerated()
    build._accelerated.cache_clear()


def test_libllama_itself_is_asked() -> None:
    words = [sys.executable, "-m", "node.inference.llama.build"]
    said = json.loads(subprocess.run(words, capture_output=True, check=True, timeout=60).stdout)
    assert isinstance(said["offloads"], bool)
    assert said["devices"] == [] or said["offloads"]


def test_experts_that_work_together_are_as_wide_as_all_of_them(tmp_path: Path) -> None:
    width = {"block_count": 2, "embedding_length": 256, "attention__head_count": 4}
    experts = {"expert_count": 8, "expert_used_count": 4, "expert_feed_forward_length": 1024}
    few, many = (
        header(tmp_path, "qwen3moe", **width, **more)
        for more in ({"feed_forward_length": 1024}, experts)
    )
    assert need(many, context_tokens=256).buffers > 2 * need(few, context_tokens=256).buffers


def test_runner_constant_is_in_the_total(tmp_path: Path) -> None:
    wanted = need(big(tmp_path), context_tokens=256)
    assert wanted.total == wanted.weights + wanted.cache + wanted.buffers + memory.RUNNER_BYTES


def test_a_template_is_bounded_within_what_the_process_may_have() -> None:
    code = """
import resource
from node.inference.llama.loading import _memory_bound
resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))
for more in (1 << 50, 1 << 30):
    with _memory_bound(more):
        assert resource.getrlimit(resource.RLIMIT_AS)[0] <= 1 << 40
    assert resource.getrlimit(resource.RLIMIT_AS) == (1 << 40, 1 << 40)
"""
    subprocess.run([sys.executable, "-c", code], check=True)

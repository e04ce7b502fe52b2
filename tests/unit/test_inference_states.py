"""States of the KV cache on disk: kept, found again, and given up where anything is wrong."""

from __future__ import annotations

import os
import resource
import shutil
import stat
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.kv import evaluate
from hypothesis import given, settings
from hypothesis import strategies as st

from node.inference.llama import state_files, states
from node.inference.llama.backend import ToyBackend
from node.inference.llama.kvcache import IDLE_S, KvCache
from node.inference.llama.kvtree import common
from node.inference.llama.state_files import clear, read_tokens, state_key
from node.inference.llama.states import StateStore

EXAMPLES = int(os.environ.get("FREEHOLD_TEST_EXAMPLES", "150"))
KEY = state_key("model", "settings")

tokens = st.lists(st.integers(0, 2), max_size=8)

LONG = list(range(1, 100))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "states"


def store(
    folder: Path | None, key: bytes = KEY, max_bytes: int = 1 << 20, held_bytes: int = 0
) -> StateStore:
    return StateStore(folder, key, max_bytes=max_bytes, held_bytes=held_bytes)


def test_a_state_comes_back_after_a_restart(folder: Path) -> None:
    first = store(folder)
    assert first.save(LONG, b"state of it")
    first.close()
    second = store(folder)
    saved = second.best([*LONG[:80], 0])
    assert saved is not None
    assert (saved.length, saved.tokens) == (80, len(LONG))
    loaded = second.load(saved)
    assert loaded is not None
    assert bytes(loaded) == b"state of it"
    assert stat.S_IMODE(saved.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert second.holds(LONG[:5])
    assert not second.holds([*LONG, 1])
    second.close()


def test_a_longer_state_takes_the_place_of_its_beginning(folder: Path) -> None:
    made = store(folder)
    made.save(LONG[:50], b"a")
    made.flush()
    made.save(LONG, b"b")
    made.close()
    assert len(list(folder.iterdir())) == 1


def test_a_state_of_another_model_or_setting_is_not_seen(folder: Path) -> None:
    made = store(folder)
    made.save(LONG, b"state")
    made.close()
    other = store(folder, state_key("model", "other settings"))
    assert other.best(LONG) is None
    other.close()


@pytest.mark.parametrize("at", [0, 10, 20, 30, 45, 100, 400, -40, -33, -20, -1])
def test_one_wrong_byte_and_a_state_is_not_loaded(folder: Path, at: int) -> None:
    made = store(folder)
    made.save(LONG, b"state of some length, of which one byte is wrong")
    made.flush()
    saved = made.best(LONG)
    assert saved is not None
    data = bytearray(saved.path.read_bytes())
    data[at] ^= 1
    saved.path.write_bytes(data)
    assert made.load(saved) is None
    assert not saved.path.exists()
    assert made.best(LONG) is None
    made.close()


@pytest.mark.parametrize("length", [0, 5, 60, 200, 470])
def test_a_state_cut_short_is_not_loaded(folder: Path, length: int) -> None:
    made = store(folder)
    made.save(LONG, b"state of some length that is cut")
    made.close()
    (path,) = folder.iterdir()
    os.truncate(path, length)
    again = store(folder)
    assert again.best(LONG) is None
    again.close()


@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.binary(max_size=600))
def test_any_file_is_a_state_or_none(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("states")
    (folder / "x.state").write_bytes(b"FHSTATE1" + data)
    made = store(folder)
    found = made.best(LONG)
    assert found is None or made.load(found) is None
    made.close()


def test_the_folder_is_bounded_and_can_be_cleared(folder: Path) -> None:
    made = store(folder, max_bytes=10_000)
    for first in range(6):
        made.save([first, *LONG], bytes(2000))
        made.flush()
        os.utime(next(path for path in folder.iterdir()), ns=(first, first))
    assert not made.save([9, *LONG], bytes(20_000))  # larger than all may be
    made.close()
    assert 0 < sum(path.stat().st_size for path in folder.iterdir()) <= 10_000
    clear(folder)
    assert list(folder.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_one_that_is_empty(folder: Path) -> None:
    """No model is kept from being used by it, nor is half a state left on a full disk."""
    folder.write_bytes(b"not a folder")
    none = store(folder)
    assert none.save(LONG, b"lost")
    none.close()
    assert store(folder).best(LONG) is None
    folder.unlink()
    full = store(folder)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        assert full.save(LONG, bytes(20_000))
        full.flush()
        assert list(folder.iterdir()) == []
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    full.close()


def test_the_last_of_a_disk_is_left_to_the_log(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "KEEP_FREE_BYTES", 1 << 60)
    made = store(folder)
    assert made.save(LONG, b"state of it")
    made.close()
    assert list(folder.iterdir()) == []


def test_as_a_disk_fills_up_the_states_make_way(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are a cache, of up to gigabytes, and without room for the log the node stops."""
    made = store(folder)
    for first in range(5):
        made.save([first, *LONG], bytes(2000))
        made.flush()
        newest = max(folder.iterdir(), key=lambda path: path.stat().st_ctime_ns)
        os.utime(newest, ns=(first, first))
    one = newest.stat().st_size
    left = SimpleNamespace(free=states.KEEP_FREE_BYTES - one)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: left)
    made.save([5, *LONG], bytes(2000))
    made.flush()
    made.close()
    there = store(folder)
    assert [first for first in range(6) if there.holds([first, *LONG])] == [2, 3, 4, 5]
    there.close()


def test_what_was_read_is_not_the_next_to_make_way(folder: Path) -> None:
    made = store(folder, max_bytes=8000)
    for first in (1, 2, 3):
        made.save([first, *LONG], bytes(2000))
        made.flush()
        newest = max(folder.iterdir(), key=lambda path: path.stat().st_ctime_ns)
        os.utime(newest, ns=(first, first))
    read = made.best([1, *LONG])
    assert read is not None
    assert made.load(read) is not None
    made.save([4, *LONG], bytes(2000))
    made.close()
    there = store(folder)
    assert [first for first in range(5) if there.holds([first, *LONG])] == [1, 3, 4]
    there.close()


def test_a_state_of_other_tokens_is_not_loaded(folder: Path) -> None:
    """Whole, of the same model and of the same size, but another conversation's."""
    made = store(folder)
    for first in (1, 2):
        made.save([first, *LONG], b"state of it")
    made.flush()
    one, two = (made.best([first, *LONG]) for first in (1, 2))
    assert one is not None
    assert two is not None
    one.path.write_bytes(two.path.read_bytes())
    assert made.load(one) is None
    assert made.load(two) is not None
    made.close()


def test_a_state_for_which_there_is_no_memory_is_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = store(folder)
    made.save(LONG, b"state of it")
    made.flush()

    def too_much(_path: Path) -> bytes:
        raise MemoryError

    monkeypatch.setattr(Path, "read_bytes", too_much)
    found = made.best(LONG)
    assert found is not None
    assert made.load(found) is None
    made.close()


def test_what_had_to_make_room_is_forgotten(folder: Path) -> None:
    """By whomever: a store that lives long must not remember every state there ever was."""
    made, other = store(folder, max_bytes=10_000), store(folder, state_key("b"), max_bytes=10_000)
    for first in range(40):
        assert made.save([first, *LONG], bytes(2000))
        made.flush()
    assert len(made) <= len(list(folder.iterdir())) + 1 < 10  # the last made room after
    for first in range(40):
        assert other.save([first, *LONG], bytes(2000))
        other.flush()
    assert made.save([99, *LONG], bytes(2000))
    assert len(made) == 1
    made.close()
    other.close()


def test_only_so_many_states_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_files, "MOST_STATES", 5)
    made = store(folder)
    for first in range(12):
        made.save([first, *LONG], b"small")
        made.flush()
    assert len(list(folder.iterdir())) == 5
    made.close()


@settings(max_examples=EXAMPLES // 10, deadline=None)
@given(saves=st.lists(tokens.filter(bool), max_size=12), wanted=tokens)
def test_the_best_state_is_found_and_beginnings_are_not_kept(
    saves: list[list[int]], wanted: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("states")
    made, plain = store(folder), list[list[int]]()
    for some in saves:
        assert made.save(some, bytes(some))
        made.flush()
        plain = [*(one for one in plain if one != some[: len(one)]), some]
    restarted = store(folder)
    for states_of in (made, restarted):
        assert len(states_of) == len(plain)
        best, within = states_of.best(wanted), states_of.best(wanted, whole=True)
        shared = [common(one, wanted) for one in plain]
        assert (best.length if best else 0) == max(shared, default=0)
        whole = [len(one) for one in plain if one == wanted[: len(one)]]
        assert (within.length if within else 0) == max(whole, default=0)
        for found in filter(None, (best, within)):
            assert bytes(states_of.load(found) or b"")[: found.length] == bytes(
                wanted[: found.length]
            )
        states_of.close()


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Writing stands still: set once it has begun, and what lets it go on."""
    began, goes_on = threading.Event(), threading.Event()
    write = StateStore._write

    def wait(*given: Any) -> None:
        began.set()
        goes_on.wait(30)
        write(*given)

    monkeypatch.setattr(StateStore, "_write", wait)
    return began, goes_on


def test_a_state_that_is_held_is_no_file_until_the_end(folder: Path) -> None:
    made = store(folder, held_bytes=100)
    assert made.save(LONG, b"state of it")
    made.flush()
    assert list(folder.iterdir()) == []
    saved = made.best([*LONG[:80], 0])
    assert saved is not None
    assert (saved.length, bytes(made.load(saved) or b"")) == (80, b"state of it")
    made.close()
    again = store(folder)
    assert again.holds(LONG)
    again.close()


def test_what_is_too_much_to_hold_goes_to_disk_unused_longest_first(folder: Path) -> None:
    made = store(folder, held_bytes=25)
    for first in (1, 2):
        assert made.save([first, *LONG], bytes([first]) * 10)
    used = made.best([1, *LONG])
    assert used is not None
    assert bytes(made.load(used) or b"") == b"\1" * 10
    assert made.save([3, *LONG], b"\3" * 10)
    made.flush()
    (written,) = folder.iterdir()
    found = made.best([2, *LONG])
    assert found is not None
    assert found.path == written
    for first in (1, 2, 3):
        state = made.best([first, *LONG])
        assert state is not None
        assert bytes(made.load(state) or b"") == bytes([first]) * 10
    assert made.save([4, *LONG], bytes(26)), "too large to be held: written"
    assert made.save([1, *LONG, 5], b"new")  # takes the place of what it goes on from
    made.close()
    assert len(list(folder.iterdir())) == 4


def test_states_without_a_folder_are_held_and_nothing_more() -> None:
    made = store(None, held_bytes=25)
    for first in (1, 2, 3):
        assert made.save([first, *LONG], bytes(10))
    assert not made.save([4, *LONG], bytes(26))
    assert [made.holds([first, *LONG]) for first in (1, 2, 3)] == [False, True, True]
    made.close()


def test_nothing_is_held_that_something_waiting_would_be_lost_for(
    folder: Path, stopped: tuple[threading.Event, threading.Event]
) -> None:
    began, goes_on = stopped
    made = store(folder, held_bytes=10)
    kept = [made.save([first, *LONG], bytes(10)) for first in range(2)]
    assert began.wait(30)
    kept += [made.save([first, *LONG], bytes(10)) for first in range(2, 8)]
    assert False in kept
    assert kept == sorted(kept, reverse=True)
    assert [made.holds([first, *LONG]) for first in range(8)] == kept
    goes_on.set()
    made.close()
    assert len(list(folder.iterdir())) == sum(kept)


def test_a_state_that_waits_to_be_written_is_there_at_once(
    folder: Path, stopped: tuple[threading.Event, threading.Event]
) -> None:
    made = store(folder)
    for first in (1, 2):
        assert made.save([first, *LONG], bytes([first]))
    assert stopped[0].wait(30)
    for first in (1, 2):
        saved = made.best([first, *LONG])
        assert saved is not None
        assert not saved.path.exists()
        assert bytes(made.load(saved) or b"") == bytes([first])
    stopped[1].set()
    made.flush()
    assert saved is not None
    saved.path.write_bytes(b"damaged")
    assert made.load(saved) is None, "the file is what counts once there is one"
    made.close()


def test_what_is_forgotten_before_it_is_written_is_no_file(
    folder: Path, stopped: tuple[threading.Event, threading.Event]
) -> None:
    made = store(folder, held_bytes=10)
    assert made.save(LONG, bytes(10), hold=False)
    assert stopped[0].wait(30)
    assert made.save([1, *LONG], bytes(10), hold=False)
    assert made.save([*LONG, 5], bytes(10), hold=False)
    assert made.save([1, *LONG, 5], bytes(10))
    stopped[1].set()
    made.flush()
    assert [read_tokens(path, KEY) for path in folder.iterdir()] == [[*LONG, 5]]
    made.close()


def test_nothing_is_being_written_any_more_of_what_was_forgotten(
    folder: Path, stopped: tuple[threading.Event, threading.Event]
) -> None:
    made = store(folder)
    assert made.save(LONG, b"state of it")
    assert stopped[0].wait(30)
    threading.Timer(0.05, stopped[1].set).start()
    made.forget()
    assert (made._queue.unfinished_tasks, list(folder.iterdir())) == (0, [])
    made.close()


def test_what_goes_on_needs_no_room_beside_what_it_goes_on_from(folder: Path) -> None:
    made = store(folder, held_bytes=30)
    assert made.save(LONG, bytes(20))
    assert made.save([*LONG, 5], bytes(25))
    made.flush()
    assert (len(made), list(folder.iterdir())) == (1, [])
    made.close()


def test_what_goes_on_replaces_nothing_until_it_is_kept(
    folder: Path, stopped: tuple[threading.Event, threading.Event]
) -> None:
    began, goes_on = stopped
    made = store(folder, held_bytes=20)
    assert made.save([0, *LONG], bytes(10), hold=False)
    assert began.wait(30)
    assert made.save(LONG, bytes(10))
    assert made.save([1, *LONG], bytes(10))
    for first in (2, 3):
        assert made.save([first, *LONG], bytes(10), hold=False)
    assert not made.save([*LONG, 5], bytes(15))
    assert made.holds(LONG)
    goes_on.set()
    made.flush()
    assert made.save([*LONG, 5], bytes(15))
    assert len(made) == 5, "and then it does"
    made.close()


class Copied(ToyBackend):
    """Counts the states that were asked for."""

    copies = 0

    def save(self, sequence: int) -> bytes:
        self.copies += 1
        return super().save(sequence)


class Aged:
    """A cache by a clock that is set, with states beside it."""

    def __init__(
        self, folder: Path | None, *, memory: ToyBackend | None = None, held_bytes: int = 1 << 20
    ) -> None:
        self.now = 0.0
        self.memory = memory or ToyBackend(cells=20_000)
        self.states = store(folder, held_bytes=held_bytes)
        self.cache = KvCache(
            self.memory,
            cells=self.memory.cells,
            sequences=20,
            states=self.states,
            monotonic=lambda: self.now,
        )

    def evaluate(self, prompt: list[int]) -> int:
        return evaluate(self.cache, self.memory, prompt)

    def close(self) -> None:
        self.states.close()


def test_what_was_unused_for_a_while_leaves_memory_and_comes_back(folder: Path) -> None:
    aged = Aged(folder)
    talks = [[1000 * number + token for token in range(300)] for number in range(1, 6)]
    for talk in talks:
        aged.evaluate(talk)
    aged.evaluate([7, 8])
    assert (aged.cache.saved, aged.cache.used) == (0, 1502), "used a moment ago"
    aged.now = IDLE_S + 1
    aged.evaluate([7, 8])
    assert aged.cache.saved == 2, "two at a time"
    for _ in range(2):
        aged.evaluate([7, 8])
    assert aged.cache.saved == 4
    assert 300 < aged.cache.used < 310, "little may stay"
    for talk in talks:
        assert aged.evaluate([*talk, 9]) == 300
    assert aged.cache.restored >= 4
    aged.close()


def test_memory_that_cannot_be_cut_is_left_as_it_is(folder: Path) -> None:
    aged = Aged(folder, memory=ToyBackend(cells=4000, partial=False))
    aged.evaluate(list(range(1, 1001)))
    aged.now = IDLE_S + 1
    aged.evaluate([5000, 5001])
    assert (aged.cache.saved, aged.cache.used) == (0, 1002)
    aged.close()


def test_at_a_shutdown_each_is_written_in_its_turn(
    folder: Path, stopped: tuple[threading.Event, threading.Event]
) -> None:
    began, goes_on = stopped
    states_of = store(folder, held_bytes=1 << 20)
    memory = ToyBackend(cells=4000)
    cache = KvCache(memory, cells=4000, sequences=20, states=states_of)
    for talk in (range(1, 301), range(1001, 1301)):
        evaluate(cache, memory, list(talk))
    assert states_of.save([0, *LONG], bytes(10), hold=False)
    assert began.wait(30)
    for first in (1, 2):
        assert states_of.save([first, *LONG], bytes(10), hold=False)
    goes_on.set()
    cache.save_all()
    states_of.flush()
    assert len(list(folder.iterdir())) == 5, "whenever the process is ended after this"
    states_of.close()


def test_at_a_shutdown_what_is_at_work_and_was_used_last_is_written_first(folder: Path) -> None:
    states_of = store(folder, max_bytes=3 * 1000)
    memory = ToyBackend(cells=4000)
    cache = KvCache(memory, cells=4000, sequences=20, states=states_of)
    talks = [list(range(first, first + 100)) for first in (1000, 2000, 3000, 4000)]
    for talk in talks:
        evaluate(cache, memory, talk)
    assert cache.open([*talks[1], 0], 4) is not None
    cache.save_all()
    states_of.close()
    again = store(folder)
    assert [again.holds(talk) for talk in talks] == [False, True, True, True]
    again.close()


def test_at_a_shutdown_what_was_used_last_does_not_make_way(folder: Path) -> None:
    one = 600
    before = store(folder, max_bytes=4 * one)
    for first in (8, 9):
        assert before.save([first, *LONG], b"")
        before.flush()
    before.close()
    made = store(folder, max_bytes=4 * one, held_bytes=10)
    for first in (1, 2, 3):
        assert made.save([first, *LONG], b"1")
    for first in (5, 4):
        assert made.save([first, *LONG], b"1", hold=False)
        made.flush()
    made.close()
    again = store(folder)
    assert [first for first in range(10) if again.holds([first, *LONG])] == [2, 3, 4, 5]
    again.close()
    by_use = sorted(folder.iterdir(), key=lambda path: -path.stat().st_mtime_ns)
    assert [(read_tokens(path, KEY) or [0])[0] for path in by_use] == [5, 4, 3, 2]


def test_what_those_at_work_hold_does_not_count_as_unused(folder: Path) -> None:
    aged = Aged(folder)
    system = list(range(1, 301))
    aged.evaluate([*system, *range(5000, 5400)])
    assert aged.cache.open([*system, 6000], 4) is not None
    aged.now = IDLE_S + 1
    assert aged.cache.open([*system, 7000], 4) is not None
    assert aged.cache.saved == 0
    aged.close()


def test_what_agents_share_stays_shared(folder: Path) -> None:
    aged = Aged(folder)
    system = list(range(1, 2001))
    talks = [[*system, *range(agent, agent + 300)] for agent in range(5000, 13_000, 1000)]
    for _ in range(3):
        for talk in talks:
            aged.now += 1
            talk.append(0)
            aged.evaluate(talk)
    assert aged.cache.used == 2000 + 8 * 303, "each has the system prompt in cells of its own"
    aged.close()


def test_what_comes_back_shares_what_is_there(folder: Path) -> None:
    aged = Aged(folder)
    system = list(range(1, 501))
    talks = [[*system, *range(agent, agent + 600)] for agent in range(5000, 13_000, 1000)]
    for talk in talks:
        aged.evaluate(talk)
    aged.now = IDLE_S + 1
    for talk in talks:
        assert aged.evaluate([*talk, 0]) == 1100
    assert aged.cache.restored >= 2
    assert aged.cache.used <= 500 + 8 * 601, "the system prompt is there once"
    aged.close()


def test_what_cannot_be_kept_elsewhere_is_not_copied_at_every_opening() -> None:
    aged = Aged(None, memory=Copied(cells=4000), held_bytes=10)
    aged.evaluate(list(range(1, 1001)))
    aged.now = IDLE_S + 1
    for _ in range(5):
        aged.evaluate([5000, 5001])
    assert aged.memory.copies == 1
    assert aged.cache.held([*range(1, 1001), 0]) == 1000
    aged.close()


def test_what_came_back_is_not_copied_once_more_to_leave_again(folder: Path) -> None:
    memory = Copied(cells=130)
    states_of = store(folder)
    cache = KvCache(memory, cells=130, sequences=4, states=states_of)
    for prompt in (LONG, [200 + token for token in LONG]):
        evaluate(cache, memory, prompt)
    opened = cache.open([*LONG, 5], 4)
    assert opened is not None
    cache.close(opened.sequence)
    evaluate(cache, memory, [200 + token for token in (*LONG, 5)])
    assert (memory.copies, cache.restored) == (2, 2)
    states_of.close()


class Short(ToyBackend):
    """Has no memory for a state."""

    def save(self, sequence: int) -> bytes:
        raise MemoryError


def test_a_state_that_cannot_be_copied_is_lost_and_nothing_else(folder: Path) -> None:
    memory, states_of = Short(cells=130), store(folder)
    cache = KvCache(memory, cells=130, sequences=4, states=states_of)
    for prompt in (LONG, [200 + token for token in LONG]):
        evaluate(cache, memory, prompt)
    assert (cache.saved, cache.used) == (0, len(LONG))
    states_of.close()


def test_nothing_is_left_of_what_is_to_be_forgotten(folder: Path) -> None:
    aged = Aged(folder)
    aged.evaluate(list(range(1, 701)))
    aged.now = IDLE_S + 1
    aged.evaluate(list(range(1000, 1100)))
    assert (aged.cache.saved, aged.cache.used) == (1, 100)
    aged.cache.forget()
    assert (aged.cache.used, aged.memory.used, len(aged.states)) == (0, 0, 0)
    aged.close()
    assert list(folder.iterdir()) == []


def test_what_leaves_memory_comes_back_from_disk(folder: Path) -> None:
    before = store(folder)
    memory = ToyBackend(cells=130)
    cache = KvCache(memory, cells=130, sequences=4, states=before)
    evaluate(cache, memory, LONG)
    evaluate(cache, memory, [200 + token for token in LONG])
    assert cache.held([*LONG, 5]) == 0
    assert evaluate(cache, memory, [*LONG, 5]) == len(LONG)
    assert (cache.saved, cache.restored) == (2, 1)
    cache.save_all()
    before.close()
    again = store(folder)
    fresh = ToyBackend(cells=130)
    restarted = KvCache(fresh, cells=130, sequences=4, states=again)
    assert evaluate(restarted, fresh, [*LONG, 5, 6]) == len(LONG) + 1
    assert evaluate(restarted, fresh, [*LONG[:90], 8]) == 90
    again.close()

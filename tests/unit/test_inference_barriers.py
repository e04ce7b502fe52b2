"""How the threads of libllama wait for one another: decided by the machine's load."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from node.inference.llama.barriers import BUSY, ENVIRONMENT, WINDOW_S, Barriers, waited_s


class Recorded:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def begin(self) -> None:
        self.said.append("begin")

    def end(self) -> None:
        self.said.append("end")


def after(*shares: float | None) -> tuple[list[str], Barriers]:
    """What is said when these shares of one window after another were spent waiting."""
    sleep, waited, decoded = Recorded(), 0.0, 0.0
    given: list[float | None] = [0.0]
    for share in shares:
        waited += (share or 0.0) * WINDOW_S
        given.append(None if share is None else waited)
    answers = iter(given)
    barriers = Barriers(sleep, lambda: next(answers))
    for _ in given:
        barriers.watch(decoded)
        decoded += WINDOW_S
    return sleep.said, barriers


def test_threads_stay_awake_on_a_free_machine() -> None:
    said, barriers = after(0.0, BUSY / 2, 0.0)
    assert said == []
    assert not barriers.asleep


def test_threads_sleep_while_others_want_the_processors() -> None:
    said, barriers = after(0.0, 0.5, 0.4, 0.0, 0.0, 0.5)
    assert said == ["begin", "end", "begin"]
    assert barriers.asleep


def test_threads_sleep_where_the_load_is_not_known() -> None:
    assert after(None, None)[0] == ["begin"]


def test_a_window_is_decoding_time() -> None:
    """What a thread waited while nothing was decoded, or over too short a time, says nothing."""
    sleep = Recorded()
    answers = iter([0.0, 0.01 * WINDOW_S])
    barriers = Barriers(sleep, lambda: next(answers))
    for _ in range(50):
        barriers.watch(WINDOW_S / 2)
    barriers.watch(WINDOW_S * 3 / 2)
    assert sleep.said == []


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells it on Linux")
def test_the_kernel_says_how_long_a_thread_waited() -> None:
    first = waited_s()
    if first is None:
        pytest.skip("this kernel does not tell")
    elsewhere: list[float | None] = []
    thread = threading.Thread(target=lambda: elsewhere.append(waited_s()))
    thread.start()
    thread.join()
    second = waited_s()
    assert second is not None
    assert second >= first >= 0
    assert elsewhere[0] is None or elsewhere[0] >= 0


CROWD = """
import ctypes, time
from node.inference.llama.barriers import CrowdedLibgomp
library = ctypes.CDLL("libgomp.so.1")
nothing = ctypes.create_string_buffer(1)
task = ctypes.cast(ctypes.CDLL(None).strlen, ctypes.c_void_p)
def idle_s():
    "Processor time of a second thread that waits for work, in a quarter of a second."
    library.GOMP_parallel(task, ctypes.byref(nothing), ctypes.c_uint(2), ctypes.c_uint(0))
    began = time.process_time()
    time.sleep(0.25)
    return time.process_time() - began
crowd = CrowdedLibgomp(library)
times = [idle_s()]
crowd.begin()
times.append(idle_s())
crowd.end()
idle_s()  # meanwhile the threads end
times.append(idle_s())
print(*times)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="libgomp is Linux's")
def test_libgomp_sleeps_while_it_is_crowded_and_spins_again_after() -> None:
    """With a spin count of minutes, what a waiting thread costs shows which of both it does."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", CROWD],
            env={**ENVIRONMENT, "GOMP_SPINCOUNT": "30000000000", "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        if "libgomp.so.1: cannot open" in error.stderr:
            pytest.skip("there is no libgomp")
        raise
    spun, slept, again = map(float, done.stdout.split())
    assert slept < spun / 4
    assert slept < again / 4


def test_what_does_not_use_libgomp_is_left_alone() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from node.inference.llama.barriers import CrowdedLibgomp as C\n"
            "c = C(object()); c.begin(); c.end()\n"
            "import threading; print(threading.active_count())",
        ],
        env={"PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n"

"""Continuous batching over a toy language in which errors of bookkeeping change the words."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.errors import InferenceError
from node.inference.llama.backend import Aborted, NoRoomError, ToyBackend
from node.inference.llama.batch import Batch
from node.inference.llama.kvcache import KvCache
from node.inference.llama.pace import AHEAD_TOKENS, CHUNK_TOKENS, PACED_TOKENS, Pace
from node.inference.llama.sampler import Logits
from node.inference.llama.scheduler import Job, Scheduler
from node.inference.llama.state_files import state_key
from node.inference.llama.states import StateStore
from node.inference.llama.waiting import PERSONS_IN_A_ROW, Waiting

EXAMPLES = int(os.environ.get("FREEHOLD_TEST_EXAMPLES", "60"))
END = 0


class Words:
    """Takes the likeliest word until the end, or `most`; every fifth is followed by a fixed one."""

    def __init__(self, most: int, *, broken: bool = False) -> None:
        self.made: list[int] = []
        self.most = most
        self.broken = broken
        self.closed = 0

    def close(self) -> None:
        self.closed += 1

    def take(self, logits: Logits, best: int) -> list[int]:
        if self.broken and len(self.made) == 2:
            raise InferenceError("no token is allowed")
        word = best
        assert logits[word] == logits.max()
        if word == END:
            return []
        self.made.append(word)
        if len(self.made) >= self.most:
            return []
        if len(self.made) % 5 == 0 and len(self.made) + 2 < self.most:
            self.made += [7, 8]
            return [word, 7, 8]
        return [word]


def alone(prompt: list[int], most: int) -> list[int]:
    """What comes out when nobody else is there and nothing is kept."""
    backend, words = ToyBackend(cells=10_000), Words(most)
    held, pending = 0, prompt
    while pending:
        batch = Batch(len(pending))
        batch.add(0, held, pending, wanted=True)
        backend.decode(batch)
        held += len(pending)
        pending = words.take(backend.logits(0), backend.best()[0])
    return words.made


class Bench:
    """A scheduler over a toy backend, with a clock that counts rows."""

    def __init__(self, *, cells: int = 4000, running: int = 4, **options: object) -> None:
        self.backend = ToyBackend(cells=cells)
        self.now = 0.0
        self.cache = KvCache(self.backend, cells=cells, sequences=running + 8, **options)  # type: ignore[arg-type]
        self.watched: list[tuple[int, frozenset[int]]] = []  # after how many batches, who
        self.scheduler = Scheduler(
            self.backend, self.cache, max_running=running, watch=self.watch, monotonic=self.time
        )
        self.jobs: dict[int, Job] = {}

    def watch(self, numbers: frozenset[int]) -> None:
        self.watched.append((len(self.backend.batches), numbers))

    def time(self) -> float:
        return self.now + self.backend.evaluated * 0.001 + len(self.backend.batches) * 0.02

    def submit(
        self, prompt: list[int], most: int = 20, *, person: bool = False, **more: bool
    ) -> Job:
        number = len(self.jobs)
        job = Job(number, prompt, most, Words(most, **more), person=person)
        self.jobs[number] = job
        self.scheduler.submit(job)
        return job

    def run(self, most_steps: int = 10_000) -> None:
        for _ in range(most_steps):
            if not self.scheduler.busy:
                return
            self.scheduler.step()
        raise AssertionError("it does not come to an end")

    def made(self, job: Job) -> list[int]:
        assert isinstance(job.writer, Words)
        return job.writer.made


def test_many_together_say_what_each_says_alone() -> None:
    bench = Bench()
    prompts = [[1 + number % 3, 2, 3, number] for number in range(12)]
    jobs = [bench.submit(prompt) for prompt in prompts]
    bench.run()
    for job, prompt in zip(jobs, prompts, strict=True):
        assert job.ended
        assert bench.made(job) == alone(prompt, 20)
    assert max(bench.backend.batches) > 1
    assert bench.backend.used == bench.cache.used


def test_who_is_in_a_batch_is_told_before_it_and_only_where_it_changes() -> None:
    bench = Bench()
    bench.submit([1], most=10)
    for _ in range(3):
        bench.scheduler.step()
    bench.submit([2], most=2)
    bench.run()
    assert [numbers for _, numbers in bench.watched] == [{0}, {0, 1}, {0}]
    assert [at for at, _ in bench.watched][:2] == [0, 3]


scripts = st.lists(
    st.tuples(
        st.integers(0, 3),  # which shared beginning
        st.integers(0, 300),  # how much of it
        st.integers(1, 6),  # own tokens
        st.integers(1, 30),  # most to make
        st.booleans(),
        st.sampled_from(["run", "run", "run", "cancel", "break", "steps"]),
        st.integers(0, 12),
    ),
    min_size=1,
    max_size=14,
)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(script=scripts, cells=st.integers(350, 1200), partial=st.booleans())
def test_whatever_comes_and_goes_the_words_are_right(
    script: list[tuple[int, int, int, int, bool, str, int]], cells: int, partial: bool
) -> None:
    bench = Bench(cells=cells, running=3)
    bench.backend.partial = partial
    plan: list[tuple[Job, list[int], str]] = []
    for number, (which, shared, own, most, person, fate, after) in enumerate(script):
        base = [(which * 7 + place) % 31 + 1 for place in range(shared)]
        prompt = [*base, *((number + place) % 31 + 1 for place in range(own))]
        job = bench.submit(prompt, most, person=person, broken=fate == "break")
        plan.append((job, prompt, fate))
        for _ in range(after):
            bench.scheduler.step()
        if fate == "cancel":
            bench.scheduler.cancel(job.number)
    bench.run()
    assert [job.writer.closed for job, _, _ in plan] == [1] * len(plan)  # type: ignore[attr-defined]
    for job, prompt, fate in plan:
        made = bench.made(job)
        expected = alone(prompt, job.writer.most)  # type: ignore[attr-defined]
        if fate in ("run", "steps"):
            assert (job.ended, job.error, made) == (True, None, expected)
        else:
            assert made == expected[: len(made)]
    assert bench.scheduler.running == bench.scheduler.waiting == 0
    assert bench.backend.used == bench.cache.used
    assert bench.cache.free == cells - bench.cache.used  # every promise was given back


def test_a_next_turn_evaluates_only_what_is_new() -> None:
    bench = Bench()
    first = bench.submit([5] * 300, 10)
    bench.run()
    evaluated = bench.backend.evaluated
    turn = [*first.prompt, *bench.made(first)[:-1], 1, 2, 3]
    again = bench.submit(turn, 1)
    bench.run()
    assert again.cached >= len(turn) - 4
    assert bench.backend.evaluated - evaluated <= 4
    assert bench.made(again) == alone(turn, 1)


def test_the_totals_are_of_what_came_to_its_end() -> None:
    bench = Bench()
    bench.submit([5] * 300, 10)
    bench.run()
    again = bench.submit([*[5] * 300, 1, 2], 10)
    broken = bench.submit([6, 7], 10, broken=True)
    bench.run()
    assert broken.error is not None
    snapshot = bench.scheduler.snapshot()
    assert (snapshot["generations"], snapshot["prompt_tokens"]) == (2, 602)
    assert snapshot["prompt_tokens_cached"] == again.cached == 300


def test_what_several_share_is_evaluated_once() -> None:
    bench = Bench(running=8)
    shared = [3] * 500
    jobs = [bench.submit([*shared, number + 4], 4) for number in range(8)]
    bench.run()
    assert [bench.made(job) for job in jobs] == [alone(job.prompt, 4) for job in jobs]
    assert bench.backend.evaluated < 500 + 8 * (1 + 4 + 2)
    assert bench.cache.used < 500 + 8 * (1 + 4 + 2)


def test_a_full_memory_makes_the_next_wait_not_fail() -> None:
    bench = Bench(cells=100, running=8)
    jobs = [bench.submit([number + 1] * 40, 10) for number in range(6)]
    bench.scheduler.step()
    assert (bench.scheduler.running, bench.scheduler.waiting) == (2, 4)
    bench.run()
    assert [bench.made(job) for job in jobs] == [alone(job.prompt, 10) for job in jobs]


def test_who_comes_to_a_full_memory_is_looked_at_all_the_same() -> None:
    bench = Bench(cells=100, running=8)
    for number in range(3):
        bench.submit([number + 1] * 40, 10)
    bench.scheduler.step()
    assert (bench.scheduler.running, bench.scheduler.waiting) == (2, 1)
    bench.backend.cells = bench.cache.cells = 120
    person = bench.submit([9] * 5, 5, person=True)
    bench.scheduler.step()
    assert person.sequence >= 0


def test_one_that_can_never_fit_fails_alone() -> None:
    bench = Bench(cells=100)
    job = bench.submit([1] * 95, 10)
    other = bench.submit([2] * 5, 5)
    bench.run()
    assert isinstance(job.error, NoRoomError)
    assert bench.made(other) == alone(other.prompt, 5)


def test_a_batch_that_fails_takes_its_own_with_it_and_nobody_else() -> None:
    bench = Bench(running=1)
    job, next_one = bench.submit([1, 2, 3]), bench.submit([4, 5, 6])
    bench.scheduler.step()
    bench.backend.failing.append(InferenceError("broken"))
    assert bench.scheduler.step() == [job]
    assert job.error is not None
    bench.run()
    assert bench.made(next_one) == alone(next_one.prompt, 20)


def test_cells_that_are_missing_are_taken_from_who_is_kept() -> None:
    bench = Bench()
    bench.submit([1, 2, 3], 3)
    bench.run()
    job = bench.submit([4, 5, 6])
    bench.backend.failing.append(NoRoomError())
    bench.run()
    assert job.error is None
    assert bench.made(job) == alone(job.prompt, 20)


def test_an_abort_changes_nothing_for_who_stays() -> None:
    bench = Bench()
    job = bench.submit([1, 2, 3])
    bench.scheduler.step()
    bench.backend.failing.append(Aborted())
    bench.run()
    assert bench.made(job) == alone(job.prompt, 20)


def test_a_cancelled_prompt_is_kept_as_far_as_it_came() -> None:
    bench = Bench()
    job = bench.submit([1] * 1000)
    bench.scheduler.step()
    bench.scheduler.cancel(job.number)
    bench.run()
    assert job.ended
    again = bench.submit([1] * 1000, 2)
    bench.run()
    assert again.cached == CHUNK_TOKENS


# ── fairness ────────────────────────────────────────────────────────────────────────────────


def test_a_long_prompt_leaves_the_others_their_pace() -> None:
    """The toy clock: 20 ms a step and 1 ms a row."""
    bench = Bench(cells=20_000)
    talkers = [bench.submit([number + 1, 2], 400) for number in range(3)]
    for job in talkers:
        job.writer = Endless(400)
    for _ in range(10):
        bench.scheduler.step()
    before = rate(bench, talkers, 30)
    long = bench.submit([9] * 8000, 3)
    during = rate(bench, talkers, 60)
    assert not long.writing
    assert during > before / 2
    assert bench.scheduler.snapshot()["prompt_tokens_per_s"] > 100


class Endless(Words):
    """Never says the end."""

    def take(self, logits: Logits, best: int) -> list[int]:
        logits[END] = -1
        return super().take(logits, int(np.argmax(logits)))


def rate(bench: Bench, jobs: list[Job], steps: int) -> float:
    start, made = bench.time(), sum(len(bench.made(job)) for job in jobs)
    for _ in range(steps):
        bench.scheduler.step()
    return (sum(len(bench.made(job)) for job in jobs) - made) / (bench.time() - start)


def test_a_short_prompt_does_not_wait_for_a_long_one() -> None:
    bench = Bench(cells=20_000)
    long = bench.submit([9] * 8000, 3)
    for _ in range(5):
        bench.scheduler.step()
    short = bench.submit([1] * 50, 3)
    for _ in range(3):
        bench.scheduler.step()
    assert short.writing
    assert not long.writing


def test_what_was_not_evaluated_for_a_prompt_is_nothing_that_it_has_had() -> None:
    bench = Bench(cells=20_000)
    bench.submit([9] * 1000, 1)
    bench.run()
    new, more = bench.submit([8] * 600, 3), bench.submit([*[9] * 1000, *[7] * 600], 3)
    for _ in range(2):
        bench.scheduler.step()
    assert (new.done, more.done - more.cached) == (CHUNK_TOKENS, CHUNK_TOKENS)


def test_a_person_goes_first_but_not_for_ever() -> None:
    waiting: Waiting[Job] = Waiting()

    def job(number: int, *, person: bool) -> Job:
        made = Job(number, [1], 1, Words(1), person=person)
        waiting.add(made)
        return made

    background = [job(number, person=False) for number in range(2)]
    persons = [job(number, person=True) for number in range(10, 18)]
    order = []
    while len(waiting):
        first = next(iter(waiting))
        waiting.take(first)
        order.append(first)
    assert [one for one in order if one.person] == persons
    assert [one for one in order if not one.person] == background
    assert order.index(background[0]) == PERSONS_IN_A_ROW
    assert order.index(background[1]) == 2 * PERSONS_IN_A_ROW + 1


def test_persons_who_overtook_nobody_go_first() -> None:
    waiting: Waiting[Job] = Waiting()
    for number in range(PERSONS_IN_A_ROW):
        job = Job(number, [1], 1, Words(1), person=True)
        waiting.add(job)
        waiting.take(job)
    background, person = (Job(10 + one, [1], 1, Words(1), person=bool(one)) for one in (0, 1))
    for job in (background, person):
        waiting.add(job)
    assert list(waiting) == [person, background]


def test_persons_without_end_do_not_keep_background_work_from_its_turn() -> None:
    """Neither from a place nor, with one, from having its prompt evaluated."""
    bench = Bench(cells=60_000)
    work = None
    for _ in range(200):
        while bench.scheduler.waiting < 6:
            bench.submit([8 + len(bench.jobs)] * 2048, 3, person=True)
        work = work or bench.submit([7] * 300, 3)
        bench.scheduler.step()
    assert work is not None
    assert work.ended


def test_a_person_need_not_wait_for_a_place() -> None:
    bench = Bench(running=2)
    for number in range(4):
        bench.submit([number + 1], 50)
    bench.scheduler.step()
    person = bench.submit([9], 5, person=True)
    bench.scheduler.step()
    assert person.sequence >= 0


def kept(*, plain_s: float, token_s: float, left: int, steps: int) -> tuple[float, int]:
    """Of the steps that would be made without prompts in the same time, those made; most tokens."""
    pace = Pace()
    for _ in range(2000):  # nothing is saved up
        pace.observe(running=4, prompt_tokens=0, seconds=plain_s)
    time_s, most = 0.0, 0
    for _ in range(steps):
        size = pace.chunk(4, left)
        pace.observe(running=4, prompt_tokens=size, seconds=plain_s + size * token_s)
        time_s += plain_s + size * token_s
        most = max(most, size)
    return steps * plain_s / time_s, most


@pytest.mark.parametrize("token_s", [0.0005, 0.003, 0.02, 0.2])
def test_a_long_prompt_takes_its_share_of_time_whatever_it_costs(token_s: float) -> None:
    share, most = kept(plain_s=0.05, token_s=token_s, left=8000, steps=600)
    assert most == PACED_TOKENS
    assert share > 0.6


def test_short_prompts_go_ahead_but_not_for_ever() -> None:
    assert taken_ahead(plain_s=0.05, chunk_s=0.4) > AHEAD_TOKENS // CHUNK_TOKENS
    assert kept(plain_s=0.05, token_s=0.003, left=60, steps=1500)[0] > 0.6


def test_as_many_short_prompts_go_ahead_on_a_slow_machine_as_on_a_fast_one() -> None:
    """Beside a larger model's prompt a step takes seconds; agents begin together all the same."""
    fast, slow = (taken_ahead(plain_s=0.05 * by, chunk_s=0.4 * by) for by in (1, 30))
    assert fast == slow


def taken_ahead(*, plain_s: float, chunk_s: float) -> int:
    """Prompts of one chunk that are evaluated at once beside four that speak."""
    pace = Pace()
    pace.observe(running=4, prompt_tokens=0, seconds=plain_s)
    for count in range(100):
        if not pace.chunk(4, CHUNK_TOKENS):
            return count
        pace.observe(running=4, prompt_tokens=CHUNK_TOKENS, seconds=plain_s + chunk_s)
    raise AssertionError("they go ahead for ever")


def test_where_nobody_speaks_chunks_are_whole() -> None:
    pace = Pace()
    pace.observe(running=1, prompt_tokens=128, seconds=100.0)
    assert pace.chunk(1, 8000) == 0
    assert pace.chunk(0, 8000) == CHUNK_TOKENS


# ── soak ────────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_lost_in_a_long_life(tmp_path: Path) -> None:
    count = int(os.environ.get("FREEHOLD_TEST_GENERATIONS", "300"))
    states = StateStore(tmp_path / "states", state_key("toy"), max_bytes=200_000)
    bench = Bench(cells=1500, running=6, states=states)
    chance = random.Random(5)
    bases = [[chance.randrange(1, 32) for _ in range(400)] for _ in range(5)]
    for number in range(count):
        prompt = [
            *chance.choice(bases)[: chance.randrange(400)],
            *(chance.randrange(1, 32) for _ in range(chance.randrange(1, 40))),
        ]
        job = bench.submit(prompt, chance.randrange(1, 60), person=chance.random() < 0.2)
        for _ in range(chance.randrange(12)):
            bench.scheduler.step()
        if chance.random() < 0.3:
            bench.scheduler.cancel(job.number)
        elif number % 10 == 0:
            bench.run()
            assert bench.made(job) == alone(prompt, job.writer.most)  # type: ignore[attr-defined]
    bench.run()
    states.close()
    assert bench.backend.used == bench.cache.used
    assert bench.cache.free == 1500 - bench.cache.used
    assert bench.cache.saved > 0
    assert bench.cache.restored > 0


@pytest.mark.parametrize("rows", [1, 3])
def test_a_batch_is_its_rows(rows: int) -> None:
    batch = Batch(10)
    batch.add(4, 7, list(range(rows)), wanted=True)
    batch.add(5, 0, [9], wanted=False)
    assert batch.tokens[: batch.size].tolist() == [*range(rows), 9]
    assert batch.positions[: batch.size].tolist() == [*range(7, 7 + rows), 0]
    assert batch.sequences[: batch.size].tolist() == [4] * rows + [5]
    assert batch.wants[: batch.size].tolist() == [0] * (rows - 1) + [1, 0]
    assert batch.outputs == 1

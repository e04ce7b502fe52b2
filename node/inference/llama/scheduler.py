"""Continuous batching: who is decoded in the next step, with how many tokens.

Every generation is a list of tokens still to be evaluated and a writer that draws the next ones
when they are. A step evaluates, in one batch, what is pending of each generation under way (one
token, or a few that its grammar forces) and as much of the prompts as `Pace` allows, first of the
prompt that has had least: so a short question does not wait for a long document. Nothing here knows
libllama: it is the same over `ToyBackend`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from node.errors import InferenceError
from node.inference.llama.backend import Aborted, Backend, NoRoomError
from node.inference.llama.batch import Batch
from node.inference.llama.kvcache import KvCache
from node.inference.llama.kvtree import common
from node.inference.llama.pace import CHUNK_TOKENS, Pace
from node.inference.llama.protocol import PERSONS_MORE
from node.inference.llama.sampler import Logits
from node.inference.llama.waiting import PERSONS_IN_A_ROW, Waiting

WORTH_WAITING_TOKENS: Final = 64
MAX_FORCED: Final = 16
RATE_WINDOW_S: Final = 5.0


def most_at_once(max_running: int) -> int:
    """Generations under way at the most: a person need not wait for background work to end."""
    return max_running + PERSONS_MORE


def batch_tokens(max_running: int) -> int:
    """Rows of the largest batch that a scheduler makes."""
    return CHUNK_TOKENS + most_at_once(max_running) * MAX_FORCED


class Writer(Protocol):
    """Draws the tokens of one generation."""

    def take(self, logits: Logits, best: int) -> list[int]:
        """The tokens to evaluate next; none when it has ended. At most MAX_FORCED.

        The `best` token has the largest of the logits.
        """
        ...

    def close(self) -> None:
        """Called once, when nothing more is drawn, however it ended."""
        ...


@dataclass(eq=False, slots=True)
class Job:
    """One generation.

    Attributes:
        room: tokens it may grow by, the prompt's not counted.
        cached: tokens of the prompt that were not evaluated for it.
        ended: it is over; `error` says why, if not by itself.
    """

    number: int
    prompt: list[int]
    room: int
    writer: Writer
    person: bool = False
    cached: int = 0
    ended: bool = False
    error: InferenceError | None = None
    sequence: int = -1
    writing: bool = False
    cancelled: bool = False
    done: int = 0
    pending: list[int] = field(default_factory=list)


@dataclass
class Totals:
    """What was done since the start.

    `decode_s` is wall time in the backend; `other_s` is the thread's processor time between one
    decode and the next, of which `scan_s` goes into looking through the logits.
    """

    generations: int = 0
    prompt_tokens: int = 0
    prompt_tokens_cached: int = 0
    completion_tokens: int = 0
    steps: int = 0
    decode_s: float = 0.0
    other_s: float = 0.0
    scan_s: float = 0.0


class Scheduler:
    """Takes jobs, and steps as long as there is one. One thread's; see `watch` for the others.

    Args:
        max_running: the most generations in one batch; persons' may be `PERSONS_MORE` over it.
        watch: told the numbers of the jobs in the next batch, where they are not those of the last.
    """

    def __init__(
        self,
        backend: Backend,
        cache: KvCache,
        *,
        max_running: int,
        watch: Callable[[frozenset[int]], None] = lambda _: None,
        monotonic: Callable[[], float] = time.perf_counter,
        processor: Callable[[], float] = time.thread_time,
    ) -> None:
        self.totals = Totals()
        self._backend = backend
        self._cache = cache
        self._max_running = max_running
        self._watch = watch
        self._watched: frozenset[int] = frozenset()
        self._monotonic = monotonic
        self._processor = processor
        self._waiting: Waiting[Job] = Waiting()
        self._running: list[Job] = []
        self._pace = Pace()
        self._overtaken = 0  # chunks of persons' prompts in a row, while background's waited
        self._busy_since = 0.0  # the thread's processor time at the end of the last decode
        self._full = False  # no room for who is first in line, until someone ends
        self._batch = Batch(batch_tokens(max_running))
        self._recent: deque[tuple[float, int, int]] = deque()

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._running or len(self._waiting))

    @property
    def running(self) -> int:
        """Generations that have a place."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Generations that wait for one."""
        return len(self._waiting)

    def submit(self, job: Job) -> None:
        """Puts a job in the queue."""
        self._waiting.add(job)
        self._full = False

    def cancel(self, number: int) -> None:
        """Ends a job before the next step, without a word."""
        waiting = self._waiting.remove(number)
        if waiting is not None:
            waiting.writer.close()
            return
        for job in self._running:
            job.cancelled = job.cancelled or job.number == number

    def step(self) -> list[Job]:
        """Evaluates one batch; the jobs that drew tokens or ended by it."""
        started = self._monotonic()
        self._leave([job for job in self._running if job.cancelled])
        failed = self._admit() if self.waiting else []
        plan = self._plan()
        if not plan:
            return failed
        decode_s = self._decode(plan)
        if decode_s is None:
            return [*failed, *(job for job, _ in plan if job.ended)]
        touched = self._draw(plan)
        self._note(plan, touched, started, decode_s)
        return [*failed, *touched]

    def _leave(self, jobs: list[Job]) -> None:
        for job in jobs:
            job.ended = True
            job.writer.close()
            self._running.remove(job)
            self._cache.close(job.sequence)
            self._full = False

    def _admit(self) -> list[Job]:
        """Gives places to who is first in line; those that can never have one, failed."""
        failed: list[Job] = []
        for job in self._waiting:
            if self._full or len(self._running) >= most_at_once(self._max_running):
                break
            if not self._has_place(job) or self._waits_for_a_prompt(job):
                continue
            opened = self._cache.open(job.prompt, job.room)
            if opened is not None:
                self._waiting.take(job)
                job.sequence, job.done = opened.sequence, opened.length
                job.cached = opened.length
                job.pending = job.prompt[opened.length :]
                self._running.append(job)
            elif self._running:
                self._full = True
            else:
                self._waiting.take(job)
                job.ended, job.error = True, NoRoomError()
                job.writer.close()
                failed.append(job)
        return failed

    def _has_place(self, job: Job) -> bool:
        """Persons may have any that is free. Background work leaves `PERSONS_MORE` of them; where
        persons have taken its own, it gets the next when it is its turn."""
        if job.person:
            return True
        owed = self._waiting.owes_background
        persons = sum(other.person for other in self._running) if owed else 0
        return len(self._running) - persons < self._max_running

    def _waits_for_a_prompt(self, job: Job) -> bool:
        """Whether a prompt being evaluated will soon hold far more of this one than there is."""
        least = -1
        for other in self._running:
            if other.writing or other.cancelled:
                continue
            shared = min(common(other.prompt, job.prompt), len(job.prompt) - 1)
            if shared > other.done + WORTH_WAITING_TOKENS:
                least = self._cache.held(job.prompt) if least < 0 else least
                if shared > least + WORTH_WAITING_TOKENS:
                    return True
        return False

    def _plan(self) -> list[tuple[Job, int]]:
        """Each job of the next batch, with the number of its tokens."""
        plan = [(job, len(job.pending)) for job in self._running if job.writing]
        prompts = [job for job in self._running if not job.writing]
        if prompts:
            prompts = self._in_turn(prompts)
            room = self._pace.chunk(len(plan), len(prompts[0].pending))
            if room > 0:
                overtakes = prompts[0].person and not all(job.person for job in prompts)
                self._overtaken = self._overtaken + 1 if overtakes else 0
            for job in prompts:
                if room <= 0:
                    break
                count = min(len(job.pending), room)
                plan.append((job, count))
                room -= count
        return plan

    def _in_turn(self, prompts: list[Job]) -> list[Job]:
        """Persons first but not for ever, as in the queue; of each, who has had least."""
        last = self._overtaken < PERSONS_IN_A_ROW  # background work is
        return sorted(
            prompts, key=lambda job: (job.person != last, job.done - job.cached, job.number)
        )

    def _decode(self, plan: list[tuple[Job, int]]) -> float | None:
        """Evaluates the batch; its seconds, or None where nothing came of it."""
        batch = self._batch
        batch.clear()
        for job, count in plan:
            whole = count == len(job.pending)
            tokens = job.pending if whole else job.pending[:count]
            batch.add(job.sequence, job.done, tokens, wanted=whole)
        numbers = frozenset([job.number for job, _ in plan])
        if numbers != self._watched:
            self._watched = numbers
            self._watch(numbers)
        started, busy = self._monotonic(), self._processor()
        self.totals.other_s += busy - (self._busy_since or busy)
        try:
            self._backend.decode(batch)
        except InferenceError as error:
            self._undo(plan, error)
            return None
        finally:
            self._busy_since = self._processor()
        return self._monotonic() - started

    def _undo(self, plan: list[tuple[Job, int]], error: InferenceError) -> None:
        """Puts memory back to before the batch. Whoever is lost by it fails with the error."""
        again = isinstance(error, Aborted) or (
            isinstance(error, NoRoomError) and self._cache.evict()
        )
        for job, _ in plan:
            whole = self._cache.trim(job.sequence)
            if not (again and whole) and not job.cancelled:
                job.error = error
        self._leave([job for job, _ in plan if job.error is not None])

    def _draw(self, plan: list[tuple[Job, int]]) -> list[Job]:
        """Says what was evaluated, and draws for whom nothing is pending any more."""
        touched: list[Job] = []
        best = self._best()
        for job, count in plan:
            job.done += count
            if count < len(job.pending):
                self._cache.extend(job.sequence, job.pending[:count])
                job.pending = job.pending[count:]
                continue
            self._cache.extend(job.sequence, job.pending)
            job.writing = True
            output = len(touched)
            touched.append(job)
            try:
                job.pending = job.writer.take(self._backend.logits(output), best[output])
            except InferenceError as error:
                job.pending, job.error = [], error
        self._end([job for job in touched if not job.pending])
        return touched

    def _best(self) -> list[int]:
        started = self._processor()
        best = self._backend.best()
        self.totals.scan_s += self._processor() - started
        return best

    def _end(self, jobs: list[Job]) -> None:
        for job in jobs:
            if job.error is None:
                self.totals.generations += 1
                self.totals.prompt_tokens += len(job.prompt)
                self.totals.prompt_tokens_cached += job.cached
        self._leave(jobs)

    def _note(
        self, plan: list[tuple[Job, int]], touched: list[Job], started: float, decode_s: float
    ) -> None:
        now = self._monotonic()
        rows = self._batch.size
        prompt = writing = 0
        for job, count in plan:
            if job.done <= len(job.prompt):
                prompt += count
            else:
                writing += 1
        self._pace.observe(running=writing, prompt_tokens=prompt, seconds=now - started)
        self.totals.steps += 1
        self.totals.completion_tokens += len(touched)
        self.totals.decode_s += decode_s
        self._recent.append((now, rows - prompt, prompt))
        while self._recent[0][0] < now - RATE_WINDOW_S:
            self._recent.popleft()

    def snapshot(self) -> dict[str, float]:
        """Figures for `ModelStatus`, and the shares of time for the bench."""
        totals, recent = self.totals, list(self._recent)
        span = max(recent[-1][0] - recent[0][0], 1e-3) if len(recent) > 1 else 0.0
        made, read = sum(row[1] for row in recent), sum(row[2] for row in recent)
        return {
            "running": self.running,
            "waiting": self.waiting,
            "kv_tokens": self._cache.cells,
            "kv_used": self._cache.used,
            "kv_kept": self._cache.kept,
            "prompt_tokens": totals.prompt_tokens,
            "prompt_tokens_cached": totals.prompt_tokens_cached,
            "completion_tokens": totals.completion_tokens,
            "generations": totals.generations,
            "steps": totals.steps,
            "tokens_per_s": made / span if span else 0.0,
            "prompt_tokens_per_s": read / span if span else 0.0,
            "batch": (made + read) / len(recent) if recent else 0.0,
            "states_saved": self._cache.saved,
            "states_restored": self._cache.restored,
            "decode_s": totals.decode_s,
            "other_s": totals.other_s,
            "scan_s": totals.scan_s,
        }

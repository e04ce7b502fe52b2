"""What a person needs to know of a model on their machine, in about two minutes.

Through the `Engine` seam and nothing else, so that it measures what agents will get: prompts read
and tokens made a second with one, four and eight agents at once, how long the first token takes on
a cold and on a kept context, the memory of the process, and the examination (`exam`). A first short
request tells how fast the model is, and the rest is made as long as the time allows: a large model
on a small machine is asked less, not longer, and what it was not asked is said.

Rates are of all agents together: tokens evaluated (kept ones do not count) or generated, by the
wall clock from the first request to the last answer.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Final

from node.clock import Clock, SystemClock
from node.errors import InferenceError
from node.inference.models.exam import Exam, examine
from node.inference.models.exam_cases import CASES, Case
from node.inference.models.pins import BenchRecord
from node.inference.types import Engine, Finish, FunctionSpec, Generation, Message, Sampling

AGENTS: Final = (1, 4, 8)
LIMIT_S: Final = 120.0  # from when the model is loaded
_SPEED_SHARE: Final = 0.5  # of the limit: by then no more agents are added
_FIRST_SHARE: Final = 0.6  # by then no more first tokens are waited for
_EXAM_SHARE: Final = 0.25  # which the examination has in any case
_PHASE_S: Final = 20.0  # for each of reading and generating, all agents' counts together
_EXAM_S: Final = 120.0  # of the examination, if every answer were as long as it may be
_CASE_TOKENS: Final = (256, 1024)  # some models think before they call
_USUAL_PROMPT, _USUAL_ANSWER = 400, 40  # tokens in the examination
_PROBE_TOKENS: Final = 96
_PROMPT_TOKENS: Final = (32, 512)
_ANSWER_TOKENS: Final = (8, 64)
_TRIES: Final = 3
_WORDS: Final = (
    "river", "stone", "lamp", "winter", "ladder", "copper", "garden", "thread", "anchor", "violet",
    "market", "bridge", "candle", "harbour", "pencil", "meadow", "silver", "barrel", "window",
)  # fmt: skip
# an answer that surely is as long as it may be, whatever the model would rather say
_DIARY: Final = FunctionSpec(
    "diary_write",
    "Write a long entry into the diary",
    {
        "type": "object",
        "properties": {"entry": {"type": "string", "minLength": 256}},
        "required": ["entry"],
    },
)


@dataclass(frozen=True)
class Speed:
    """Tokens/s of so many agents at once, read and generated."""

    agents: int
    prompt: float
    generated: float


@dataclass(frozen=True)
class Bench:
    """What was found. Seconds to the first token; bytes of the model's process.

    `left_out` says what there was no time for.
    """

    sha256: str
    at: str
    speeds: tuple[Speed, ...]
    first_token_cold_s: float
    first_token_kept_s: float
    memory_bytes: int
    exam: Exam

    @property
    def left_out(self) -> tuple[str, ...]:
        """What there was no time for."""
        measured = {speed.agents for speed in self.speeds}
        missing = [f"{agents} agents at once" for agents in AGENTS if agents not in measured]
        cases = self.exam.left + self.exam.cases(constrained=True)
        if self.exam.left:
            missing.append(f"{self.exam.left} of the examination's {cases} cases")
        return tuple(missing)

    def record(self) -> BenchRecord:
        """What is kept of it beside the model's pin."""
        return BenchRecord(
            sha256=self.sha256,
            at=self.at,
            verdict=self.exam.verdict,
            exam_cases=self.exam.cases(constrained=True),
            exam_grammar=self.exam.passed(constrained=True),
            exam_plain=self.exam.passed(constrained=False),
            agents=tuple(speed.agents for speed in self.speeds),
            prompt_tokens_per_s=tuple(round(speed.prompt, 1) for speed in self.speeds),
            generated_tokens_per_s=tuple(round(speed.generated, 1) for speed in self.speeds),
            first_token_cold_s=round(self.first_token_cold_s, 4),
            first_token_kept_s=round(self.first_token_kept_s, 4),
            memory_bytes=self.memory_bytes,
        )


@dataclass(frozen=True)
class _Sizes:
    """Words of a prompt, tokens of an answer; and the seconds that one of each takes alone."""

    words: int
    made: int
    seconds: float


@dataclass(frozen=True)
class _Timed:
    finish: Finish
    first_s: float


async def run_bench(
    engine: Engine,
    model: str,
    *,
    memory: Callable[[], int],
    cases: Sequence[Case] = CASES,
    progress: Callable[[str, int, int], None] = lambda _what, _done, _all: None,
    clock: Clock | None = None,
    limit_s: float = LIMIT_S,
) -> Bench:
    """Measures and examines a model, in about `limit_s` from when it is loaded.

    Args:
        memory: bytes that the model's process takes now.
        progress: told what is being done, and how much of how much.

    Raises:
        ModelError, ModelMemoryError, RunnerCrashedError: it cannot be loaded, or died.
    """
    bench = _Bench(engine, model, clock or SystemClock(), progress, limit_s)
    return await bench.run(memory, cases)


class _Bench:
    def __init__(
        self,
        engine: Engine,
        model: str,
        clock: Clock,
        progress: Callable[[str, int, int], None],
        limit_s: float,
    ) -> None:
        self._engine = engine
        self._model = model
        self._clock = clock
        self._progress = progress
        self._limit_s = limit_s
        self._text = random.Random(1)  # noqa: S311
        self._tokens_a_word = 2.0

    async def run(self, memory: Callable[[], int], cases: Sequence[Case]) -> Bench:
        self._progress("loading", 0, 1)
        info = await self._engine.info(self._model)
        self._started = self._clock.monotonic()
        await self._learn_length()
        sizes = await self._sizes(info.context_tokens // 2)
        speeds = await self._speeds(sizes)
        self._progress("first token", 0, 1)
        cold, kept = await self._first_token(sizes.words)
        within_s = max(self._left_s(1.0), _EXAM_SHARE * self._limit_s)
        exam = await examine(
            self._engine,
            self._model,
            cases=cases,
            max_tokens=_between(_CASE_TOKENS, _EXAM_S * speeds[-1].generated / (2 * len(CASES))),
            at_once=_at_once(speeds[-1], within_s),
            within_s=within_s,
            done=lambda done, every: self._progress("examination", done, every),
            clock=self._clock,
        )
        at = datetime.fromtimestamp(self._clock.wall(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return Bench(info.sha256, at, tuple(speeds), cold, kept, memory(), exam)

    def _left_s(self, share: float) -> float:
        """Seconds until so much of the limit is over."""
        return self._started + share * self._limit_s - self._clock.monotonic()

    async def _learn_length(self) -> None:
        """How many tokens a word of our text has for this model."""
        few, many = await asyncio.gather(
            *(self._engine.count(self._request(words, 1)) for words in (20, 120))
        )
        self._tokens_a_word = max(0.5, (many - few) / 100)

    async def _sizes(self, room: int) -> _Sizes:
        """What the time allows."""
        await self._ask(self._request(8, 1))  # loads what is loaded when first used
        start = self._clock.monotonic()
        probe = await self._ask(self._request(int(_PROBE_TOKENS / self._tokens_a_word), 1))
        reading = _evaluated([probe]) / max(1e-6, self._clock.monotonic() - start)
        start = self._clock.monotonic()
        answer = await self._ask(self._long_answer(16))
        making = answer.finish.completion_tokens / max(1e-6, self._clock.monotonic() - start)
        read = _between(_PROMPT_TOKENS, _PHASE_S * reading / sum(AGENTS))
        made = _between(_ANSWER_TOKENS, _PHASE_S * making / sum(AGENTS))
        read, made = min(read, room), min(made, max(1, room // 2))
        return _Sizes(int(read / self._tokens_a_word), made, read / reading + made / making)

    async def _speeds(self, sizes: _Sizes) -> list[Speed]:
        """By how many agents at once, as many as there is time for and at least for one."""
        speeds: list[Speed] = []
        for step, agents in enumerate(AGENTS):
            self._progress("speed", step, len(AGENTS))
            if speeds and agents * sizes.seconds > self._left_s(_SPEED_SHARE):
                break
            speeds.append(await self._speed(agents, sizes.words, sizes.made))
        return speeds

    async def _speed(self, agents: int, words: int, made: int) -> Speed:
        prompts = [self._request(words, 1) for _ in range(agents)]
        answers = [self._long_answer(made) for _ in range(agents)]
        read, read_s = await self._together(prompts)
        said, said_s = await self._together(answers)
        generated = sum(timed.finish.completion_tokens for timed in said)
        return Speed(agents, _evaluated(read) / read_s, generated / said_s)

    async def _together(self, requests: list[Generation]) -> tuple[list[_Timed], float]:
        start = self._clock.monotonic()
        found = await asyncio.gather(*map(self._ask, requests))
        return found, max(1e-6, self._clock.monotonic() - start)

    async def _first_token(self, words: int) -> tuple[float, float]:
        """Seconds on a context that is new, and on the same one turn later."""
        cold, kept = [], []
        for _ in range(_TRIES):
            started = self._clock.monotonic()
            first = self._request(words, 1)
            before = await self._ask(first)
            said = Message("assistant", before.finish.text or "Yes.")
            then = (*first.messages, said, Message("user", "Go on."))
            after = await self._ask(Generation(self._model, then, sampling=Sampling(max_tokens=1)))
            cold.append(before.first_s)
            kept.append(after.first_s)
            if self._clock.monotonic() - started > self._left_s(_FIRST_SHARE):
                break  # another would take too long
        return median(cold), median(kept)

    def _request(self, words: int, tokens: int) -> Generation:
        """A prompt like no other, of so many words."""
        text = " ".join(self._text.choices(_WORDS, k=max(1, words)))
        number = self._text.randrange(10**6)
        messages = (Message("user", f"{number}: {text}"),)
        return Generation(self._model, messages, sampling=Sampling(max_tokens=tokens))

    def _long_answer(self, tokens: int) -> Generation:
        asked = Message("user", f"Write of {self._text.choice(_WORDS)} in the diary.")
        sampling = Sampling(temperature=0.8, seed=self._text.randrange(2**31), max_tokens=tokens)
        return Generation(
            self._model, (asked,), (_DIARY,), tool_choice="required", sampling=sampling
        )

    async def _ask(self, request: Generation) -> _Timed:
        start, first = self._clock.monotonic(), 0.0
        async with aclosing(self._engine.generate(request)) as tokens:
            async for token in tokens:
                first = first or self._clock.monotonic() - start
                if token.finish is not None:
                    return _Timed(token.finish, first)
        raise InferenceError("the engine ended an answer without saying how", hint="Try again.")


def _evaluated(answers: Sequence[_Timed]) -> int:
    return sum(one.finish.prompt_tokens - one.finish.prompt_tokens_cached for one in answers)


def _at_once(fastest: Speed, within_s: float) -> int:
    """Cases at once: so few that most are not in the middle when the time is over."""
    an_answer_s = _USUAL_PROMPT / fastest.prompt + _USUAL_ANSWER / fastest.generated
    return _between((1, fastest.agents), within_s / an_answer_s / 4)


def _between(bounds: tuple[int, int], value: float) -> int:
    return int(max(bounds[0], min(bounds[1], value)))

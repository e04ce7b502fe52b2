"""Guards: pure checks of what goes into a run, into and out of its tools, and out of it.

Three look at every stage of every run and cannot be switched off: `size`, `secrets` and `schema`.
A manifest selects the others. They run in that order: content is bounded before anything reads it,
and what the schema says is wrong with it quotes it. The door calls them and journals what they say;
none of them raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import TypeAlias

from node.runs.agent import AgentManifest
from node.runs.content import MAX_DEPTH, clean_text, map_text, text_bytes
from node.runs.effect import PASS, Guard, GuardContext, GuardStage, GuardVerdict
from node.runs.guards_citations import CitationsGuard
from node.runs.guards_secrets import SecretsGuard
from node.schemas import Checker
from node.types import Json

ALWAYS = ("size", "schema", "secrets")
SELECTABLE = ("citations",)

_MOST_BYTES = 262_144
_CUT_TEXT = 65_536
Checkers: TypeAlias = Callable[[str, str], Checker | None]


def check_guard_name(name: str) -> str:
    """The name, if there is such a guard. Raises ValueError saying which there are."""
    known = (*ALWAYS, *SELECTABLE)
    if name in known:
        return name
    near = get_close_matches(name, known, n=1)
    guess = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"there is no guard {name!r}{guess} (there are: {', '.join(known)})")


class SizeGuard:
    """Bounds content to 256 KiB and 64 levels.

    A tool's result is cut, with a note where; anything else that is too large is refused, since a
    cut prompt or a cut argument would mean something else.
    """

    name = "size"

    def check(self, stage: GuardStage, content: Json, context: GuardContext) -> GuardVerdict:
        size, deep = text_bytes(content), _depth_over(content, MAX_DEPTH)
        if size <= _MOST_BYTES and not deep:
            return PASS
        reason = f"nested over {MAX_DEPTH} deep" if deep else f"{size} bytes, at most {_MOST_BYTES}"
        if stage is not GuardStage.TOOL_RESULT:
            return GuardVerdict("fail", reason)
        cut = map_text(content, lambda text: cut_text(text, _CUT_TEXT))
        if text_bytes(cut) > _MOST_BYTES:
            return GuardVerdict("rewrite", reason, {"error": f"the result is too large: {reason}"})
        return GuardVerdict("rewrite", reason, cut)


class SchemaGuard:
    """Holds a tool's arguments to the schema of its function; the rest is text and passes.

    Args:
        checkers: the compiled schema by tool and function, or None if it is unknown here.
    """

    name = "schema"

    def __init__(self, checkers: Checkers) -> None:
        self._checkers = checkers

    def check(self, stage: GuardStage, content: Json, context: GuardContext) -> GuardVerdict:
        if stage is not GuardStage.TOOL_ARGUMENTS:
            return PASS
        checker = self._checkers(context.tool, context.name)
        if checker is None:
            return GuardVerdict("fail", f"there is no function {context.name}")
        wrong = clean_text(checker.wrong(content))
        return GuardVerdict("fail", wrong) if wrong else PASS


class GuardSet:
    """The guards of every agent: those that always look, and those its manifest selects.

    Args:
        checkers: as for `SchemaGuard`.
        secrets: as for `SecretsGuard`.
    """

    def __init__(
        self,
        *,
        checkers: Checkers,
        secrets: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self._always: tuple[Guard, ...] = (
            SizeGuard(),
            SecretsGuard(secrets),
            SchemaGuard(checkers),
        )
        self._selectable: Mapping[str, Guard] = {"citations": CitationsGuard()}

    def guards(self, agent: AgentManifest, stage: GuardStage) -> tuple[Guard, ...]:
        """The guards of one stage, in the order they look."""
        named: tuple[str, ...] = getattr(agent.guards, stage.value)
        chosen = [self._selectable[name] for name in named if name in self._selectable]
        return (*self._always, *dict.fromkeys(chosen))


def cut_text(text: str, most: int) -> str:
    """The first `most` characters and a note of how much is missing."""
    if len(text) <= most:
        return text
    return f"{clean_text(text[:most])} [cut: {len(text) - most} of {len(text)} characters left out]"


def _depth_over(value: Json, most: int) -> bool:
    level: list[Json] = [value]
    for _ in range(most):
        level = [
            part
            for item in level
            if isinstance(item, list | dict)
            for part in (item if isinstance(item, list) else item.values())
        ]
        if not level:
            return False
    return any(isinstance(item, list | dict) for item in level)

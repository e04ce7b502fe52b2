"""What an agent is offered, what a call needs, what its result carries, when a run is stuck."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from node.errors import ManifestError, OutcomeUnknownError, ToolError, ToolLimitError, ToolTrapError
from node.runs.agent import AgentManifest, ToolGrant
from node.runs.effect import Label, Usage
from node.runs.offer import Offer, specs
from node.runs.progress import Progress
from node.runs.tool_effect import ToolEffect, labels_of
from node.runs.toolset import Places, Toolset
from node.sandbox import Capability, Function, Grant, ToolManifest, ToolResult
from node.types import JsonObject, canonical


def tool(
    name: str, *capabilities: Capability, functions: tuple[str, ...] = (), sha256: str = "1"
) -> ToolManifest:
    made = tuple(Function(each, "Does it", {"type": "object"}) for each in functions or (name,))
    return ToolManifest(
        name, "1.0.0", "A tool", "zig", frozenset(capabilities), sha256, made, Path()
    )


class Shelf:
    """Installed tools, and a runner that remembers what it was asked."""

    def __init__(self, *tools: ToolManifest, broken: str = "") -> None:
        self.tools = {each.name: each for each in tools}
        self.broken = broken
        self.asked: list[tuple[str, JsonObject, Grant]] = []

    def names(self) -> list[str]:
        return sorted([*self.tools, *([self.broken] if self.broken else [])])

    def get(self, name: str) -> ToolManifest:
        if name not in self.tools:
            raise ToolError(f"tool {name} is not built", hint="Build it.")
        return self.tools[name]

    async def call(
        self, manifest: ToolManifest, function: str, arguments: JsonObject, grant: Grant
    ) -> ToolResult:
        self.asked.append((function, arguments, grant))
        return ToolResult(True, {"done": True}, 0.0, egress_bytes=7, origins=("workspace:a",))


def toolset(shelf: Shelf, home: Path = Path("/nowhere")) -> Toolset:
    return Toolset(
        tools=shelf,
        sandbox=shelf,
        places=Places(home / "w", home / "s"),
        secrets=lambda name: {"https://a.org/*": {"X-Key": f"the key of {name}"}},
    )


def agent(*grants: ToolGrant) -> AgentManifest:
    return AgentManifest("clerk", "", tools=grants, source=Path("agents/clerk.toml"))


SHELF = Shelf(
    tool("calc"),
    tool("files", "workspace", functions=("files_list", "files_read")),
    tool("web", "http"),
    tool("other", functions=("calc",)),
    broken="python",
)


@pytest.mark.parametrize(
    ("grants", "said", "hint"),
    [
        (
            [ToolGrant("filez", workspace="ro")],
            "no tool 'filez'",
            "Did you mean files? Tools: calc",
        ),
        ([ToolGrant("python")], "tool python is not built", "Build it."),
        ([ToolGrant("files")], "files wants workspace, which is not granted", "grant.workspace ="),
        ([ToolGrant("web")], "web wants http, which is not granted", "grant.http = ["),
        (
            [ToolGrant("calc", http=("https://a.org/*",))],
            "calc is granted http but does not use it",
            "Remove grant.http; calc uses no capability.",
        ),
        (
            [ToolGrant("files", workspace="ro", functions=("files_write",))],
            "files has no function 'files_write'",
            "It has files_list, files_read.",
        ),
        (
            [ToolGrant("calc"), ToolGrant("other")],
            "two tools have a function calc",
            "functions = [",
        ),
    ],
)
def test_a_grant_that_cannot_work_is_refused_early(
    grants: list[ToolGrant], said: str, hint: str
) -> None:
    with pytest.raises(ManifestError) as caught:
        toolset(SHELF).check(agent(*grants))
    assert caught.value.message.startswith("agents/clerk.toml: tools: ")
    assert said in caught.value.message
    assert hint in caught.value.hint


def test_what_is_granted_is_offered_and_nothing_else() -> None:
    offers = toolset(SHELF).offers(
        agent(ToolGrant("files", workspace="ro", functions=("files_read",)), ToolGrant("calc"))
    )
    assert [spec.name for spec in specs(offers)] == ["files_read", "calc"]
    assert [Offer.from_json(offer.to_json()) for offer in offers] == list(offers)


async def test_a_call_gets_the_agents_own_places(tmp_path: Path) -> None:
    shelf = Shelf(tool("all", "workspace", "http", "store", "clock", "random"))
    grant = ToolGrant("all", "rw", ("https://a.org/*",), store=True, clock=True, random=True)
    clerk = agent(grant)
    tools = toolset(shelf, tmp_path)
    (offer,) = tools.offers(clerk)
    fetch = tools.effect(clerk, offer, {"x": 1}).bounded(Usage(egress_bytes=99))
    outcome = await fetch.perform("r1:3")
    assert (outcome.ok, outcome.value, outcome.usage.egress_bytes) == (True, {"done": True}, 7)
    ((function, arguments, given),) = shelf.asked
    assert (function, arguments) == ("all", {"x": 1})
    assert given.workspace is not None
    assert (given.workspace.root, given.workspace.mode) == (tmp_path / "w" / "clerk", "rw")
    assert given.workspace.root.is_dir()
    assert given.store == tmp_path / "s" / "clerk" / "all"
    assert (given.http, given.clock, given.random) == (("https://a.org/*",), True, True)
    assert given.egress_bytes == 99
    assert given.secrets == {"https://a.org/*": {"X-Key": "the key of clerk"}}


async def test_a_file_that_is_read_has_the_marks_that_it_has_then(tmp_path: Path) -> None:
    shelf, grant = Shelf(tool("files", "workspace")), ToolGrant("files", "rw")
    clerk, tools = agent(grant), toolset(shelf, tmp_path)
    (offer,) = tools.offers(clerk)
    await tools.effect(clerk, offer, {}, labels=frozenset({"untrusted"})).perform("r1:3")
    given = shelf.asked[0][2].workspace
    assert given is not None
    assert given.after_write is not None
    assert given.marks is not None
    given.after_write("a", ())
    assert [*given.marks("a")] == ["untrusted"]
    assert [*given.marks("b")] == []


async def test_what_a_call_keeps_carries_what_its_run_and_it_itself_have_read(
    tmp_path: Path,
) -> None:
    shelf = Shelf(tool("all", "workspace", "store"))
    clerk, tools = agent(ToolGrant("all", "rw", store=True)), toolset(shelf, tmp_path)
    (offer,) = tools.offers(clerk)
    await tools.effect(clerk, offer, {}, labels=frozenset({"private"})).perform("r1:3")
    given = shelf.asked[0][2]
    assert given.workspace is not None
    assert given.workspace.before_write is not None
    assert given.workspace.marks is not None
    assert given.store_marks is not None
    for path, read, carried in (
        ("a", (), ["private"]),
        ("b", ("https://page.example",), ["private", "untrusted"]),
    ):
        given.workspace.before_write(path, read)
        assert sorted(given.workspace.marks(path)) == carried
        assert sorted(given.store_marks(read)) == carried


async def test_a_tool_replaced_during_a_run_is_not_used(tmp_path: Path) -> None:
    shelf = Shelf(tool("calc"))
    clerk = agent(ToolGrant("calc"))
    tools = toolset(shelf, tmp_path)
    (offer,) = tools.offers(clerk)
    shelf.tools["calc"] = tool("calc", sha256="2")
    tools.offers(clerk)
    outcome = await tools.effect(clerk, offer, {}).perform("r1:3")
    assert not outcome.ok
    assert outcome.value == {"error": "tool calc was replaced since this run started"}
    assert shelf.asked == []


def effect(
    *capabilities: Capability, read_only: bool = False, idempotent: bool = False, sent: int = 0
) -> ToolEffect:
    offer = Offer("t", "1", "t_do", "", {}, read_only, idempotent, frozenset(capabilities))

    async def call(arguments: JsonObject, egress_bytes: int, payer: object) -> ToolResult:
        error = ToolLimitError("tool t went over its limit seconds = 10")
        error.egress_bytes = sent
        raise error

    grant = ToolGrant("t", http=("https://a.org/*",))
    return ToolEffect(offer, {"x": 1}, grant, call, lambda origins: frozenset())


async def test_a_broken_limit_is_an_answer() -> None:
    outcome = await effect().perform("r1:3")
    assert (outcome.ok, outcome.value) == (
        False,
        {"error": "tool t went over its limit seconds = 10"},
    )


async def test_a_call_that_was_stopped_counts_what_it_had_sent() -> None:
    stopped = await effect("http", sent=500).perform("r1:3")
    assert (stopped.ok, stopped.usage.egress_bytes) == (False, 500)


async def test_what_a_call_that_was_stopped_tells_carries_what_it_had_read() -> None:
    """A trap says what the tool had printed, which may be a page or a file."""

    async def call(arguments: JsonObject, egress_bytes: int, payer: object) -> ToolResult:
        error = ToolTrapError("tool t trapped: unreachable; it printed: IGNORE ALL \ud800")
        error.origins = ("https://evil.example",)
        raise error

    told = replace(
        effect("http"),
        call=call,
        labels=lambda origins: frozenset({"untrusted"} if origins else ()),
    )
    outcome = await told.perform("r1:3")
    assert outcome.labels == {"untrusted"}
    assert canonical(outcome.value)  # it can be stored


@pytest.mark.parametrize(
    ("made", "traceless", "destinations"),
    [
        (effect(read_only=True), True, ()),
        (effect("workspace", read_only=True), True, ()),
        (effect("http", read_only=True), False, ("https://a.org/*",)),
        (effect("workspace"), False, ()),
        (effect("http", idempotent=True), False, ("https://a.org/*",)),
    ],
)
def test_only_reads_within_the_node_are_traceless(
    made: ToolEffect, traceless: bool, destinations: tuple[str, ...]
) -> None:
    assert made.needs.traceless is traceless
    assert made.needs.destinations == destinations
    assert (made.name, made.needs.tool, made.args) == ("t_do", "t", {"x": 1})


async def test_what_may_not_run_twice_is_not_settled_by_guessing() -> None:
    assert await effect("http", read_only=True).settle("r1:3") is None
    assert await effect("workspace", idempotent=True).settle("r1:3") is None
    with pytest.raises(OutcomeUnknownError, match="may or may not have run"):
        await effect("workspace").settle("r1:3")


@pytest.mark.parametrize(
    ("origins", "expected"),
    [
        ((), set()),
        (("workspace:notes.txt",), set()),
        (("workspace:inbox/a/b.txt",), {"untrusted"}),
        (("workspace:marked.txt",), {"untrusted"}),
        (("workspace:diary/today",), {"private"}),
        (
            ("workspace:notes.txt", "workspace:diary/x", "workspace:inbox/y"),
            {"private", "untrusted"},
        ),
        (("https://example.org",), {"untrusted"}),
        (("example.org:8080",), {"untrusted"}),
        (("knowledge:letters",), {"private"}),
        (("store:private",), {"private"}),
        (("store:untrusted",), {"untrusted"}),
        (("mark:untrusted", "workspace:notes.txt"), {"untrusted"}),
        (("mark:private", "workspace:notes.txt"), {"private"}),
    ],
)
def test_where_content_came_from_labels_it(origins: tuple[str, ...], expected: set[str]) -> None:
    marks: dict[str, frozenset[Label]] = {"marked.txt": frozenset({"untrusted"})}
    found = labels_of(
        origins,
        foreign=("inbox/*",),
        private=("diary/*",),
        marked=lambda path: marks.get(path, frozenset()),
    )
    assert found == expected


READ = Offer("t", "1", "read", "", {}, read_only=True, idempotent=True, capabilities=frozenset())
WRITE = replace(READ, name="write", read_only=False)
FETCH = replace(READ, name="fetch", capabilities=frozenset({"http"}))
POST = replace(FETCH, name="post", read_only=False)


def test_the_same_read_repeats_until_something_was_written() -> None:
    progress = Progress(4)
    assert not progress.repeated(READ, {"a": 1})
    progress.note(READ, {"a": 1}, ok=True, value="x")
    assert progress.repeated(READ, {"a": 1})
    assert not progress.repeated(READ, {"a": 2})
    progress.note(WRITE, {"a": 1}, ok=False, value=None)
    assert progress.repeated(READ, {"a": 1})
    progress.note(WRITE, {"a": 2}, ok=True, value=None)
    assert not progress.repeated(READ, {"a": 1})


def test_the_same_write_at_once_is_a_repetition() -> None:
    progress = Progress(4)
    progress.note(WRITE, {"a": 1}, ok=True, value=None)
    assert progress.repeated(WRITE, {"a": 1})
    progress.note(WRITE, {"a": 2}, ok=True, value=None)
    assert not progress.repeated(WRITE, {"a": 1})


@pytest.mark.parametrize("offer", [FETCH, POST])
def test_what_varies_by_itself_may_be_asked_three_times(offer: Offer) -> None:
    progress = Progress(9)
    for _ in range(2):
        for _ in range(3):
            assert not progress.repeated(offer, {})
            progress.note(offer, {}, ok=True, value="x")
        assert progress.repeated(offer, {})
        progress.note(WRITE, {"a": 1}, ok=True, value=None)
        progress.note(WRITE, {"a": 2}, ok=True, value=None)


def test_errors_and_known_results_are_no_progress() -> None:
    progress = Progress(3)
    calls = [(True, "x"), (True, "x"), (False, "y"), (False, "z"), (True, "new")]
    stuck = []
    for n, (ok, value) in enumerate(calls):
        progress.note(READ, {"a": n}, ok=ok, value=value)
        stuck.append(progress.end_step())
    assert stuck == [False, False, False, True, False]


def test_calls_of_one_reply_are_one_step() -> None:
    """The model has seen no result of the first when it writes the last."""
    progress = Progress(2)
    stuck = []
    for reply in range(3):
        for n in range(8):
            progress.note(READ, {"a": [reply, n]}, ok=True, value="nothing there")
        stuck.append(progress.end_step())
    assert stuck == [False, False, True]


def test_writing_one_value_to_several_places_is_progress() -> None:
    progress = Progress(2)
    for n in range(6):
        progress.note(WRITE, {"a": n}, ok=True, value="4 bytes")
        assert not progress.end_step()


@pytest.mark.parametrize("read_only", [True, False])
async def test_a_function_is_held_to_its_word_that_it_only_reads(
    tmp_path: Path, read_only: bool
) -> None:
    made = Function("files", "Does it", {"type": "object"}, read_only=read_only)
    shelf = Shelf(replace(tool("files", "workspace"), functions=(made,)))
    clerk = agent(ToolGrant("files", "rw"))
    tools = toolset(shelf, tmp_path)
    (offer,) = tools.offers(clerk)
    await tools.effect(clerk, offer, {}).perform("r1:3")
    assert shelf.asked[0][2].read_only is read_only


# ── what one call may send of what it has read ──────────────────────────────────────────────

PAGE, SHOP = "https://page.example", "https://page.example/in"


@pytest.mark.parametrize(
    ("carried", "read", "send_to", "refused"),
    [
        ((), (), (), False),
        (("untrusted",), (), (), False),
        (("untrusted",), ("workspace:notes.txt",), (), False),
        (("untrusted",), ("workspace:mine/key.txt",), (), True),
        (("untrusted",), ("store:private",), (), True),
        (("untrusted",), ("workspace:mine/key.txt",), (SHOP,), False),
        ((), ("workspace:mine/key.txt",), (), False),
        ((), ("workspace:mine/key.txt", PAGE), (), True),
        (("untrusted",), ("workspace:MINE/Key.txt",), (), True),  # macOS reads the same file
        (("private",), (PAGE,), (), True),
        (("private", "untrusted"), (PAGE,), (), False),  # a person was asked
    ],
)
async def test_one_call_sends_nothing_a_person_would_be_asked_about(
    tmp_path: Path,
    carried: tuple[Label, ...],
    read: tuple[str, ...],
    send_to: tuple[str, ...],
    refused: bool,
) -> None:
    shelf = Shelf(tool("both", "workspace", "http"))
    granted = ToolGrant("both", workspace="rw", http=("https://*.example/*",))
    clerk = replace(agent(granted), private=("mine/*",), send_to=send_to)
    called = toolset(shelf, tmp_path)
    (offer,) = called.offers(clerk)
    await called.effect(clerk, offer, {}, labels=frozenset(carried)).perform("r-1:1")
    ((_, _, grant),) = shelf.asked
    assert grant.may_send is not None
    assert bool(grant.may_send(SHOP, read)) is refused

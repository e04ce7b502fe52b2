"""Agents' files: what is read, and what every refusal says."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.errors import ManifestError
from node.runs.agent import AgentManifest, BudgetLimits, GuardNames, ToolGrant
from node.runs.manifest import MAX_BYTES, parse_manifest, read_manifest

WHOLE = """
name = "clerk"
about = "Answers questions about my notes and does sums"
instructions = "Be brief."
model = "default"
owner = "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg"
foreign = ["inbox/*"]
private = ["diary/*", "*.key"]
send_to = ["https://api.example.org/*"]
temperature = 0.5
max_tokens = 200
[budget]
tokens = 1000
steps = 9
seconds = 30
sats = 10
sats_per_day = 100
[[tools]]
name = "files"
grant.workspace = "rw"
functions = ["files_read"]
[[tools]]
name = "web"
grant.http = ["https://api.example.org/*", "http://*.example.org:8080/a/b", "http://[::1]:80/"]
grant.store = true
grant.clock = true
grant.random = true
approval = "ask"
[guards]
answer = ["schema", "citations"]
"""
LEAST = 'name = "clerk"\ninstructions = "Be brief."\n'


def parse(text: str, path: Path = Path("agents/clerk.toml")) -> AgentManifest:
    return parse_manifest(text.encode(), path)


def test_a_whole_file() -> None:
    path = Path("agents/clerk.toml")
    assert parse(WHOLE, path) == AgentManifest(
        name="clerk",
        instructions="Be brief.",
        about="Answers questions about my notes and does sums",
        owner="npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg",
        budget=BudgetLimits(tokens=1000, steps=9, seconds=30.0, sats=10, sats_per_day=100),
        tools=(
            ToolGrant("files", workspace="rw", functions=("files_read",)),
            ToolGrant(
                "web",
                http=(
                    "https://api.example.org/*",
                    "http://*.example.org:8080/a/b",
                    "http://[::1]:80/",
                ),
                store=True,
                clock=True,
                random=True,
                approval="ask",
            ),
        ),
        guards=GuardNames(answer=("schema", "citations")),
        foreign=("inbox/*",),
        private=("diary/*", "*.key"),
        send_to=("https://api.example.org/*",),
        temperature=0.5,
        max_tokens=200,
        digest=hashlib.sha256(WHOLE.encode()).hexdigest(),
        source=path,
    )


def test_the_least_file_has_the_defaults() -> None:
    agent = parse(LEAST)
    assert agent.budget == BudgetLimits()
    assert (agent.model, agent.tools, agent.paused) == ("default", (), False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LEAST + "aproval = 1", "unknown key aproval"),
        (LEAST + "instruction = 1", "unknown key instruction; did you mean instructions? (allowed"),
        (LEAST + "[budget]\ntoken = 1", "unknown key budget.token; did you mean tokens? (allowed"),
        (
            LEAST + '[[tools]]\nname="web"\naproval="ask"',
            "tools[1].aproval; did you mean approval?",
        ),
        (
            LEAST + '[[tools]]\nname="a"\n[[tools]]\nname="web"\ngrant.htpp=[]',
            "tools[2].grant.htpp; did you mean http?",
        ),
        (LEAST + '[guards]\nanswers = ["size"]', "guards.answers; did you mean answer?"),
        (LEAST + '[guards]\nanswer = ["citation"]', "no guard 'citation'; did you mean citations?"),
        (LEAST + '[guards]\ntool_result = ["citations"]', "citations looks at answers alone"),
        (LEAST + '[[tools]]\nname="a"\nfunctions=[]', "tools[1].functions: List should have at"),
        (LEAST + '[[tools]]\nname="a"\napproval="maybe"', "'allow', 'ask' or 'deny', not 'maybe'"),
        (LEAST + '[[tools]]\nname="a"\ngrant.workspace="w"', "must be 'ro' or 'rw', not 'w'"),
        (LEAST + '[[tools]]\nname="a"\ngrant.knowledge=true', "knowledge is not supported yet"),
        (LEAST + '[[tools]]\nname="a"\n[[tools]]\nname="a"', "a is granted twice"),
        (LEAST + '[[tools]]\napproval="ask"', "tools[1].name is missing"),
        (LEAST + '[budget]\ntokens = "many"', "budget.tokens must be a valid integer, not 'many'"),
        (LEAST + "[budget]\ntokens = 0", "budget.tokens must be greater than or equal to 1"),
        (LEAST + "[budget]\nseconds = nan", "budget.seconds must be a finite number"),
        (LEAST + "[budget]\nsteps = true", "budget.steps must be a valid integer, not True"),
        (LEAST + 'owner = "npub1x"', "owner: must be a Nostr public key"),
        (LEAST + 'model = "../x"', "model: must be a name in models/"),
        (LEAST + 'send_to = ["example.org"]', "'example.org' must be http(s)://HOST/PATH"),
        (LEAST + 'send_to = ["https://*/x"]', "must be http(s)://HOST/PATH"),
        (LEAST + 'send_to = ["https://e*.org/"]', "must be http(s)://HOST/PATH"),
        (LEAST + 'send_to = ["https://u:p@e.org/"]', "must be http(s)://HOST/PATH"),
        (LEAST + 'send_to = ["https://e.org/*/x"]', "must be http(s)://HOST/PATH"),
        (
            LEAST + '[[tools]]\nname="a"\ngrant.http=["https://e.org/*", "http://*.lan/*"]',
            "'http://*.lan/*' is not a pattern of URLs: * stands for what comes before a name of "
            "two parts",
        ),
        (LEAST + 'send_to = ["*@e.org"]', "must name one destination to the letter"),
        (LEAST + 'send_to = ["cashu:*"]', "must name one destination to the letter"),
        (LEAST + 'send_to = ["https://*.e.org/*"]', "must name one destination to the letter"),
        (LEAST + 'send_to = ["https://e.org/a*"]', "must name one destination to the letter"),
        (LEAST + 'send_to = ["https://e.org:99999/*"]', "the port of the URL is not one"),
        (LEAST + 'private = ["../x"]', "must be a pattern of workspace files"),
        (LEAST + 'private = ["/x"]', "must be a pattern of workspace files"),
        (LEAST + "[mcp]", "[mcp] is not supported yet in this version"),
        (LEAST + '[[mcp]]\nname = "x"', "[mcp] is not supported yet in this version"),
        (LEAST + "[publish]", "[publish] is not supported yet in this version"),
        (LEAST + "[team]", "[team] is not supported yet in this version"),
        (LEAST + "temperature = 3.0", "temperature must be less than or equal to 2"),
        ('name = "clerk"', "needs either instructions or instructions_file"),
        (LEAST + 'instructions_file = "a"', "needs either instructions or instructions_file"),
        ('instructions = "x"', "name is missing"),
        ('name = "Clerk"\ninstructions = "x"', "name: must be 1-32 of a-z 0-9 _ -"),
        ('name = "cook"\ninstructions = "x"', "name is 'cook' but the file is 'clerk.toml'"),
        ("name = clerk", "not TOML"),
        ("a = " + "[" * 5000, "not TOML"),
        (
            LEAST + "[budget]\nsats = 0x" + "f" * 5000,
            "less than or equal to 9007199254740992, not int",
        ),
    ],
)
def test_a_refusal_names_file_key_and_what_is_allowed(text: str, said: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse(text)
    assert caught.value.message.startswith("agents/clerk.toml: ")
    assert said in caught.value.message
    assert caught.value.hint


def test_several_errors_are_told_at_once() -> None:
    with pytest.raises(ManifestError) as caught:
        parse(LEAST + "\n".join(f"x{n} = 1" for n in range(9)))
    assert "x0" in caught.value.message
    assert caught.value.message.endswith("and 4 more")


def test_bytes_that_are_not_text_are_refused() -> None:
    with pytest.raises(ManifestError, match="not UTF-8 at byte 2"):
        parse_manifest(b"a=\xff", Path("clerk.toml"))


def test_instructions_may_be_in_a_file_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "clerk.md").write_text("Be kind.\n")
    (tmp_path / "clerk.toml").write_text('name = "clerk"\ninstructions_file = "texts/clerk.md"')
    first = read_manifest(tmp_path / "clerk.toml")
    assert first.instructions == "Be kind."
    (tmp_path / "texts" / "clerk.md").write_text("Be brief.\n")
    assert read_manifest(tmp_path / "clerk.toml").digest != first.digest


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "link", "no.md", ".", "a\\u0000b"])
def test_instructions_come_from_nowhere_else(tmp_path: Path, name: str) -> None:
    agents = tmp_path / "agents"
    agents.mkdir()
    (tmp_path / "secret").write_text("secret")
    (agents / "link").symlink_to(tmp_path / "secret")
    (agents / "clerk.toml").write_text(f'name = "clerk"\ninstructions_file = "{name}"')
    with pytest.raises(ManifestError):
        read_manifest(agents / "clerk.toml")


def test_a_file_of_unreasonable_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clerk.toml").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(ManifestError, match="larger than"):
        read_manifest(tmp_path / "clerk.toml")
    with pytest.raises(ManifestError, match="cannot read"):
        read_manifest(tmp_path / "cook.toml")


LINES = WHOLE.splitlines()


@given(
    keep=st.lists(st.sampled_from(range(len(LINES))), max_size=30),
    noise=st.one_of(st.binary(max_size=40), st.text(max_size=40).map(lambda t: t.encode())),
    at=st.integers(0, 30),
)
@settings(max_examples=200, deadline=None)
def test_no_bytes_raise_anything_else(keep: list[int], noise: bytes, at: int) -> None:
    lines = [LINES[index].encode() for index in sorted(keep)]
    lines.insert(at, noise)
    said = ""
    try:
        assert parse_manifest(b"\n".join(lines), Path("clerk.toml")).name == "clerk"
    except ManifestError as error:
        said = error.message
    assert not said or said.startswith("clerk.toml: ")

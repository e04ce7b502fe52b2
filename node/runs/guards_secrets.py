"""The guard that keeps secrets out of text: no key, token or seed leaves in a prompt or answer.

Found are: Nostr secret keys (NIP-19 `nsec`, NIP-49 `ncryptsec`), wallet-connect URIs (NIP-47),
Cashu tokens (NUT-00), BIP-32 extended private keys, PEM private keys, BIP-39 seed phrases (12 to
24 words of the list with a valid checksum), age keys, the API keys of common services by their
prefix, JSON web tokens, and every secret the node itself keeps, also as hex, base64 (in the middle
of something longer, too), and as a URL or JSON writes it.

In a prompt, a tool's result and an answer the secret is replaced by a note, so that the work goes
on without it, and so are all parts of one whose words or lines a list has. In a tool's arguments it
refuses the step: redacted results cannot have put it there, and a call with a hole in its arguments
would do something nobody asked for.

Patterns are linear in time: literal prefixes, one character class, possessive quantifiers.
"""

from __future__ import annotations

import base64
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, zip_longest

from node.runs.content import map_text, scalars
from node.runs.effect import PASS, GuardContext, GuardStage, GuardVerdict
from node.runs.seed_phrases import seed_phrases
from node.sandbox import spellings
from node.types import Json

_BECH32 = "[02-9ac-hj-np-z]"
_BASE58 = "[1-9A-HJ-NP-Za-km-z]"
_URLSAFE = "[A-Za-z0-9_-]"

_SHAPES: tuple[tuple[str, str], ...] = (
    ("nostr secret key", rf"(?i:nsec1{_BECH32}{{58}}+)"),
    ("nostr secret key", rf"(?i:ncryptsec1{_BECH32}{{80,400}}+)"),
    ("wallet connection", r"nostr\+?walletconnect:(?://)?[0-9a-fA-F]{64}+\?[^\s\"'<>]{1,4000}+"),
    ("cashu token", rf"cashu[AB]{_URLSAFE}{{24,}}+={{0,2}}+"),
    ("extended private key", rf"[xyztuvYZUV]prv{_BASE58}{{100,112}}+"),
    ("age key", r"AGE-SECRET-KEY-1[02-9AC-HJ-NP-Z]{58}+"),
    ("api key", r"(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,}+"),
    ("api key", rf"sk-{_URLSAFE}{{20,}}+"),
    ("api key", r"gh[oprsu]_[A-Za-z0-9]{36,}+"),
    ("api key", r"github_pat_[A-Za-z0-9_]{22,}+"),
    ("api key", rf"glpat-{_URLSAFE}{{20,}}+"),
    ("api key", r"(?:AKIA|ASIA)[A-Z0-9]{16}+"),
    ("api key", rf"AIza{_URLSAFE}{{35}}+"),
    ("api key", r"xox[abeprs]-[A-Za-z0-9-]{10,}+"),
    ("api key", r"hf_[A-Za-z0-9]{30,}+"),
    ("api key", r"npm_[A-Za-z0-9]{36}+"),
    ("api key", rf"pypi-AgE{_URLSAFE}{{47,}}+"),
    ("web token", rf"(?<!-)eyJ{_URLSAFE}{{8,}}+\.eyJ{_URLSAFE}{{8,}}+\.{_URLSAFE}{{8,}}+"),
)
_MAY_BE_WORDS = ("sk-", "cashu")  # which begin other names, too: sk-learn-..., cashuBalance...
_DRAWN = re.compile(r"[A-Z]|[A-Za-z0-9]{16}")
# A secret begins where a word does: behind an escape of JSON or of a URL, too.
_BEGINS = r"(?:(?<![A-Za-z0-9_])|(?<=\\[nrtbf])|(?<=\\u[0-9A-Fa-f]{4})|(?<=%[0-9A-Fa-f]{2}))"
_SHAPE = re.compile(
    f"(?=[ceghnNprstuvxyzAUVYZ]){_BEGINS}(?:"
    + "|".join(f"(?P<s{i}>{shape})" for i, (_, shape) in enumerate(_SHAPES))
    + ")"
)
_PEM_MARK = re.compile(r"-----(BEGIN|END) [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
# of a key that is cut off: long lines of base64, whatever is between them, and the line after them
_PEM_LINES = re.compile(
    r"(?s:.{0,200}?[A-Za-z0-9+/]{32,}+)++(?:(?:\s|\\[nr])++[A-Za-z0-9+/]++={0,2})?"
)
_LEAST_CHARS = 36  # a seed of twelve words of three letters has; a private key has more
_MIN_KNOWN = 8


class SecretsGuard:
    """Replaces secrets by `[redacted …]`, or refuses arguments that hold one.

    Args:
        known: the node's own secrets as text, asked at every check, since keys come and go; those
            shorter than eight characters are not looked for.
    """

    name = "secrets"

    def __init__(self, known: Callable[[], Iterable[str]] = tuple) -> None:
        self._known = known
        self._forms: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    def check(self, stage: GuardStage, content: Json, context: GuardContext) -> GuardVerdict:
        forms, found = self.forms(), set[str]()
        left = _spread(content, found)

        def change(text: str) -> str:
            redacted, kinds = redact(left.get(text, text), forms)
            found.update(kinds)
            return redacted

        rewritten = map_text(content, change)
        if not found:
            return PASS
        reason = "contains a secret: " + ", ".join(sorted(found))
        if stage is GuardStage.TOOL_ARGUMENTS:
            return GuardVerdict("fail", reason)
        return GuardVerdict("rewrite", reason, rewritten)

    def forms(self) -> tuple[str, ...]:
        """Every form of every known secret, longest first, made anew when the secrets changed."""
        known = tuple(self._known())
        if known != self._forms[0]:
            forms = {form for secret in known for form in _forms(secret)}
            self._forms = (known, tuple(sorted(forms, key=len, reverse=True)))
        return self._forms[1]


def redact(text: str, known: Iterable[str] = ()) -> tuple[str, set[str]]:
    """The text without its secrets, and what kinds of secret they were."""
    kinds: set[str] = set()
    for form in known:
        if form in text:
            text = text.replace(form, _mark(kinds, "secret of this node"))
    text = _without(text, _private_keys(text), "private key", kinds)
    text = _SHAPE.sub(lambda match: _shown(match, kinds), text)
    return _without(text, seed_phrases(text), "seed phrase", kinds), kinds


def _without(text: str, spans: Sequence[tuple[int, int]], kind: str, kinds: set[str]) -> str:
    parts, at = [], 0
    for start, end in spans:
        parts += [text[at:start], _mark(kinds, kind)]
        at = end
    return "".join(parts) + text[at:]


def _shown(match: re.Match[str], kinds: set[str]) -> str:
    kind = _SHAPES[int((match.lastgroup or "s0")[1:])][0]
    is_words = match[0].startswith(_MAY_BE_WORDS) and not _is_drawn(match[0])
    return match[0] if is_words else _mark(kinds, kind)


def _is_drawn(text: str) -> bool:
    """Whether it was drawn by lot, as keys are, and not put together of words."""
    return any(map(str.isdigit, text)) and bool(_DRAWN.search(text))


def _mark(kinds: set[str], kind: str) -> str:
    kinds.add(kind)
    return f"[redacted {kind}]"


def _forms(secret: str) -> Iterator[str]:
    if len(secret) < _MIN_KNOWN:
        return
    raw = secret.encode("utf-8", "replace")
    yield from spellings(secret)
    yield raw.hex()
    yield raw.hex().upper()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(raw).decode().rstrip("=")
        yield from _within(raw, encode)


def _within(raw: bytes, encode: Callable[[bytes], bytes]) -> Iterator[str]:
    """What base64 makes of it in the middle of something longer, wherever it begins there: the
    characters that hold nothing but its own bits."""
    for before in range(3):
        whole = encode(bytes(before) + raw).decode()
        form = whole[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
        if len(form) >= _MIN_KNOWN:
            yield form


def _spread(content: Json, kinds: set[str]) -> dict[str, str]:
    """What is left of strings that are a secret together and none alone, as the words of a seed in
    a list, or the lines of a key."""
    texts = [each for each in scalars(content) if isinstance(each, str)]
    if len(texts) < 2 or sum(map(len, texts)) < _LEAST_CHARS:
        return {}
    starts = [*accumulate((len(each) + 1 for each in texts), initial=0)]
    whole = " ".join(texts)
    left: dict[str, str] = {}
    for kind, find in (("private key", _private_keys), ("seed phrase", seed_phrases)):
        for start, end in find(whole):
            parts = range(bisect_right(starts, start) - 1, bisect_left(starts, end))
            for text, at in ((texts[part], starts[part]) for part in parts if len(parts) > 1):
                if any(map(str.isalpha, text)):
                    before, after = text[: max(0, start - at)], text[max(0, end - at) :]
                    left[text] = before + _mark(kinds, kind) + after
    return left


def _private_keys(text: str) -> list[tuple[int, int]]:
    """The spans from each BEGIN to its END. Where that is missing, to where what looks like a key
    ends: a page that tells how keys begin has none."""
    spans, at = [], 0
    marks = [*_PEM_MARK.finditer(text)]
    for mark, after in zip_longest(marks, marks[1:]):
        if mark[1] == "BEGIN" and mark.start() >= at:
            ended = after if after and after[1] == "END" else _PEM_LINES.match(text, mark.end())
            if ended:
                at = ended.end()
                spans.append((mark.start(), at))
    return spans

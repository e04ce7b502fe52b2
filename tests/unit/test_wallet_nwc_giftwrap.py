"""Gift wraps (NIP-59): who can read them, and whom they are believed to be from."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallet.errors import ParseError, VerificationError, WalletError
from wallet.nwc import giftwrap, nip44
from wallet.nwc.events import Event
from wallet.nwc.giftwrap import Rumor
from wallet.nwc.keys import SecretKey

NOW = 1_700_000_000
AUTHOR, READER, STRANGER = (SecretKey(bytes(31) + bytes([n])) for n in (3, 5, 7))


def wrapped(inner: object, *, key: SecretKey = STRANGER, kind: int = giftwrap.WRAP) -> Event:
    text = inner if isinstance(inner, str) else json.dumps(inner)
    content = nip44.encrypt(text, nip44.conversation_key(key, READER.public))
    return Event.make(key, kind, content, now=NOW)


def sealed(rumor: object, *, key: SecretKey = AUTHOR, **changes: Any) -> dict[str, Any]:
    text = rumor if isinstance(rumor, str) else json.dumps(rumor)
    content = nip44.encrypt(text, nip44.conversation_key(key, READER.public))
    fields = {"kind": giftwrap.SEAL, "tags": (), **changes}
    seal = Event.make(key, fields["kind"], content, tags=fields["tags"], now=NOW)
    return {**seal.to_json(), "tags": [list(tag) for tag in seal.tags]}


RUMOR = Rumor(AUTHOR.public, NOW, 14, "hello").to_json()


def test_a_message_reaches_its_reader_and_nobody_else() -> None:
    wrap = giftwrap.message(AUTHOR, READER.public, "hello ☺", now=NOW)
    rumor = giftwrap.unwrap(READER, wrap)
    assert (rumor.pubkey, rumor.content, rumor.created_at) == (AUTHOR.public, "hello ☺", NOW)
    assert "hello" not in repr(rumor)
    assert AUTHOR.public not in json.dumps(wrap.to_json())
    assert wrap.tag("p") == READER.public
    for other in (STRANGER, AUTHOR):
        with pytest.raises(VerificationError):
            giftwrap.unwrap(other, wrap)


def test_times_say_nothing() -> None:
    wraps = [giftwrap.message(AUTHOR, READER.public, "x", now=NOW) for _ in range(6)]
    assert len({wrap.created_at for wrap in wraps}) > 1
    assert len({wrap.pubkey for wrap in wraps}) == 6
    assert all(NOW - giftwrap.TWO_DAYS_S < wrap.created_at <= NOW for wrap in wraps)
    fixed = giftwrap.message(AUTHOR, READER.public, "x", now=NOW, random=lambda below: below - 1)
    assert fixed.created_at == NOW - giftwrap.TWO_DAYS_S + 1


def test_what_tests_make_is_what_is_unwrapped() -> None:
    assert giftwrap.unwrap(READER, wrapped(sealed(RUMOR))).content == "hello"
    assert giftwrap.unwrap(READER, wrapped(sealed({**RUMOR, "sig": ""}))).content == "hello"


@pytest.mark.parametrize(
    ("wrap", "error"),
    [
        (wrapped(sealed(RUMOR), kind=1), ParseError),
        (wrapped(sealed(RUMOR, kind=1)), ParseError),
        (wrapped(sealed(RUMOR, tags=[["p", READER.public]])), ParseError),
        (wrapped(sealed(RUMOR, key=STRANGER)), VerificationError),
        (wrapped({**sealed(RUMOR), "sig": sealed(RUMOR, key=STRANGER)["sig"]}), VerificationError),
        (wrapped(sealed({**RUMOR, "id": "0" * 64})), VerificationError),
        (wrapped(sealed({**RUMOR, "content": "other"})), VerificationError),
        (wrapped(sealed({**RUMOR, "kind": "14"})), ParseError),
        (wrapped(sealed({**RUMOR, "pubkey": "me"})), ParseError),
        (wrapped(sealed({**RUMOR, "content": 5})), ParseError),
        (wrapped(sealed({"kind": 14})), ParseError),
        (wrapped(sealed([])), ParseError),
        (wrapped(sealed("no json")), ParseError),
        (wrapped("[" * 20_000), ParseError),
        (wrapped("{}"), ParseError),
        (Event.make(STRANGER, giftwrap.WRAP, "", now=NOW), ParseError),
    ],
)
def test_wraps_that_are_not_believed(wrap: Event, error: type[WalletError]) -> None:
    with pytest.raises(error):
        giftwrap.unwrap(READER, wrap)


def test_messages_that_cannot_be_sent() -> None:
    with pytest.raises(ParseError):
        giftwrap.message(AUTHOR, "f" * 64, "x", now=NOW)
    with pytest.raises(ParseError):
        giftwrap.message(AUTHOR, READER.public, "x" * 50_000, now=NOW)


@given(st.text(min_size=1) | st.dictionaries(st.sampled_from(list(RUMOR)), st.none() | st.text()))
def test_seals_of_anything(rumor: object) -> None:
    with pytest.raises(WalletError):
        giftwrap.unwrap(READER, wrapped(sealed(rumor)))

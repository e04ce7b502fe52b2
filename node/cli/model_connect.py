"""`freehold model connect`: a model that a server runs, under a name of this node's.

The server is asked at once what it is, so that a wrong address, name or key is met here and not in
an agent's run. The key goes to the keystore, for this address and for no tool.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli._shared import clean, hidden, home, json_option, node_home, note, print_json
from node.errors import IdentityError

if TYPE_CHECKING:
    from node.identity import HttpSecret
    from node.inference import ModelInfo, RemoteModel
    from node.types import JsonObject


@click.command()
@click.argument("name")
@click.argument("url")
@click.option("--model", default="", help="Its name there, where the server has several.")
@click.option("--key", is_flag=True, help="Ask for the server's API key, or read it from stdin.")
@click.option("--context", default=0, type=click.IntRange(0), help="Tokens, if it does not say.")
@click.option("--ca-file", default="", type=click.Path(dir_okay=False), help="Trust these (PEM).")
@click.option("--plain-http", is_flag=True, help="Allow http:// to another machine.")
@click.option("--unchecked", is_flag=True, help="Do not ask the server now.")
@json_option
def connect(
    name: str,
    url: str,
    *,
    model: str,
    key: bool,
    context: int,
    ca_file: str,
    plain_http: bool,
    unchecked: bool,
    as_json: bool,
) -> None:
    """Use a model of a llama-server, vLLM, Ollama or OpenAI-compatible service at URL.

    What agents tell such a model leaves this machine; the log says where it went.
    """
    from node.inference import ModelStore, RemoteModel, RemoteModels, refuse_both

    node_home()
    kept_key = f"model.{name}" if key else _known_key(name, url)
    pem = str(Path(ca_file).absolute()) if ca_file else ""
    entry = RemoteModel(name, url, model, kept_key, context, plain_http, pem)
    refuse_both(ModelStore(home().models), name)
    value = _ask_key() if key else ""
    info = None if unchecked else asyncio.run(_look(entry, value))
    if key:
        _keep_key(entry, value)
    RemoteModels(home().models).add(entry)
    if not entry.key:
        _drop_key(name)  # it was for another address
    _report(entry, info, as_json=as_json)


def describe_remote(entry: RemoteModel) -> JsonObject:
    """An entry for `list` and `show`, without anything secret."""
    return {
        "name": entry.name,
        "remote": entry.url,
        "model": entry.model,
        "key": entry.key,
        "context_tokens": entry.context_tokens,
    }


def remotes() -> list[RemoteModel]:
    """All entries, by name."""
    from node.inference import RemoteModels

    return RemoteModels(home().models).list()


def remote(name: str) -> RemoteModel | None:
    """The entry of that name, which goes before the shipped model of the same."""
    from node.inference import RemoteModels

    return RemoteModels(home().models).get(name)


def show_remote(entry: RemoteModel, *, as_json: bool) -> None:
    """What is known of an entry without asking its server."""
    if as_json:
        print_json(describe_remote(entry))
        return
    for key, value in describe_remote(entry).items():
        told = value or ("none" if key == "key" else "as the server says")
        click.echo(f"{key.replace('_', ' '):14}  {clean(str(told), lines=False)}")


def forget_remote(name: str) -> bool:
    """Forgets an entry and its key; False if there is none of that name."""
    from node.inference import RemoteModels

    models = RemoteModels(home().models)
    if models.get(name) is None:
        return False
    models.remove(name)
    _drop_key(name)
    return True


def _drop_key(name: str) -> None:
    """Removes the key that was kept for a model of that name, if there is one."""
    from node.identity import KeyStore

    keys = KeyStore(home().keys)
    if f"model.{name}" in keys.names():
        keys.remove(f"model.{name}")


def _known_key(name: str, url: str) -> str:
    """The key of an entry that is only changed; it is for its own address."""
    from node.inference import RemoteModel, RemoteModels

    known = RemoteModels(home().models).get(name)
    same = known is not None and RemoteModel(name, url, plain_http=True).url == known.url
    return known.key if known is not None and same else ""


def _ask_key() -> str:
    if sys.stdin.isatty():
        return hidden("API key").strip()
    try:
        return sys.stdin.buffer.read(8_193).decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise IdentityError("the key is not ASCII", hint="Give the key alone.") from error


def _keep_key(entry: RemoteModel, value: str) -> None:
    from node.identity import KeyStore

    KeyStore(home().keys).set(entry.key, _bearer(entry, value).encode())


def _bearer(entry: RemoteModel, key: str) -> HttpSecret:
    """The key as the header that its server is sent, and no tool."""
    from node.identity import HttpSecret

    return HttpSecret(entry.scope, "Authorization", f"Bearer {key}", ())


async def _look(entry: RemoteModel, value: str) -> ModelInfo:
    """What the server says the model is, asked with the key that will be used."""
    from node.identity import HttpSecrets
    from node.inference import RemoteEngine, RemoteModels

    class One(RemoteModels):
        """This entry alone, not kept yet."""

        def get(self, name: str) -> RemoteModel | None:
            return entry

    headers: dict[str, str] = {}
    if value:
        bearer = _bearer(entry, value)
        bearer.encode()  # raises where no header can hold it
        headers = {bearer.header: bearer.value}
    elif entry.key:
        headers = dict(HttpSecrets(home().keys).header(entry.key, entry.scope))
    engine = RemoteEngine(One(home().models), headers=lambda _entry: headers)
    try:
        return await engine.info(entry.name)
    finally:
        await engine.aclose()


def _report(entry: RemoteModel, info: ModelInfo | None, *, as_json: bool) -> None:
    if as_json:
        found = {"kind": info.architecture, "served_tokens": info.context_tokens} if info else {}
        print_json({**describe_remote(entry), **found})
        return
    if info is not None:
        note(f"{clean(entry.host)} is {info.architecture}, with {info.context_tokens} tokens")
    note(f'connected {entry.name}; use it by model = "{entry.name}" in an agent\'s manifest')
    note(f"what agents tell it is sent to {clean(entry.url)}")

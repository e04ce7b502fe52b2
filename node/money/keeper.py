"""The node's wallet file: not there yet, locked, or open in this process alone.

It is made when its owner first needs it, and opened when the node starts, if its key can be. A
file that was put back from an archive is older than what its mints know: until every mint was
asked again it pays nobody and takes nothing (`reconcile`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from node.errors import (
    FreeholdError,
    IdentityError,
    MoneyError,
    WalletLockedError,
    WalletMissingError,
    WalletStateError,
)
from node.money.key import KEY_LOST, WalletKey
from node.money.nwc import NwcLink
from node.money.translate import translated
from node.money.types import stale_mark

if TYPE_CHECKING:
    from wallet.mint import MintClient
    from wallet.nwc import NwcSource
    from wallet.operations.results import Rules
    from wallet.wallet import Wallet

State = Literal["none", "locked", "open", "stale", "broken"]
log = logging.getLogger("freehold")


class Keeper:
    """Opens, makes and closes the wallet.

    Args:
        path: the wallet's file.
        keys: the home's folder of secrets.
        rules: what the wallet may do without being asked.
        passphrase: for its key, where one was given at start.
        connect: makes a mint's client; the real one over HTTP, unless a test has another.
        nwc: the owner's other wallet.
    """

    def __init__(
        self,
        path: Path,
        keys: Path,
        *,
        rules: Rules,
        passphrase: str | None = None,
        connect: Callable[[str], MintClient] | None = None,
        nwc: NwcLink | None = None,
    ) -> None:
        self.path = path
        self.source: NwcSource | None = None
        self._key = WalletKey(keys)
        self._nwc = nwc or NwcLink(keys)
        self._opened = b""  # the key of the open wallet
        self._rules = rules
        self._passphrase = passphrase
        self._connect = connect
        self._wallet: Wallet | None = None
        self._broken: FreeholdError | None = None
        self._opening = asyncio.Lock()

    @property
    def state(self) -> State:
        """How it is; `stale` is open, and must be reconciled."""
        if self._wallet is not None:
            return "stale" if self.is_stale else "open"
        if self._broken is not None:
            return "locked" if isinstance(self._broken, WalletLockedError) else "broken"
        return "none"

    @property
    def is_made(self) -> bool:
        """Whether there is a wallet's file, and not just the beginning of one."""
        from wallet.store import is_made

        return is_made(self.path)

    @property
    def is_stale(self) -> bool:
        """Whether it came out of an archive and was not held against its mints since."""
        return stale_mark(self.path).exists()

    @property
    def problem(self) -> FreeholdError | None:
        """Why it is not open, where there is one."""
        return self._broken

    async def start(self) -> None:
        """Opens what is there, if that is possible; says so on the node's own log where not."""
        passphrase, self._passphrase = self._passphrase, None
        if not self.is_made:
            return
        try:
            await self.unlock(passphrase)
        except FreeholdError as error:
            log.warning("the wallet is not open: %s", error.diagnostics())

    async def unlock(self, passphrase: str | None) -> None:
        """Opens the wallet that is there.

        Raises:
            WalletMissingError, WalletLockedError, WalletStateError: why that is not to be.
        """
        async with self._opening:
            if self._wallet is None:
                if not self.is_made:
                    raise _missing()
                await self._open(await self._unsealed(passphrase))

    async def make(self, words: str | None = None) -> Wallet:
        """The wallet, made if there is none; with `words`, made of that seed.

        Raises:
            WalletStateError: there is one already, of another seed.
            RequestError: the words are no seed.
        """
        async with self._opening:
            if self._wallet is None and not self.is_made:
                await self._open(await asyncio.to_thread(self._first_key), words)
                words = None
        wallet = self.wallet(stale=True)
        if words is not None and _normal(words) != wallet.words():
            raise WalletStateError(
                "this home has a wallet already, of another seed",
                hint="Restore a seed into a home without one: set FREEHOLD_HOME to a new folder.",
            )
        return wallet

    async def meet(self, url: str) -> None:
        """Asks a mint what it is, with no wallet yet. Raises as `Wallet.add_mint`, translated."""
        from wallet.mint import HttpTransport, MintClient, mint_url

        with translated():
            url = mint_url(url)
            mint = self._connect(url) if self._connect else MintClient(url, HttpTransport(url))
            try:
                await mint.info()
            finally:
                await mint.aclose()

    def wallet(self, *, stale: bool = False) -> Wallet:
        """The open wallet.

        Args:
            stale: also one that was not reconciled yet.

        Raises:
            WalletMissingError, WalletLockedError, WalletStateError: why there is none.
        """
        if self._wallet is None:
            raise self._broken or _missing()
        if self.is_stale and not stale:
            raise WalletStateError(
                "the wallet came out of an archive and was not held against its mints yet",
                hint="`freehold wallet restore` asks them; until then it neither pays nor takes.",
            )
        return self._wallet

    def reconciled(self) -> None:
        """The mints were asked: it may pay again."""
        stale_mark(self.path).unlink(missing_ok=True)

    async def connect_source(self, uri: str) -> None:
        """Connects the owner's other wallet, with one of ours made if there is none; or with ""
        forgets it. Raises RequestError, and as `make`."""
        if uri:
            self._nwc.parse(uri)
            await self.make()
        wallet = self.wallet(stale=True)
        made = self._nwc.keep(uri, self._opened) if uri else None
        await self._close_source()
        if made is None:
            self._nwc.forget()
        else:
            wallet.use_source(made)
        self.source = made

    async def aclose(self) -> None:
        """Closes it."""
        await self._close_source()
        if self._wallet is not None:
            wallet, self._wallet = self._wallet, None
            await wallet.aclose()

    async def _close_source(self) -> None:
        if self.source is not None:
            source, self.source = self.source, None
            await source.aclose()

    def _first_key(self) -> bytes:
        """The key of a file that is not there yet."""
        if not self._key.exists():
            return self._key.make()
        if self._key.is_wrapped():  # nothing asks for its passphrase where there is no file
            raise WalletLockedError(
                "the key that is there is another wallet's, whose file is gone, under a passphrase",
                hint="Put wallet.db back from a backup. Or move keys/wallet out of the home, too: "
                "then `freehold wallet restore --words` brings the money back from its seed.",
            )
        return self._key.open()

    async def _unsealed(self, passphrase: str | None) -> bytes:
        try:
            return await asyncio.to_thread(self._key.open, passphrase)
        except IdentityError as error:
            self._broken = WalletStateError(
                f"{self.path} is there, and its key cannot be read: {error.message}",
                hint=KEY_LOST,
            )
            raise self._broken from error
        except MoneyError as error:
            self._broken = error
            raise

    async def _open(self, key: bytes, words: str | None = None) -> None:
        from wallet.wallet import Wallet

        try:
            with translated():
                self._wallet = await Wallet.open(
                    self.path, key=key, words=words, connect=self._connect, rules=self._rules
                )
        except MoneyError as error:
            self._broken = error
            raise
        self._broken, self._opened = None, key
        try:
            self.source = self._nwc.open(key)
        except FreeholdError as error:
            log.warning("%s", error.diagnostics())
        if self.source is not None:
            self._wallet.use_source(self.source)


def _normal(words: str) -> str:
    """A seed as a wallet tells it. Raises RequestError."""
    from wallet.protocol.derivation import check_words

    with translated():
        return check_words(words)


def _missing() -> WalletMissingError:
    return WalletMissingError(
        "this node has no wallet yet", hint="`freehold wallet mints add URL` makes it."
    )

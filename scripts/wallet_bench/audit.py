"""After a death: both files recovered, what they say of each operation, and the money counted."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from pathlib import Path

from wallet.errors import PaymentFailedError, WalletError
from wallet.operations.results import Sent
from wallet.protocol import curve, p2pk, tokens
from wallet.store import Hold, Kind, Outbox, State, Store, Tables
from wallet.types import Proof
from wallet.wallet import Wallet
from wallet_bench.books import Books
from wallet_bench.life import KEY, NAMES, RULES
from wallet_bench.tally import Begun, Tally

ROUNDS = 100  # of recovery, while the mint still works on what the dead asked for
PAYEE = "cleo"
MANY = 1_000_000  # all of a history


class Audit:
    """The wallets' files in a folder against their mint's books; findings go to the tally."""

    def __init__(
        self, folder: Path, url: str, books: Books, chance: random.Random, tally: Tally
    ) -> None:
        self._folder, self._url, self._books = folder, url, books
        self._random, self._tally = chance, tally
        self._tokens: list[tuple[str, str]] = []
        self._sends: list[tuple[str, str]] = []
        self._swaps: dict[str, set[str]] = {who: set() for who in NAMES}
        self._counters: dict[tuple[str, str], int] = {}
        self._ys: dict[str, bytes] = {}
        self._invoices: set[str] = set()

    def given_out(self) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """For the next life: tokens, with whom they are for; sends to take back, with whose."""
        tokens, sends, self._tokens, self._sends = self._tokens, self._sends, [], []
        return tokens, sends

    async def after(self, begun: Iterable[Begun]) -> None:
        """Recovers, accounts for what was begun, hands tokens on, and counts."""
        wallets = {who: await self._open(who) for who in (*NAMES, PAYEE)}
        try:
            for who in NAMES:
                await self._settle(who, wallets[who])
            for each in sorted(begun, key=lambda each: not each.ended):
                await self._account(each, wallets[each.who])
            await self._deliver(wallets)
        finally:
            for wallet in wallets.values():
                await wallet.aclose()
        await self._count()

    async def at_last(self) -> None:
        """The seeds alone bring back all that is not locked to somebody; payments agree."""
        wanted = found = paid = 0
        for who in NAMES:
            async with await self._open(who) as wallet:
                words = wallet.words()
                await wallet.refresh_outbox()
                report = await wallet.check()
                self._must(report.ok and not report.unreachable, f"{who}: check says {report}")
                mine = [sent for sent in self._outbox(wallet) if not _locked(sent.token)]
                wanted += wallet.balance() + sum(sent.amount for sent in mine)
                paid += sum(
                    each.kind == Kind.MELT and each.state == State.DONE
                    for each in wallet.history(MANY)
                )
            path = self._folder / f"{who} restored.db"
            async with await Wallet.open(path, key=KEY, words=words) as wallet:
                await wallet.add_mint(self._url)
                await wallet.restore(self._url)
                found += wallet.balance()
        self._tally.restored = (found, wanted)
        self._must(found == wanted, f"of {wanted} sat the seeds bring back {found}")
        told = sum(self._books.paid()[text] for text in self._invoices)
        self._must(told == paid, f"the mint paid {told} invoices, the wallets say {paid}")

    async def _open(self, who: str) -> Wallet:
        rules = RULES.get(who, RULES["ann"])
        wallet = await Wallet.open(self._folder / f"{who}.db", key=KEY, rules=rules)
        if not wallet.mints():
            await wallet.add_mint(self._url)
        return wallet

    async def _settle(self, who: str, wallet: Wallet) -> None:
        """Recovers until nothing is pending: the mint may still be at what the dead asked for."""
        for _ in range(ROUNDS):
            await wallet.recover()
            if not wallet.pending():
                return
            await asyncio.sleep(0.1)
        left = [f"{each.kind} {each.state} {each.error}" for each in wallet.pending()]
        self._tally.problems.append(f"{who}: not settled: {left}")

    async def _account(self, begun: Begun, wallet: Wallet) -> None:
        outcome = self._outcome(begun, wallet)
        if "invoice" in begun.given:
            self._invoices.add(begun.given["invoice"])
        if begun.ended:
            there = begun.refused or outcome != "never began"
            self._must(there, f"{begun.name} {begun.key} ended, and is not in the file")
            return
        if begun.doubted:
            self._tally.doubted[outcome] += 1
        else:
            self._tally.outcomes[begun.name, outcome] += 1
        if outcome in ("done", "undone"):
            await self._ask_again(begun, wallet, outcome)

    def _outcome(self, begun: Begun, wallet: Wallet) -> str:
        if begun.name == "recover":
            return "done"
        found = wallet.operation(begun.key)
        if begun.name == "swap":
            swaps = [each for each in wallet.history(MANY) if each.kind == Kind.CONSOLIDATE]
            found = next((s for s in reversed(swaps) if s.key not in self._swaps[begun.who]), None)
            self._swaps[begun.who].add(found.key if found else "")
        if begun.name == "reclaim":
            send = wallet.operation(begun.given["send"])
            back = send is not None and send.outbox == Outbox.RECLAIMED
            return "done" if back else "never began"
        if found is None:
            return "never began"
        return "done" if found.state == State.DONE else "undone"

    async def _ask_again(self, begun: Begun, wallet: Wallet, outcome: str) -> None:
        """The same key is the same operation: nothing moves, and the answer is the same."""
        before = wallet.balance()
        given = begun.given
        try:
            match begun.name:
                case "send" | "kept send" | "locked send":
                    to = bytes.fromhex(given["to"]) if given["to"] else None
                    sent = await wallet.send(given["amount"], to=to, key=begun.key)
                    same = sent == wallet.sent(begun.key)
                    if sent.token and given.get("token") not in (None, sent.token):
                        same = False
                case "melt":
                    paid = await wallet.pay_invoice(given["invoice"], key=begun.key)
                    same = paid.state == "paid"
                case "receive":
                    same = (await wallet.receive(given["token"], key=begun.key)).amount > 0
                case _:
                    return
        except WalletError as error:
            same = isinstance(error, PaymentFailedError) and outcome == "undone"
        self._tally.again += 1
        same = same and wallet.balance() == before
        self._must(same, f"{begun.name} {begun.key}: asked again, it is another")

    async def _deliver(self, wallets: dict[str, Wallet]) -> None:
        """What is in the outboxes goes on: to the other one in the next life, to cleo, or back."""
        for who in NAMES:
            other = NAMES[1 - NAMES.index(who)]
            await wallets[who].refresh_outbox()
            for sent in self._outbox(wallets[who]):
                chance = self._random.random()
                if _locked(sent.token) or chance < 0.5:
                    self._tokens.append((other, sent.token))
                elif chance < 0.75:
                    await wallets[PAYEE].receive(sent.token)
                else:
                    self._sends.append((who, sent.operation))

    def _outbox(self, wallet: Wallet) -> list[Sent]:
        operations = [each for each in wallet.history(MANY) if each.outbox == Outbox.OPEN]
        sent = [wallet.sent(each.key) for each in operations]
        return [each for each in sent if each is not None and each.token]

    async def _count(self) -> None:
        """Books against files, read as they are on the disk."""
        spent, held = self._books.spent(), 0
        for who in (*NAMES, PAYEE):
            proofs = await self._on_disk(who)
            held += sum(proof.amount for proof in proofs[Hold.FREE])
            held += sum(p.amount for p in proofs[Hold.SENT] if self._y(p) not in spent)
            gone = [p for p in proofs[Hold.FREE] if self._y(p) in spent]
            self._must(not gone, f"{who}: {len(gone)} proofs of the balance are spent")
            self._must(not proofs[Hold.RESERVED], f"{who}: proofs stay reserved")
            self._must(not proofs[Hold.ASIDE], f"{who}: proofs are set aside")
        outstanding, by_lightning = self._books.outstanding(), self._books.by_lightning()
        self._tally.differences.append(outstanding - held)
        self._must(outstanding == held, f"{outstanding} sat are outstanding, and {held} are held")
        kept = self._tally.mint_kept = by_lightning - outstanding
        died = kept > 0 and self._tally.mint_kills > 0
        self._must(kept == self._books.forgotten() or died, f"it kept {kept} sat")
        self._must(await self._at_rest(), "proofs stay pending at the mint")
        twice = [text for text, count in self._books.paid().items() if count > 1]
        self._must(not twice, f"{len(twice)} invoices were paid twice")

    async def _at_rest(self) -> bool:
        """Whether nothing is pending: a mint may tidy up after its answer."""
        for _ in range(ROUNDS):
            if not self._books.under_way():
                return True
            await asyncio.sleep(0.1)
        return False

    async def _on_disk(self, who: str) -> dict[Hold, list[Proof]]:
        """Every proof in a wallet's file; its counters never went down."""
        store = Store(self._folder / f"{who}.db", key=KEY)
        try:
            proofs, counters = store.read(_everything)
        finally:
            await store.aclose()
        for keyset, counter in counters.items():
            lower = counter < self._counters.get((who, keyset), 0)
            self._must(not lower, f"{who}: a counter went down")
            self._counters[who, keyset] = counter
        return proofs

    def _must(self, holds: bool, problem: str) -> None:
        if not holds:
            self._tally.problems.append(f"after {self._tally.deaths} deaths: {problem}")

    def _y(self, proof: Proof) -> bytes:
        found = self._ys.get(proof.secret)
        if found is None:
            found = self._ys[proof.secret] = curve.y_of(proof.secret)
        return found


def _everything(tables: Tables) -> tuple[dict[Hold, list[Proof]], dict[str, int]]:
    proofs = {hold: [held.proof for _, held in tables.proofs.all_held(hold)] for hold in Hold}
    return proofs, dict(tables.connection.execute("SELECT id, counter FROM keysets").fetchall())


def _locked(token: str) -> bool:
    return any(p2pk.lock_of(proof.secret) is not None for proof in tokens.decode(token).proofs)

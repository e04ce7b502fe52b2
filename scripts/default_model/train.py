"""The training run: a copy-only stage, then conversations, under a rate that decays with the clock.

The schedule follows time and not steps, because the machine may be busy and the end is what has to
be met. A checkpoint is written every few minutes and training goes on from it.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch._dynamo

from batches import LENGTHS, Batch, Source
from induction import seed_copying
from model import Model, Shape
from muon import Muon

COPY_SHARE = 0.15  # of the time at most; it ends once copying is learned
COPY_LOSS = 0.5
WARM_STEPS = 20
AVERAGE = 0.995


def rate(progress: float) -> float:
    """The share of the full rate: flat for 40% of the time, then down to 2% along a line."""
    return 1.0 if progress < 0.4 else max(0.02, 1.0 - 0.98 * (progress - 0.4) / 0.6)


class Trainer:
    """Model, optimisers, running average of the weights, and the clock they share."""

    def __init__(self, shape: Shape, muon_rate: float, adam_rate: float) -> None:
        self.model = Model(shape)
        seed_copying(self.model)
        named = dict(self.model.named_parameters())
        matrices = [w for name, w in named.items() if w.ndim == 2 and "token_embd" not in name]
        others = [w for name, w in named.items() if w.ndim != 2 or "token_embd" in name]
        self.muon = Muon(matrices, lr=muon_rate, weight_decay=0.01)
        self.adam = torch.optim.AdamW(others, lr=adam_rate, betas=(0.9, 0.95), weight_decay=0.0)
        self.rates = (muon_rate, adam_rate)
        self.average = {name: w.detach().clone() for name, w in named.items()}
        torch._dynamo.config.recompile_limit = 4 * len(LENGTHS)
        self.hidden = torch.compile(self.model.hidden, dynamic=False)
        self.step_count = 0
        self.elapsed = 0.0
        self.copied = False

    def step(self, batch: Batch, progress: float) -> float:
        """One update; the loss in nats a token."""
        share = rate(progress) * min(1.0, (self.step_count + 1) / WARM_STEPS)
        for optimiser, full in zip((self.muon, self.adam), self.rates, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = full * share
        with torch.autocast("cpu", torch.bfloat16):
            flat = self.hidden(batch.ids).flatten(0, 1)
            logits = torch.nn.functional.linear(flat[batch.where], self.model.token_embd.weight)
        loss = torch.nn.functional.cross_entropy(logits.float(), batch.targets)
        loss.backward()
        for optimiser in (self.muon, self.adam):
            optimiser.step()
            optimiser.zero_grad()
        self._follow()
        self.step_count += 1
        return float(loss.detach())

    @torch.no_grad()
    def _follow(self) -> None:
        keep = min(AVERAGE, self.step_count / (self.step_count + 10))
        for name, weight in self.model.named_parameters():
            self.average[name].lerp_(weight, 1 - keep)

    def save(self, path: Path) -> None:
        """Writes everything needed to go on; replaces the file only when it is whole."""
        state = {"shape": self.model.shape.as_dict(), "model": self.model.state_dict(),
                 "average": self.average, "muon": self.muon.state_dict(),
                 "adam": self.adam.state_dict(), "step": self.step_count, "elapsed": self.elapsed,
                 "copied": self.copied}
        torch.save(state, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)

    def load(self, path: Path) -> None:
        """Goes on from a checkpoint."""
        state: dict[str, Any] = torch.load(path)
        self.model.load_state_dict(state["model"])
        self.average = state["average"]
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])
        self.step_count, self.elapsed = state["step"], state["elapsed"]
        self.copied = state.get("copied", False)


def run(trainer: Trainer, merges: Path, folder: Path, options: argparse.Namespace) -> None:
    """Trains until `options.minutes` of training time have gone by."""
    limit = options.minutes * 60.0
    copying = not trainer.copied
    seed = options.seed + 1_000_003 * trainer.step_count
    source = Source(merges, seed, options.copy_tokens if copying else options.tokens, copying)
    losses: list[float] = []
    seen, shown, saved, before = 0, time.monotonic(), time.monotonic(), time.monotonic()
    try:
        while trainer.elapsed < limit:
            batch = source.next()
            losses.append(trainer.step(batch, trainer.elapsed / limit))
            seen += batch.ids.numel()
            now = time.monotonic()
            trainer.elapsed += now - before
            before = now
            if now - shown > 20:
                mean, speed = sum(losses) / len(losses), seen / (now - shown)
                print(f"{trainer.elapsed / 60:6.1f} min  step {trainer.step_count:6d}  "
                      f"loss {mean:.4f}  {speed:7.0f} tokens/s", flush=True)
                losses, seen, shown = [], 0, now
                if copying and (mean < COPY_LOSS or trainer.elapsed >= limit * COPY_SHARE):
                    trainer.copied = True
                    source.close()
                    source, copying = Source(merges, seed, options.tokens, copying=False), False
            if now - saved > options.save_every:
                trainer.save(folder / "checkpoint.pt")
                saved = time.monotonic()
        trainer.save(folder / "checkpoint.pt")
    finally:
        source.close()


def main() -> None:
    """Command line of the training run alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="checkpoint and merges")
    parser.add_argument("--minutes", type=float, default=90.0)
    parser.add_argument("--tokens", type=int, default=4608, help="a step, padding counted in")
    parser.add_argument("--copy-tokens", type=int, default=3072, help="the same, while copying")
    parser.add_argument("--muon-rate", type=float, default=0.02)
    parser.add_argument("--adam-rate", type=float, default=0.0012)
    parser.add_argument("--save-every", type=float, default=180.0, help="seconds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    merges = prepare(options.folder, options.seed)
    from tokenizer import Tokenizer

    vocabulary = len(Tokenizer.load(merges).tokens)
    trainer = Trainer(Shape(vocabulary=vocabulary), options.muon_rate, options.adam_rate)
    checkpoint = options.folder / "checkpoint.pt"
    if checkpoint.exists():
        trainer.load(checkpoint)
    run(trainer, merges, options.folder, options)


def prepare(folder: Path, seed: int) -> Path:
    """The tokenizer's merges, learned once from conversations like those to come."""
    from data import Maker
    from encode import Encoder
    from tokenizer import Tokenizer, train

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "merges.json"
    if not path.exists():
        maker, encoder = Maker(seed + 77), Encoder(Tokenizer([]))
        texts = []
        for _ in range(3000):
            made = maker.conversation()
            texts.append(encoder.render(made.messages, made.tools))
        Tokenizer(train(texts, 503)).save(path)
    return path


if __name__ == "__main__":
    main()

"""The training run: exercises, then conversations that are harder than usual ones, then usual ones.

The rate decays with the clock.

One process a core, each with one thread and batches of its own, gradients averaged once a step: on
a machine that does other things too, threads that meet hundreds of times a step would wait for each
other most of the time. The schedule follows time and not steps, because the end is what has to be
met. A checkpoint is written every few minutes, and training goes on from it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed
import torch.multiprocessing
from batches import Batch, Source
from data import HARD, ONLY_DRILLS, USUAL, Maker, Mix
from encode import Encoder
from induction import seed_copying
from model import Model, Shape
from muon import Muon
from shipped_weights import deepened, save_merges, weights
from tokenizer import Tokenizer
from tokenizer import train as train_merges

DRILL_SHARE = 0.06  # of the time at most; it ends once the exercises are learned
DRILL_LOSS = 0.1
FRESH_AT = 2  # where layers are put in that a file to begin with lacks
WARM_STEPS = 20
AVERAGE = 0.995
MERGES = 503
SHOW_EVERY_S = 20.0
PAUSE_S = 10.0  # a step that takes longer was compiled or stopped, and is not counted whole


def rate(progress: float) -> float:
    """The share of the full rate: all of it at first, 44% half-way, 2% at the end."""
    return max(0.02, (1.0 - progress) ** 1.2)


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
        self.contexts = torch.compile(self.model.contexts, dynamic=True)
        self.step_count = 0
        self.elapsed = 0.0
        self.drilled = False

    def begin_with(self, weights: dict[str, torch.Tensor]) -> None:
        """Takes over trained weights, under more layers if this model has more.

        They have done the exercises that come first.
        """
        fresh = Model(self.model.shape).state_dict()
        self.model.load_state_dict(deepened(weights, fresh, FRESH_AT))
        self.average = {name: w.detach().clone() for name, w in self.model.named_parameters()}
        self.drilled = True

    def loss(self, batch: Batch) -> torch.Tensor:
        """Mean loss of a batch's targets in nats."""
        with torch.autocast("cpu", torch.bfloat16):
            flat = self.contexts(batch.ids, batch.lengths, batch.layout)
            logits = self.model.head(flat[batch.where])
        return torch.nn.functional.cross_entropy(logits.float(), batch.targets)

    def step(self, batch: Batch, progress: float, seconds: float) -> float:
        """One update with what all processes found; adds their mean `seconds` to the clock."""
        share = rate(progress) * min(1.0, (self.step_count + 1) / WARM_STEPS)
        for optimiser, full in zip((self.muon, self.adam), self.rates, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = full * share
        loss = self.loss(batch)
        loss.backward()
        mean, passed = self._agree(float(loss.detach()), seconds)
        for optimiser in (self.muon, self.adam):
            optimiser.step()
            optimiser.zero_grad()
        self._follow()
        self.step_count += 1
        self.elapsed += passed
        return mean

    def _agree(self, *figures: float) -> tuple[float, ...]:
        """Averages gradients and `figures` over the processes."""
        weights = [weight for weight in self.model.parameters() if weight.grad is not None]
        flat = torch.cat([*(weight.grad.flatten() for weight in weights), torch.tensor(figures)])
        torch.distributed.all_reduce(flat)
        flat /= torch.distributed.get_world_size()
        at = 0
        for weight in weights:
            weight.grad.copy_(flat[at : at + weight.numel()].view_as(weight))
            at += weight.numel()
        return tuple(flat[at:].tolist())

    @torch.no_grad()
    def _follow(self) -> None:
        keep = min(AVERAGE, self.step_count / (self.step_count + 10))
        for name, weight in self.model.named_parameters():
            self.average[name].lerp_(weight, 1 - keep)

    def save(self, path: Path) -> None:
        """Writes everything needed to go on; replaces the file only when it is whole."""
        state = {
            "shape": self.model.shape.as_dict(),
            "model": self.model.state_dict(),
            "average": self.average,
            "muon": self.muon.state_dict(),
            "adam": self.adam.state_dict(),
            "step": self.step_count,
            "elapsed": self.elapsed,
            "drilled": self.drilled,
        }
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
        self.drilled = state["drilled"]


class Loop:
    """One process's part of the run. All take the same decisions, since they share the figures."""

    def __init__(self, trainer: Trainer, rank: int, options: argparse.Namespace) -> None:
        self.trainer, self.rank, self.options = trainer, rank, options
        self.limit = options.minutes * 60.0
        self.source = self._open()
        self.losses: list[float] = []
        self.tokens = 0
        self.shown = self.saved = trainer.elapsed

    def _open(self) -> Source:
        options, trainer = self.options, self.trainer
        self.mix = self._mix()
        tokens = options.tokens if trainer.drilled else options.drill_tokens
        seed = options.seed + 1_000_003 * trainer.step_count + 7919 * self.rank
        share = tokens // options.processes
        return Source(options.folder / "merges.json", seed, share, self.mix)

    def _mix(self) -> Mix:
        trainer = self.trainer
        if not trainer.drilled:
            return ONLY_DRILLS
        # what is met at the low rates of the end is done best
        return HARD if trainer.elapsed < self.limit * self.options.usual_at else USUAL

    def run(self) -> None:
        """Trains until the minutes are over."""
        trainer, before = self.trainer, time.monotonic()
        try:
            while trainer.elapsed < self.limit:
                batch = self.source.next()
                now = time.monotonic()
                seconds, before = min(now - before, PAUSE_S), now
                loss = trainer.step(batch, trainer.elapsed / self.limit, seconds)
                self.losses.append(loss)
                self.tokens += batch.ids.numel() * self.options.processes
                if trainer.elapsed - self.shown > SHOW_EVERY_S:
                    self._look()
            self._save()
        finally:
            self.source.close()

    def _look(self) -> None:
        trainer = self.trainer
        mean = sum(self.losses) / len(self.losses)
        speed = self.tokens / (trainer.elapsed - self.shown)
        if self.rank == 0:
            print(
                f"{trainer.elapsed / 60:6.1f} min  step {trainer.step_count:6d}  "
                f"loss {mean:.4f}  {speed:7.0f} tokens/s",
                flush=True,
            )
        self.losses, self.tokens, self.shown = [], 0, trainer.elapsed
        late = trainer.elapsed > self.limit * DRILL_SHARE
        trainer.drilled = trainer.drilled or mean < DRILL_LOSS or late
        if self._mix() is not self.mix:
            self.source.close()
            self.source = self._open()
        if trainer.elapsed - self.saved > self.options.save_every:
            self._save()

    def _save(self) -> None:
        self.saved = self.trainer.elapsed
        if self.rank == 0:
            self.trainer.save(self.options.folder / "checkpoint.pt")


def prepare(folder: Path, seed: int) -> int:
    """Learns the tokenizer's merges once, from conversations like those to come; tokens in all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "merges.json"
    if not path.exists():
        maker, encoder = Maker(seed + 77), Encoder(Tokenizer([]))
        made = (maker.conversation() for _ in range(3000))
        texts = [encoder.render(one.messages, one.tools) for one in made]
        Tokenizer(train_merges(texts, MERGES)).save(path)
    return len(Tokenizer.load(path).tokens)


def work(rank: int, vocabulary: int, meeting: str, options: argparse.Namespace) -> None:
    """What each process does. `meeting`: the file through which they find each other."""
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=options.processes
    )
    trainer = Trainer(Shape(vocabulary=vocabulary), options.muon_rate, options.adam_rate)
    checkpoint = options.folder / "checkpoint.pt"
    if checkpoint.exists():
        trainer.load(checkpoint)
    elif options.begin_with:
        trainer.begin_with(weights(options.begin_with))
    Loop(trainer, rank, options).run()


def keep_memory() -> None:
    """Has the processes to come keep what they free (glibc): fresh pages cost a third of a step."""
    os.environ |= {
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(1 << 36),
        "MALLOC_TOP_PAD_": str(1 << 28),
    }


def main() -> None:
    """Command line of the training run alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="checkpoint and merges")
    parser.add_argument("--begin-with", type=Path, help="a shipped GGUF to go on from")
    parser.add_argument("--minutes", type=float, default=70.0)
    parser.add_argument("--tokens", type=int, default=5600, help="a step, padding counted in")
    parser.add_argument("--drill-tokens", type=int, default=4608, help="the same, in the exercises")
    parser.add_argument("--usual-at", type=float, default=0.7, help="when usual ones begin, share")
    parser.add_argument("--muon-rate", type=float, default=0.02)
    parser.add_argument("--adam-rate", type=float, default=0.0012)
    parser.add_argument("--save-every", type=float, default=150.0, help="seconds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if options.begin_with:
        options.folder.mkdir(parents=True, exist_ok=True)
        save_merges(options.begin_with, options.folder / "merges.json")
    vocabulary = prepare(options.folder, options.seed)
    keep_memory()
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(
            work, (vocabulary, f"{folder}/meeting", options), nprocs=options.processes
        )


if __name__ == "__main__":
    main()

"""A shipped GGUF read back, so that training can go on from it instead of from nothing.

The optimiser's state is not in the file, and Q8_0 has rounded the matrices: the first minute of
such a run makes good for both. A file with fewer layers than the model to train is deepened by
fresh layers that add nothing yet, so that it computes what it did.
"""

from __future__ import annotations

from pathlib import Path

import gguf
import torch
from tokenizer import Tokenizer
from torch import Tensor


def weights(path: Path) -> dict[str, Tensor]:
    """The tensors by name, as float32; names are those of `Model`."""
    found = {}
    for tensor in gguf.GGUFReader(path).tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        shape = tuple(int(size) for size in reversed(tensor.shape.tolist()))
        found[tensor.name] = torch.from_numpy(values.copy()).reshape(shape)
    return found


def deepened(found: dict[str, Tensor], fresh: dict[str, Tensor], at: int) -> dict[str, Tensor]:
    """`found` with as many layers as `fresh` has; those it lacks come from there, from `at` on.

    A fresh layer's last projections are zero (`Model`), so what is computed does not change.
    """
    more = _layers(fresh) - _layers(found)
    grown = dict(fresh)
    for name, values in found.items():
        parts = name.split(".")
        if parts[0] == "blk" and int(parts[1]) >= at:
            parts[1] = str(int(parts[1]) + more)
        grown[".".join(parts)] = values
    return grown


def _layers(named: dict[str, Tensor]) -> int:
    return 1 + max(int(name.split(".")[1]) for name in named if name.startswith("blk."))


def save_merges(path: Path, merges: Path) -> None:
    """Writes the file's merges in the form that `Tokenizer.load` reads."""
    field = gguf.GGUFReader(path).fields["tokenizer.ggml.merges"]
    lines = [bytes(field.parts[at]).decode() for at in field.data]
    pairs = [(left, right) for left, _, right in (line.partition(" ") for line in lines)]
    Tokenizer(pairs).save(merges)

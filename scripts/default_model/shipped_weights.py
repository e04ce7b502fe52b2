"""A shipped GGUF read back, so that training can go on from it instead of from nothing.

The optimiser's state is not in the file, and Q8_0 has rounded the matrices: the first minute of
such a run makes good for both.
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


def save_merges(path: Path, merges: Path) -> None:
    """Writes the file's merges in the form that `Tokenizer.load` reads."""
    field = gguf.GGUFReader(path).fields["tokenizer.ggml.merges"]
    lines = [bytes(field.parts[at]).decode() for at in field.data]
    pairs = [(left, right) for left, _, right in (line.partition(" ") for line in lines)]
    Tokenizer(pairs).save(merges)

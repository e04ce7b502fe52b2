"""Muon: momentum whose update is orthogonalised (Keller Jordan, 2024), for the hidden matrices.

The Newton-Schulz iteration runs in bfloat16 over all matrices of one shape at once, each process
doing a share of them, which is what makes it cheap beside a step of the model. Embeddings and gains
are left to AdamW.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
import torch.distributed
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


def orthogonalise(stack: Tensor) -> Tensor:
    """Nearly orthogonal matrices with the singular directions of `stack` (n, rows, columns)."""
    a, b, c = _COEFFICIENTS
    tall = stack.shape[1] > stack.shape[2]
    x = (stack.mT if tall else stack).bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; `lr` is the size of an update's singular values."""

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    by_shape[weight.shape].append(weight)
            for weights in by_shape.values():
                self._update(weights, group["lr"], group["momentum"], group["weight_decay"])

    def _update(self, weights: list[Tensor], lr: float, momentum: float, decay: float) -> None:
        gradients = torch.stack([weight.grad for weight in weights])
        state = self.state[weights[0]]
        buffer = state.setdefault("momentum", torch.zeros_like(gradients))
        buffer.lerp_(gradients, 1 - momentum)
        updates = self._share(gradients.lerp(buffer, momentum))
        rows, columns = weights[0].shape
        scale = lr * max(1.0, rows / columns) ** 0.5
        for weight, update in zip(weights, updates, strict=True):
            weight.mul_(1 - lr * decay).add_(update, alpha=-scale)

    def _share(self, stack: Tensor) -> Tensor:
        """Orthogonalises one process's share of the stack, and takes the others' from them."""
        rank, count = torch.distributed.get_rank(), torch.distributed.get_world_size()
        found = torch.zeros_like(stack)
        found[rank::count] = orthogonalise(stack[rank::count])
        torch.distributed.all_reduce(found)
        return found

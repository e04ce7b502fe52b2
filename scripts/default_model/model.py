"""The default model: a llama-architecture decoder small enough to train on two CPU cores.

Nothing in it is unusual, because llama.cpp has to run it: RMSNorm, SwiGLU, tied embeddings, no
biases, and rotary positions over interleaved pairs (llama.cpp's "norm" rope, so that weights go
into GGUF unpermuted). The head is computed only where there is a target: nine tokens in ten are
prompt, and the loss looks at the assistant's tokens alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """Sizes of a model. Each a multiple of 32, the block of Q8_0."""

    vocabulary: int
    width: int = 160
    layers: int = 5
    heads: int = 5
    feed_forward: int = 448
    context: int = 4096
    rope_base: float = 200000.0
    epsilon: float = 1e-5

    def as_dict(self) -> dict[str, float]:
        """The sizes as stored in a checkpoint."""
        return asdict(self)


def rotary(shape: Shape, length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (length, head size / 2)."""
    half = shape.width // shape.heads // 2
    rates = shape.rope_base ** (-torch.arange(half, dtype=torch.float32) / half)
    angles = torch.outer(torch.arange(length, dtype=torch.float32), rates)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates the pairs (x0, x1), (x2, x3)... of (batch, length, heads, head size)."""
    even, odd = x[..., 0::2].float(), x[..., 1::2].float()
    cos, sin = cos[:, None], sin[:, None]
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.flatten(-2).to(x.dtype)


class RMSNorm(nn.Module):
    """Root mean square norm with a gain, computed in float32."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        return wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.epsilon) * self.weight


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm and added back."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, inner = shape.width, shape.feed_forward
        self.heads = shape.heads
        self.attn_norm = RMSNorm(width, shape.epsilon)
        self.attn_q = nn.Linear(width, width, bias=False)
        self.attn_k = nn.Linear(width, width, bias=False)
        self.attn_v = nn.Linear(width, width, bias=False)
        self.attn_output = nn.Linear(width, width, bias=False)
        self.ffn_norm = RMSNorm(width, shape.epsilon)
        self.ffn_gate = nn.Linear(width, inner, bias=False)
        self.ffn_up = nn.Linear(width, inner, bias=False)
        self.ffn_down = nn.Linear(inner, width, bias=False)

    def attend(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, width = x.shape
        split = (batch, length, self.heads, width // self.heads)
        q = rotate(self.attn_q(x).view(split), cos, sin).transpose(1, 2)
        k = rotate(self.attn_k(x).view(split), cos, sin).transpose(1, 2)
        v = self.attn_v(x).view(split).transpose(1, 2)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.attn_output(mixed.transpose(1, 2).reshape(batch, length, width))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attend(self.attn_norm(x), cos, sin)
        inner = self.ffn_norm(x)
        return x + self.ffn_down(functional.silu(self.ffn_gate(inner)) * self.ffn_up(inner))


class Model(nn.Module):
    """Token ids in, hidden states or the mean loss of the targets out."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocabulary, shape.width)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.output_norm = RMSNorm(shape.width, shape.epsilon)
        cos, sin = rotary(shape, shape.context)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
            if name.endswith(("attn_output.weight", "ffn_down.weight")):
                nn.init.zeros_(weight)

    def hidden(self, ids: Tensor) -> Tensor:
        """Normed hidden states of (batch, length) ids, (batch, length, width)."""
        x = self.token_embd(ids)
        cos, sin = self.cos[: ids.shape[1]], self.sin[: ids.shape[1]]
        for block in self.blk:
            x = block(x, cos, sin)
        return self.output_norm(x)

    def logits(self, ids: Tensor) -> Tensor:
        """Logits of the next token at each place, (batch, length, vocabulary)."""
        return functional.linear(self.hidden(ids), self.token_embd.weight)

    def loss(self, ids: Tensor, where: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats; `where` are flat places of `targets`, -1 where padding."""
        flat = self.hidden(ids).flatten(0, 1)
        logits = functional.linear(flat[where], self.token_embd.weight)
        return functional.cross_entropy(logits.float(), targets, ignore_index=-1)

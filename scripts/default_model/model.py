"""The default model: a llama-architecture decoder small enough to train on two CPU cores.

Nothing in it is unusual, because llama.cpp has to run it: RMSNorm, SwiGLU, tied embeddings, no
biases, and rotary positions over interleaved pairs (llama.cpp's "norm" rope, so that weights go
into GGUF unpermuted). What follows is about speed. Several texts that begin alike (the same
functions offered) are computed over one beginning, and the head only where there is a target, as
the loss looks at the assistant's tokens alone. Attention is written out, because on a CPU torch's
own is several times slower backwards at this head size.
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
    layers: int = 6
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
    """Rotates the pairs (x0, x16), (x1, x17)... of (tokens, heads, head size 32)."""
    first, second = x.float().chunk(2, -1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.cat((first * cos - second * sin, first * sin + second * cos), -1).to(x.dtype)


@dataclass(frozen=True)
class Layout:
    """How a flat list of tokens is made up: beginnings first, then what continues them.

    `groups` beginnings of `beginning` places each, padded; each continued by `branches` texts of
    `length` places. Tokens of a text see its own beginning and what came before in the text.
    """

    groups: int
    beginning: int
    branches: int
    length: int


def attend(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor) -> Tensor:
    """Attention of (rows, heads, length, size); `hidden` is added to the scores."""
    scores = (q @ k.transpose(-1, -2)).float() + hidden
    return scores.softmax(-1).to(q.dtype) @ v


def later(length: int) -> Tensor:
    """What hides the future, (length, length)."""
    return torch.full((length, length), float("-inf")).triu(1)


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

    def attention(
        self, x: Tensor, turns: tuple[Tensor, Tensor], hidden: Tensor, at: Layout
    ) -> Tensor:
        """What each of the (tokens, width) takes from those it sees."""
        split = (len(x), self.heads, x.shape[1] // self.heads)
        q = rotate(self._halves(self.attn_q, x).view(split), *turns) * split[2] ** -0.5
        k = rotate(self._halves(self.attn_k, x).view(split), *turns)
        v = self.attn_v(x).view(split)
        cut = at.groups * at.beginning
        own = (at.groups * at.branches, at.length, *split[1:])
        q2, k2, v2 = (part[cut:].view(own).transpose(1, 2) for part in (q, k, v))
        if not cut:
            return self.attn_output(attend(q2, k2, v2, hidden).transpose(1, 2).reshape(x.shape))
        first = (at.groups, at.beginning, *split[1:])
        q1, k1, v1 = (part[:cut].view(first).transpose(1, 2) for part in (q, k, v))
        told = attend(q1, k1, v1, later(at.beginning))
        k1, v1 = (part.repeat_interleave(at.branches, 0) for part in (k1, v1))
        said = attend(q2, torch.cat((k1, k2), 2), torch.cat((v1, v2), 2), hidden)
        flat = [part.transpose(1, 2).reshape(-1, x.shape[1]) for part in (told, said)]
        return self.attn_output(torch.cat(flat))

    def _halves(self, linear: nn.Linear, x: Tensor) -> Tensor:
        """The projection with the pairs' first numbers before the second ones.

        Side by side they would be rotated several times slower; the product of q and k is the same.
        """
        rows = linear.weight.view(self.heads, -1, 2, x.shape[1]).transpose(1, 2)
        return functional.linear(x, rows.reshape(linear.weight.shape))

    def feed(self, x: Tensor) -> Tensor:
        """The feed-forward half, added."""
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

    def contexts(self, ids: Tensor, lengths: Tensor, at: Layout) -> Tensor:
        """States of flat `ids` (tokens,) before the last feed-forward, (tokens, width).

        `lengths` (groups,): how much of each beginning is not padding.
        """
        x = self.token_embd(ids)
        starts = lengths.repeat_interleave(at.branches)[:, None] + torch.arange(at.length)
        first = torch.arange(at.beginning).repeat(at.groups)
        places = torch.cat((first, starts.flatten()))
        turns = self.cos[places], self.sin[places]
        padding = torch.arange(at.beginning) >= lengths[:, None]
        hidden = torch.zeros(padding.shape).masked_fill(padding, float("-inf"))
        hidden = hidden.repeat_interleave(at.branches, 0)[:, None].expand(-1, at.length, -1)
        hidden = torch.cat((hidden, later(at.length).expand(len(hidden), -1, -1)), 2)[:, None]
        for place, block in enumerate(self.blk):
            x = x + block.attention(block.attn_norm(x), turns, hidden, at)
            if place + 1 < len(self.blk):
                x = block.feed(x)
        return x

    def head(self, x: Tensor) -> Tensor:
        """Logits of the token after each of `contexts`' (tokens, width)."""
        return functional.linear(self.output_norm(self.blk[-1].feed(x)), self.token_embd.weight)

    def logits(self, ids: Tensor) -> Tensor:
        """Logits of the next token at each place of (batch, length) ids."""
        batch, length = ids.shape
        layout = Layout(groups=batch, beginning=0, branches=1, length=length)
        x = self.contexts(ids.flatten(), torch.zeros(batch, dtype=torch.long), layout)
        return self.head(x).view(batch, length, -1)

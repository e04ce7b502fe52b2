"""Copying written into the weights before training, so that minutes are not spent on finding it.

A small transformer learns to copy by growing two heads (Olsson et al., "In-context Learning and
Induction Heads", 2022): one in an early layer that notes at each place which token came before, and
one later that looks for the place whose note equals the present token and says what stands there.
Random weights take long to find the pair; here it is put in, and training goes on from it.

The residual stream is divided for this: most of it is the token, one number is the same for all
tokens (queries and keys that depend on position alone need it), and a head's width is kept free for
the note. Matching goes through the slowest rotations only, which distance hardly turns.
"""

from __future__ import annotations

import torch
from model import Model
from torch import Tensor

TOKEN_SIZE = 0.1
CONSTANT = 0.4
NOTE_SIZE = 0.1
POSITION_SHARPNESS = 1.9
MATCH_SHARPNESS = 2.2
COPY_SIZE = 0.8


@torch.no_grad()
def seed_copying(model: Model) -> None:
    """Writes the two heads into a fresh model: layer 0 notes, layer 1 looks (with two heads)."""
    shape = model.shape
    head = shape.width // shape.heads
    content = shape.width - head - 1
    table = model.token_embd.weight
    table.normal_(std=TOKEN_SIZE)
    table[:, content:] = 0.0
    table[:, -1] = CONSTANT
    noting = torch.randn(head, content) / content**0.5
    _note_previous(model, head, content, noting)
    _look_and_say(model, head, content, noting)


def _note_previous(model: Model, head: int, content: int, noting: Tensor) -> None:
    layer, shape = model.blk[0], model.shape
    rates = shape.rope_base ** (-torch.arange(head // 2) / (head // 2))
    here = torch.stack((torch.ones_like(rates), torch.zeros_like(rates)), dim=1).flatten()
    before = torch.stack((rates.cos(), rates.sin()), dim=1).flatten()
    for weight, values in ((layer.attn_q.weight, here), (layer.attn_k.weight, before)):
        weight[:head] = 0.0
        weight[:head, -1] = POSITION_SHARPNESS * values
    layer.attn_v.weight[:head] = 0.0
    layer.attn_v.weight[:head, :content] = noting
    layer.attn_output.weight[content : content + head, :head] = NOTE_SIZE * torch.eye(head)


def _look_and_say(model: Model, head: int, content: int, noting: Tensor) -> None:
    layer, slow = model.blk[1], head // 2
    for place in range(2):
        rows = slice(place * head, (place + 1) * head)
        matched = slice(place * slow, (place + 1) * slow)
        q, k, v = (part.weight[rows] for part in (layer.attn_q, layer.attn_k, layer.attn_v))
        q.zero_(), k.zero_(), v.zero_()
        q[slow:, :content] = MATCH_SHARPNESS * noting[matched]
        k[slow:, content : content + head][:, matched] = MATCH_SHARPNESS * torch.eye(slow)
        saying = torch.randn(head, content) / content**0.5
        v[:, :content] = saying
        layer.attn_output.weight[:content, rows] = COPY_SIZE * saying.T

"""The trained weights as GGUF: Q8_0 matrices, float32 gains, tokenizer and chat template inside.

Metadata keys follow the GGUF specification for `llama` and its `gpt2` tokenizer. Weights need no
permutation, as the model rotates interleaved pairs, which is what llama.cpp does for this
architecture.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from data import Maker
from encode import TEMPLATE, Encoder
from model import Model, Shape
from shipped_weights import weights
from tokenizer import DEFINED, SPECIAL, Tokenizer

CONTEXT = 2048
_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4


def export(
    state: dict[str, Any],
    tokenizer: Tokenizer,
    path: Path,
    *,
    quantised: bool = True,
    which: str = "average",
) -> None:
    """Writes a checkpoint's weights, `which` ("average" or "model"), to `path`."""
    writer = gguf.GGUFWriter(path, "llama")
    _describe(writer, state["shape"], quantised)
    _vocabulary(writer, tokenizer)
    for name, weight in state[which].items():
        values = weight.to(torch.float32).numpy()
        if values.ndim == 2 and quantised:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: gguf.GGUFWriter, shape: dict[str, Any], quantised: bool) -> None:
    writer.add_name("freehold-default")
    writer.add_description("Tool-calling model of Freehold; trained by scripts/train_default_model")
    writer.add_license("MIT")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(shape["width"])
    writer.add_block_count(shape["layers"])
    writer.add_feed_forward_length(shape["feed_forward"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["heads"])
    writer.add_layer_norm_rms_eps(shape["epsilon"])
    writer.add_rope_dimension_count(shape["width"] // shape["heads"])
    writer.add_rope_freq_base(shape["rope_base"])
    writer.add_vocab_size(shape["vocabulary"])
    kind = gguf.LlamaFileType.MOSTLY_Q8_0 if quantised else gguf.LlamaFileType.ALL_F32
    writer.add_file_type(kind)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _vocabulary(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    kinds = [_CONTROL] * len(SPECIAL) + [_USER_DEFINED] * len(DEFINED)
    kinds += [_NORMAL] * (len(tokenizer.tokens) - len(kinds))
    end = tokenizer.ids["<|im_end|>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokenizer.tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in tokenizer.merges])
    writer.add_bos_token_id(tokenizer.ids["<|endoftext|>"])
    writer.add_eos_token_id(end)
    writer.add_eot_token_id(end)
    writer.add_pad_token_id(tokenizer.ids["<|endoftext|>"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def reference(state: dict[str, Any], encoder: Encoder, path: Path) -> None:
    """Writes what verify.py compares: texts with their ids, ids with their logits."""
    model = Model(Shape(**state["shape"]))
    model.load_state_dict(state["average"])
    maker, kept = Maker(4242), {}
    texts, lengths = [], []
    for place in range(200):
        made = maker.conversation()
        texts.append(encoder.render(made.messages[:2], made.tools, prompt=True))
        kept[f"ids_{place}"] = np.array(encoder.tokenizer.encode(texts[-1]))
    for place in range(8):
        made = maker.conversation()
        ids, places = encoder.encode(made.messages, made.tools)
        with torch.no_grad():
            logits = model.logits(torch.tensor([ids]))[0].numpy()
        spoken = np.array(places) - 1
        kept[f"turn_ids_{place}"], kept[f"spoken_{place}"] = np.array(ids), spoken
        kept[f"logits_{place}"] = logits[spoken]
        lengths.append(len(ids))
    np.savez(path, texts=np.array(texts), lengths=np.array(lengths), **kept)


def between(state: dict[str, Any], path: Path) -> None:
    """Puts the mean of the weights and of those in a GGUF of before in their place.

    What two models of one descent have in common is kept, and what either learned by chance is not
    (Wortsman et al., 2022, "Model soups").
    """
    before = weights(path)
    state["average"] = {name: (w + before[name]) / 2 for name, w in state["average"].items()}


def main() -> None:
    """export.py FOLDER OUTPUT [BEFORE]: exports the checkpoint in FOLDER, and what to compare.

    With a GGUF of BEFORE, half-way between the two.
    """
    folder, output, *before = map(Path, sys.argv[1:])
    tokenizer = Tokenizer.load(folder / "merges.json")
    state = torch.load(folder / "checkpoint.pt")
    for path in before:
        between(state, path)
    output.parent.mkdir(parents=True, exist_ok=True)
    export(state, tokenizer, output)
    export(state, tokenizer, folder / "float32.gguf", quantised=False)
    reference(state, Encoder(tokenizer), folder / "reference.npz")
    print(f"step {state['step']}, {state['elapsed'] / 60:.1f} minutes of training")


if __name__ == "__main__":
    main()

"""Checks an exported file by llama.cpp against the reference that the export wrote beside it.

Runs in the project's own environment, which has llama.cpp and no torch: the reference holds texts
with the ids they have to have, and ids with the logits they have to give.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

# Unquantised, llama.cpp keeps keys and values as float16 and differs by hundredths; a wrong layout
# of the weights differs by whole units. What Q8_0 costs is seen in the tokens that come out best.
_WORST_LOGIT = 0.1
_BEST_AGREEMENT = 0.98


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def quiet(level: int, text: bytes, user: object) -> None:
    """Drops what llama.cpp would print."""


def check(path: Path, reference: Any) -> tuple[float, float]:
    """(largest distance of a logit, share of places with the same best token).

    Raises AssertionError where a text is cut otherwise than in training.
    """
    llama = llama_cpp.Llama(str(path), n_ctx=2048, n_threads=1, logits_all=True, verbose=False)
    for place, text in enumerate(reference["texts"]):
        cut = llama.tokenize(str(text).encode(), add_bos=False, special=True)
        if cut != reference[f"ids_{place}"].tolist():
            raise AssertionError(f"cut otherwise than in training: {str(text)!r}")
    worst, same = 0.0, []
    for place in range(len(reference["lengths"])):
        ids, spoken = reference[f"turn_ids_{place}"], reference[f"spoken_{place}"]
        llama.reset()
        llama.eval(ids.tolist())
        got, expected = np.array(llama.scores[: len(ids)])[spoken], reference[f"logits_{place}"]
        worst = max(worst, float(np.abs(got - expected).max()))
        same += (got.argmax(-1) == expected.argmax(-1)).tolist()
    return worst, float(np.mean(same))


def main() -> None:
    """verify.py SHIPPED UNQUANTISED REFERENCE."""
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    path, reference = Path(sys.argv[1]), np.load(sys.argv[3])
    worst, _ = check(Path(sys.argv[2]), reference)
    moved, agreement = check(path, reference)
    print(
        f"{path.name}: {path.stat().st_size:,} bytes; tokens cut alike; logits unquantised within "
        f"{worst:.3f}, in Q8_0 within {moved:.2f}; the same best token at {agreement:.1%} of places"
    )
    if worst > _WORST_LOGIT or agreement < _BEST_AGREEMENT:
        raise SystemExit("the file does not compute what was trained")


if __name__ == "__main__":
    main()

"""Names that agents have, and those of files in a workspace: which ones are nobody's to use, and
which ones a history can hold.

Rooms share one rule, since what a tool could write and no version kept, a rollback would not undo.

libgit2 takes no spelling of `.git` into a tree that some file system takes for it: the short name
that Windows gives it, and what NTFS calls a stream of it, either (`validate_dotgit_ntfs` in its
`path.c`). So one file of such a name would end the history of all others.
"""

from __future__ import annotations

import re
import unicodedata

AGENT = re.compile(r"[a-z][a-z0-9_-]{0,31}")
"""An agent's name, of which the names of its files and folders are made."""

OURS = ".freehold-"
"""What the names begin with that the node itself writes in a workspace."""

_GIT = re.compile(r"(?:\.git|git~1)(?:[. ]*|[:\\].*)", re.DOTALL)
_UNFIT = re.compile(r"[\0-\x1f\x7f\ud800-\udfff]")  # control characters, and what is not UTF-8


def is_reserved(name: str) -> bool:
    """Whether it is version control's or the node's own, in any spelling."""
    # Some file systems fold case, drop invisible characters, or dots and spaces at the end.
    if not name.isascii():
        visible = (c for c in name if unicodedata.category(c) != "Cf")
        name = unicodedata.normalize("NFKC", "".join(visible))
    name = name.casefold()
    return _GIT.fullmatch(name) is not None or name.startswith(OURS)


def is_kept(name: str) -> bool:
    """Whether a history holds files of that name."""
    return _UNFIT.search(name) is None and not is_reserved(name)

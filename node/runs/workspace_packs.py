"""Histories in few files: loose objects, three or more for each commit, are put into packs.

As `git gc --auto` does where they are many. An object is removed only after it was read back from
a pack that is durable: whoever looks for it meanwhile finds it in one place or the other, since
libgit2 looks for new packs before it calls an object missing, and what a crash leaves is in both.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from node.disk import listed, sync_folder
from node.runs.git import pygit2

LOOSE = 2048
"""As many objects are left loose, of some 700 commits: a pack of them takes a second or two."""
_AT_ONCE = 2 * LOOSE  # who commits meanwhile waits
_HEX = "[0-9a-f]"


def pack_loose(repository: Any, *, most: int = LOOSE) -> int:
    """Puts the loose objects of a repository into a pack where there are more than `most`; returns
    how many there are then, no more than `most`.

    Raises:
        pygit2.GitError: one of them is damaged; none was removed.
        OSError: the disk refuses.
    """
    objects = Path(repository.path) / "objects"
    at_once = max(_AT_ONCE, most + 1)
    loose = list(islice(_loose(objects), at_once))
    if len(loose) <= most:
        return len(loose)
    names = [pygit2.Oid(hex=path.parent.name + path.name) for path in loose]
    before = {*listed(objects / "pack")}
    try:
        _write(repository, objects, names)
        _read_back(objects, names)
    except BaseException:
        for path in {*listed(objects / "pack")} - before:
            path.unlink()
        raise
    for path in loose:
        path.unlink(missing_ok=True)
    return most if len(loose) == at_once else 0


def remove_unfinished(repository: Path) -> None:
    """Removes what a process that was killed left of packs and objects. Raises OSError."""
    objects = repository / "objects"
    for half in (
        *listed(objects, "tmp_object_git2_*"),
        *listed(objects / "pack", "pack_git2_*"),
        *listed(objects / "pack", "*.lock"),
    ):
        half.unlink()


def _loose(objects: Path) -> Iterator[Path]:
    for folder in listed(objects, _HEX * 2):
        yield from listed(folder, _HEX * 38)


def _write(repository: Any, objects: Path, names: list[Any]) -> None:
    packed = pygit2.OdbBackendPack(str(objects))
    builder = pygit2.PackBuilder(repository)
    builder.set_threads(1)
    for name in names:
        if not packed.exists(name):  # as where a crash came before the removal
            builder.add(name)
    if len(builder):
        builder.write()
    sync_folder(objects / "pack")


def _read_back(objects: Path, names: list[Any]) -> None:
    """Reads objects from packs alone. Raises pygit2.GitError or KeyError where one is not there,
    or is not what its name says."""
    packs = pygit2.Odb()
    packs.add_backend(pygit2.OdbBackendPack(str(objects)), 1)
    for name in names:
        packs.read(name)

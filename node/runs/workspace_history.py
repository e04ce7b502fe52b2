"""A history as git keeps it: its commits as versions, and its trees as paths and blobs.

What is here reads and writes objects of a repository; what becomes of them is `workspace`'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal, cast

from node.errors import WorkspaceError
from node.runs.git import SortMode
from node.runs.workspace_files import Files

BRANCH = "refs/heads/main"
_ID = re.compile(r"[0-9a-f]{4,40}")
_TRAILER = re.compile(r"^(Run|Step): (.+)$", re.MULTILINE)
_FILE = 0o100644
_FOLDER = 0o040000
Ids = dict[str, Any]  # a file's path to the id of its blob
Tree = dict[str, Any]  # a name to the id of a blob, or to a Tree


@dataclass(frozen=True)
class Version:
    """One commit. `when` is wall seconds; `run` is empty for what a person did."""

    id: str
    when: int
    author: str
    message: str
    run: str
    changed: tuple[str, ...]


def head_of(repository: Any) -> Any | None:
    """The newest commit; None before a first one."""
    reference = repository.references.get(BRANCH)
    return repository[reference.target] if reference else None


def newest_first(repository: Any, limit: int) -> Iterator[Any]:
    """At most so many commits."""
    head = head_of(repository)
    if head is None:
        return
    walker = repository.walk(head.id, SortMode.NONE)  # any other reads the whole history first
    for _, commit in zip(range(limit), walker, strict=False):
        yield commit


def trailer(commit: Any, key: Literal["Run", "Step"]) -> str:
    """What a commit's message says of the run or step that made it; "" where nothing."""
    found: list[tuple[str, str]] = _TRAILER.findall(commit.message)
    return dict(found).get(key, "")


def version_of(repository: Any, commit: Any) -> Version:
    """A commit as it is shown."""
    parent = commit.parents[0].tree if commit.parents else None
    if parent:
        diff = repository.diff(parent, commit.tree)
        changed = {delta.new_file.path for delta in diff.deltas}
    else:
        changed = set(ids_of(repository, commit.tree))
    return Version(
        id=str(commit.id),
        when=commit.commit_time,
        author=commit.author.name,
        message=commit.message.partition("\n")[0],
        run=trailer(commit, "Run"),
        changed=tuple(sorted(changed)),
    )


def resolve(repository: Any, agent: str, version: str) -> Any:
    """The commit whose id begins so. Raises WorkspaceError if none does, or more than one."""
    found = []
    if _ID.fullmatch(version):
        history = newest_first(repository, 1_000_000)
        found = [commit for commit in history if str(commit.id).startswith(version)]
    if len(found) == 1:
        return found[0]
    if found:
        raise WorkspaceError(
            f"{len(found)} versions of the workspace of {agent} begin with {version}",
            hint="Give more of it.",
        )
    raise WorkspaceError(
        f"the workspace of {agent} has no version {version!r}",
        hint=f"`freehold workspace log {agent}` lists them.",
    )


def with_paths(before: Ids, now: Ids, paths: set[str]) -> Ids:
    """`before`, with these paths as they are now."""
    kept = {path: blob for path, blob in before.items() if path not in paths}
    return kept | {path: now[path] for path in paths if path in now}


def with_room(paths: set[str], files: Ids) -> set[str]:
    """Those that may be in a tree with these files: none is in the place of a folder."""
    folders = {folder for file in files for folder in folders_of(file)}
    return {p for p in paths - folders if not files.keys() & folders_of(p)}


def folders_of(path: str) -> set[str]:
    """Those that a file of this path lies in: `a` and `a/b` of `a/b/c`."""
    *names, _ = path.split("/")
    return set(accumulate(names, "{}/{}".format))


def write_tree(repository: Any, files: Ids) -> Any:
    """The id of the tree of these files, which is written with those below it."""
    root: Tree = {}
    for path, blob in files.items():
        *folders, name = path.split("/")
        at = root
        for folder in folders:
            at = cast("Tree", at.setdefault(folder, {}))
        at[name] = blob
    return _build(repository, root)


def _build(repository: Any, tree: Tree) -> Any:
    builder = repository.TreeBuilder()
    for name, item in tree.items():
        if isinstance(item, dict):
            builder.insert(name, _build(repository, item), _FOLDER)
        else:
            builder.insert(name, item, _FILE)
    return builder.write()


@dataclass(frozen=True, eq=False)
class _Read(Mapping[str, bytes]):
    """Files by their ids; each is read when it is asked for, so that not all are in memory."""

    repository: Any
    ids: Ids

    def __getitem__(self, path: str) -> bytes:
        return bytes(self.repository[self.ids[path]].data)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.ids)


def files_of(repository: Any, tree: Any) -> Files:
    """A tree's files with their content."""
    return _Read(repository, ids_of(repository, tree))


def ids_of(repository: Any, tree: Any, prefix: str = "") -> Ids:
    """A tree's files, those in its folders too."""
    found: Ids = {}
    for item in tree:
        path = f"{prefix}{item.name}"
        if item.type_str == "tree":
            found.update(ids_of(repository, item, f"{path}/"))
        elif item.type_str == "blob":
            found[path] = item.id
    return found

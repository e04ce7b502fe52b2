"""Agents' files under version control: one commit for each run that changed anything.

The repository of `workspaces/AGENT` is `workspaces/.git-AGENT`, outside the folder, so that no tool
can reach it. Files are walked by `workspace_files` and handed to git as blobs: nothing that git
would do by itself with a name, a link, an attribute or a filter in the tree happens. Links,
devices and what is too large are left out of the history and stay as they are.

A commit is an effect: its message carries the step's key, by which an interrupted one is settled.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import pygit2
from pygit2.enums import ConfigLevel, SortMode

from node.clock import Clock
from node.errors import WorkspaceError
from node.runs.effect import Needs, Outcome, StepKind, Usage
from node.runs.workspace_files import Files, read_files, restore_files
from node.runs.workspace_labels import FileLabels
from node.types import Json

BRANCH = "refs/heads/main"
_AGENT = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_ID = re.compile(r"[0-9a-f]{4,40}")
_TRAILER = re.compile(r"^(Run|Step): (.+)$", re.MULTILINE)
_SETTLE_DEPTH = 1000
_DIFF_CHARS = 1_000_000
_SHOWN_PATHS = 100
_FILE = 0o100644
_FOLDER = 0o040000
_T = TypeVar("_T")
Tree = dict[str, "bytes | Tree"]


@dataclass(frozen=True)
class Version:
    """One commit. `when` is wall seconds; `run` is empty for what a person did."""

    id: str
    when: int
    author: str
    message: str
    run: str
    changed: tuple[str, ...]


class Workspaces:
    """The workspaces of a node's agents, in one folder.

    All methods raise WorkspaceError where the files or the history cannot be used.
    """

    def __init__(self, folder: Path, *, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._locks: dict[str, asyncio.Lock] = {}
        self._opened: set[str] = set()
        self._labels = FileLabels(folder)
        for level in (ConfigLevel.GLOBAL, ConfigLevel.XDG, ConfigLevel.SYSTEM):
            pygit2.settings.search_path[level] = ""  # no configuration but the repository's own

    def root(self, agent: str) -> Path:
        """The agent's folder; need not exist."""
        if not _AGENT.fullmatch(agent):
            raise WorkspaceError(f"{agent!r} is not the name of an agent", hint="See `agent list`.")
        return self._folder / agent

    def commit(self, agent: str, run: str, note: str) -> Commit:
        """The effect that keeps what a run changed."""
        return Commit(self, agent, run, note)

    async def keep(self, agent: str, *, run: str, key: str, note: str) -> Version | None:
        """Commits the files as they are; None if nothing changed. Once for each `key`."""
        return await self._in_thread(agent, partial(self._keep, agent, run, key, note))

    async def find(self, agent: str, key: str) -> Version | None:
        """The commit that a step made."""
        return await self._in_thread(agent, partial(self._find, agent, key))

    async def log(self, agent: str, limit: int = 50) -> tuple[Version, ...]:
        """The newest versions first."""
        return await self._in_thread(agent, partial(self._log, agent, limit))

    async def diff(self, agent: str, old: str = "", new: str = "") -> str:
        """A unified diff. `old` defaults to the newest version, `new` to the files as they are."""
        return await self._in_thread(agent, partial(self._diff, agent, old, new))

    async def rollback(self, agent: str, version: str) -> Version | None:
        """Puts the files back as they were then, as a new commit. What was not committed before is
        committed first, so nothing is lost. None if nothing changed."""
        made = await self._in_thread(agent, partial(self._rollback, agent, version))
        self._labels.put_back(agent, made.changed if made else ())
        return made

    async def _in_thread(self, agent: str, work: Callable[[], _T]) -> _T:
        self.root(agent)
        async with self._locks.setdefault(agent, asyncio.Lock()):
            try:
                return await asyncio.shield(asyncio.to_thread(work))
            except (pygit2.GitError, OSError, KeyError, ValueError) as error:
                raise WorkspaceError(
                    f"workspace of {agent}: {error}",
                    hint=f"The files are in {self.root(agent)}; their history lies beside them.",
                ) from error

    # ── within the thread ───────────────────────────────────────────────────────────────────

    def _repository(self, agent: str) -> Any:
        path = self._folder / f".git-{agent}"
        if agent in self._opened:
            return pygit2.Repository(str(path))
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (path / "HEAD").exists():
            pygit2.init_repository(str(path), bare=True, initial_head="main")
            path.chmod(0o700)
        for name in ("HEAD.lock", "config.lock", "packed-refs.lock", f"{BRANCH}.lock"):
            (path / name).unlink(missing_ok=True)  # left by a process that was killed
        self._opened.add(agent)
        return pygit2.Repository(str(path))

    def _keep(self, agent: str, run: str, key: str, note: str) -> Version | None:
        return self._find(agent, key) or self._commit(
            agent, author=agent, message=f"{note}\n\nRun: {run}\nStep: {key}\n"
        )

    def _commit(self, agent: str, *, author: str, message: str) -> Version | None:
        repository = self._repository(agent)
        tree = _write_tree(repository, read_files(self.root(agent)))
        head = _head(repository)
        if tree == (head.tree.id if head else _write_tree(repository, {})):
            return None
        signature = pygit2.Signature(
            author, f"{author}@freehold.invalid", int(self._clock.wall()), 0
        )
        parents = [head.id] if head else []
        made = repository.create_commit(BRANCH, signature, signature, message, tree, parents)
        return _version(repository, repository[made])

    def _find(self, agent: str, key: str) -> Version | None:
        repository = self._repository(agent)
        for commit in _history(repository, _SETTLE_DEPTH):
            if ("Step", key) in _TRAILER.findall(commit.message):
                return _version(repository, commit)
        return None

    def _log(self, agent: str, limit: int) -> tuple[Version, ...]:
        repository = self._repository(agent)
        return tuple(_version(repository, commit) for commit in _history(repository, limit))

    def _diff(self, agent: str, old: str, new: str) -> str:
        repository = self._repository(agent)
        head = _head(repository)
        before = _resolve(repository, agent, old).tree if old else head and head.tree
        now = (
            _resolve(repository, agent, new).tree
            if new
            else repository[_write_tree(repository, read_files(self.root(agent)))]
        )
        empty = repository[_write_tree(repository, {})]
        patch = repository.diff(before or empty, now).patch or ""
        return patch if len(patch) <= _DIFF_CHARS else patch[:_DIFF_CHARS] + "\n[cut]\n"

    def _rollback(self, agent: str, version: str) -> Version | None:
        repository = self._repository(agent)
        target = _resolve(repository, agent, version)
        self._commit(agent, author="owner", message="Changes made outside of a run\n")
        restore_files(self.root(agent), _files(repository, target.tree))
        return self._commit(agent, author="owner", message=f"Back to {str(target.id)[:10]}\n")


@dataclass(frozen=True)
class Commit:
    """Keeps what a run changed in its agent's workspace."""

    workspaces: Workspaces = field(repr=False)
    agent: str
    run: str
    note: str

    kind = StepKind.WORKSPACE
    name = "commit"
    needs = Needs(usage=Usage(seconds=60.0))

    @property
    def args(self) -> Json:
        return {"agent": self.agent, "note": self.note}

    async def perform(self, key: str) -> Outcome:
        """Raises WorkspaceError where there is no keeping them."""
        return _outcome(
            await self.workspaces.keep(self.agent, run=self.run, key=key, note=self.note)
        )

    async def settle(self, key: str) -> Outcome | None:
        found = await self.workspaces.find(self.agent, key)
        return _outcome(found) if found else None


def _outcome(version: Version | None) -> Outcome:
    if version is None:
        return Outcome(ok=True, value={"commit": None, "changed": [], "count": 0})
    paths: list[Json] = [*version.changed[:_SHOWN_PATHS]]
    return Outcome(
        ok=True, value={"commit": version.id, "changed": paths, "count": len(version.changed)}
    )


def _head(repository: Any) -> Any | None:
    reference = repository.references.get(BRANCH)
    return repository[reference.target] if reference else None


def _history(repository: Any, limit: int) -> Iterator[Any]:
    head = _head(repository)
    if head is None:
        return
    walker = repository.walk(head.id, SortMode.TOPOLOGICAL)
    for _, commit in zip(range(limit), walker, strict=False):
        yield commit


def _version(repository: Any, commit: Any) -> Version:
    trailers = dict(_TRAILER.findall(commit.message))
    parent = commit.parents[0].tree if commit.parents else None
    if parent:
        diff = repository.diff(parent, commit.tree)
        changed = {delta.new_file.path for delta in diff.deltas}
    else:
        changed = set(_files(repository, commit.tree))
    return Version(
        id=str(commit.id),
        when=commit.commit_time,
        author=commit.author.name,
        message=commit.message.partition("\n")[0],
        run=trailers.get("Run", ""),
        changed=tuple(sorted(changed)),
    )


def _resolve(repository: Any, agent: str, version: str) -> Any:
    if _ID.fullmatch(version):
        for commit in _history(repository, 1_000_000):
            if str(commit.id).startswith(version):
                return commit
    raise WorkspaceError(
        f"the workspace of {agent} has no version {version!r}",
        hint=f"`freehold workspace log {agent}` lists them.",
    )


def _write_tree(repository: Any, files: Files) -> Any:
    root: Tree = {}
    for path, content in files.items():
        *folders, name = path.split("/")
        at = root
        for folder in folders:
            at = cast("Tree", at.setdefault(folder, {}))
        at[name] = content
    return _build(repository, root)


def _build(repository: Any, tree: Tree) -> Any:
    builder = repository.TreeBuilder()
    for name, item in tree.items():
        if isinstance(item, bytes):
            builder.insert(name, repository.create_blob(item), _FILE)
        else:
            builder.insert(name, _build(repository, item), _FOLDER)
    return builder.write()


def _files(repository: Any, tree: Any, prefix: str = "") -> Files:
    found: Files = {}
    for item in tree:
        path = f"{prefix}{item.name}"
        if item.type_str == "tree":
            found.update(_files(repository, item, f"{path}/"))
        elif item.type_str == "blob":
            found[path] = item.data
    return found

"""Agents' files under version control: one commit for each run that changed anything.

A run's commit holds what that run wrote. What a person, or anything else, changed meanwhile is
committed before it as the owner's, and where a run is about to write over it, before that; what
another run wrote and has not kept yet waits for that run, and is committed as that run's where it
ended without (it was cancelled, say).

The repository of `workspaces/AGENT` is `workspaces/.git-AGENT`, outside the folder, so that no tool
can reach it. Files are walked by `workspace_files` and handed to git as blobs: nothing that git
would do by itself with a name, a link, an attribute or a filter in the tree happens. Links,
devices and what is too large are left out of the history and stay as they are.

A commit's message carries the key of the step that made it, by which it is found again.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from node.clock import Clock
from node.errors import WorkspaceError
from node.names import AGENT
from node.runs.git import ConfigLevel, pygit2
from node.runs.workspace_effect import Commit
from node.runs.workspace_files import each_file, read_file, remove_left, restore_files
from node.runs.workspace_history import (
    BRANCH,
    Ids,
    Version,
    files_of,
    folders_of,
    head_of,
    ids_of,
    newest_first,
    resolve,
    trailer,
    version_of,
    with_paths,
    with_room,
    write_tree,
)
from node.runs.workspace_labels import FileLabels
from node.runs.workspace_packs import LOOSE, pack_loose, remove_unfinished

logger = logging.getLogger(__name__)
_SETTLE_DEPTH = 1000
_DIFF_CHARS = 1_000_000
_OBJECTS = 3  # of most commits: a blob, a tree and the commit
_PARTS = ("HEAD", "objects", "refs")  # the last is empty before a first commit: not in archives
_T = TypeVar("_T")
_OUTSIDE = "Changes made outside of a run\n"
_CUT_OFF = "ended before its files were kept"
_OVER = "kept before it was written over"


class Workspaces:
    """The workspaces of a node's agents, in one folder.

    All methods raise WorkspaceError where the files or the history cannot be used.

    Args:
        folder: `workspaces/` of the node's home; need not exist.
        loose: the most objects of a history that lie in files of their own.
    """

    def __init__(self, folder: Path, *, clock: Clock, loose: int = LOOSE) -> None:
        self._folder = folder
        self._loose = loose
        self._clock = clock
        self._locks: dict[str, asyncio.Lock] = {}
        self._opened: set[str] = set()
        self._unlooked: dict[str, int] = {}  # commits until loose objects are counted again
        self._labels = FileLabels(folder)
        self._written: dict[str, dict[str, str]] = {}  # by agent: the last run that wrote a path
        self._still: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)  # no writes
        self._tips: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)  # no commits
        self._opening = threading.Lock()
        self._heads: dict[str, tuple[Any, Ids]] = {}
        self.unfinished: Callable[[str], bool] = lambda _run: True  # who may keep their own yet
        for level in (ConfigLevel.GLOBAL, ConfigLevel.XDG, ConfigLevel.SYSTEM):
            pygit2.settings.search_path[level] = ""  # no configuration but the repository's own
        pygit2.settings.enable_fsync_gitdir(True)  # a power cut would leave empty objects

    def root(self, agent: str) -> Path:
        """The agent's folder; need not exist."""
        if not AGENT.fullmatch(agent):
            raise WorkspaceError(
                f"{agent!r} is not the name of an agent", hint="`freehold agent list` shows them."
            )
        return self._folder / agent

    def wrote(self, agent: str, run: str, path: str, *, resumed: bool = False) -> None:
        """Notes that a run is about to write or remove a file, and commits what a person or another
        run left in its place; waits for a rollback under way.

        May be called from any thread but the loop's.

        Args:
            resumed: whether an earlier process began the run, and may have left that in its place.

        Raises:
            OSError: what is there cannot be kept, and must not be written over.
        """
        with self._still[agent]:
            last = self._written.setdefault(agent, {}).get(path)
            if last != run:
                self._keep_left(agent, path, last or (run if resumed else ""))
            self._written[agent][path] = run

    def commit(self, agent: str, run: str, note: str, *, noted: bool = False) -> Commit:
        """The effect that keeps what a run changed; `noted` as for `keep`."""
        return Commit(self, agent, run, note, noted)

    async def keep(
        self, agent: str, *, run: str, key: str, note: str, noted: bool = False
    ) -> Version | None:
        """Commits what a run changed; None if that is nothing. Once for each `key`.

        Args:
            noted: whether `wrote` was told of all that the run wrote. If not, as for a run that an
                earlier process began, all that no other run wrote counts as this one's.
        """
        return await self._in_thread(agent, partial(self._keep, agent, run, key, note, noted))

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
        committed first, so nothing is lost. None if nothing changed. Refused while a run may be
        writing; one that begins meanwhile waits with its first write."""
        return await self._in_thread(agent, partial(self._rollback, agent, version))

    async def _in_thread(self, agent: str, work: Callable[[], _T]) -> _T:
        self.root(agent)
        return await asyncio.shield(self._alone(agent, work))  # a thread cannot be cancelled

    async def _alone(self, agent: str, work: Callable[[], _T]) -> _T:
        async with self._locks.setdefault(agent, asyncio.Lock()):
            try:
                return await asyncio.to_thread(work)
            except (pygit2.GitError, OSError, KeyError, ValueError) as error:
                raise WorkspaceError(
                    f"workspace of {agent}: {error}",
                    hint=f"The files are in {self.root(agent)}; their history lies beside them.",
                ) from error

    # ── within the thread ───────────────────────────────────────────────────────────────────

    def _repository(self, agent: str) -> Any:
        path = self._folder / f".git-{agent}"
        with self._opening:
            if agent not in self._opened:
                self._make_ready(path, agent)
                self._opened.add(agent)
        return pygit2.Repository(str(path))

    def _make_ready(self, path: Path, agent: str) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in ("HEAD.lock", "config.lock", "packed-refs.lock", f"{BRANCH}.lock"):
            (path / name).unlink(missing_ok=True)  # left by a process that was killed
        if not all((path / part).exists() for part in _PARTS):
            pygit2.init_repository(str(path), bare=True, initial_head="main")
            path.chmod(0o700)
        remove_unfinished(path)
        with suppress(OSError):  # who reads the files is told
            remove_left(self.root(agent))

    def _keep_left(self, agent: str, path: str, run: str) -> None:
        """Commits what stands there and no version has: the run's, or the owner's."""
        content = read_file(self.root(agent), path)
        if content is None:
            return
        try:
            with self._tips[agent]:
                repository = self._repository(agent)
                before = self._newest(repository, agent)
                if before.get(path) == pygit2.hash(content):
                    return
                rest = {
                    p for p in before if p not in folders_of(path) and path not in folders_of(p)
                }
                files = {p: before[p] for p in rest} | {path: repository.create_blob(content)}
                message = f"{_OVER}\n\nRun: {run}\n" if run else _OUTSIDE
                self._commit(agent, files, author=agent if run else "owner", message=message)
        except (pygit2.GitError, KeyError, ValueError) as error:
            raise OSError(errno.EIO, f"the workspace of {agent}: {error}") from error

    def _newest(self, repository: Any, agent: str) -> Ids:
        """The files of the newest version, read once; ask for them with `_tips` held."""
        head = head_of(repository)
        if head is None:
            return {}
        known = self._heads.get(agent)
        if known is None or known[0] != head.id:
            known = self._heads[agent] = head.id, ids_of(repository, head.tree)
        return known[1]

    def _keep(self, agent: str, run: str, key: str, note: str, noted: bool) -> Version | None:
        known = self._find(agent, key)
        if known:
            return known
        now = self._now(self._repository(agent), agent)
        message = f"{note}\n\nRun: {run}\nStep: {key}\n"
        with self._tips[agent]:
            made = self._keep_each(agent, run, now, message, noted)
        self._pack(agent)
        return made

    def _pack(self, agent: str) -> None:
        """Packs it where that is due. One that cannot be packed is used as it is, for a while."""
        wait = self._unlooked.get(agent, 0)
        if wait > 0:
            self._unlooked[agent] = wait - 1
            return
        left = 0
        try:
            left = pack_loose(self._repository(agent), most=self._loose)
        except (pygit2.GitError, OSError, KeyError, ValueError) as error:
            logger.warning("the history of %s's files stays in many files: %s", agent, error)
        self._unlooked[agent] = (self._loose - left) // _OBJECTS

    def _keep_each(
        self, agent: str, run: str, now: Ids, message: str, noted: bool
    ) -> Version | None:
        """Commits the files as they are now, each as whose it is."""
        before = self._newest(self._repository(agent), agent)
        changed = {p for p in now.keys() | before.keys() if now.get(p) != before.get(p)}
        writers = self._written.get(agent, {}).copy()  # after reading: a write is noted before
        over = {each for each in set(writers.values()) if each != run and not self.unfinished(each)}
        theirs = with_room({p for p in changed if writers.get(p, run) != run}, now)
        waiting = {p for p in theirs if writers[p] not in over}
        own = {p for p in changed - theirs if not noted or writers.get(p) == run}
        files = with_paths(before, now, changed - theirs - own)
        self._commit(agent, files, author="owner", message=_OUTSIDE)
        for other in sorted(over):
            files = with_paths(files, now, {p for p in theirs - waiting if writers[p] == other})
            why = f"{_CUT_OFF}\n\nRun: {other}\n"
            self._commit(agent, files, author=agent, message=why)
        made = self._commit(agent, with_paths(files, now, own), author=agent, message=message)
        for path in [path for path, writer in writers.items() if writer in {run, *over}]:
            if self._written[agent].get(path) == writers[path]:  # nobody has written it since
                self._written[agent].pop(path)
        return made

    def _now(self, repository: Any, agent: str) -> Ids:
        """The files as they are, as blobs of the repository."""
        files = each_file(self.root(agent))
        return {path: repository.create_blob(content) for path, content in files}

    def _commit_all(self, agent: str, message: str) -> Version | None:
        files = self._now(self._repository(agent), agent)
        return self._commit(agent, files, author="owner", message=message)

    def _commit(self, agent: str, files: Ids, *, author: str, message: str) -> Version | None:
        repository = self._repository(agent)
        tree = write_tree(repository, files)
        head = head_of(repository)
        if tree == (head.tree.id if head else write_tree(repository, {})):
            return None
        signature = pygit2.Signature(
            author, f"{author}@freehold.invalid", int(self._clock.wall()), 0
        )
        parents = [head.id] if head else []
        made = repository.create_commit(BRANCH, signature, signature, message, tree, parents)
        return version_of(repository, repository[made])

    def _find(self, agent: str, key: str) -> Version | None:
        repository = self._repository(agent)
        for commit in newest_first(repository, _SETTLE_DEPTH):
            if trailer(commit, "Step") == key:
                return version_of(repository, commit)
        return None

    def _log(self, agent: str, limit: int) -> tuple[Version, ...]:
        repository = self._repository(agent)
        return tuple(version_of(repository, commit) for commit in newest_first(repository, limit))

    def _diff(self, agent: str, old: str, new: str) -> str:
        repository = self._repository(agent)
        head = head_of(repository)
        before = resolve(repository, agent, old).tree if old else head and head.tree
        now = (
            resolve(repository, agent, new).tree
            if new
            else repository[write_tree(repository, self._now(repository, agent))]
        )
        empty = repository[write_tree(repository, {})]
        diff, text = repository.diff(before or empty, now), ""
        for patch in diff:
            raw: bytes = patch.data
            text += raw.decode("utf-8", "replace")
            if len(text) > _DIFF_CHARS:
                return text[:_DIFF_CHARS] + "\n[cut]\n"
        return text

    def _rollback(self, agent: str, version: str) -> Version | None:
        target = resolve(self._repository(agent), agent, version)
        with self._still[agent]:
            writing = sorted(
                {run for run in self._written.get(agent, {}).values() if self.unfinished(run)}
            )
            if writing:
                raise WorkspaceError(
                    f"{agent} is at work on its files in run {writing[0]}",
                    hint="Cancel it first, or wait for it.",
                )
            return self._put_back(agent, target)

    def _put_back(self, agent: str, target: Any) -> Version | None:
        repository = self._repository(agent)
        self._keep(agent, run="", key="", note="", noted=True)  # each as whose it is
        head = head_of(repository)
        now, then = ids_of(repository, head.tree) if head else {}, ids_of(repository, target.tree)
        differ = [path for path in now.keys() | then.keys() if now.get(path) != then.get(path)]
        wanted = files_of(repository, target.tree)
        for _ in wanted.values():  # what is damaged shows before anything is changed
            pass
        self._labels.put_back(agent, differ)
        restore_files(self.root(agent), wanted)
        return self._commit_all(agent, f"Back to {str(target.id)[:10]}\n")

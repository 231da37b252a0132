"""A server's tree on disk: which kind it is, and the files of it that are artifacts.

Only where artifacts rest is looked at: a `repository` folder has databases, logs and libraries
beside them. No more of it is held in memory than the file that is asked for.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from gatesync.artifacts.errors import Problem
from gatesync.artifacts.folder import is_leftover
from gatesync.artifacts.model import ARTIFACT_MAX_BYTES, KINDS
from gatesync.artifacts.tree import (
    CONFIGS_FOLDER,
    POLICIES_FOLDER,
    SERVER_FOLDER,
    TENANTS_FOLDER,
    TreeKind,
)

__all__ = ["TreeFiles", "read_content", "read_tree", "tree_kind"]

_IN_CONFIGS = (*(folder for kind, folder in KINDS.items() if kind != "policy"), "synapse.xml")
_IN_SERVER = (CONFIGS_FOLDER, POLICIES_FOLDER)
_IN_REPOSITORY = (SERVER_FOLDER, TENANTS_FOLDER)


def tree_kind(folder: Path) -> TreeKind | None:
    """What a folder is, by what stands in it: the outermost that it can be; None: no tree."""
    for kind, marks in (
        (TreeKind.REPOSITORY, _IN_REPOSITORY),
        (TreeKind.SERVER, _IN_SERVER),
        (TreeKind.CONFIGS, _IN_CONFIGS),
    ):
        if any(os.path.lexists(folder / mark) for mark in marks):
            return kind
    return None


class TreeFiles(Mapping[str, bytes]):
    """The files of a tree by their paths below its root, each read when it is asked for.

    Asking raises `Problem` where a file cannot be read, or no artifact can hold it.
    """

    def __init__(self, root: Path, paths: Iterable[str]) -> None:
        self._root = root
        self._paths = dict.fromkeys(paths)

    def __getitem__(self, path: str) -> bytes:
        if path not in self._paths:
            raise KeyError(path)
        try:
            return read_content(self._root / path)
        except Problem as problem:
            raise Problem(problem.reason, where=path) from None
        except OSError as error:
            raise _unreadable(error, path) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


def read_tree(root: Path, kind: TreeKind, problems: list[Problem]) -> TreeFiles:
    """The files where artifacts rest, by their paths below the root.

    What is no regular file is told in `problems`, by the same paths. Links are not followed:
    they may lead out of the tree, or round in it.
    """
    starts = _starts(root, kind, problems)
    return TreeFiles(
        root, [path for start in starts for path in _files_below(root, start, problems)]
    )


def read_content(path: Path) -> bytes:
    """A file's content; raises `Problem` where no artifact can hold it, and `OSError`."""
    with path.open("rb") as file:
        content = file.read(ARTIFACT_MAX_BYTES + 1)
    if len(content) > ARTIFACT_MAX_BYTES:
        raise Problem(
            f"more than {ARTIFACT_MAX_BYTES} bytes; an artifact has no more", where=path.name
        )
    return content


def _starts(root: Path, kind: TreeKind, problems: list[Problem]) -> Iterator[str]:
    """The folders in which artifacts rest, as paths below the root."""
    if kind is TreeKind.CONFIGS:
        yield ""
        return
    servers = [""]
    if kind is TreeKind.REPOSITORY:
        servers = [f"{SERVER_FOLDER}/"]
        if _is_folder(root, TENANTS_FOLDER, problems):
            tenants = _names_in(root, TENANTS_FOLDER, problems)
            servers += [f"{TENANTS_FOLDER}/{name}/" for name in tenants]
    for server in servers:
        for folder in _IN_SERVER:
            if _is_folder(root, server + folder, problems):
                yield server + folder


def _is_folder(root: Path, path: str, problems: list[Problem]) -> bool:
    """Whether the path leads to a folder, through folders only; a link on the way is told."""
    steps = path.split("/")
    for end in range(1, len(steps) + 1):
        above = "/".join(steps[:end])
        try:
            mode = (root / above).lstat().st_mode
        except FileNotFoundError:
            return False
        except OSError as error:
            problems.append(_unreadable(error, above))
            return False
        if stat.S_ISLNK(mode):
            problem = _link(above)
            if str(problem) not in {str(each) for each in problems}:
                problems.append(problem)
        if not stat.S_ISDIR(mode):
            return False
    return True


def _files_below(root: Path, start: str, problems: list[Problem]) -> Iterator[str]:
    for name in _names_in(root, start, problems):
        path = f"{start}/{name}" if start else name
        if is_leftover(name):  # a .git may be larger than all the rest
            continue
        try:
            mode = (root / path).lstat().st_mode
        except OSError as error:
            problems.append(_unreadable(error, path))
            continue
        if stat.S_ISDIR(mode):
            yield from _files_below(root, path, problems)
        elif stat.S_ISREG(mode):
            yield path
        elif stat.S_ISLNK(mode):
            problems.append(_link(path))
        else:  # opening a pipe would wait for its other end
            problems.append(Problem("neither a file nor a folder", where=path))


def _names_in(root: Path, path: str, problems: list[Problem]) -> list[str]:
    try:
        return sorted(each.name for each in (root / path).iterdir())
    except OSError as error:
        problems.append(_unreadable(error, path))
        return []


def _link(path: str) -> Problem:
    reason = "symbolic links are not followed; put a file or folder in its place"
    return Problem(reason, where=path)


def _unreadable(error: OSError, path: str) -> Problem:
    return Problem(f"cannot be read: {error.strerror}", where=path)

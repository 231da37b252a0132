"""The tree in a share, which engines mount: `repository/deployment/server`, `repository/tenants`.

One publisher at a time keeps it. Which files are ours is proved by the log: a file that stands
where a kept content has one, with the very same bytes. So whoever keeps it next needs nothing of
whoever did before; only what people changed meanwhile is known from that one's note.

Blocks; one caller at a time. All methods raise `StoreError`.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from gatesync.artifacts import canonical
from gatesync.artifacts.changes import Entry
from gatesync.artifacts.errors import FormatError, Problem
from gatesync.artifacts.model import Artifact
from gatesync.stores.share_files import REPOSITORY
from gatesync.stores.store import StoreError
from gatesync.trees.disk import Disk, Facts
from gatesync.trees.errors import InTheWayError, TreeError, explain
from gatesync.trees.manifest import Manifest, Row
from gatesync.trees.planning import Wanted, files_of
from gatesync.trees.writer import TreeWriter

__all__ = ["Chosen", "ShareTree", "TreeNote", "winners"]

RECORD: Final = "share-tree.db"
_CHANGED: Final = Facts(-1, -1, -1)  # of a file that is ours, whatever is in it


class TreeNote(msgspec.Struct, frozen=True):
    """What a holder leaves to the next one: up to which revisions the tree was brought.

    `refused` are the artifacts that were not: something else stands where they have a file.
    """

    heads: dict[str, int] = {}
    refused: tuple[str, ...] = ()
    format: str = "gatesync.share-tree/1"


class Chosen(NamedTuple):
    """An entry that the tree is to have, and the label that says so."""

    label: str
    entry: Entry


def winners(labels: Mapping[str, Collection[Entry]]) -> dict[str, Chosen]:
    """Which entries the tree has, of labels in their order, by api_id.

    An artifact is there when nothing is before it under its id, its name, or its route: as a
    gateway decides it (`gatesync.gateway.desired`).
    """
    first: dict[tuple[str, ...], tuple[int, str]] = {}
    for rank, entries in enumerate(labels.values()):
        for entry in entries:
            place = rank, entry.api_id
            for key in _keys(entry):
                if first.setdefault(key, place) > place:
                    first[key] = place
    return {
        entry.api_id: Chosen(label, entry)
        for rank, (label, entries) in enumerate(labels.items())
        for entry in entries
        if all(first[key] == (rank, entry.api_id) for key in _keys(entry))
    }


def _keys(entry: Entry) -> Iterable[tuple[str, ...]]:
    yield ("id", entry.api_id)
    yield ("name", entry.tenant, entry.kind, entry.name, entry.version)
    if entry.context:
        yield ("route", entry.tenant, entry.context, entry.version)


class ShareTree:
    """The tree's one writer, for one lease.

    Args:
        share: where the share is mounted.
        folder: on a local disk, for the record of what was written.
        lease: which share, and which time that its tree changed hands.
        step: called before each change of the tree with what it does; for tests.
    """

    def __init__(
        self, share: Path, folder: Path, lease: str, step: Callable[[str], None] = lambda _: None
    ) -> None:
        self._root = share / REPOSITORY
        self._disk = Disk(self._root, step)
        self._record = _of_lease(folder / RECORD, lease)
        self.is_new = self._record.meta("claimed") is None
        self._writer: TreeWriter | None = None
        self._claimed: set[str] = set()

    def close(self) -> None:
        """Let go of the record."""
        self._record.close()

    def claim(
        self, contents: Mapping[str, bytes], chosen: Mapping[str, Chosen], note: TreeNote | None
    ) -> None:
        """Find out which files are ours already, and are as one of these contents has them.

        Args:
            contents: canonical forms by digest.
            chosen: what the tree should have, by digest; of these a changed file is ours, too,
                where the note says that the tree had it.
            note: of who kept the tree before.
        """
        rows: list[Row] = []
        with _explained(self._root), self._disk:
            for digest, content in contents.items():
                with suppress(FormatError, Problem):
                    artifact = canonical.decode(content)
                    ours = note is not None and _covers(note, chosen.get(digest))
                    for file in files_of(artifact, {}):
                        if file.path in self._claimed:
                            continue
                        if row := self._row(artifact, file, ours=ours):
                            self._claimed.add(file.path)
                            rows.append(row)
        with _explained(self._root):
            self._record.record(rows, (), ())

    def claimed(self) -> None:
        """Everything was looked for."""
        with _explained(self._root):
            self._record.set_meta("claimed", "yes")
            self.is_new = False

    def api_ids(self) -> set[str]:
        """The artifacts that have files in the tree."""
        with _explained(self._root):
            return self._record.api_ids()

    def bring(
        self,
        contents: Mapping[str, bytes],
        removed: Collection[str],
        is_wanted: Callable[[str], bool],
    ) -> dict[str, str]:
        """Put these artifacts into the tree, and take the others out; each file whole.

        Answers with what could not be done, by api_id, and why.
        """
        refused: dict[str, str] = {}
        artifacts: list[Artifact] = []
        for api_id, content in contents.items():
            try:
                artifacts.append(canonical.decode(content))
            except FormatError as error:
                refused[api_id] = str(error)
        with _explained(self._root):
            writer = self._opened()
            staged = writer.stage(artifacts, removed, is_wanted)
            refused |= staged.refused
            return refused | writer.commit(staged)

    def drifted(self, after: str = "") -> tuple[set[str], str]:
        """The artifacts of the next files that are not as written; where to go on, or empty."""
        with _explained(self._root):
            found, then = self._opened().drift(after)
        return {each.api_id for each in found}, then

    def _opened(self) -> TreeWriter:
        if self._writer is None:
            self._writer = TreeWriter(self._disk, self._record)
        return self._writer

    def _row(self, artifact: Artifact, file: Wanted, *, ours: bool) -> Row | None:
        """What is to be recorded of the file that stands there, if it is ours."""
        with suppress(InTheWayError, FileNotFoundError):
            self._disk.unstage(file.path)  # left by a writer that was killed
            facts = self._disk.look(file.path)
            if facts is None:
                return None
            same = self._disk.digest(file.path) == file.digest
            if same or ours:
                named = (file.path, artifact.api_id, file.role, file.name, file.digest)
                return Row(*named, facts if same else _CHANGED)
        return None


def _covers(note: TreeNote, chosen: Chosen | None) -> bool:
    if chosen is None or chosen.entry.api_id in note.refused:
        return False
    return chosen.entry.revision <= note.heads.get(chosen.label, 0)


def _of_lease(path: Path, lease: str) -> Manifest:
    """The record of this lease: one of another is of a tree that others have written since."""
    with _explained(path.parent):
        with suppress(TreeError):
            record = Manifest(path)
            if record.meta("lease") == lease:
                return record
            record.close()
        for each in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
            each.unlink(missing_ok=True)
        record = Manifest(path)
        record.set_meta("lease", lease)
        return record


@contextmanager
def _explained(root: Path) -> Iterator[None]:
    try:
        yield
    except (TreeError, OSError) as error:
        raise StoreError(explain(error, str(root))) from error

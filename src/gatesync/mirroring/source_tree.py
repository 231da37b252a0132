"""A tree that others write, as what it last was when it was quiet, sound and there.

    scan → settle (two equal scans) → what is gone, is it removed? → check → manifest

What is restless, unseen, gone without proof or refused stays in the manifest as it was when it was
last good, and is named as withheld there.
"""

import time
import uuid
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec
import structlog

from gatesync.artifacts.errors import FormatError, Problem
from gatesync.artifacts.model import SUPER_TENANT, Artifact
from gatesync.artifacts.tree import TreeKind
from gatesync.mirroring.checking import Checked, Group, TreeChecker
from gatesync.mirroring.scanning import (
    FolderIdentity,
    Known,
    Scan,
    ScannedFile,
    SourceGoneError,
    TreeScanner,
)
from gatesync.mirroring.settling import (
    MOMENT_SECONDS,
    PATIENCE_SECONDS,
    Quiet,
    Settling,
    is_below,
)
from gatesync.mirroring.source_manifest import (
    SourceFile,
    SourceManifest,
    next_manifest,
    with_withheld,
)
from gatesync.mirroring.vanishing import Vanished, judge
from gatesync.private_file import write_private_file

__all__ = ["Settled", "SourceTree"]

RECORD_FORMAT: Final = "gatesync.source-record/1"

_log = structlog.get_logger("gatesync.mirroring")


class Settled(msgspec.Struct, frozen=True):
    """What a look at a tree came to.

    `manifest` is the newest; None before the first time that the tree was quiet. `problems` name
    files by their paths below the root. `waiting` says why removals are not carried out, with
    `gone`, how many files they are; it is empty where none waits. `restless` are files that
    differ from the manifest and are not taken yet: look again in a moment while there are any.
    """

    manifest: SourceManifest | None
    problems: tuple[Problem, ...] = ()
    waiting: str = ""
    gone: int = 0
    restless: frozenset[str] = frozenset()


class _Record(msgspec.Struct):
    """What the next process is told."""

    mounts: dict[str, FolderIdentity]
    known: dict[str, Known]
    taken: dict[str, ScannedFile]
    good: dict[str, ScannedFile]
    groups: list[Group]
    unchecked: list[str]
    waiting: list[str]
    manifest: SourceManifest
    format: Literal["gatesync.source-record/1"] = RECORD_FORMAT


class SourceTree:
    """Looks at one tree again and again. One look at a time, in any thread; all methods block.

    Args:
        root: the tree's folder.
        record: the file that remembers it from one process to the next; its folder exists.
        kind: what the root is.
        tenant: the domain that `deployment/server` belongs to.
        keep: whether a path below the root is looked at; a folder's ends with `/`.
        moment: seconds between two scans that must be equal.
        patience: seconds after which what is quiet does not wait for what never is.
        clock: now, in nanoseconds since 1970.
        steady: seconds of a clock that is never set.
        new_epoch: makes a UUID.

    Raises:
        FormatError: the record is of another version, or damaged.
        OSError: it cannot be read.
    """

    def __init__(
        self,
        root: Path,
        record: Path,
        *,
        kind: TreeKind = TreeKind.REPOSITORY,
        tenant: str = SUPER_TENANT,
        keep: Callable[[str], bool] = lambda _: True,
        moment: float = MOMENT_SECONDS,
        patience: float = PATIENCE_SECONDS,
        clock: Callable[[], int] = time.time_ns,
        steady: Callable[[], float] = time.monotonic,
        new_epoch: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        known = _read_record(record)
        self.root = root
        self.moment = moment
        self.scanner = TreeScanner(
            root, clock=clock, keep=keep, known=known.known if known else None
        )
        self._record = record
        self._steady = steady
        self._new_epoch = new_epoch
        taken = known.taken if known else None
        self._settling = Settling(taken, moment=moment, patience=patience)
        self._checker = TreeChecker(
            root,
            kind,
            tenant,
            good=known.good if known else None,
            groups=known.groups if known else (),
            bad=known.unchecked if known else (),
        )
        self._manifest = known.manifest if known else None
        self._mounts: Mapping[str, FolderIdentity] = known.mounts if known else {}
        self._good: Mapping[str, ScannedFile] = known.good if known else {}
        self._taken: Mapping[str, ScannedFile] = known.taken if known else {}
        self._is_untold = False  # what is restless now
        self._checked: Checked | None = None
        self._recorded: tuple[object, ...] = ()  # what the record says
        if known:
            waiting = frozenset(known.waiting)
            self._recorded = (known.manifest.revision, {*known.unchecked}, waiting)
        self._told: Checked | None = None  # what the manifest says
        self._frozen: frozenset[str] = frozenset()
        self._vanished = Vanished(frozenset(known.waiting if known else ()), "")
        self._confirmed: frozenset[str] = frozenset()

    @property
    def groups(self) -> Mapping[str, Group]:
        """The artifacts of the good files, by the path of the file that leads each."""
        return self._checker.groups

    @property
    def good(self) -> Mapping[str, ScannedFile]:
        """The good files by their paths; those that are withheld as they were."""
        return self._good

    def artifact(self, main: str) -> Artifact:
        """The artifact that this file leads; raises `Problem` if it has changed meanwhile."""
        try:
            return self._checker.artifact(main)
        except Problem:
            self.scanner.forget(self.groups[main].paths)
            raise

    def look(self, *, thorough: bool = False, touched: Collection[str] | None = None) -> Settled:
        """Scan once, and take what is quiet, sound and proved by now.

        Args:
            thorough: read every file again, also where its facts say that it is the same.
            touched: since the last look nothing else was, as far as anybody knows: only these
                are looked at, and what was restless, if that tells enough. What a look at
                everything found is not alone, perhaps: until it rests, everything is looked at.

        Raises:
            SourceGoneError: the tree is not there, or empty from the start.
            OSError: what is new cannot be recorded, so it is not told either.
        """
        began = self._steady()
        scan = None
        if touched is not None and not thorough and not self._is_untold:
            scan = self.scanner.scan_only({*touched, *self._restless()})
        is_whole = scan is None
        if scan is None:
            scan = self.scanner.scan(thorough=thorough)
        quiet = self._settling.take(scan, began=began, ended=self._steady())
        self._is_untold = is_whole and bool(quiet.restless)
        if self._manifest is None:
            if not (quiet.files or quiet.restless):
                raise SourceGoneError(f"{self.root} holds no files; is it the right folder?")
            if not quiet.files:
                return Settled(None, scan.problems, restless=quiet.restless)
        self._taken = quiet.files
        checked = self._check(scan, quiet)
        manifest = self._manifest
        if checked is not self._told or manifest is None:
            manifest = self._next(checked)
        state = (manifest.revision, self._checker.unchecked, self._vanished.paths)
        if state != self._recorded:
            self._write(manifest)
        self._manifest, self._recorded, self._told = manifest, state, checked
        return Settled(
            manifest,
            (*scan.problems, *checked.problems),
            self._vanished.reason,
            len(self._vanished.paths),
            quiet.restless | checked.moved,
        )

    def confirm_removals(self) -> None:
        """Somebody says that what waits is meant: the next look carries it out."""
        self._confirmed = self._vanished.paths

    def save(self) -> None:
        """Record what was read, too, so that the next process need not read it again.

        Raises:
            OSError: it cannot be written.
        """
        if self._manifest is not None:
            self._write(self._manifest)

    def _restless(self) -> frozenset[str]:
        """What nothing is known of without another look."""
        moved = self._checked.moved if self._checked is not None else frozenset[str]()
        return self._settling.restless | moved

    def _check(self, scan: Scan, quiet: Quiet) -> Checked:
        gone = self._good.keys() - quiet.files.keys() - quiet.restless
        come = len(quiet.files.keys() - self._good.keys())
        vanished = judge(
            self._good.keys(),
            gone - self._confirmed,
            come,
            self._vanished.paths,
            self._mounts,
            scan.mounts,
        )
        if vanished.reason and vanished.reason != self._vanished.reason:
            _log.warning("removals wait for a word", root=str(self.root), reason=vanished.reason)
        self._vanished = vanished
        missing = self._good.keys() - scan.files.keys() - scan.moving
        if all(is_below(path, scan.unseen) for path in missing):  # promise 6: it is the same tree
            hidden = {p: m for p, m in self._mounts.items() if is_below(p, scan.unseen)}
            self._mounts = hidden | {**scan.mounts}
        unseen = (path for path in self._good if is_below(path, scan.unseen))
        frozen = frozenset((*quiet.restless, *vanished.paths, *(unseen if scan.unseen else ())))
        last = self._checked
        if last is None or last.moved or quiet.changed or frozen != self._frozen:
            last = self._checker.check(quiet.files, quiet.changed, frozen)
            self.scanner.forget(last.moved)
        self._checked, self._frozen, self._good = last, frozen, last.good
        self._confirmed &= gone & self._good.keys()  # what comes back and goes again waits again
        return last

    def _next(self, checked: Checked) -> SourceManifest:
        before, told = self._manifest, self._told
        if before is not None and told is not None and told.good is checked.good:
            return with_withheld(before, checked.held)
        known = before.by_path() if before else {}
        files: list[SourceFile] = []
        for path, (facts, sha256) in checked.good.items():
            file = known.get(path)
            if file is None or (file.sha256, file.mode) != (sha256, facts.mode):
                file = SourceFile(path, facts.size, sha256, facts.mode)
            files.append(file)
        return next_manifest(before, files, checked.held, new_epoch=self._new_epoch)

    def _write(self, manifest: SourceManifest) -> None:
        """Durable before anybody is told: no revision ever means two things."""
        record = _Record(
            mounts=dict(self._mounts),
            known=dict(self.scanner.known),
            taken=dict(self._taken),
            good=dict(self._good),
            groups=list(self.groups.values()),
            unchecked=sorted(self._checker.unchecked),
            waiting=sorted(self._vanished.paths),
            manifest=manifest,
        )
        write_private_file(self._record, msgspec.json.encode(record))


def _read_record(path: Path) -> _Record | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return msgspec.json.decode(data, type=_Record)
    except msgspec.DecodeError as error:
        advice = f"this version reads {RECORD_FORMAT!r}; move it away, and the tree is read anew"
        raise FormatError(f"{path} is no record of a source tree: {error}; {advice}") from None

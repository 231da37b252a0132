"""The audit log's files: `audit.jsonl`, and `audit.NUMBER.jsonl` for what grew too large.

Several processes may write to it, one after the other under a lock: the publisher, and commands on
its machine. A line that a killed writer left half-written is ended, and the next entry says so.
"""

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import structlog

from gatesync.file_lock import wait_for_lock
from gatesync.publisher.audit import (
    CONTINUED,
    MENDED,
    NOWHERE,
    AuditHead,
    Entry,
    Event,
    Found,
    decode_line,
    encode_line,
    fits,
    hash_of,
    verify,
)

__all__ = ["AUDIT_NAME", "AuditError", "AuditFile", "read_entries", "verify_files"]

AUDIT_NAME: Final = "audit.jsonl"
ROTATE_BYTES: Final = 64 * 1024 * 1024  # some 100,000 entries: a file that an editor still opens
LOCK_SECONDS: Final = 5.0  # a write takes less than a millisecond
TAIL_BYTES: Final = 64 * 1024

_log = structlog.get_logger("gatesync.audit")


class AuditError(Exception):
    """The audit log cannot be written or read; says which file and why."""


class AuditFile:
    """Appends to the log. Its methods block, and are for one thread at a time.

    Args:
        folder: the publisher's data folder; it is made when missing.
        rotate_bytes: a file of this size is put aside.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        folder: Path,
        *,
        rotate_bytes: int = ROTATE_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._path = folder / AUDIT_NAME
        self._rotate_bytes = rotate_bytes
        self._clock = clock
        self._head: AuditHead | None = None
        self._seen: tuple[int, int, int] | None = None

    @property
    def path(self) -> Path:
        """The file that is written now."""
        return self._path

    def append(self, events: Sequence[Event]) -> AuditHead:
        """Write entries, all with one call, and give them to the system; `sync` makes them durable.

        Raises:
            AuditError: nothing, or only a part, was written: none of them counts.
        """
        try:
            with self._locked():
                self._rotate()
                with self._open() as file:
                    return self._append(file, events)
        except OSError as error:
            self._seen = None  # whatever is there now is read again, and mended, next time
            raise AuditError(f"{self._path}: cannot be written: {error.strerror}") from error

    def sync(self) -> None:
        """Make durable what was written. Raises `AuditError`."""
        try:
            with self._open() as file:
                os.fsync(file)
        except OSError as error:
            raise AuditError(f"{self._path}: cannot be made durable: {error.strerror}") from error

    def _append(self, file: int, events: Sequence[Event]) -> AuditHead:
        known = self._head if _state(file) == self._seen else None
        head, whole = (known, []) if known is not None else self._begin(file)
        for event in events:
            line = encode_line(event, head)
            head = AuditHead(head.sequence + 1, hash_of(line))
            whole.append(line + b"\n")
        data = memoryview(b"".join(whole))
        while data:
            data = data[os.write(file, data) :]
        self._head, self._seen = head, _state(file)
        return head

    def _begin(self, file: int) -> tuple[AuditHead, list[bytes]]:
        """Where the log stands, and what has to be written before anything else."""
        head, torn, ended = _tail(file)
        if not os.fstat(file).st_size and (older := _older(self._folder)):
            with _opened(older[-1]) as last:
                head, torn, ended = _tail(last)
        if self._head is not None and head.sequence < self._head.sequence:
            # What we wrote is gone. Going on from there shows the gap to whoever verifies.
            kept = str(self._head)
            _log.error("the audit log was cut short", path=str(self._path), known_head=kept)
            return self._head, [] if ended else [b"\n"]
        if not torn and ended:
            return head, []
        what = f"a write ended within a line: {sum(map(len, torn))} bytes are no whole entry"
        event = Event(time=int(self._clock() * 1000), verb=MENDED, detail=what, outcome="done")
        previous = hash_of(b"\n".join(torn)) if torn else head.hash
        line = encode_line(event, head, previous=previous, after=head.hash)
        _log.warning("a line of the audit log was not whole; the next one says so", what=what)
        mended = AuditHead(head.sequence + 1, hash_of(line))
        return mended, [line + b"\n"] if ended else [b"\n", line + b"\n"]

    def _rotate(self) -> None:
        """Put a large file aside; the next one begins by saying so."""
        try:
            if self._path.stat().st_size < self._rotate_bytes:
                return
        except FileNotFoundError:
            return
        with self._open() as file:
            head = self._append(file, [])  # mended, if that has to be
            os.fsync(file)
        aside = self._folder / f"audit.{head.sequence:012}.jsonl"
        self._path.rename(aside)
        with self._open() as file:
            self._seen = _state(file)
            detail = f"after {aside.name}"
            now = int(self._clock() * 1000)
            self._append(file, [Event(time=now, verb=CONTINUED, detail=detail, outcome="done")])

    @contextlib.contextmanager
    def _open(self) -> Iterator[int]:
        flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            file = os.open(self._path, flags)
        except FileNotFoundError:
            file = os.open(self._path, flags | os.O_CREAT, 0o600)
            _give_to_owner_of(self._folder, file)
        try:
            yield file
        finally:
            os.close(file)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = self._folder / "audit.lock"
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(lock, flags, 0o600)
        try:
            _give_to_owner_of(self._folder, file)
            if not wait_for_lock(file, LOCK_SECONDS):
                raise AuditError(f"{lock}: another process holds it for too long")
            yield
        finally:
            os.close(file)


def verify_files(folder: Path, known: Sequence[AuditHead] = ()) -> Found:
    """Check the whole log of a data folder, while others may write to it.

    Raises:
        AuditError: it cannot be read.
    """
    return verify(_lines(folder), known)


def read_entries(
    folder: Path, *, since: int = 0, who: str = "", name: str = "", before: int = 0, limit: int
) -> tuple[Entry, ...]:
    """The newest `limit` entries that are asked for, oldest first; `before` a sequence, if given.

    Lines that are no entries are left out: `verify_files` is what tells them.

    Raises:
        AuditError: it cannot be read.
    """
    newest: deque[Entry] = deque(maxlen=limit)
    for _, line in _lines(folder):
        try:
            entry = msgspec.json.decode(line, type=Entry)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        if before and entry.sequence >= before:
            break
        if fits(entry, since, who, name):
            newest.append(entry)
    return tuple(newest)


def _lines(folder: Path) -> Iterator[tuple[str, bytes]]:
    files = [*_older(folder), folder / AUDIT_NAME]
    for path in files:
        try:
            with path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    yield f"{path.name}:{number}", line
        except FileNotFoundError:
            continue  # nothing was written yet; what was removed shows as a gap
        except OSError as error:
            raise AuditError(f"{path}: cannot be read: {error.strerror}") from error


def _older(folder: Path) -> list[Path]:
    """The files that were put aside, oldest first."""
    return sorted(folder.glob("audit." + "[0-9]" * 12 + ".jsonl"))


def _tail(file: int) -> tuple[AuditHead, list[bytes], bool]:
    """The last whole entry, the lines after it that are none, and whether the last line ended."""
    size = os.fstat(file).st_size
    span = TAIL_BYTES
    while True:
        begin = max(0, size - span)
        content = os.pread(file, size - begin, begin)
        ended = not content or content.endswith(b"\n")
        lines = content.removesuffix(b"\n").split(b"\n") if content else []
        torn: list[bytes] = []
        for line in reversed(lines if begin == 0 else lines[1:]):
            if (entry := decode_line(line)) is not None:
                return AuditHead(entry.sequence, hash_of(line)), torn, ended
            torn.insert(0, line)
        if begin == 0:
            return NOWHERE, torn, ended
        span *= 4


def _state(file: int) -> tuple[int, int, int]:
    stat = os.fstat(file)
    return stat.st_dev, stat.st_ino, stat.st_size


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield file
    finally:
        os.close(file)


def _give_to_owner_of(folder: Path, file: int) -> None:
    """What root's command makes, the publisher has to write to."""
    owner = folder.stat()
    if os.geteuid() == 0 and os.fstat(file).st_uid != owner.st_uid:
        os.fchown(file, owner.st_uid, owner.st_gid)

"""The messages of a publisher's commits: a sentence for people, a line for gatesync. Pure.

    Publish PizzaShackAPI 1.0.0 to Production and Sandbox

    Gatesync-Record: {"format":"gatesync.commit/1", ...}

The line says what the files do not: who asked, when, under which key; what was signed. It counts
only where it was written, on top of the commit that it names: one that was taken elsewhere
(rebase, cherry-pick) is a person's.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from gatesync.artifacts.changes import Change, ChangeSet, Confirmation, Instruction
from gatesync.artifacts.digests import Count, Digest
from gatesync.artifacts.signatures import Signature
from gatesync.stores.git_objects import Commit

__all__ = [
    "COMMIT_FORMAT",
    "Brought",
    "Confirmed",
    "Note",
    "SetNote",
    "epoch_in",
    "fingerprint",
    "note_of",
    "subject_of",
    "with_note",
]

COMMIT_FORMAT: Final = "gatesync.commit/1"
_TRAILER: Final = "Gatesync-Record: "
_SUBJECT_MAX: Final = 120


class Brought(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True, gc=False):
    """What the files of a folder make: what an entry says beside the folder's own name.

    An empty `api_id` is the one that the identity gives.
    """

    digest: Digest
    size: Count
    context: str = ""
    api_id: str = ""


class SetNote(msgspec.Struct, frozen=True, omit_defaults=True):
    """One label's change set in a commit.

    Its changes are those of the folders whose files changed, of those that are `standing` as
    they were and count now, and of those that are `renewed`: what is held of them is held anew.
    Sorted by folder, removals first; `order` says where each of them stands among all, unless
    that is their order already. `brought` are those that the changed folders make, where there
    are any, in their order, so that nobody has to read the files to know.
    """

    label: str
    renewed: tuple[str, ...] = ()
    standing: tuple[str, ...] = ()
    order: tuple[int, ...] = ()
    brought: tuple[Brought, ...] = ()
    signature: Signature | None = None


class Confirmed(msgspec.Struct, frozen=True, omit_defaults=True):
    """An operator's word about a label."""

    label: str
    confirmation: Confirmation


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a commit of a publisher says of itself.

    It was written on top of `base`, as the one `at` that place (from 0) of several. A request
    may take several commits, which follow each other: `part` (from 1) of `parts`.
    `published_at` is in milliseconds since 1970, `epoch` a new one that begins here. `files`
    is the `fingerprint` of what it changed: one that was amended is a person's, too.
    """

    format: str
    base: str = ""
    at: int = 0
    publisher: str = ""
    author: str = ""
    origin: str = ""
    published_at: int = 0
    key: str = ""
    fingerprint: str = ""
    part: int = 1
    parts: int = 1
    labels: tuple[str, ...] = ()
    sets: tuple[SetNote, ...] = ()
    files: str = ""
    confirmed: Confirmed | None = None
    epoch: str = ""


_decoder: Final = msgspec.json.Decoder(Note)


def note_of(commit: Commit) -> Note | None:
    """What a publisher noted in this commit; None where it is a person's."""
    line = commit.message.rstrip("\n").rpartition("\n")[2]
    if not line.startswith(_TRAILER):
        return None
    try:
        note = _decoder.decode(line[len(_TRAILER) :])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return note if note.format == COMMIT_FORMAT and len(commit.parents) <= 1 else None


def epoch_in(commit: Commit) -> str:
    """The epoch that begins with this commit; empty where none does."""
    note = note_of(commit)
    if note is None or note.at or note.base != "".join(commit.parents):
        return ""
    return note.epoch


def fingerprint(touched: Mapping[str, Iterable[tuple[str, str]]]) -> str:
    """A hash over the files of the folders that a commit has touched, as it left them."""
    hasher = hashlib.sha256()
    for folder, files in sorted(touched.items()):
        hasher.update(folder.encode(errors="surrogateescape") + b"\0\0")
        for path, blob in files:
            hasher.update(path.encode(errors="surrogateescape") + b"\0" + blob.encode() + b"\0")
    return hasher.hexdigest()


def with_note(subject: str, note: Note) -> str:
    """The whole message."""
    return f"{subject}\n\n{_TRAILER}{msgspec.json.encode(note).decode()}\n"


def subject_of(change_sets: Sequence[ChangeSet]) -> str:
    """`Publish Menu 1.0.0 to Shop and Cafe`, for the change sets of one commit."""
    labels = _listed([each.label for each in change_sets], most=4)
    largest = max(change_sets, key=lambda each: len(each.changes))
    published = [c for c in largest.changes if c.instruction is Instruction.PUBLISH]
    removed = [c for c in largest.changes if c.instruction is Instruction.REMOVE]
    if not largest.changes:
        return _plain(f"Sign what {labels} holds")
    said = [
        f"{verb} {_named(changes)} {where} {labels}"
        for verb, changes, where in (("Publish", published, "to"), ("Remove", removed, "from"))
        if changes
    ]
    return _plain("; ".join(said))


def _named(changes: Sequence[Change]) -> str:
    names = [" ".join(filter(None, (c.entry.name, c.entry.version))) for c in changes]
    return names[0] if len(names) == 1 else _listed(names, most=2)


def _listed(names: Iterable[str], most: int) -> str:
    every = list(dict.fromkeys(names))
    if len(every) > most:
        return f"{', '.join(every[: most - 1])} and {len(every) - most + 1} more"
    return " and ".join([", ".join(every[:-1]), every[-1]]) if len(every) > 1 else every[0]


def _plain(text: str) -> str:
    """One line that a terminal takes, and that is no comment of git's."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= _SUBJECT_MAX else f"{line[: _SUBJECT_MAX - 3]}..."

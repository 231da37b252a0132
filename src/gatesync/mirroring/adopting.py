"""What a label is to take over from a tree that others write: pure.

Only what changed in the tree since it was taken over last is news. So what somebody published or
rolled back in the label stands until the tree's file changes, and what never lay in the tree is
nothing that the tree can remove.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec

from gatesync.artifacts.changes import Entry
from gatesync.artifacts.digests import Digest
from gatesync.artifacts.errors import FormatError
from gatesync.artifacts.model import KINDS, Identity
from gatesync.artifacts.places import CONFIGS_FOLDER, POLICIES_FOLDER, SERVER_FOLDER, TENANTS_FOLDER
from gatesync.mirroring.checking import Group
from gatesync.mirroring.scanning import ScannedFile
from gatesync.private_file import write_private_file

__all__ = [
    "Adopted",
    "Adoption",
    "Found",
    "Removal",
    "adoption_of",
    "found_in",
    "identity_of",
    "is_in_place",
    "read_adopted",
    "write_adopted",
]

ADOPTED_FORMAT: Final = "gatesync.adopted/1"
_PLACES: Final = (
    *(f"{CONFIGS_FOLDER}/{folder}/" for kind, folder in KINDS.items() if kind != "policy"),
    f"{POLICIES_FOLDER}/",
)


class Found(NamedTuple):
    """A sound artifact of the tree: the file that leads it, and a digest over all its files."""

    main: str
    files: str


class Adopted(msgspec.Struct, frozen=True, gc=False):
    """What was taken over: `main` and `files` as in `Found`, and the digest in the label then.

    `waiting`: it is gone from the tree, and its removal waits for a word.
    """

    tenant: str
    kind: str
    name: str
    version: str
    main: str
    files: Digest
    digest: Digest
    waiting: bool = False

    @property
    def identity(self) -> Identity:
        """Whose it is."""
        return Identity(self.tenant, self.kind, self.name, self.version)


class Removal(NamedTuple):
    """An artifact that is to go from a label, for its files are gone from the tree."""

    label: str
    entry: Entry


class Adoption(NamedTuple):
    """What is to be done.

    `changed` are the artifacts to publish, each to the label named. `gone` have no files any
    more and nothing to remove: they are forgotten. `overruled` were published otherwise since
    they were taken over, so that their absence removes nothing. `waiting`, if not empty, says why
    `held_back` are not removed yet.
    """

    changed: dict[Identity, str]
    remove: tuple[Removal, ...]
    gone: tuple[Identity, ...]
    overruled: tuple[Identity, ...]
    held_back: tuple[Identity, ...]
    waiting: str


def adoption_of(
    found: Mapping[Identity, Found],
    adopted: Mapping[Identity, Adopted],
    labels: Sequence[tuple[str, Mapping[Identity, Entry]]],
    *,
    confirmed: bool = False,
) -> Adoption:
    """Decide what the labels take over.

    Args:
        found: the sound artifacts of the settled tree; what is refused there as it was before.
        adopted: what was taken over before this.
        labels: what each label of the tree holds, the preferred one first.
        confirmed: somebody says that removals are meant, however many they are.
    """
    changed: dict[Identity, str] = {}
    for identity, artifact in found.items():
        before = adopted.get(identity)
        if before is None or before.files != artifact.files:
            changed[identity] = _label_for(identity, labels)
    missing = [identity for identity in adopted if identity not in found]
    remove: list[Removal] = []
    gone: list[Identity] = []
    overruled: list[Identity] = []
    for identity in missing:
        held = [
            Removal(label, entries[identity]) for label, entries in labels if identity in entries
        ]
        ours = [each for each in held if each.entry.digest == adopted[identity].digest]
        remove += ours
        if not held:
            gone.append(identity)
        elif not ours:
            overruled.append(identity)
    leaving = {each.entry.identity for each in remove}
    held_back: set[Identity] = set()
    if not confirmed:  # promise 6; what is new beside them does not make it less
        held_back = {who for who in leaving if adopted[who].waiting}
        if 2 * len(leaving) > len(adopted):
            held_back = leaving
    waiting = ""
    if held_back:
        said = f"artifacts that are gone from the tree: {len(held_back)}"
        waiting = f"{said}, more than half of those that there were"
    return Adoption(
        changed,
        tuple(each for each in remove if each.entry.identity not in held_back),
        tuple(gone),
        tuple(overruled),
        tuple(sorted(held_back)),
        waiting,
    )


def _label_for(identity: Identity, labels: Sequence[tuple[str, Mapping[Identity, Entry]]]) -> str:
    """Where it is held already, for that is what the tree shows; else the preferred one."""
    return next((label for label, entries in labels if identity in entries), labels[0][0])


def found_in(groups: Mapping[str, Group], good: Mapping[str, ScannedFile]) -> dict[Identity, Found]:
    """The artifacts of a settled tree, by who they are."""
    return {
        identity_of(group): Found(main, _files_digest(group.paths, good))
        for main, group in groups.items()
    }


def identity_of(group: Group) -> Identity:
    """Who an artifact of a tree is."""
    first = group.pieces[0]
    return Identity(first.tenant, first.role, first.api_name or first.name, first.api_version)


def _files_digest(paths: Iterable[str], good: Mapping[str, ScannedFile]) -> str:
    said = sorted((path, good[path].sha256) for path in paths)
    return hashlib.sha256(msgspec.msgpack.encode(said)).hexdigest()


def is_in_place(path: str) -> bool:
    """Whether artifacts rest at this path of a `repository`, or below it if it ends with `/`."""
    steps = path.split("/")
    if steps[0] == TENANTS_FOLDER:
        if len(steps) <= 2:  # `tenants` itself, and what lies in it
            return True
        below = "/".join(steps[2:])
    elif f"{SERVER_FOLDER}/".startswith(path):
        return True
    else:
        below = path.removeprefix(f"{SERVER_FOLDER}/")
        if below == path:
            return False
    return any(below.startswith(place) or place.startswith(below) for place in _PLACES)


# Between one process and the next ---------------------------------------------------------------


class _AdoptedFile(msgspec.Struct, frozen=True):
    artifacts: tuple[Adopted, ...]
    format: Literal["gatesync.adopted/1"] = ADOPTED_FORMAT


def read_adopted(path: Path) -> dict[Identity, Adopted]:
    """What was taken over, as a file remembers it; nothing where there is no file.

    Raises:
        FormatError: it is of another version, or damaged.
        OSError: it cannot be read.
    """
    try:
        read = msgspec.json.decode(path.read_bytes(), type=_AdoptedFile)
    except FileNotFoundError:
        return {}
    except msgspec.DecodeError as error:
        advice = f"this version reads {ADOPTED_FORMAT!r}; move it away, and nothing is removed"
        raise FormatError(f"{path} is no list of what was adopted: {error}; {advice}") from None
    return {each.identity: each for each in read.artifacts}


def write_adopted(path: Path, adopted: Iterable[Adopted]) -> None:
    """Replace the file durably. Raises `OSError`."""
    write_private_file(path, msgspec.json.encode(_AdoptedFile(tuple(adopted))))

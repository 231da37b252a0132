"""Which files of a branch are which artifact. Pure.

    <label>/<tenant>/<kind>/<name>/<version>/       each name as `artifacts.paths` writes it
      artifact.toml                                 as `artifacts.folder` has it
      api/MenuAPI.xml ...

Whatever stands elsewhere (a README, `.github`) is nobody's business.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from gatesync.artifacts import canonical
from gatesync.artifacts.changes import Entry
from gatesync.artifacts.description import describe
from gatesync.artifacts.digests import digest_of
from gatesync.artifacts.errors import FormatError, Problem, ProblemsError
from gatesync.artifacts.folder import FOLDER_FILE, artifact_from_files, files_of
from gatesync.artifacts.model import KINDS, Artifact, Identity, Part
from gatesync.artifacts.names import check_label
from gatesync.artifacts.paths import decode_name, encode_name, exact_name, folder_of
from gatesync.artifacts.planning import Publish
from gatesync.artifacts.synapse import read_root

__all__ = [
    "Built",
    "Place",
    "build",
    "files_in",
    "folder_of",
    "place_of",
    "publish_of",
    "rebuild",
    "regular",
    "split",
    "stray",
]

_NAMES: Final = 5  # label, tenant, kind, name, version
_REGULAR: Final = ("100644", "100755", "100664")

# Enough to read what most files are; what it reads is proved by its digest.
_API_ID: Final = re.compile(rb'\napi_id = "([^"\\]*)"')
_ROOT: Final = re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?<[a-zA-Z]+(\s[^<>]*)>")
_NAME: Final = re.compile(rb'\sname="([^"&]*)"')
_KEYS: Final = {"local-entry": re.compile(rb'\skey="([^"&]*)"')}
_ROLE_OF_FOLDER: Final = {folder: kind for kind, folder in KINDS.items() if kind != "policy"}


class Place(NamedTuple):
    """Whose folder this is."""

    label: str
    identity: Identity


class Built(NamedTuple):
    """An artifact as its files have it. `entry.revision` says nothing."""

    entry: Entry
    content: bytes


def split(path: str) -> tuple[str, str] | None:
    """The artifact's folder and the place in it of a file; None where it is not in such a folder.

    A name that is too long for one step goes on in the next: the step before ends with `%`.
    """
    steps = path.split("/")
    names = 0
    for at, step in enumerate(steps[:-1]):
        names += not step.endswith("%")
        if names == _NAMES:
            return "/".join(steps[: at + 1]), "/".join(steps[at + 1 :])
    return None


def place_of(folder: str) -> Place:
    """Whose folder this is, if it is exactly the one that `folder_of` gives.

    Raises:
        Problem: it is not; says which one would be right.
    """
    steps = _names_in(folder)
    names = [exact_name(step) for step in steps]
    if None in names:
        right = "/".join(step if exact_name(step) is not None else _meant(step) for step in steps)
        raise Problem(f"is read by nobody; this folder is to be called {right}", where=folder)
    label, tenant, kind, name, version = (each or "" for each in names)
    try:
        check_label(label)
    except Problem as problem:
        raise problem.within(folder) from None
    return Place(label, Identity(tenant, kind, name, version))


def _names_in(folder: str) -> list[str]:
    """The folder's steps, those of one name together."""
    found = [""]
    for step in folder.split("/"):
        found[-1] += step
        if step.endswith("%"):
            found[-1] += "/"
        else:
            found.append("")
    return found[:-1]


def stray(path: str) -> Problem | None:
    """What is wrong with an `artifact.toml` that is in no artifact's folder."""
    if path.rpartition("/")[2] != FOLDER_FILE:
        return None
    reason = (
        "is in no artifact's folder, and is not read; artifacts stand in "
        "<label>/<tenant>/<kind>/<name>/<version>/"
    )
    return Problem(reason, where=path)


def build(files: Mapping[str, bytes], identity: Identity, folder: str) -> Built:
    """The artifact that these files make, which must be the one that the folder is for.

    Raises:
        ProblemsError: with every fault, each with its file, below `folder`.
    """
    try:
        artifact = artifact_from_files(files)
        if artifact.identity.tenant != identity.tenant and b"tenant" not in files[FOLDER_FILE]:
            artifact = artifact_from_files(files, tenant=identity.tenant)
        content = canonical.encode(artifact)
    except ProblemsError as error:
        raise ProblemsError(each.within(folder) for each in error.problems) from None
    except FormatError as error:
        raise ProblemsError([Problem(str(error), where=folder)]) from None
    if artifact.identity != identity:
        raise ProblemsError([_elsewhere(artifact.identity, folder).within(folder)])
    return Built(_entry(artifact, content), content)


def rebuild(
    files: Mapping[str, bytes], identity: Identity, folder: str, digest: str
) -> bytes | None:
    """The canonical form that has this digest, if these files make it.

    Most folders can be read without reading their XML: the digest tells whether that was right.
    """
    content = _read_quickly(files, identity)
    if content is not None and digest_of(content) == digest:
        return content
    try:
        built = build(files, identity, folder)
    except ProblemsError:
        return None
    return built.content if built.entry.digest == digest else None


def publish_of(built: Built) -> Publish:
    """What is published with it, checked as every publish is.

    Raises:
        ProblemsError: with every fault.
    """
    description = describe(canonical.decode(built.content))
    return Publish(built.entry, built.content, description.claims, description.references)


def files_in(content: bytes) -> dict[str, bytes]:
    """The files that this canonical form is written as.

    Raises:
        ProblemsError, FormatError: it cannot be.
    """
    return files_of(canonical.decode(content))


def _read_quickly(files: Mapping[str, bytes], identity: Identity) -> bytes | None:
    form = files.get(FOLDER_FILE, b"[")
    if b"[" in form or b"\nextra" in form:
        return None
    given = _API_ID.search(form)
    parts: list[Part] = []
    for path, content in files.items():
        if path == FOLDER_FILE:
            continue
        role = _ROLE_OF_FOLDER.get(path.partition("/")[0])
        root = _ROOT.match(content)
        key = _KEYS.get(role or "", _NAME).search(root[1]) if root is not None else None
        if role is None or key is None:
            return None
        parts.append(Part(role, key[1].decode(errors="replace"), path, content))
    parts.sort(key=lambda part: (part.role, part.path))
    api_id = given[1].decode(errors="replace") if given else identity.default_api_id()
    return canonical.encode(Artifact(identity, api_id, tuple(parts)))


def _entry(artifact: Artifact, content: bytes) -> Entry:
    identity = artifact.identity
    return Entry(
        api_id=artifact.api_id,
        tenant=identity.tenant,
        kind=identity.kind,
        name=identity.name,
        version=identity.version,
        context=_context(artifact),
        digest=digest_of(content),
        size=len(content),
    )


def _context(artifact: Artifact) -> str:
    """The context of the API that it is named for, as `artifacts.description` finds it."""
    if artifact.identity.kind != "api":
        return ""
    roots = []
    for part in artifact.parts:
        if part.role == "api":
            try:
                roots.append(read_root(part.content, part.path))
            except Problem:
                continue
    for version in (artifact.identity.version, ""):
        for root in roots:
            if root.version == version:
                return root.context
    return ""


def _elsewhere(identity: Identity, folder: str) -> Problem:
    label = exact_name(_names_in(folder)[0])
    right = folder_of(label, identity) if label is not None else "another"
    return Problem(
        f"says {identity}, whose folder is {right}; move the folder, or mend what it says",
        where=FOLDER_FILE,
    )


def _meant(step: str) -> str:
    """What a step is to be called, by the name that it seems to say."""
    try:
        name = decode_name(step) if "~" in step or "%" in step else step
    except Problem:
        name = step
    return encode_name(name)


def regular(mode: str) -> bool:
    """Whether this is a file: no link is followed, and no submodule."""
    return mode in _REGULAR

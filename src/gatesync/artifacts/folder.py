"""The artifact folder: an artifact as files for people and for Git.

Beside the files, each in its kind's folder as on a server, stands `artifact.toml`:

    format = "gatesync.folder/1"
    kind = "api"
    name = "PizzaShackAPI"
    version = "1.0.0"
    tenant = "example.com"      # where it is not the first tenant
    api_id = "3b37c2e0-..."     # where it is not the one that the identity gives
    extra = '{"a":1}'           # JSON that gatesync keeps and does not understand

    [[parts]]                   # only for a file that does not say all this itself
    file = "sequences/a%3ab.xml"    # where it lies, if not where its path says
    path = "sequences/a:b.xml"
    role = "sequence"
    name = "another name"

A path that some file system cannot hold, or takes for another of the artifact, is one that `file`
stands for, whose letters may change on the way: only one file of the folder is meant. A portable
path stays as it is; a file system that changes its letters changes the artifact, and its digest.
"""

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from gatesync.artifacts.errors import FormatError, Problem, ProblemsError
from gatesync.artifacts.extra import decode_extra, encode_extra
from gatesync.artifacts.model import KINDS, SUPER_TENANT, Artifact, Identity, Part
from gatesync.artifacts.names import check_name
from gatesync.artifacts.paths import folded, places_of
from gatesync.artifacts.synapse import read_root

__all__ = ["FOLDER_FILE", "FOLDER_FORMAT", "artifact_from_files", "files_of", "is_leftover"]

FOLDER_FILE: Final = "artifact.toml"
FOLDER_FORMAT: Final = "gatesync.folder/1"

_ROLE_OF_FOLDER: Final = {folder: kind for kind, folder in KINDS.items()}


class _PartForm(msgspec.Struct):
    path: str
    role: str
    name: str
    file: str = ""

    def place(self) -> str:
        return self.file or self.path


class _FolderForm(msgspec.Struct):
    format: str
    kind: str
    name: str
    version: str = ""
    tenant: str = ""
    api_id: str = ""
    extra: str = "{}"
    parts: tuple[_PartForm, ...] = ()


def artifact_from_files(files: Mapping[str, bytes], *, tenant: str | None = None) -> Artifact:
    """The artifact that a folder holds.

    Hidden files and what editors leave behind (`.git/...`, `.DS_Store`, `a.xml~`) are passed
    over, unless `[[parts]]` names them. Any other file must be a part.

    Args:
        files: each file's content by its path in the folder, `/`-separated.
        tenant: the domain to publish to, where `artifact.toml` names none.

    Raises:
        ProblemsError: with every fault that was found, each with its file.
    """
    try:
        form = _read_form(files)
        identity = Identity(_tenant(form, tenant), form.kind, form.name, form.version)
        extra = _read_extra(form.extra)
    except Problem as problem:
        raise ProblemsError([problem]) from None
    given, problems = _given(form.parts, files)
    parts: list[Part] = []
    for file in sorted(files):
        if file == FOLDER_FILE or (file not in given and is_leftover(file)):
            continue
        try:
            part = given.get(file) or _PartForm(file, *_derived(file, files[file]))
        except Problem as problem:
            problems.append(problem)
        else:
            parts.append(Part(part.role, part.name, part.path, files[file]))
    if problems:
        raise ProblemsError(problems)
    parts.sort(key=lambda part: (part.role, part.path))
    artifact = Artifact(identity, form.api_id or identity.default_api_id(), tuple(parts), extra)
    artifact.check()
    return artifact


def files_of(artifact: Artifact) -> dict[str, bytes]:
    """The folder that holds this artifact: each file's content by its path.

    Each path is one that any file system can hold, and none is taken for another.

    Raises:
        ProblemsError: a name, path or size is not acceptable.
        FormatError: `extra` cannot be written as JSON.
    """
    artifact.check()
    identity = artifact.identity
    lines = [
        f"format = {_toml_string(FOLDER_FORMAT)}",
        f"kind = {_toml_string(identity.kind)}",
        f"name = {_toml_string(identity.name)}",
    ]
    if identity.version:
        lines.append(f"version = {_toml_string(identity.version)}")
    if identity.tenant != SUPER_TENANT:
        lines.append(f"tenant = {_toml_string(identity.tenant)}")
    if artifact.api_id != identity.default_api_id():
        lines.append(f"api_id = {_toml_string(artifact.api_id)}")
    if artifact.extra:
        lines.append(f"extra = {_toml_string(encode_extra(artifact.extra).decode())}")
    parts = sorted(artifact.parts, key=lambda part: part.path)
    places = places_of([part.path for part in parts], FOLDER_FILE)
    for part in parts:
        if places[part.path] != part.path or not _says_itself(part):
            lines.extend(_part_lines(part, places[part.path]))
    files = {FOLDER_FILE: "".join(f"{line}\n" for line in lines).encode()}
    files.update((places[part.path], part.content) for part in parts)
    return files


def _given(
    parts: tuple[_PartForm, ...], files: Mapping[str, bytes]
) -> tuple[dict[str, _PartForm], list[Problem]]:
    """The files that `[[parts]]` speaks of, also where a file system changed their letters."""
    given: dict[str, _PartForm] = {}
    problems: list[Problem] = []
    alike: dict[str, list[str]] = {}
    for file in files:
        alike.setdefault(folded(file), []).append(file)
    for part in parts:
        place = part.place()
        found = [place] if place in files else alike.get(folded(place), [])
        if len(found) != 1:
            reason = f"[[parts]] names {place!r}, which is not in the folder"
            problems.append(Problem(reason, where=FOLDER_FILE))
        elif found[0] == FOLDER_FILE:
            problems.append(Problem("[[parts]] names this file itself", where=FOLDER_FILE))
        elif found[0] in given:
            reason = f"two of [[parts]] are the file {found[0]!r}"
            problems.append(Problem(reason, where=FOLDER_FILE))
        given.update((file, part) for file in found[:1])
    return given, problems


def _derived(path: str, content: bytes) -> tuple[str, str]:
    """Role and name of a file: the role from its folder, the name from the XML or its stem."""
    folder, separator, file_name = path.partition("/")
    role = _ROLE_OF_FOLDER.get(folder)
    if not separator or role is None:
        raise Problem(
            f"not part of an artifact; files stand in {', '.join(KINDS.values())}, beside "
            f"{FOLDER_FILE}. Move it there, name it under [[parts]], or take it out",
            where=path,
        )
    if role == "policy":
        stem, dot, _ = file_name.rpartition("/")[2].rpartition(".")
        return role, stem if dot and stem else file_name
    root = read_root(content, path)
    if root.role != role:
        reason = f"its root element makes it a {root.role}; that belongs in {KINDS[root.role]}/"
        raise Problem(reason, where=path, line=root.line)
    return role, root.name


def _says_itself(part: Part) -> bool:
    if is_leftover(part.path):
        return False
    try:
        return _derived(part.path, part.content) == (part.role, part.name)
    except Problem:
        return False


def is_leftover(path: str) -> bool:
    """Hidden, or what editors and file managers leave behind: never an artifact's file."""
    steps = path.split("/")
    if any(step.startswith(".") and step not in {".", ".."} for step in steps):
        return True
    return path.endswith("~") or steps[-1] in {"Thumbs.db", "desktop.ini"}


# artifact.toml --------------------------------------------------------------------------------

_LINE: Final = re.compile(r" \(at line (\d+), column \d+\)| \(at end of document\)")
# TOML's escapes for what a basic string may not hold as it is.
_ESCAPES: Final = {code: f"\\u{code:04X}" for code in (*range(0x20), 0x7F)}
_ESCAPES.update({ord('"'): '\\"', ord("\\"): "\\\\", ord("\n"): "\\n", ord("\t"): "\\t"})


def _toml_string(text: str) -> str:
    """A literal string where escapes would make JSON unreadable, else a basic one."""
    if '"' in text and "'" not in text and text.isprintable():
        return f"'{text}'"
    return f'"{text.translate(_ESCAPES)}"'


def _part_lines(part: Part, place: str) -> Iterator[str]:
    yield from ("", "[[parts]]")
    if place != part.path:
        yield f"file = {_toml_string(place)}"
    yield f"path = {_toml_string(part.path)}"
    yield f"role = {_toml_string(part.role)}"
    yield f"name = {_toml_string(part.name)}"


def _read_form(files: Mapping[str, bytes]) -> _FolderForm:
    if FOLDER_FILE not in files:
        raise Problem("is missing; it says the artifact's kind and name", where=FOLDER_FILE)
    try:
        table = tomllib.loads(files[FOLDER_FILE].decode())
    except UnicodeDecodeError as error:
        raise Problem(f"not UTF-8 at byte {error.start}", where=FOLDER_FILE) from None
    except (ValueError, RecursionError) as error:  # ValueError: also integers of 5,000 digits
        found = _LINE.search(str(error))
        line = int(found[1] or 0) if found else 0
        reason = f"not TOML: {_LINE.sub('', str(error))}"
        raise Problem(reason, where=FOLDER_FILE, line=line) from None
    if table.get("format", FOLDER_FORMAT) != FOLDER_FORMAT:
        raise Problem(
            f"format {table['format']!r} is unknown; this version reads {FOLDER_FORMAT!r}",
            where=FOLDER_FILE,
        )
    _refuse_unknown(table, _FolderForm, "")
    parts = table.get("parts")
    for entry in parts if isinstance(parts, list) else []:
        _refuse_unknown(entry, _PartForm, " in [[parts]]")
    try:
        return msgspec.convert(table, _FolderForm)
    except msgspec.ValidationError as error:
        raise Problem(str(error), where=FOLDER_FILE) from None


def _refuse_unknown(table: Any, form: type[msgspec.Struct], place: str) -> None:
    known = form.__struct_fields__
    for key in table if isinstance(table, dict) else ():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise Problem(f"unknown key {key!r}{place}; {hint}", where=FOLDER_FILE)


def _tenant(form: _FolderForm, given: str | None) -> str:
    if given and form.tenant and given != form.tenant:
        raise Problem(
            f"tenant is {form.tenant!r}, but --tenant says {given!r}; drop one of them",
            where=FOLDER_FILE,
        )
    return check_name(form.tenant or given or SUPER_TENANT, "tenant")


def _read_extra(text: str) -> dict[str, Any]:
    try:
        return decode_extra(text)
    except FormatError as error:
        raise Problem(str(error), where=FOLDER_FILE) from None

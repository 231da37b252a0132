"""PATH arguments become artifacts: the file system side of `gatesync.artifacts`."""

import os
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from gatesync.artifacts import canonical
from gatesync.artifacts.base import is_base
from gatesync.artifacts.description import describe
from gatesync.artifacts.digests import Digest, digest_of
from gatesync.artifacts.errors import FormatError, Problem, ProblemsError
from gatesync.artifacts.folder import artifact_from_files
from gatesync.artifacts.model import ARTIFACT_MAX_BYTES, SUPER_TENANT, Artifact, Identity
from gatesync.artifacts.openapi_options import OpenApiOptions
from gatesync.artifacts.synapse import artifact_from_xml
from gatesync.artifacts.tree import (
    CONFIGS_FOLDER,
    SERVER_FOLDER,
    TreeKind,
    artifacts_of,
    files_of_tree,
)
from gatesync.artifacts.wso2 import artifact_from_wso2
from gatesync.cli.documents import documents_in, is_document, is_openapi
from gatesync.cli.output import Output
from gatesync.cli.trees import read_content, read_tree, tree_kind

if TYPE_CHECKING:
    from gatesync.artifacts.openapi import OpenApiArtifact

__all__ = ["Found", "FoundArtifact", "read_artifacts"]

FOLDER_FILE: Final = "artifact.toml"
_PLACE: Final = re.compile(r"(?P<part>.*?)(:\d+)?: ", re.S)


class FoundArtifact(msgspec.Struct, frozen=True):
    """An artifact that was found sound, and is read again when it is needed.

    Together they may be larger than memory. `size` is that of its files in bytes. `load` raises
    `Problem`, `ProblemsError` or `OSError` where the files have changed meanwhile.
    """

    identity: Identity
    size: int
    load: Callable[[], Artifact]


class Found(msgspec.Struct):
    """What the paths hold.

    Artifacts that are sound, everything that is wrong, and the files that belong to a server's
    installation, which are never published. `sources` says where each part was read, by what a
    publisher calls it: `<identity>/<path>`. `secrets` are the aliases whose passwords stood in
    what was read, and that each gateway needs instead; `documents`, which artifact came from which
    WSO2 artifact JSON; `definitions` are the OpenAPI documents, and `notes` what was chosen or left
    aside in these.
    """

    artifacts: list[FoundArtifact]
    problems: list[Problem]
    base: list[str] = []
    sources: dict[str, str] = {}
    secrets: list[str] = []
    documents: dict[Identity, tuple[Path, Digest]] = {}
    definitions: list[Path] = []
    notes: list[str] = []

    def add(self, artifact: Artifact, files: Iterable[Path], load: Callable[[], Artifact]) -> None:
        """Take in an artifact, with the files of its parts in their order."""
        size = sum(len(part.content) for part in artifact.parts)
        self.artifacts.append(FoundArtifact(artifact.identity, size, load))
        for part, file in zip(artifact.parts, files, strict=True):
            self.sources[f"{artifact.identity}/{part.path}"] = str(file)

    def located(self, text: str) -> str:
        """What a publisher said of a part, said of the file that it was read from."""
        found = _PLACE.match(text)
        source = self.sources.get(found["part"]) if found else None
        if found is None or source is None:
            return text
        return source + text[found.end("part") :]

    def tell_asides(self, output: Output) -> None:
        """Tell what is left out without being wrong, and what must be there in its place."""
        if self.base:
            output.note(
                f"left out: files of the server's installation ({len(self.base)}), "
                f"such as {self.base[0]}"
            )
        if self.secrets:
            named = ", ".join(f"$secret{{{alias}}}" for alias in self.secrets)
            output.note(f"left out: passwords; each gateway has to know them itself, as {named}")
        for note in self.notes:
            output.note(note)


def read_artifacts(
    paths: Iterable[Path], tenant: str | None, openapi: OpenApiOptions | None = None
) -> Found:
    """Read what PATH may name.

    A file is an OpenAPI document (`is_openapi`), a WSO2 artifact JSON if its name ends with
    `.json`, or a Synapse XML file. What a folder is, the first of these says that fits:

    1. It has an `artifact.toml`: an artifact folder.
    2. Folders in it have one: a folder of artifact folders.
    3. It has `deployment/server` or `tenants`: a server's `repository`.
    4. It has `synapse-configs/default` or `executionplans`: a `deployment/server`, or a tenant.
    5. It has `api`, `sequences`... or `synapse.xml`: a `synapse-configs/default`.
    6. It, and each folder in it, has nothing but `.json` files: a folder of WSO2 artifact JSON,
       of which each artifact is taken once.

    Args:
        paths: files and folders.
        tenant: the tenant domain of what does not name its own.
        openapi: what is said of OpenAPI documents beside them; None: they are refused.
    """
    found = Found([], [], [])
    for path in paths:
        try:
            kind = _tree_kind(path)
            if kind is not None:
                _read_whole_tree(path, kind, tenant, found)
                continue
            for each in _artifacts_in(path, found.problems):
                _read(each, tenant, found, openapi)
        except OSError as error:
            found.problems.append(Problem(str(error.strerror), where=str(path)))
    if openapi is not None and (reason := openapi.why_not(len(found.definitions))):
        found.problems.append(Problem(reason))
    return found


def _tree_kind(path: Path) -> TreeKind | None:
    if not path.is_dir() or (path / FOLDER_FILE).exists() or _artifact_folders(path):
        return None
    return tree_kind(path)


def _artifact_folders(path: Path) -> list[Path]:
    return sorted(each.parent for each in path.glob(f"*/{FOLDER_FILE}"))


def _read_whole_tree(path: Path, kind: TreeKind, tenant: str | None, found: Found) -> None:
    problems: list[Problem] = []
    files = read_tree(path, kind, problems)
    tree = artifacts_of(files, kind=kind, tenant=tenant or SUPER_TENANT)
    problems += tree.problems
    for number, artifact in enumerate(tree.artifacts):
        below = files_of_tree([artifact], kind=kind, tenant=tenant or SUPER_TENANT)
        found.add(
            artifact, (path / each for each in below), partial(tree.artifacts.__getitem__, number)
        )
    found.base += [str(path / each) for each in tree.base]
    if not (tree.artifacts or problems):
        reason = "holds no artifact"
        if tree.base:
            reason = (
                "holds nothing but files of the server's installation "
                f"({len(tree.base)}), which each node brings along; they are never published"
            )
        problems.append(Problem(reason))
    found.problems += [problem.within(str(path)) for problem in problems]


def _artifacts_in(path: Path, problems: list[Problem]) -> list[Path]:
    if not path.exists():
        problems.append(Problem("there is no such file or folder", where=str(path)))
        return []
    if path.is_file() or (path / FOLDER_FILE).exists():
        return [path]
    if not path.is_dir():
        problems.append(Problem("neither a file nor a folder", where=str(path)))
        return []
    try:
        folders = _artifact_folders(path) or documents_in(path)
    except Problem as problem:
        problems.append(problem.within(str(path)))
        return []
    if not folders:
        reason = (
            f"neither this folder nor one in it has an {FOLDER_FILE}, nor is it a server's tree, "
            "nor has it only .json files"
        )
        if inner := [each.name for each in sorted(path.iterdir()) if _tree_kind(each)]:
            reason += f"; did you mean {inner[0]} in it?"
        problems.append(Problem(reason, where=str(path)))
    return folders


def _read(path: Path, tenant: str | None, found: Found, openapi: OpenApiOptions | None) -> None:
    try:
        if path.is_file() and is_openapi(path):
            _read_openapi(path, tenant, found, openapi)
            return
        if path.is_file() and is_document(path):
            _read_document(path, tenant, found)
            return
        if path.is_file():
            _refuse_base(path, tenant or SUPER_TENANT)
        artifact = _load(path, tenant)
        describe(artifact)
    except ProblemsError as error:
        found.problems += [problem.within(str(path)) for problem in error.problems]
    except Problem as problem:
        place = str(path.parent) if path.is_file() else str(path)
        found.problems.append(problem.within(place))
    except (FormatError, OSError) as error:
        found.problems.append(Problem(str(error), where=str(path)))
    else:
        files = [path] if path.is_file() else [path / part.path for part in artifact.parts]
        found.add(artifact, files, partial(_load, path, tenant))


def _load(path: Path, tenant: str | None) -> Artifact:
    """The artifact that a file or an artifact folder holds."""
    if path.is_file() and is_document(path):
        return artifact_from_wso2(read_content(path), "", tenant=tenant).artifact
    if path.is_file():
        return artifact_from_xml(read_content(path), path.name, tenant=tenant or SUPER_TENANT)
    return artifact_from_files(_files(path), tenant=tenant)


def _read_document(path: Path, tenant: str | None, found: Found) -> None:
    artifact, secrets = artifact_from_wso2(read_content(path), "", tenant=tenant)
    describe(artifact)
    found.secrets += (alias for alias in secrets if alias not in found.secrets)
    digest = digest_of(canonical.encode(artifact))
    other, same = found.documents.setdefault(artifact.identity, (path, digest))
    if other == path:
        files = (path / part.path for part in artifact.parts)
        found.add(artifact, files, partial(_load, path, tenant))
    elif digest != same:  # WSO2 keeps one for each label, and they may have become different
        reason = f"holds {artifact.identity} too, and differs; publish one of them"
        raise Problem(f"{other} {reason}", where=path.name)


def _read_openapi(
    path: Path, tenant: str | None, found: Found, openapi: OpenApiOptions | None
) -> None:
    if openapi is None:
        reason = "is an OpenAPI document and no artifact; publish it with 'gatesync publish'"
        raise Problem(reason, where=path.name)
    found.definitions.append(path)
    artifact, notes = _load_openapi(path, tenant, openapi)
    describe(artifact)
    found.notes += [str(Problem(note, where=str(path))) for note in notes]  # for any terminal
    files = (path / part.path for part in artifact.parts)
    found.add(artifact, files, lambda: _load_openapi(path, tenant, openapi).artifact)


def _load_openapi(path: Path, tenant: str | None, openapi: OpenApiOptions) -> "OpenApiArtifact":
    from gatesync.artifacts.openapi import artifact_from_openapi  # its libraries take a moment

    return artifact_from_openapi(
        read_content(path),
        openapi,
        tenant=tenant or SUPER_TENANT,
        json_only=path.suffix.lower() == ".json",
    )


def _refuse_base(path: Path, tenant: str) -> None:
    """Refuse a file that would be left out if its tree were published."""
    configs = f"/{SERVER_FOLDER}/{CONFIGS_FOLDER}/"
    _, found, place = path.absolute().as_posix().rpartition(configs)
    if found and is_base(place, tenant):
        reason = "belongs to the server's installation, which each node brings along"
        raise Problem(f"{reason}; it is never published", where=path.name)


def _files(folder: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    size = 0
    for parent, names, leaves in os.walk(folder, followlinks=False):
        for name in [*names, *leaves]:
            path = Path(parent, name)
            if path.is_symlink():  # it may lead out of the folder
                raise Problem(
                    "symbolic links are not followed", where=str(path.relative_to(folder))
                )
        for name in leaves:
            path = Path(parent, name)
            relative = path.relative_to(folder).as_posix()
            files[relative] = read_content(path)
            size += len(files[relative])
            if size > ARTIFACT_MAX_BYTES:
                raise Problem(f"more than {ARTIFACT_MAX_BYTES} bytes; an artifact has no more")
    return files

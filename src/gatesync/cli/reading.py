"""PATH arguments become artifacts: the file system side of `gatesync.artifacts`."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from gatesync.artifacts.description import describe
from gatesync.artifacts.errors import FormatError, Problem, ProblemsError
from gatesync.artifacts.folder import artifact_from_files
from gatesync.artifacts.model import ARTIFACT_MAX_BYTES, SUPER_TENANT, Artifact
from gatesync.artifacts.synapse import artifact_from_xml

__all__ = ["Found", "read_artifacts"]

FOLDER_FILE: Final = "artifact.toml"


class Found(msgspec.Struct):
    """What the paths hold: artifacts that are sound, and everything that is wrong."""

    artifacts: list[Artifact]
    problems: list[Problem]


def read_artifacts(paths: Iterable[Path], tenant: str | None) -> Found:
    """Read artifact folders and Synapse XML files.

    Args:
        paths: an artifact folder (with an `artifact.toml`), a folder of such folders, or one
            XML file.
        tenant: the tenant domain of what does not name its own.
    """
    found = Found([], [])
    for path in paths:
        for each in _artifacts_in(path, found.problems):
            _read(each, tenant, found)
    return found


def _artifacts_in(path: Path, problems: list[Problem]) -> list[Path]:
    if not path.exists():
        problems.append(Problem("there is no such file or folder", where=str(path)))
        return []
    if path.is_file() or (path / FOLDER_FILE).exists():
        return [path]
    if not path.is_dir():
        problems.append(Problem("neither a file nor a folder", where=str(path)))
        return []
    folders = sorted(each.parent for each in path.glob(f"*/{FOLDER_FILE}"))
    if not folders:
        reason = f"neither this folder nor one in it has an {FOLDER_FILE}"
        problems.append(Problem(reason, where=str(path)))
    return folders


def _read(path: Path, tenant: str | None, found: Found) -> None:
    try:
        if path.is_file():
            content = _content(path)
            artifact = artifact_from_xml(content, path.name, tenant=tenant or SUPER_TENANT)
        else:
            artifact = artifact_from_files(_files(path), tenant=tenant)
        describe(artifact)
    except ProblemsError as error:
        found.problems += [problem.within(str(path)) for problem in error.problems]
    except Problem as problem:
        place = str(path.parent) if path.is_file() else str(path)
        found.problems.append(problem.within(place))
    except (FormatError, OSError) as error:
        found.problems.append(Problem(str(error), where=str(path)))
    else:
        found.artifacts.append(artifact)


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
            files[relative] = _content(path)
            size += len(files[relative])
            if size > ARTIFACT_MAX_BYTES:
                raise Problem(f"more than {ARTIFACT_MAX_BYTES} bytes; an artifact has no more")
    return files


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(ARTIFACT_MAX_BYTES + 1)
    if len(content) > ARTIFACT_MAX_BYTES:
        raise Problem(
            f"more than {ARTIFACT_MAX_BYTES} bytes; an artifact has no more", where=path.name
        )
    return content

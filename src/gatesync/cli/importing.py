"""import: what export wrote, as folders or as WSO2's JSON, becomes artifacts of their labels again.

The form `tree` says no labels: that is published with `publish`.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from gatesync.artifacts.canonical import encode
from gatesync.artifacts.digests import digest_of
from gatesync.artifacts.errors import FormatError, Problem, ProblemsError
from gatesync.artifacts.folder import FOLDER_FILE, is_leftover
from gatesync.artifacts.names import check_label
from gatesync.artifacts.paths import decode_name, encode_name
from gatesync.cli.changing import PublishOptions, publish_found
from gatesync.cli.documents import is_document
from gatesync.cli.output import Output
from gatesync.cli.reading import Found, FoundArtifact, read_artifacts
from gatesync.cli.running import EXIT_WRONG
from gatesync.cli.sending import Waiting
from gatesync.cli.session import CommandError, Target

__all__ = ["Labelled", "import_folder", "read_exported"]

LAYOUT: Final = "<label>/<tenant>/<kind>/<name>/<version>/" + FOLDER_FILE
DEPTH: Final = LAYOUT.count("/")  # names above the file
WSO2_LAYOUT: Final = "<label>/<api_id>.json"
WSO2_DEPTH: Final = 2
_BETWEEN_NAMES: Final = re.compile(r"(?<!%)/")  # a step that ends with '%' goes on in the next


def import_folder(
    target: Target,
    folder: Path,
    label: str | None,
    output: Output,
    *,
    options: PublishOptions,
    waiting: Waiting,
) -> int:
    """Publish what was exported to the labels that its folders name, or all of it to one.

    Nothing is removed. Answers with the exit code.
    """
    labelled = read_exported(folder, label)
    found = labelled.found
    if not found.artifacts:
        raise CommandError(EXIT_WRONG, *(str(problem) for problem in found.problems))
    if labelled.strays and (options.skip_invalid or not found.problems):
        output.note(
            f"left out: files that stand in no artifact's folder ({len(labelled.strays)}), "
            f"such as {labelled.strays[0]}"
        )
    groups = [([each], artifacts) for each, artifacts in labelled.artifacts.items()]
    return publish_found(target, found, groups, output, options=options, waiting=waiting)


class Labelled(NamedTuple):
    """Artifacts by label; all of them and what is wrong; and files that belong to none."""

    artifacts: dict[str, list[FoundArtifact]]
    found: Found
    strays: list[str]


def read_exported(folder: Path, label: str | None) -> Labelled:
    """Read a folder that `export` wrote, or that was copied from one.

    Args:
        folder: labels are the folders in it.
        label: the one that all of it is for, whatever the folders say.

    Raises:
        CommandError: it is no such folder.
    """
    if not folder.is_dir():
        raise CommandError(EXIT_WRONG, f"there is no folder {folder}")
    reading = _Reading(label)
    for place in _files_below(folder, reading.found.problems):
        if place.name == FOLDER_FILE:
            reading.take(folder, place.parent, DEPTH)
        elif is_document(place) and (label or _is_of_a_label(place.relative_to(folder))):
            reading.take(folder, place, WSO2_DEPTH)
        else:
            reading.strays.append(str(place))
    if not (reading.found.artifacts or reading.found.problems):
        layouts = f"there is no {LAYOUT} in it, nor a {WSO2_LAYOUT}"
        reason = f"{folder} holds nothing that gatesync exported: {layouts}"
        advice = "what was not exported is published with 'gatesync publish PATH --label L'"
        raise CommandError(EXIT_WRONG, reason, advice)
    return Labelled(reading.artifacts, reading.found, reading.strays)


def _files_below(folder: Path, problems: list[Problem]) -> Iterator[Path]:
    """Each `artifact.toml`, and each file with none beside or above it. Links are not followed."""

    def tell(error: OSError) -> None:
        problems.append(Problem(f"cannot be read: {error.strerror}", where=str(error.filename)))

    for parent, folders, files in os.walk(folder, onerror=tell):
        here = Path(parent)
        if FOLDER_FILE in files:
            folders.clear()
            yield here / FOLDER_FILE
            continue
        links = {name for name in (*folders, *files) if (here / name).is_symlink()}
        problems += [
            Problem("symbolic links are not followed", where=str(here / name))
            for name in sorted(links)
        ]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (here / name for name in sorted({*files} - links) if not is_leftover(name))


class _Reading:
    """Artifacts in the course of being read, each once in its label."""

    def __init__(self, label: str | None) -> None:
        self.artifacts: dict[str, list[FoundArtifact]] = {}
        self.found = Found([], [])
        self.strays: list[str] = []
        self._label = label
        self._places: dict[tuple[str, object], tuple[Path, str]] = {}

    def take(self, root: Path, place: Path, depth: int) -> None:
        """Read an artifact folder, or WSO2's JSON of one artifact, which `depth` names lead to.

        What is wrong with it is kept among the problems.
        """
        label = self._label_of(root, place, depth)
        if label is None:
            return
        read, found = read_artifacts([place], None), self.found
        found.problems += read.problems
        found.secrets += (alias for alias in read.secrets if alias not in found.secrets)
        for part, file in read.sources.items():  # of several labels none is more right
            found.sources[part] = part if part in found.sources else file
        for artifact in read.artifacts:
            self._add(label, artifact, place)

    def _label_of(self, root: Path, place: Path, depth: int) -> str | None:
        if self._label is not None:
            return self._label
        try:
            return _label_of(place.relative_to(root), depth)
        except Problem as problem:
            self.found.problems.append(problem.within(str(root)))
            return None

    def _add(self, label: str, found: FoundArtifact, place: Path) -> None:
        try:
            artifact = found.load()
            digest = digest_of(encode(artifact))
        except (FormatError, Problem, ProblemsError, OSError) as error:
            self.found.problems.append(Problem(str(error), where=str(place)))
            return
        for name in (artifact.identity, artifact.api_id):
            other, same = self._places.setdefault((label, name), (place, digest))
            if other == place:
                continue
            if same != digest:
                reason = f"{artifact.identity}, or its api_id, is in {other} too, and differs there"
                self.found.problems.append(Problem(reason, where=str(place)))
            return  # else it is the same from two labels, which go to one
        self.artifacts.setdefault(label, []).append(found)
        self.found.artifacts.append(found)


def _is_of_a_label(document: Path) -> bool:
    """Whether WSO2's JSON lies where export puts it, and is no `package.json` of somebody's."""
    return len(_names(document)) == WSO2_DEPTH


def _names(path: Path) -> list[str]:
    """The encoded names in a path, each of one or several steps."""
    return _BETWEEN_NAMES.split(path.as_posix())


def _label_of(path: Path, depth: int) -> str:
    """The label that the first of `depth` names in a path is; raises `Problem` where it is none."""
    where, names = path.as_posix(), _names(path)
    if len(names) != depth:
        raise Problem(f"is not where export puts artifacts, {LAYOUT}; give --label", where=where)
    with suppress(Problem):
        label = check_label(decode_name(names[0]))
        # In other letters people may have meant another label; in small ones it went through a
        # file system that folds them.
        if names[0] in {encode_name(label), encode_name(label).lower()}:
            return label
    meant = encode_name(names[0])
    reason = f"{names[0]!r} is no folder of a label; that of label {names[0]!r} is {meant!r}"
    raise Problem(f"{reason}: rename it, or give --label", where=where)

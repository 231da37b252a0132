"""Which files of a tree that others write are good: checked as a publish checks them.

What is refused stays as it was when it was last good, with all files of its artifact; the rest goes
on. Only what has to do with the changed files is checked again:

    changed files → the artifacts they were part of, or may be part of now → `artifacts_of` those
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from gatesync.artifacts.base import is_base
from gatesync.artifacts.errors import Problem
from gatesync.artifacts.folder import is_leftover
from gatesync.artifacts.model import ARTIFACT_MAX_BYTES, KINDS, SUPER_TENANT, Artifact
from gatesync.artifacts.owning import Owner, Owners, owner_of_broken
from gatesync.artifacts.places import place_in_repository
from gatesync.artifacts.synapse import identity_of, read_root
from gatesync.artifacts.tree import Piece, TreeKind, artifacts_of
from gatesync.mirroring.contents import ScannedContents
from gatesync.mirroring.scanning import ScannedFile

__all__ = ["Checked", "Group", "TreeChecker"]

_ROLES: Final = {folder: kind for kind, folder in KINDS.items() if kind != "policy"}


class Group(msgspec.Struct, frozen=True):
    """The files of one sound artifact, the one that leads first, and the keys of its claims."""

    pieces: tuple[Piece, ...]
    claims: tuple[str, ...]

    @property
    def main(self) -> str:
        """The path of the file that leads."""
        return self.pieces[0].source

    @property
    def paths(self) -> tuple[str, ...]:
        """All its files."""
        return tuple(piece.source for piece in self.pieces)


class Checked(msgspec.Struct, frozen=True):
    """The good files of a tree, and what is wrong.

    `held` are those of `good` that are not what now stands in the tree; `moved` were changed
    while they were read, and are to be looked at again.
    """

    good: Mapping[str, ScannedFile]
    held: frozenset[str]
    problems: tuple[Problem, ...]
    moved: frozenset[str] = frozenset()


class TreeChecker:
    """Checks one tree again and again.

    Args:
        root: its folder.
        kind: what that is.
        tenant: the domain that `deployment/server` belongs to.
        good: what an earlier process found good, with
        groups: the artifacts of it, and
        bad: the paths of what was refused.

    Attributes:
        groups: the artifacts that are good now, by the path of the file that leads.
        bad: what is refused now, by its path.
    """

    def __init__(
        self,
        root: Path,
        kind: TreeKind = TreeKind.REPOSITORY,
        tenant: str = SUPER_TENANT,
        *,
        good: Mapping[str, ScannedFile] | None = None,
        groups: Iterable[Group] = (),
        bad: Iterable[str] = (),
    ) -> None:
        self.groups: dict[str, Group] = {}
        self.bad: dict[str, tuple[Problem, ...]] = dict.fromkeys(bad, ())
        self._root = root
        self._kind = kind
        self._tenant = tenant
        self._good: Mapping[str, ScannedFile] = dict(good or {})
        self._left: set[str] = set()  # frozen when they were to be checked
        self._group_of: dict[str, str] = {}
        self._claims: dict[str, str] = {}
        for group in groups:
            self._add(group)

    @property
    def unchecked(self) -> set[str]:
        """What is to be checked again, for the next process: `bad`."""
        return self._left | self.bad.keys()

    def check(
        self,
        files: Mapping[str, ScannedFile],
        changed: Collection[str],
        frozen: Collection[str] = (),
    ) -> Checked:
        """Find out what is good. Blocks: what has changed is read.

        Args:
            files: all that is there.
            changed: the paths that are otherwise than at the last check, gone ones too.
            frozen: paths that are to stay as they are, whatever is there.
        """
        contents = ScannedContents(self._root, files)
        todo = self._related({*changed, *self.bad, *self._left}, contents)
        frozen = self._with_its_artifacts(frozen, todo, contents)
        self._left = todo & frozen
        todo -= frozen
        here = {path: files[path] for path in todo if path in files}
        contents = ScannedContents(self._root, here)
        if todo:
            self._recheck(todo, here, contents)
        held = {
            path
            for path in self._good
            if path in frozen or (path in todo and files.get(path) != self._good[path])
        }
        problems = (problem for each in self.bad.values() for problem in each)
        return Checked(self._good, frozenset(held), tuple(problems), frozenset(contents.moved))

    def artifact(self, main: str) -> Artifact:
        """The artifact of a group, read anew.

        Raises:
            Problem: its files have changed meanwhile.
        """
        files = {path: self._good[path] for path in self.groups[main].paths}
        contents = ScannedContents(self._root, files)
        found = artifacts_of(contents, kind=self._kind, tenant=self._tenant)
        if found.problems or len(found.artifacts) != 1:
            raise next(iter(found.problems), Problem("was changed again meanwhile", where=main))
        return found.artifacts[0]

    # One check --------------------------------------------------------------------------------

    def _recheck(
        self, todo: set[str], here: Mapping[str, ScannedFile], contents: ScannedContents
    ) -> None:
        before = self._groups_with(todo)
        tree = artifacts_of(contents, kind=self._kind, tenant=self._tenant)
        bad: dict[str, list[Problem]] = {}
        by_text = {Problem("", where=path).where: path for path in here}
        for problem in tree.problems:
            bad.setdefault(by_text[problem.where], []).append(problem)
        for group in before:
            self._drop(group)
        kept = [group for group in before if not bad.keys().isdisjoint(group.paths)]
        for group in kept:  # as it was served before, all of it
            self._add(group)
        claims: dict[str, list[str]] = {}
        for key, main in tree.claims.items():
            claims.setdefault(main, []).append(key)
        for pieces in tree.pieces:
            group = Group(pieces, tuple(claims[pieces[0].source]))
            if taken := self._taken(group):
                for path in group.paths:
                    reason = f"claims a name that the artifact in {taken} has; rename one"
                    bad.setdefault(path, []).append(Problem(reason, where=path))
            else:
                self._add(group)
        good = {path: file for path, file in self._good.items() if path not in todo}
        good.update({path: self._good[path] for group in kept for path in group.paths})
        good.update(
            {path: file for path, file in here.items() if path not in bad and path not in good}
        )
        self._good = good
        self.bad = {path: problems for path, problems in self.bad.items() if path in self._left}
        self.bad.update((path, tuple(problems)) for path, problems in bad.items())

    def _taken(self, group: Group) -> str:
        """The file of another artifact that claims the same, or has the same UUID."""
        for key in group.claims:
            if key in self._claims:
                return self._claims[key]
        for path in group.paths:
            if path in self._group_of:
                return self._group_of[path]
        uuid = group.pieces[0].uuid
        return self._claims.get(f"uuid {uuid}", "") if uuid else ""

    def _add(self, group: Group) -> None:
        main, uuid = group.main, group.pieces[0].uuid
        self.groups[main] = group
        self._group_of.update(dict.fromkeys(group.paths, main))
        self._claims.update(dict.fromkeys(group.claims, main))
        if uuid:
            self._claims[f"uuid {uuid}"] = main

    def _drop(self, group: Group) -> None:
        del self.groups[group.main]
        for path in group.paths:
            self._group_of.pop(path, None)
        for key in (*group.claims, f"uuid {group.pieces[0].uuid}"):
            self._claims.pop(key, None)

    def _groups_with(self, paths: Iterable[str]) -> list[Group]:
        mains = {self._group_of[path]: None for path in paths if path in self._group_of}
        return [self.groups[main] for main in mains]

    # What has to do with what -----------------------------------------------------------------

    def _related(self, todo: set[str], contents: ScannedContents) -> set[str]:
        """These files, and all whose artifact may become another through them."""
        if 2 * len(todo) >= len(contents):
            return {*todo, *contents, *self._group_of}
        related: set[str] = set()
        news = todo
        everyone = self._owners(self.groups.values() if todo else ())
        while news:
            related |= news
            found = {path for group in self._groups_with(news) for path in group.paths}
            owners: list[Owner] = []
            for path in news:
                for piece in self._pieces(path, contents):
                    if piece.owner is not None:
                        owners.append(piece.owner)
                    elif owner := everyone.of(piece.tenant, piece.role, piece.name):
                        found.add(owner.file)
            if owners:
                namers = Owners(owners)
                found |= {
                    piece.source
                    for group in self.groups.values()
                    for piece in group.pieces
                    if namers.of(piece.tenant, piece.role, piece.name)
                }
            news = found - related
        return related

    def _with_its_artifacts(
        self, frozen: Collection[str], todo: Collection[str], contents: ScannedContents
    ) -> set[str]:
        """What is frozen with it: the rest of its artifacts, and what is new of these."""
        groups = self._groups_with(frozen)
        found = {*frozen, *(path for group in groups for path in group.paths)}
        owners = self._owners(groups)
        for path in todo if groups else ():
            pieces = self._pieces(path, contents)
            if any(owners.of(piece.tenant, piece.role, piece.name) for piece in pieces):
                found.add(path)
        return found

    def _owners(self, groups: Iterable[Group]) -> Owners:
        pieces = (piece for group in groups for piece in group.pieces)
        return Owners(owner for piece in pieces if (owner := piece.owner))

    def _pieces(self, path: str, contents: ScannedContents) -> list[Piece]:
        """What the file is now, and what it was."""
        found: list[Piece] = []
        if group := self.groups.get(self._group_of.get(path, "")):
            found = [piece for piece in group.pieces if piece.source == path]
        place = place_in_repository(self._kind.value + path, self._tenant)
        if path not in contents or place is None or is_leftover(place.path) or place.is_policy:
            return found
        folder, _, name = place.path.partition("/")
        if folder not in _ROLES or is_base(place.path, place.tenant):
            return found
        try:
            content = contents[path]
        except Problem:
            return found
        try:
            root = read_root(content[: ARTIFACT_MAX_BYTES + 1], path)
        except Problem:
            lost = owner_of_broken(path, place.tenant, content) if folder == "api" else None
            named = (lost.name, lost.version, lost.uuid) if lost else ()
            name = name.removesuffix(".xml")
            return [*found, Piece(path, place.tenant, _ROLES[folder], name, *named)]
        identity = identity_of(root, name.rpartition("/")[2], place.tenant)
        of_api = (identity.name, identity.version, root.uuid) if root.role == "api" else ()
        return [*found, Piece(path, place.tenant, root.role, root.name, *of_api)]

"""A server's tree becomes artifacts, and artifacts become the tree again.

What stands where in it is said in `places`. A part's path is the same that a file has which is
published by itself. What stands elsewhere in a tree is not looked at.
"""

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, overload

import msgspec

from gatesync.artifacts.base import is_base
from gatesync.artifacts.description import describe
from gatesync.artifacts.errors import Problem, ProblemsError
from gatesync.artifacts.folder import is_leftover
from gatesync.artifacts.model import KINDS, SUPER_TENANT, Artifact, Identity, Part
from gatesync.artifacts.names import check_path
from gatesync.artifacts.owning import Owner, Owners, owner_of_broken
from gatesync.artifacts.places import (
    CONFIGS_FOLDER,
    POLICIES_FOLDER,
    SERVER_FOLDER,
    TENANTS_FOLDER,
    path_in_repository,
    place_in_repository,
)
from gatesync.artifacts.synapse import SynapseRoot, identity_of, read_root

__all__ = [
    "CONFIGS_FOLDER",
    "POLICIES_FOLDER",
    "SERVER_FOLDER",
    "TENANTS_FOLDER",
    "Piece",
    "Tree",
    "TreeKind",
    "artifacts_of",
    "files_of_tree",
]

_ROLES: Final = {folder: kind for kind, folder in KINDS.items() if kind != "policy"}


class TreeKind(enum.Enum):
    """Which part of a `repository` folder a tree is; the value is its place in there."""

    REPOSITORY = ""
    SERVER = f"{SERVER_FOLDER}/"
    CONFIGS = f"{SERVER_FOLDER}/{CONFIGS_FOLDER}/"


class Piece(msgspec.Struct, frozen=True, gc=False):
    """A file of an artifact: where it is, whose, and what the engine calls it.

    `api_name`, `api_version` and `uuid` are those of the API in it, if there is one.
    """

    source: str
    tenant: str
    role: str
    name: str
    api_name: str = ""
    api_version: str = ""
    uuid: str = ""

    @property
    def owner(self) -> Owner | None:
        """The API in this file as a namer of others."""
        if self.role != "api":
            return None
        return Owner(self.source, self.tenant, self.api_name, self.api_version, self.uuid)


class Tree(msgspec.Struct, frozen=True):
    """What a tree holds.

    `base` are the paths of the installation's own files, which are never published; `problems`
    name their files by the paths that the tree was given with. An artifact is made from the
    files each time that it is asked for, so that a large tree need not be in memory at once.
    `pieces` are the files of each artifact, the one that leads first; `claims` says which leading
    file makes a claim, by its key.
    """

    artifacts: Sequence[Artifact]
    problems: tuple[Problem, ...]
    base: tuple[str, ...]
    pieces: tuple[tuple[Piece, ...], ...] = ()
    claims: Mapping[str, str] = {}


def artifacts_of(
    files: Mapping[str, bytes],
    *,
    kind: TreeKind = TreeKind.REPOSITORY,
    tenant: str = SUPER_TENANT,
) -> Tree:
    """The artifacts that a tree holds, all of them sound, and everything that is wrong in it.

    An API is one artifact with what it owns (`owning`), and is left out as a whole when any of
    its files is refused. Hidden files and what editors leave behind are passed over; any other
    file that is looked at is an artifact's, or base, or named by a problem.

    Args:
        files: each file's content by its path below the tree's root, `/`-separated. It may
            read a file when that is asked for, several times, and raise `Problem` then.
        kind: what the root is.
        tenant: the domain that `deployment/server` belongs to. Another tenant's is the name of
            its folder in `tenants`.
    """
    tree = _Reading(tenant)
    for source in sorted(files):
        try:
            tree.add(source, kind.value + source, files)
        except Problem as problem:
            tree.problems.append(problem)
    return tree.whole()


def files_of_tree(
    artifacts: Iterable[Artifact],
    *,
    kind: TreeKind = TreeKind.REPOSITORY,
    tenant: str = SUPER_TENANT,
) -> dict[str, bytes]:
    """The tree that holds these artifacts: each file's content by its path below the root.

    Raises:
        ProblemsError: two files have one path, or an artifact has no place in a tree of this
            kind, for the tenant that `deployment/server` belongs to.
    """
    files: dict[str, bytes] = {}
    problems: list[Problem] = []
    for artifact in artifacts:
        for part in artifact.parts:
            where = f"{artifact.identity}/{part.path}"
            path = path_in_repository(part.path, artifact.identity.tenant, tenant)
            if path is None or not path.startswith(kind.value):
                reason = "has no place in this kind of tree, or none for this tenant"
                problems.append(Problem(reason, where=where))
                continue
            below = path.removeprefix(kind.value)
            if below in files:
                reason = f"another artifact's file stands there too, at {below!r}"
                problems.append(Problem(reason, where=where))
            files[below] = part.content
    if problems:
        raise ProblemsError(problems)
    return files


# Reading --------------------------------------------------------------------------------------


class _File(NamedTuple):
    source: str  # as the tree was given
    tenant: str
    role: str
    path: str  # the part's
    files: Mapping[str, bytes]
    root: SynapseRoot | None  # None: a policy, or broken

    @property
    def content(self) -> bytes:
        """Read anew: what was read is not kept."""
        return self.files[self.source]

    @property
    def name(self) -> str:
        """What the engine calls it; of a broken one, what its file's name says."""
        if self.root:
            return self.root.name
        below = self.path.partition("/")[2]
        if self.role == "policy":  # of other types the whole name: `app_1.0` has no extension
            return below.removesuffix(".siddhi").removesuffix(".siddhiql") or below
        return below.removesuffix(".xml")


class _Reading:
    """A tree in the course of being read: files first, then who owns them, then the whole."""

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.problems: list[Problem] = []
        self.base: list[str] = []
        self.sound: list[_File] = []
        self.broken: list[_File] = []

    def add(self, source: str, path: str, files: Mapping[str, bytes]) -> None:
        """Take one file of these; raises `Problem` where it is none that a server would deploy."""
        place = place_in_repository(path, self.tenant)
        if place is None or is_leftover(place.path):
            return
        tenant, below, is_policy = place
        if path.startswith(f"{TENANTS_FOLDER}/") and tenant in {self.tenant, SUPER_TENANT}:
            reason = f"tenant {tenant!r} has its files in {SERVER_FOLDER}; move them there"
            raise Problem(reason, where=source)
        if not is_policy and is_base(below, tenant):
            self.base.append(source)
            return
        role = "policy" if is_policy else _role_of(below, source)
        _check_path(below, source)
        file = _File(source, tenant, role, below, files, None)
        if is_policy:
            file.content  # noqa: B018 - raises where it cannot be read
            self.sound.append(file)
            return
        try:
            self.sound.append(file._replace(root=_root_of(file)))
        except Problem:
            self.broken.append(file)
            raise

    def whole(self) -> Tree:
        """Give each file to its owner, and refuse what is not sound or not unique."""
        owners = [_owner(file) for file in self.sound if file.role == "api"]
        lost = [owner for file in self.broken if (owner := _lost_owner(file))]
        everyone, readable = Owners([*owners, *lost]), Owners(owners)
        parts: dict[str, list[_File]] = {}
        for file in self.sound:
            owner = everyone.of(file.tenant, file.role, file.name)
            if owner and owner in lost:
                reason = f"belongs to the API in {owner.file}, which is refused"
                self.problems.append(Problem(reason, where=file.source))
            else:
                parts.setdefault(owner.file if owner else file.source, []).append(file)
        for file in self.broken:
            owner = readable.of(file.tenant, file.role, file.name)
            if owner and (others := parts.pop(owner.file, None)):
                self.problems += _left_out(_artifact(owner.file, others), ())
        uniquely = _Uniquely()
        for source, files in sorted(parts.items()):
            try:
                whole = _artifact(source, files)
            except Problem as problem:  # it could be read a moment ago
                self.problems.append(problem)
                continue
            found = uniquely.take(*whole)
            self.problems += found
            if found:
                self.problems += _left_out(whole, found)
        return Tree(
            _Made(uniquely.artifacts),
            tuple(self.problems),
            tuple(self.base),
            tuple(tuple(map(_piece, files)) for files in uniquely.artifacts),
            uniquely.claims,
        )


def _role_of(path: str, source: str) -> str:
    folder, slash, _ = path.partition("/")
    role = _ROLES.get(folder) if slash else None
    if role is None:
        folders = ", ".join(_ROLES)
        reason = f"stands in none of the folders that gatesync publishes: {folders}"
        raise Problem(reason, where=source)
    if not path.lower().endswith(".xml"):
        reason = "no server deploys a file of this type; move it away, or name it .xml"
        raise Problem(reason, where=source)
    return role


def _root_of(file: _File) -> SynapseRoot:
    root = read_root(file.content, file.source)
    if root.role != file.role:
        belongs = f"that belongs in {KINDS[root.role]}/"
        reason = f"its root element makes it a {root.role}; {belongs}"
        raise Problem(reason, where=file.source, line=root.line)
    return root


def _check_path(path: str, source: str) -> None:
    try:
        check_path(path)
    except Problem as problem:
        raise Problem(problem.reason, where=source) from None


def _owner(file: _File) -> Owner:
    assert file.root is not None
    identity = _identity(file)
    return Owner(file.source, file.tenant, identity.name, identity.version, file.root.uuid)


def _piece(file: _File) -> Piece:
    owner = _owner(file) if file.role == "api" else None
    of_api = (owner.name, owner.version, owner.uuid) if owner else ()
    return Piece(file.source, file.tenant, file.role, file.name, *of_api)


def _lost_owner(file: _File) -> Owner | None:
    """The API that a broken file seems to be."""
    if file.role != "api":
        return None
    try:
        content = file.content
    except Problem:
        content = b""
    return owner_of_broken(file.source, file.tenant, content)


def _identity(file: _File) -> Identity:
    if file.root is None:
        return Identity(file.tenant, file.role, file.name)
    return identity_of(file.root, file.path.rpartition("/")[2], file.tenant)


def _artifact(main: str, files: list[_File]) -> tuple[Artifact, list[_File]]:
    files.sort(key=lambda file: (file.source != main, file.role, file.path))
    first = files[0]
    identity = _identity(first)
    uuid = first.root.uuid if first.root else ""
    parts = [Part(file.role, file.name, file.path, file.content) for file in files]
    parts.sort(key=lambda part: (part.role, part.path))
    return Artifact(identity, uuid or identity.default_api_id(), tuple(parts)), files


def _left_out(
    whole: tuple[Artifact, list[_File]], problems: Iterable[Problem]
) -> Iterator[Problem]:
    """The files of a refused artifact of which nothing was said."""
    artifact, files = whole
    told = {problem.where for problem in problems}
    for file in files:
        if file.source not in told:
            yield Problem(f"is left out with the rest of {artifact.identity}", where=file.source)


class _Made(Sequence[Artifact]):
    """Artifacts, each made from its files when it is asked for; the first file leads."""

    def __init__(self, files: Sequence[list[_File]]) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    @overload
    def __getitem__(self, at: int) -> Artifact: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Artifact]: ...
    def __getitem__(self, at: int | slice) -> Artifact | Sequence[Artifact]:
        if isinstance(at, slice):
            return _Made(self._files[at])
        files = self._files[at]
        return _artifact(files[0].source, files)[0]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    # What compares by its items, like a list, has no hash; the type of `object` says it has.
    __hash__ = None  # type: ignore[assignment]


class _Uniquely:
    """Takes artifacts that are sound and claim nothing that an earlier one has.

    `artifacts` holds the files of each; `claims` says whose each claim is.
    """

    def __init__(self) -> None:
        self.artifacts: list[list[_File]] = []
        self.claims: dict[str, str] = {}
        self._ids: dict[str, str] = {}

    def take(self, artifact: Artifact, files: list[_File]) -> list[Problem]:
        """Everything that stands against it, by the tree's own paths; the first file leads."""
        try:
            description = describe(artifact)
        except ProblemsError as error:
            return [_seen_from_tree(problem, artifact, files) for problem in error.problems]
        main = files[0].source
        line = files[0].root.line if files[0].root else 0
        problems = [
            Problem(f"{claim.text} is that of {taken} too; rename one", where=main, line=line)
            for claim in description.claims
            if (taken := self.claims.get(claim.key))
        ]
        if problems and description.claims[0].key in self.claims:
            return problems[:1]  # the identity: then its names are taken too
        if not problems and (taken := self._ids.get(artifact.api_id)):
            reason = f"the UUID {artifact.api_id} is that of {taken} too; an API has its own"
            problems = [Problem(reason, where=main, line=line)]
        if not problems:
            self.claims.update((claim.key, main) for claim in description.claims)
            self._ids[artifact.api_id] = main
            self.artifacts.append(files)
        return problems


def _seen_from_tree(problem: Problem, artifact: Artifact, files: list[_File]) -> Problem:
    identity = str(artifact.identity)
    for file in files:
        if problem.where == Problem("", where=f"{identity}/{file.path}").where:
            return Problem(problem.reason, where=file.source, line=problem.line)
    return Problem(problem.reason, where=files[0].source, line=problem.line)

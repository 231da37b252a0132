"""The artifact: one deployable unit, and the files that it is made of."""

import uuid
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any, Final

import msgspec

from gatesync.artifacts.errors import Problem, ProblemsError
from gatesync.artifacts.names import check_name, check_path

__all__ = [
    "ARTIFACT_MAX_BYTES",
    "DEPLOY_ORDER",
    "KINDS",
    "SUPER_TENANT",
    "Artifact",
    "Identity",
    "Part",
]

SUPER_TENANT: Final = "carbon.super"  # WSO2's name of the first tenant
ARTIFACT_MAX_BYTES: Final = 15 * 1024 * 1024  # fits MySQL's MEDIUMBLOB (16 MiB) with its row

KINDS: Final[dict[str, str]] = {
    "api": "api",
    "sequence": "sequences",
    "endpoint": "endpoints",
    "local-entry": "local-entries",
    "proxy-service": "proxy-services",
    "inbound-endpoint": "inbound-endpoints",
    "message-store": "message-stores",
    "message-processor": "message-processors",
    "template": "templates",
    "task": "tasks",
    "import": "imports",
    "policy": "executionplans",
}
"""Each kind of artifact, which is also a part's role, and its folder in a server's tree."""

DEPLOY_ORDER: Final[dict[str, int]] = {
    kind: place
    for place, kind in enumerate(
        (
            *("import", "local-entry", "endpoint", "message-store", "template", "sequence"),
            *("message-processor", "policy", "api", "proxy-service", "inbound-endpoint", "task"),
        )
    )
}
"""Where each kind stands when several are deployed: after what it may need. WSO2 deploys an API
after local entries, endpoints and sequences; what lets messages in comes last."""

# Any UUID would do, as long as it never changes: ids made from names depend on it.
_API_ID_NAMESPACE: Final = uuid.UUID("8a7c5f0e-6a55-5ad5-9d6e-0c5f9a3e7b11")


class Identity(msgspec.Struct, frozen=True, order=True, gc=False):
    """What people call an artifact: unique within one label."""

    tenant: str
    kind: str
    name: str
    version: str = ""

    def __str__(self) -> str:
        """For messages: `api PizzaShackAPI 1.0.0`, and the tenant when it is not the first."""
        words = [self.kind, self.name, self.version]
        if self.tenant != SUPER_TENANT:
            words.append(f"({self.tenant})")
        return " ".join(filter(None, words))

    def default_api_id(self) -> str:
        """The UUIDv5 of this identity, for an artifact that was given no id."""
        fields = (self.tenant, self.kind, self.name, self.version)
        name = "".join(f"{len(field)}:{field}" for field in fields)
        return str(uuid.uuid5(_API_ID_NAMESPACE, name))


class Part(msgspec.Struct, frozen=True):
    """One file of an artifact, byte for byte.

    `role` is one of `KINDS`; `name` is what the engine calls it (a sequence's key);
    `path` is its place below the server folder it came from.
    """

    role: str
    name: str
    path: str
    content: bytes


class Artifact(msgspec.Struct, frozen=True):
    """An artifact as it is stored: identity, stable id, parts, and whatever came along.

    `extra` is JSON that gatesync does not understand and must give back.
    """

    identity: Identity
    api_id: str
    parts: tuple[Part, ...]
    extra: dict[str, Any] = {}

    def check(self) -> None:
        """Raise `ProblemsError` with every name, path and size that is not acceptable."""
        problems = list(_problems(self))
        if problems:
            raise ProblemsError(problem.within(str(self.identity)) for problem in problems)


def _problems(artifact: Artifact) -> Iterator[Problem]:
    identity = artifact.identity
    yield from _refused(check_name, identity.tenant, "tenant")
    yield from _refused(check_name, identity.name, "name")
    if identity.version:
        yield from _refused(check_name, identity.version, "version")
    yield from _refused(check_name, artifact.api_id, "api_id")
    if identity.kind not in KINDS:
        yield Problem(f"kind {identity.kind!r} is unknown; it is one of {', '.join(KINDS)}")
    if not artifact.parts:
        yield Problem("the artifact has no parts")
    yield from _problems_of_parts(artifact.parts)
    size = sum(len(part.content) for part in artifact.parts)
    if size > ARTIFACT_MAX_BYTES:
        yield Problem(f"{size} bytes; an artifact has at most {ARTIFACT_MAX_BYTES}")


def _problems_of_parts(parts: tuple[Part, ...]) -> Iterator[Problem]:
    paths: set[str] = set()
    names: set[tuple[str, str]] = set()
    for part in parts:
        yield from _refused(check_path, part.path)
        yield from _refused(check_name, part.name, f"name of part {part.path!r}")
        if part.role not in KINDS:
            yield Problem(f"role {part.role!r} is unknown", where=part.path)
        if part.path in paths:
            yield Problem("two parts have this path", where=part.path)
        # An API and its default API, which has no version, bear one name in XML.
        if part.role != "api" and (part.role, part.name) in names:
            yield Problem(f"two parts are {part.role} {part.name!r}", where=part.path)
        paths.add(part.path)
        names.add((part.role, part.name))
    for path in sorted(_folders_of_others(paths)):
        yield Problem("is a part, and the folder of another part", where=path)


def _folders_of_others(paths: Iterable[str]) -> Iterator[str]:
    """Those below which another one lies.

    Nothing is made for each folder of a path: a path of a million steps would fill the memory.
    """
    in_order = sorted(paths, key=lambda path: path.replace("/", "\0"))
    for path, following in pairwise(in_order):  # what lies below a folder follows it at once
        if following.startswith(path + "/"):
            yield path


def _refused(check: Callable[..., object], *arguments: str) -> Iterator[Problem]:
    try:
        check(*arguments)
    except Problem as problem:
        yield problem

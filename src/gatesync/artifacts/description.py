"""What a publisher must know of an artifact before it stores it: is it sound, what does it claim.

Each XML part is parsed here, once, when it is published. Gateways trust the digest instead.
"""

from collections.abc import Iterator

import msgspec

from gatesync.artifacts.errors import Problem, ProblemsError
from gatesync.artifacts.model import Artifact, Part
from gatesync.artifacts.names import check_name
from gatesync.artifacts.planning import Claim, claim_key
from gatesync.artifacts.synapse import SynapseRoot, read_root

__all__ = ["Description", "describe"]


class Description(msgspec.Struct, frozen=True):
    """`context` is an API's, empty for other kinds; `claims` are the names that it would own."""

    context: str
    claims: tuple[Claim, ...]


def describe(artifact: Artifact) -> Description:
    """Check the artifact through and through, and say what it claims within (label, tenant).

    It claims its identity, the name of each part within the part's role, and for each API part
    the context with the version, literally as they stand in the XML.

    Raises:
        ProblemsError: with every fault, each with the artifact, the file and the line.
    """
    refused = _refused_by_check(artifact)
    problems: list[Problem] = []
    roots: list[tuple[Part, SynapseRoot | None]] = []
    for part in artifact.parts:
        try:
            # A policy is any bytes: execution plans are written in a language of their own.
            root = None if part.role == "policy" else read_root(part.content, part.path)
        except Problem as problem:
            problems.append(problem)
        else:
            problems.extend(_faults_of_part(part, root) if root else ())
            roots.append((part, root))
    main = _main_api(artifact, [root for _, root in roots if root and root.role == "api"])
    claims: tuple[Claim, ...] = ()
    if not (problems or refused):
        claims = tuple(_claims(artifact, roots))
        problems = [*_faults_of_whole(artifact, main), *_claimed_twice(claims)]
    if problems or refused:
        place = str(artifact.identity)
        raise ProblemsError([*refused, *(problem.within(place) for problem in problems)])
    return Description(main.context if main else "", claims)


def _refused_by_check(artifact: Artifact) -> tuple[Problem, ...]:
    try:
        artifact.check()
    except ProblemsError as error:
        return error.problems
    return ()


def _faults_of_part(part: Part, root: SynapseRoot) -> Iterator[Problem]:
    if root.role != part.role:
        reason = f"its root element makes it a {root.role}; the part's role is {part.role!r}"
        yield Problem(reason, where=part.path, line=root.line)
    elif root.name != part.name:
        reason = f"its root element names it {root.name!r}; the part is named {part.name!r}"
        yield Problem(reason, where=part.path, line=root.line)
    if root.role != "api":
        return
    if not root.context.startswith("/"):
        reason = f"attribute 'context' must begin with '/'; it is {root.context!r}"
        yield Problem(reason, where=part.path, line=root.line)
    try:
        check_name(root.context or "/", "context")
        check_name(root.version, "version", empty=True)
    except Problem as problem:
        yield Problem(problem.reason, where=part.path, line=root.line)


def _main_api(artifact: Artifact, apis: list[SynapseRoot]) -> SynapseRoot | None:
    """The API part that the artifact is named for.

    Beside it WSO2 may put the default API, which has no version. An API whose XML has none
    may also be published under one.
    """
    if artifact.identity.kind != "api":
        return None
    for version in (artifact.identity.version, ""):
        for root in apis:
            if root.version == version:
                return root
    return None


def _faults_of_whole(artifact: Artifact, main: SynapseRoot | None) -> Iterator[Problem]:
    kind = artifact.identity.kind
    if not any(part.role == kind for part in artifact.parts):
        yield Problem(f"it holds no part of its kind, {kind!r}")
    elif kind == "api" and main is None:
        version = artifact.identity.version
        yield Problem(f"no API part has the version attribute {version!r} of the artifact")


def _claims(artifact: Artifact, roots: list[tuple[Part, SynapseRoot | None]]) -> Iterator[Claim]:
    identity = artifact.identity
    tenant = identity.tenant
    name = (identity.kind, identity.name, identity.version)
    yield _claim(tenant, "identity", name, f"the identity {identity}")
    for part, root in roots:
        text = f"the name {part.role} {part.name!r}"
        if root is None or root.role != "api":
            yield _claim(tenant, part.role, (part.name,), text)
            continue
        # Synapse calls an API by name and version: two versions of one API share the name.
        version = f" version {root.version}" if root.version else ""
        yield _claim(tenant, "api", (part.name, root.version), text + version)
        text = f"the context {root.context!r}{version}"
        yield _claim(tenant, "context", (root.context, root.version), text)


def _claim(tenant: str, scope: str, name: tuple[str, ...], text: str) -> Claim:
    return Claim(claim_key(tenant, scope, *name), text)


def _claimed_twice(claims: tuple[Claim, ...]) -> Iterator[Problem]:
    seen: set[str] = set()
    for claim in claims:
        if claim.key in seen:
            yield Problem(f"two parts claim {claim.text}")
        seen.add(claim.key)

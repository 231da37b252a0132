"""What a publisher must know of an artifact before it stores it: is it sound, what does it claim.

And what people want to know: where requests come in, where they go, what else is needed for it.
Each XML part is parsed here, once, when it is published. Gateways trust the digest instead.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec
from lxml import etree

from gatesync.artifacts.base import is_base_name
from gatesync.artifacts.errors import Problem, ProblemsError
from gatesync.artifacts.model import Artifact, Part
from gatesync.artifacts.names import check_name
from gatesync.artifacts.passwords import plaintext_passwords
from gatesync.artifacts.planning import Claim, Reference, claim_key
from gatesync.artifacts.references import Key, also_serves_as, keys_of, why_unchecked
from gatesync.artifacts.routes import Endpoint, Resource, endpoints_of, handlers_of, resources_of
from gatesync.artifacts.synapse import SynapseRoot, root_of
from gatesync.artifacts.xml import parse

__all__ = ["Description", "Endpoint", "Resource", "describe"]


class Description(msgspec.Struct, frozen=True):
    """What an artifact's XML says.

    `claims` are the names that it would own, `references` those that it needs of others; what
    every server brings along (`base`) is not among them. `warnings` are keys that may not be
    names at all, and are not checked: `where` is the part's path, without the artifact.

    `context`, `version`, `resources` and `handlers` are an API's, of the API that the artifact
    is named for and not of a default API beside it; they are empty for other kinds. `endpoints`
    are those of all parts.
    """

    context: str
    claims: tuple[Claim, ...]
    version: str = ""
    resources: tuple[Resource, ...] = ()
    handlers: tuple[str, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    references: tuple[Reference, ...] = ()
    warnings: tuple[Problem, ...] = ()


class _File(NamedTuple):
    """A part of XML, parsed."""

    part: Part
    xml: etree._Element
    root: SynapseRoot


def describe(artifact: Artifact) -> Description:
    """Check the artifact through and through, and say what it claims within (label, tenant).

    It claims its identity, the name of each part within the part's role, and for each API part
    the context with the version, literally as they stand in the XML.

    Raises:
        ProblemsError: with every fault, each with the artifact, the file and the line.
    """
    refused = _refused_by_check(artifact)
    problems = list(plaintext_passwords(artifact.extra, "extra"))
    files: list[_File] = []
    for part in artifact.parts:
        if part.role == "policy":  # any bytes: execution plans have a language of their own
            continue
        try:
            xml = parse(part.content, part.path)
            file = _File(part, xml, root_of(xml, part.path))
        except Problem as problem:
            problems.append(problem)
        else:
            problems += _faults_of_part(part, file.root)
            files.append(file)
    main = _main_api(artifact, files)
    claims: tuple[Claim, ...] = ()
    if not (problems or refused):
        claims = tuple(_claims(artifact, files))
        problems = [*_faults_of_whole(artifact, main), *_claimed_twice(claims)]
    if problems or refused:
        place = str(artifact.identity)
        raise ProblemsError([*refused, *(problem.within(place) for problem in problems)])
    references, warnings = _needs(artifact.identity.tenant, files)
    return Description(
        context=main.root.context if main else "",
        claims=claims,
        version=main.root.version if main else "",
        resources=resources_of(main.xml) if main else (),
        handlers=handlers_of(main.xml) if main else (),
        endpoints=tuple(each for file in files for each in endpoints_of(file.xml)),
        references=references,
        warnings=warnings,
    )


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


def _main_api(artifact: Artifact, files: Iterable[_File]) -> _File | None:
    """The API part that the artifact is named for.

    Beside it WSO2 may put the default API, which has no version. An API whose XML has none
    may also be published under one.
    """
    if artifact.identity.kind != "api":
        return None
    for version in (artifact.identity.version, ""):
        for file in files:
            if file.root.role == "api" and file.root.version == version:
                return file
    return None


def _faults_of_whole(artifact: Artifact, main: _File | None) -> Iterator[Problem]:
    kind = artifact.identity.kind
    if not any(part.role == kind for part in artifact.parts):
        yield Problem(f"it holds no part of its kind, {kind!r}")
    elif kind == "api" and main is None:
        version = artifact.identity.version
        yield Problem(f"no API part has the version attribute {version!r} of the artifact")


def _claims(artifact: Artifact, files: Iterable[_File]) -> Iterator[Claim]:
    identity = artifact.identity
    tenant = identity.tenant
    name = (identity.kind, identity.name, identity.version)
    yield _claim(tenant, "identity", name, f"the identity {identity}")
    for part in artifact.parts:
        if part.role == "policy":
            yield _claim(tenant, "policy", (part.name,), f"the name policy {part.name!r}")
    for part, xml, root in files:
        if root.role != "api":
            for role in (part.role, *also_serves_as(xml)):
                yield _claim(tenant, role, (part.name,), f"the name {role} {part.name!r}")
            continue
        # Synapse calls an API by name and version: two versions of one API share the name.
        version = f" version {root.version}" if root.version else ""
        text = f"the name api {part.name!r}{version}"
        yield _claim(tenant, "api", (part.name, root.version), text)
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


def _needs(
    tenant: str, files: Iterable[_File]
) -> tuple[tuple[Reference, ...], tuple[Problem, ...]]:
    """What the files refer to and do not hold, and the keys that are not checked; each once."""
    seen = {
        (role, file.part.name)
        for file in files
        for role in (file.part.role, *also_serves_as(file.xml))
    }
    references: list[Reference] = []
    warnings: list[Problem] = []
    for file in files:
        for key in keys_of(file.xml):
            name = key[:2]
            if not key.text or name in seen or is_base_name(*name):
                continue
            seen.add(name)
            if reason := why_unchecked(key):
                warnings.append(Problem(reason, where=file.part.path, line=key.line))
            else:
                references.append(_reference(tenant, key, file.part.path))
    return tuple(references), tuple(warnings)


def _reference(tenant: str, key: Key, path: str) -> Reference:
    text = f"{key.role} {key.text!r}"
    return Reference(claim_key(tenant, key.role, key.text), text, path, key.line)

"""WSO2's artifact JSON, in and out: what the ARTIFACT column of API Manager holds for one API."""

from collections.abc import Iterator
from typing import Any

import msgspec

from gatesync.artifacts.canonical import encode
from gatesync.artifacts.errors import FormatError, Problem, ProblemsError
from gatesync.artifacts.extra import encode_extra
from gatesync.artifacts.model import Artifact, Identity, Part
from gatesync.artifacts.passwords import Passwords
from gatesync.artifacts.synapse import read_root
from gatesync.artifacts.wso2_form import (
    API,
    DEFAULT_API,
    LISTS,
    ROLES,
    TEXTS,
    WSO2_FORMAT,
    Content,
    GatesyncForm,
    PartForm,
    is_path_by_rule,
    part_by_rule,
    provider_told,
)
from gatesync.artifacts.wso2_reading import Wso2Artifact, artifact_from_wso2

__all__ = ["Wso2Artifact", "artifact_from_wso2", "wso2_json"]


def wso2_json(artifact: Artifact) -> bytes:
    """The WSO2 artifact JSON from which `artifact_from_wso2` makes this artifact again.

    Raises:
        ProblemsError: it is not of kind `api` or has no API part, a part is not UTF-8, `extra`
            cannot be written or has a password in the clear, or the document would have more
            than `ARTIFACT_MAX_BYTES`.
    """
    artifact.check()
    place = str(artifact.identity)
    if problems := list(_problems_of_writing(artifact)):
        raise ProblemsError(problem.within(place) for problem in problems)
    canonical = encode(artifact)
    rest = artifact.extra.get("wso2")
    if rest and isinstance(rest, dict):
        document = _document(artifact, rest)
        try:
            if encode(artifact_from_wso2(document, place).artifact) == canonical:
                return document
        except ProblemsError:
            pass  # it holds what no document of WSO2's would: `gatesync` carries it as a whole
    document = _document(artifact, {})
    again = artifact_from_wso2(document, place).artifact
    assert encode(again) == canonical
    return document


def _problems_of_writing(artifact: Artifact) -> Iterator[Problem]:
    if artifact.identity.kind != "api":
        yield Problem("WSO2's JSON is for APIs only; export this one as a tree or a folder")
        return
    if not any(part.role == "api" and part.content for part in artifact.parts):
        yield Problem("it has no API part, and WSO2's JSON must have one")
    for part in artifact.parts:
        try:
            part.content.decode()
        except UnicodeDecodeError as error:
            reason = f"not UTF-8 at byte {error.start}; WSO2's JSON holds text only"
            yield Problem(reason, where=part.path)
    passwords = Passwords()
    try:
        encode_extra(artifact.extra)
        passwords.hidden(artifact.extra, "extra")
    except FormatError as error:
        yield Problem(str(error))
    except Problem as problem:
        yield problem
    except RecursionError:
        yield Problem("extra is nested too deep")
    if passwords.aliases:
        found = ", ".join(passwords.aliases)
        yield Problem(f"extra has passwords in the clear: {found}; put $secret{{alias}} there")


def _document(artifact: Artifact, rest: dict[str, Any]) -> bytes:
    """The document with what `extra["wso2"]` says; without, `gatesync` has the whole of `extra`."""
    identity = artifact.identity
    definitions = _definitions(artifact)
    members: dict[str, Any] = {"override": True, **rest} | {
        "name": identity.name,
        "version": identity.version,
        "provider": rest.get("provider", provider_told(definitions[API].path, identity)),
        "tenantDomain": identity.tenant,
        "apiId": artifact.api_id,
    }
    said = GatesyncForm(WSO2_FORMAT)
    said.extra = {key: value for key, value in artifact.extra.items() if key != "wso2" or not rest}
    for member, part in definitions.items():
        members[member] = part.content.decode()
        if not _is_by_rule(Content(member, "", members[member]), part, identity, members):
            said.parts.append(PartForm(part.name, part.path, member=member))
    in_lists = {role: member for member, role in ROLES.items()}
    entries: dict[str, list[dict[str, str]]] = {}
    for part in sorted(artifact.parts, key=lambda part: part.name):
        text = part.content.decode()
        if member := in_lists.get(part.role, ""):
            entry = {"name": part.name, "content": text}
            entries.setdefault(member, []).append(_beside(rest, member, part.name) | entry)
            if not _is_by_rule(Content(member, part.name, text), part, identity, members):
                said.parts.append(PartForm(part.name, part.path, member=member))
        elif part not in definitions.values():
            said.parts.append(PartForm(part.name, part.path, role=part.role, content=text))
    members |= entries
    return _written(members, said)


def _definitions(artifact: Artifact) -> dict[str, Part]:
    """The API part that the artifact is named for, and if there is another, as the default API."""
    wanted = [artifact.identity.version, ""]

    def rank(part: Part) -> tuple[bool, int, str]:
        try:
            version = read_root(part.content, part.path).version
        except Problem:
            version = None
        place = wanted.index(version) if version in wanted else len(wanted)
        return not is_path_by_rule(part.path, artifact.identity), place, part.path

    apis = (part for part in artifact.parts if part.role == "api" and part.content)
    return dict(zip((API, DEFAULT_API), sorted(apis, key=rank), strict=False))


def _is_by_rule(content: Content, part: Part, identity: Identity, members: dict[str, Any]) -> bool:
    try:
        return part_by_rule(content, identity, members["provider"]) == part
    except Problem:
        return False


def _beside(rest: dict[str, Any], member: str, name: str) -> dict[str, Any]:
    """What the entry of this name has beside its content."""
    kept = rest.get(member)
    for entry in kept if isinstance(kept, list) else ():
        if isinstance(entry, dict) and entry.get("name") == name:
            return entry
    return {}


def _written(members: dict[str, Any], said: GatesyncForm) -> bytes:
    known = (*TEXTS, "override", *LISTS)
    order = [member for member in known if members.get(member) not in (None, "")]
    order += sorted(members.keys() - {*known, "gatesync"})
    document = {member: members[member] for member in order}
    if said.parts or said.extra:
        document["gatesync"] = said
    return msgspec.json.encode(document)

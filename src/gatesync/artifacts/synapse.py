"""What a Synapse XML file says about itself, and the artifact that one file makes.

The root element decides the kind. What stands below it is the engine's business, but for the UUID
that WSO2 writes into an API's handlers; the bytes are kept as they are.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple, cast

from lxml import etree

from gatesync.artifacts.errors import Problem
from gatesync.artifacts.model import KINDS, SUPER_TENANT, Artifact, Identity, Part
from gatesync.artifacts.names import check_name
from gatesync.artifacts.xml import parse

__all__ = [
    "SYNAPSE_NAMESPACE",
    "SynapseRoot",
    "artifact_from_xml",
    "identity_of",
    "read_root",
    "root_of",
]

SYNAPSE_NAMESPACE: Final = "http://ws.apache.org/ns/synapse"

_ROLES: Final = {
    "api": "api",
    "sequence": "sequence",
    "endpoint": "endpoint",
    "localEntry": "local-entry",
    "proxy": "proxy-service",
    "inboundEndpoint": "inbound-endpoint",
    "messageStore": "message-store",
    "messageProcessor": "message-processor",
    "template": "template",
    "task": "task",
    "import": "import",
}


# Handlers that count or throttle are told whom they serve: <property name="apiUUID" value="..."/>
_UUIDS: Final = etree.XPath(
    "*[local-name()='handlers']/*[local-name()='handler']"
    "/*[local-name()='property'][@name='apiUUID']/@value"
)
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.I)


_SMALL: Final = 100_000  # bytes of a file that may be kept for a moment


class SynapseRoot(NamedTuple):
    """What the root element says. What it does not say is empty.

    `version`, `context` and `uuid` are an API's; `uuid` is the one that WSO2 gave it.
    """

    role: str
    name: str
    version: str
    context: str
    line: int
    uuid: str = ""


def artifact_from_xml(
    content: bytes, path: str, *, tenant: str = SUPER_TENANT, api_id: str | None = None
) -> Artifact:
    """The artifact that one Synapse file makes, of the kind its root element has.

    An API in a file of WSO2's (`admin--Menu_v1.0.0.xml`) is named without its provider: `Menu`.

    Args:
        content: the file, kept byte for byte.
        path: where it came from, for messages; its last step becomes the part's file name.
        tenant: the domain that it belongs to.
        api_id: its stable id; without one it is the UUID that an API's handlers name, else it is
            made from the identity.

    Raises:
        Problem: the content is not XML that `xml.parse` accepts, or not a Synapse artifact; or
            the tenant is not a name.
        ProblemsError: a name, path or size is not acceptable.
    """
    check_name(tenant, "tenant")
    root = read_root(content, path)
    file_name = re.split(r"[/\\]", path)[-1]
    identity = identity_of(root, file_name, tenant)
    part = Part(root.role, root.name, f"{KINDS[root.role]}/{file_name}", content)
    artifact = Artifact(identity, api_id or root.uuid or identity.default_api_id(), (part,))
    artifact.check()
    return artifact


def read_root(content: bytes, where: str) -> SynapseRoot:
    """What the root element of a Synapse file says; `where` names the file in messages.

    Raises:
        Problem: the content is not XML that `xml.parse` accepts, its root is no element that
            Synapse deploys, or it has no name.
    """
    if len(content) > _SMALL:
        return root_of(parse(content, where), where)
    return _read_small(content, where)


@lru_cache(16)  # who builds an artifact asks for the same file twice
def _read_small(content: bytes, where: str) -> SynapseRoot:
    return root_of(parse(content, where), where)


def root_of(root: etree._Element, where: str) -> SynapseRoot:
    """What this root element of a parsed file says; `where` names the file in messages.

    Raises:
        Problem: it is no element that Synapse deploys, or it has no name.
    """
    line = cast("int", root.sourceline)
    namespace, _, tag = str(root.tag).rpartition("}")
    role = _ROLES.get(tag)
    if role is None or namespace not in {"", "{" + SYNAPSE_NAMESPACE}:
        raise Problem(
            f"root element {str(root.tag)!r} is not one that Synapse deploys; "
            f"it is one of {', '.join(_ROLES)} in namespace {SYNAPSE_NAMESPACE} or in none",
            where=where,
            line=line,
        )
    attribute = "key" if role == "local-entry" else "name"
    name = root.get(attribute)
    if not name:
        raise Problem(f"<{tag}> has no attribute {attribute!r}", where=where, line=line)
    if role == "import" and (package := root.get("package")):
        name = f"{{{package}}}{name}"  # as Synapse calls it: packages may share a name
    if role != "api":
        return SynapseRoot(role, name, "", "", line)
    uuids = {str(value) for value in cast("list[str]", _UUIDS(root))}
    uuid = uuids.pop() if len(uuids) == 1 else ""
    return SynapseRoot(
        role,
        name,
        root.get("version", ""),
        root.get("context", ""),
        line,
        uuid if _UUID.fullmatch(uuid) else "",
    )


def identity_of(root: SynapseRoot, file_name: str, tenant: str) -> Identity:
    """What the artifact of this root element, in a file of this name, is called."""
    return Identity(tenant, root.role, _identity_name(root, file_name), root.version)


def _identity_name(root: SynapseRoot, file_name: str) -> str:
    """WSO2 writes `provider--Name` in version V to `provider--Name_vV.xml`, with ':' as '_'."""
    provider, separator, name = root.name.partition("--")
    if not (provider and separator and name and root.version):  # only APIs have versions
        return root.name
    wso2_file_name = f"{root.name}:v{root.version}.xml".replace(":", "_")
    return name if file_name == wso2_file_name else root.name

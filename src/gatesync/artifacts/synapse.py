"""What a Synapse XML file says about itself, and the artifact that one file makes.

The root element decides the kind. Only the root is looked at: what stands below it is the
engine's business, and the bytes are kept as they are.
"""

import re
from typing import Final, NamedTuple, cast

from gatesync.artifacts.errors import Problem
from gatesync.artifacts.model import KINDS, SUPER_TENANT, Artifact, Identity, Part
from gatesync.artifacts.names import check_name
from gatesync.artifacts.xml import parse

__all__ = ["SYNAPSE_NAMESPACE", "SynapseRoot", "artifact_from_xml", "read_root"]

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


class SynapseRoot(NamedTuple):
    """What the root element says. `version` and `context` are empty where it says nothing."""

    role: str
    name: str
    version: str
    context: str
    line: int


def artifact_from_xml(
    content: bytes, path: str, *, tenant: str = SUPER_TENANT, api_id: str | None = None
) -> Artifact:
    """The artifact that one Synapse file makes, of the kind its root element has.

    An API in a file of WSO2's (`admin--Menu_v1.0.0.xml`) is named without its provider: `Menu`.

    Args:
        content: the file, kept byte for byte.
        path: where it came from, for messages; its last step becomes the part's file name.
        tenant: the domain that it belongs to.
        api_id: its stable id; without one it is made from the identity.

    Raises:
        Problem: the content is not XML that `xml.parse` accepts, or not a Synapse artifact; or
            the tenant is not a name.
        ProblemsError: a name, path or size is not acceptable.
    """
    check_name(tenant, "tenant")
    root = read_root(content, path)
    file_name = re.split(r"[/\\]", path)[-1]
    identity = Identity(tenant, root.role, _identity_name(root, file_name), root.version)
    part = Part(root.role, root.name, f"{KINDS[root.role]}/{file_name}", content)
    artifact = Artifact(identity, api_id or identity.default_api_id(), (part,))
    artifact.check()
    return artifact


def read_root(content: bytes, where: str) -> SynapseRoot:
    """What the root element of a Synapse file says; `where` names the file in messages.

    Raises:
        Problem: the content is not XML that `xml.parse` accepts, its root is no element that
            Synapse deploys, or it has no name.
    """
    root = parse(content, where)
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
    version = root.get("version", "") if role == "api" else ""
    context = root.get("context", "") if role == "api" else ""
    return SynapseRoot(role, name, version, context, line)


def _identity_name(root: SynapseRoot, file_name: str) -> str:
    """WSO2 writes `provider--Name` in version V to `provider--Name_vV.xml`, with ':' as '_'."""
    provider, separator, name = root.name.partition("--")
    if not (provider and separator and name and root.version):  # only APIs have versions
        return root.name
    wso2_file_name = f"{root.name}:v{root.version}.xml".replace(":", "_")
    return name if file_name == wso2_file_name else root.name

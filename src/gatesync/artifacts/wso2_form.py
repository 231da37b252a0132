"""What WSO2's artifact JSON says where, and which part each member makes by itself.

    apiDefinition, defaultAPIDefinition     api/<provider>--<Name>_v<Version>.xml, without version
    sequenceToBeAdd                         sequences/<name>.xml
    localEntriesToBeAdd                     local-entries/<name>.xml
    endpointEntriesToBeAdd                  endpoints/<name>.xml

What WSO2's form has no place for, such as a part with a path of its own, stands in one more
member `gatesync`, which WSO2's reader passes over.
"""

from typing import Any, Final, NamedTuple

import msgspec

from gatesync.artifacts.errors import Problem
from gatesync.artifacts.model import KINDS, Identity, Part
from gatesync.artifacts.paths import decode_name, encode_name, is_portable
from gatesync.artifacts.synapse import read_root

__all__ = [
    "API",
    "DEFAULT_API",
    "LISTS",
    "ROLES",
    "TEXTS",
    "WSO2_FORMAT",
    "Content",
    "GatesyncForm",
    "PartForm",
    "is_path_by_rule",
    "part_by_rule",
    "provider_told",
]

WSO2_FORMAT: Final = "gatesync.wso2/1"

API: Final = "apiDefinition"
DEFAULT_API: Final = "defaultAPIDefinition"
TEXTS: Final = ("name", "version", "provider", "tenantDomain", "apiId", API, DEFAULT_API)
ROLES: Final = {
    "sequenceToBeAdd": "sequence",
    "localEntriesToBeAdd": "local-entry",
    "endpointEntriesToBeAdd": "endpoint",
}
# In the order in which they are written: what each entry must have; nothing: it is a name.
LISTS: Final[dict[str, tuple[str, ...]]] = {
    "sequenceToBeAdd": ("name", "content"),
    "sequencesToBeRemove": (),
    "localEntriesToBeAdd": ("name", "content"),
    "localEntriesToBeRemove": (),
    "endpointEntriesToBeAdd": ("name", "content"),
    "endpointEntriesToBeRemove": (),
    "clientCertificatesToBeAdd": ("name", "content"),
    "clientCertificatesToBeRemove": (),
    "credentialsToBeAdd": ("alias", "password"),
    "credentialsToBeRemove": (),
}


class PartForm(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A part that is not as WSO2's members say.

    Its content is that of `member`, in a list of the entry with its name; or it stands here, with
    the role.
    """

    name: str
    path: str
    member: str = ""
    role: str = ""
    content: str = ""


class GatesyncForm(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The member `gatesync`. Its `extra` is what an artifact's has beside "wso2"."""

    format: str = ""
    parts: list[PartForm] = []
    extra: dict[str, Any] = {}


class Content(NamedTuple):
    """A file as WSO2 has it: in which member, and under which name in a list."""

    member: str
    name: str
    text: str

    @property
    def role(self) -> str:
        """Of the part that it is."""
        return ROLES.get(self.member, "api")


def _file_name(stem: str) -> str:
    """The stem itself where any file system takes it; no two stems have one name."""
    plain = f"{stem}.xml"
    if is_portable(plain) and "%" not in stem and "/" not in stem:
        return plain
    return f"{encode_name(stem)}.xml"


def _api_path(identity: Identity, provider: str, member: str = API) -> str:
    stem = f"{provider}--{identity.name}" if provider else identity.name
    if member == API and identity.version:
        stem += f"_v{identity.version}"
    return f"{KINDS['api']}/{_file_name(stem)}"


def provider_told(path: str, identity: Identity) -> str:
    """The provider whose API would have this path; empty: nobody's."""
    stem = path.removeprefix(f"{KINDS['api']}/").removesuffix(".xml")
    if "%" in stem:
        try:
            stem = decode_name(stem)
        except Problem:
            return ""
    version = f"_v{identity.version}" if identity.version else ""
    provider = stem.removesuffix(f"--{identity.name}{version}")
    return provider if _api_path(identity, provider) == path else ""


def is_path_by_rule(path: str, identity: Identity) -> bool:
    """Whether it is that of the API itself, not of its default API, whoever its provider is."""
    return bool(provider_told(path, identity)) or path == _api_path(identity, "")


def part_by_rule(content: Content, identity: Identity, provider: str) -> Part:
    """The part that WSO2's members make by themselves; raises `Problem` if its XML has no name."""
    data = content.text.encode()
    if content.role == "api":
        path = _api_path(identity, provider, content.member)
        return Part("api", read_root(data, content.member).name, path, data)
    return Part(
        content.role, content.name, f"{KINDS[content.role]}/{_file_name(content.name)}", data
    )

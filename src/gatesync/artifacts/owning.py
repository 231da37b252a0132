"""What an API owns: the files that WSO2 names for it.

    sequences, endpoints   Menu--v1.0.0_APIproductionEndpoint, Menu--v1.0.0--In
    custom sequences       admin--Menu:v1.0.0--In, ...--Out, ...--Fault, with the provider or not
    local entries          the API's UUID, and <uuid>_graphQL

WSO2 writes ':' as '_' in the names of files. Who the provider is does not matter: within a tenant
no two have an API of one name and version. The UUID stands in the API's handlers, where WSO2 wrote
one; without it a local entry is shared.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

__all__ = ["Owner", "Owners", "owner_of_broken"]


_COLON: Final = re.compile("[:_]v")
_DIRECTION: Final = re.compile("--(?:In|Out|Fault)$")


class Owner(NamedTuple):
    """An API as a namer of files; `file` is its own, `uuid` empty where it is not known."""

    file: str
    tenant: str
    name: str
    version: str
    uuid: str = ""


class Owners:
    """The APIs of a tree, found by what is named for them."""

    def __init__(self, owners: Iterable[Owner]) -> None:
        self._by_uuid: dict[tuple[str, str], Owner] = {}
        self._by_name: dict[tuple[str, str], list[Owner]] = {}
        for owner in owners:
            if owner.uuid:
                self._by_uuid.setdefault((owner.tenant, owner.uuid), owner)
            if owner.version:  # a default API, which has none, shares what its version owns
                self._by_name.setdefault((owner.tenant, owner.name), []).append(owner)

    def of(self, tenant: str, role: str, name: str) -> Owner | None:
        """The API that owns what has this role and name; None: it is shared.

        `Menu--v1.0.1--In` is no part of Menu 1.0, whether or not there is a Menu 1.0.1: after the
        version stands '_' or '--'. Of several that fit, the longest version is meant.
        """
        if role == "local-entry":
            return self._by_uuid.get((tenant, name.removesuffix("_graphQL")))
        if role not in {"sequence", "endpoint"}:
            return None
        fitting = [
            owner
            for found in re.finditer("--v", name)
            for owner in self._by_name.get((tenant, name[: found.start()]), ())
            if _is_of_version(owner.version, name[found.end() :])
        ]
        if role == "sequence":
            fitting += self._by_custom_sequence(tenant, name)
        return max(fitting, key=lambda owner: len(owner.name + owner.version), default=None)

    def _by_custom_sequence(self, tenant: str, name: str) -> Iterator[Owner]:
        stem = _DIRECTION.sub("", name)
        for found in _COLON.finditer(stem) if stem != name else ():
            before, version = stem[: found.start()], stem[found.end() :]
            names = [before[dashes.start() + 2 :] for dashes in re.finditer("(?=--)", before)]
            for each in (before, *names):
                for owner in self._by_name.get((tenant, each), ()):
                    if owner.version == version:
                        yield owner


def _is_of_version(version: str, text: str) -> bool:
    rest = text.removeprefix(version)
    return text.startswith(version) and (not rest or rest.startswith(("_", "--")))


_API_FILE: Final = re.compile(r"(?:.*/)?(?:.+?--)?(?P<name>.+)_v(?P<version>.+)\.xml", re.I)
_UUID: Final = re.compile(rb"name=[\"']apiUUID[\"']\s+value=[\"']([0-9a-f-]{36})[\"']", re.I)


def owner_of_broken(file: str, tenant: str, content: bytes) -> Owner | None:
    """The API that a file which cannot be read seems to be, by its name as WSO2 writes it.

    What it would own must not become shared because of a fault in it.
    """
    named = _API_FILE.fullmatch(file)
    found = _UUID.search(content)
    if not (named or found):
        return None
    return Owner(
        file,
        tenant,
        named["name"] if named else "",
        named["version"] if named else "",
        found[1].decode() if found else "",
    )

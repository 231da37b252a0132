"""What Envoy is to have: artifacts in, resources with versions out, and whose each of them is."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice
from typing import Final

import structlog

from gatesync.artifacts.errors import FormatError
from gatesync.artifacts.model import Artifact
from gatesync.engines.envoy.node import Node
from gatesync.engines.envoy.references import References, clusters_of
from gatesync.engines.envoy.resources import CLUSTER, SCOPE, TYPE_URLS
from gatesync.engines.envoy.versions import Resource, resource_of, route_table_name

__all__ = ["Configuration"]

TAKEN_AT_ONCE: Final = 64  # artifacts translated before other tasks have their turn

_log = structlog.get_logger("gatesync.engines.envoy")


class Configuration:
    """See the module.

    Args:
        node: translates.
        read: the artifact with this api_id and this canonical form.
        touch: told which resources have changed, by type URL and names.

    Attributes:
        resources: by type URL and name.
    """

    def __init__(
        self,
        node: Node,
        read: Callable[[str, bytes], Artifact],
        touch: Callable[[str, Iterable[str]], None],
    ) -> None:
        self.resources: dict[str, dict[str, Resource]] = {each: {} for each in TYPE_URLS}
        self._node = node
        self._read = read
        self._touch = touch
        self._owners: dict[tuple[str, str], frozenset[str]] = {}
        self._references = References()
        for type_url, name, message in node.resources():  # the listener, before any artifact
            self.resources[type_url][name] = resource_of(message)

    async def take_all(
        self, contents: Mapping[str, bytes | None], served: Mapping[str, bytes]
    ) -> dict[str, str]:
        """As `take`; where there is much to come, and nothing to go, others have their turns."""
        if None in contents.values():
            return self.take(contents, served)
        refused: dict[str, str] = {}
        items = iter(contents.items())
        while some := dict(islice(items, TAKEN_AT_ONCE)):
            refused |= self.take(some, served)
            await asyncio.sleep(0)
        return refused

    def take(
        self, contents: Mapping[str, bytes | None], served: Mapping[str, bytes]
    ) -> dict[str, str]:
        """Translate these, in order, or take them out where there is none.

        Args:
            contents: canonical forms by api_id.
            served: what was served before, which comes back where routes lead nowhere.

        Returns:
            what is refused, and why, by api_id.
        """
        refused: dict[str, str] = {}
        artifacts: list[Artifact] = []
        for api_id, content in contents.items():
            if content is not None:
                try:
                    artifacts.append(self._read(api_id, content))
                except FormatError as error:
                    refused[api_id] = f"it cannot be read: {error}"
        gone = [api_id for api_id, content in contents.items() if content is None]
        applied = self._node.apply(artifacts, gone)
        self._owners.update(applied.owners)
        for type_url, name, message in applied.changed:
            self.resources[type_url][name] = resource_of(message)
            self._touch(type_url, (name,))
            if type_url == SCOPE:
                self._references.put(name, clusters_of(message))
        for type_url in (SCOPE, CLUSTER):
            self._drop(type_url, applied.removed.get(type_url, frozenset()))
        refused |= applied.refused
        return refused | self._take_back_dangling(applied.changed.of(SCOPE), contents, served)

    def _drop(self, type_url: str, names: Collection[str]) -> None:
        used = self._references.used(names) if type_url == CLUSTER else set[str]()
        for name in names:
            if type_url == SCOPE:
                self._references.put(name, frozenset())
            if name in used:  # a fault of the translation; its requests go on being answered
                _log.error("a cluster that is still used was to be removed", name=name)
                continue
            self._touch(type_url, (name,))
            self.resources[type_url].pop(name, None)
            self._owners.pop((type_url, name), None)

    def _take_back_dangling(
        self,
        scopes: Iterable[str],
        contents: Mapping[str, bytes | None],
        served: Mapping[str, bytes],
    ) -> dict[str, str]:
        """Refuse whose routes lead to clusters that are not there: Envoy would accept them."""
        refused: dict[str, str] = {}
        for name in scopes:
            for cluster in self._references.missing(name, self.resources[CLUSTER]):
                for api_id in self._owners.get((SCOPE, name), ()):
                    if contents.get(api_id) is not None:
                        refused[api_id] = f"a route of it leads to {cluster}, which is not there"
        before = {api_id: served.get(api_id) for api_id in refused}
        again = {k: v if v != contents[k] else None for k, v in before.items()}
        return refused | self.take(again, served) if refused else {}

    def owned(self, names: Iterable[str]) -> set[str]:
        """The artifacts whose resources have these names."""
        return {
            api_id
            for name in names
            for type_url in TYPE_URLS
            for api_id in self._owners.get((type_url, name), ())
        }

    def owners(self, resources: Iterable[tuple[str, str]]) -> frozenset[str]:
        """The artifacts whose these resources are, given as type URL and name."""
        return frozenset().union(*(self._owners.get(each, ()) for each in resources))

    def differing(self, held: Mapping[str, Mapping[str, str]]) -> set[tuple[str, str]]:
        """What is not held as it should be, of what `Admin.held` answered."""
        return {
            (type_url, name)
            for type_url in (CLUSTER, SCOPE)
            for name, each in self.resources[type_url].items()
            if not _is(type_url, name, each, held.get(type_url, {}).get(name))
        }


def _is(type_url: str, name: str, wanted: Resource, found: str | None) -> bool:
    if found is None:
        return False
    if type_url == SCOPE:
        return found.startswith(route_table_name(name, wanted.version, ""))
    return found == wanted.version

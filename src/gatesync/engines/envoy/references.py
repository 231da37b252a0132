"""Which clusters a scope's routes name. Envoy accepts a route to a cluster that is not there."""

from collections import Counter
from collections.abc import Collection, Iterator

from gatesync.engines.envoy.resources import Message

__all__ = ["References", "clusters_of"]


def clusters_of(scope: Message) -> frozenset[str]:
    """The clusters that a ScopedRouteConfiguration's routes send requests to, by name."""
    return frozenset(_named(scope))


def _named(scope: Message) -> Iterator[str]:
    for host in scope.route_configuration.virtual_hosts:
        for route in host.routes:
            if route.WhichOneof("action") != "route":
                continue
            action = route.route
            yield from (each.name for each in action.weighted_clusters.clusters)
            yield from (each.cluster for each in action.request_mirror_policies)
            if action.cluster:
                yield action.cluster


class References:
    """Who refers to whom, kept up to date scope by scope."""

    def __init__(self) -> None:
        self._of: dict[str, frozenset[str]] = {}
        self._uses: Counter[str] = Counter()

    def put(self, name: str, clusters: frozenset[str]) -> None:
        """A scope refers to these now; to none where it is gone."""
        self._uses.subtract(self._of.pop(name, ()))
        if clusters:
            self._of[name] = clusters
            self._uses.update(clusters)

    def used(self, clusters: Collection[str]) -> set[str]:
        """Those to which some scope refers."""
        return {each for each in clusters if self._uses[each] > 0}

    def missing(self, name: str, clusters: Collection[str]) -> frozenset[str]:
        """To what a scope refers that is none of these."""
        return frozenset(each for each in self._of.get(name, ()) if each not in clusters)

"""What the labels hold and what a node should serve, computed as naively as possible."""

from collections.abc import Iterator, Sequence

from gatesync.artifacts.digests import digest_of
from gatesync.artifacts.planning import Publish
from tests.contracts.saves import id_of, publish

NAMES = ("bread", "cheese", "ham", "menu", "olives")
ROUTES = {"menu": "/shared", "olives": "/shared"}  # whoever is there first in a label has it


def artifact(name: str, content: int) -> Publish:
    made = publish(name, f"{name} {content}", claims=[route_of(name)])
    entry = made.entry
    return Publish(
        type(entry)(
            api_id=entry.api_id,
            tenant=entry.tenant,
            kind=entry.kind,
            name=entry.name,
            version=entry.version,
            context=route_of(name),
            digest=entry.digest,
            size=entry.size,
        ),
        made.content,
        made.claims,
    )


def route_of(name: str) -> str:
    return ROUTES.get(name, f"/{name}")


class Model:
    """Every label's contents by name, and everything that was ever published to it."""

    def __init__(self) -> None:
        self.labels: dict[str, dict[str, int]] = {}
        self.ever: dict[str, set[tuple[str, str]]] = {}

    def may_publish(self, names: Sequence[str], labels: Sequence[str]) -> bool:
        """Whether nobody else has the routes: neither in the label nor among themselves."""
        for label in labels:
            held = {route_of(name): name for name in self.labels.get(label, ())}
            for name in names:
                if held.setdefault(route_of(name), name) != name:
                    return False
        return True

    def publish(self, names: Sequence[str], labels: Sequence[str], content: int) -> None:
        for label in labels:
            for name in names:
                self.labels.setdefault(label, {})[name] = content
                made = artifact(name, content)
                self.ever.setdefault(label, set()).add((id_of(name), digest_of(made.content)))

    def remove(self, name: str, label: str) -> None:
        del self.labels[label][name]

    def places(self) -> Iterator[tuple[str, str]]:
        for label, held in sorted(self.labels.items()):
            for name in sorted(held):
                yield label, name

    def served(self, node_labels: Sequence[str]) -> dict[str, bytes]:
        """What a node with these labels, the preferred first, serves: api_id to bytes.

        An artifact has one candidate: its entry in the first label that has it. A candidate is
        served if no entry of an earlier label has its route.
        """
        served: dict[str, bytes] = {}
        for name in NAMES:
            ranks = [r for r, label in enumerate(node_labels) if name in self._in(label)]
            if not ranks:
                continue
            first = ranks[0]
            earlier = {
                route_of(other) for label in node_labels[:first] for other in self._in(label)
            }
            if route_of(name) not in earlier:
                content = self._in(node_labels[first])[name]
                served[id_of(name)] = artifact(name, content).content
        return served

    def _in(self, label: str) -> dict[str, int]:
        return self.labels.get(label, {})

"""A publisher with store and broker in one process, and a gateway in another, for tests of both."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from gatesync.artifacts import canonical
from gatesync.artifacts.digests import digest_of
from gatesync.artifacts.synapse import artifact_from_xml
from tests.servers.gatesync import (
    LABEL,
    Place,
    Role,
    ask,
    document,
    environment,
    publishing,
    sequence_xml,
)

ROOT: Final = Path(__file__).parents[2]


class Pair:
    """See the module. The gateway is started by the test.

    Args:
        folder: for both.
        labels: of the gateway.
        seed: lines of `[apim.sync_runtime_artifacts.gateway]`.
        ours: lines of `[gatesync.gateway]`.
        node: the gateway's folder, where it is to be somewhere else.
        save: whether it keeps files, too.
        env: of the gateway's process.
    """

    def __init__(
        self,
        folder: Path,
        *,
        labels: Sequence[str] = (LABEL,),
        seed: str = "",
        ours: str = "",
        node: Path | None = None,
        save: bool = False,
        env: dict[str, str] | None = None,
    ) -> None:
        self.control = Place(folder / "control")
        text = self.control.config.read_text()
        off = "[apim.sync_runtime_artifacts.gateway]\nenable = false\n"
        self.control.config.write_text(text.replace("[apim.sync_runtime_artifacts.gateway]\n", off))
        # Of `up` without a gateway only the publisher tells whether it is ready.
        arguments = ("up", "--config", str(self.control.config))
        self.publisher = Role(
            self.control.folder, arguments, (self.control.publisher,), environment()
        )
        self.control.started.append(self.publisher)
        publisher = self.control.publisher
        self.node = Place(
            node or folder / "node", labels=labels, publisher=publisher, save=save, node="gw1"
        )
        configure(self.node, seed=seed, ours=ours)
        self.publisher.start()
        self.control.give_token(self.node, *labels)
        self.gateway = self.node.role("gateway", PYTHONPATH=str(ROOT), **(env or {}))

    def publish(self, label: str = LABEL, **texts: str) -> None:
        """Publish sequences of these names with these texts, in one change."""
        self.publish_documents(
            *(document(name, sequence_xml(name, text)) for name, text in texts.items()), label=label
        )

    def publish_documents(self, *documents: dict[str, Any], label: str = LABEL) -> None:
        body = publishing(*documents, label=label, atomic=True)
        answer = self.control.ask("/v1/changes", method="POST", body=body)
        assert answer.status == 200, answer.body

    def serves(self, **texts: str) -> bool:
        """Whether the gateway serves exactly these sequences, with these texts."""
        if not self.health():
            return False
        return self.node.held() == {name: digest(name, text) for name, text in texts.items()}

    def serves_soon(self, **texts: str) -> None:
        self.gateway.wait_for(lambda: self.serves(**texts), f"exactly {texts} is served")

    def health(self) -> Any:
        """What readiness tells its operator; an empty mapping where it does not answer yet."""
        try:
            return self.node.health().json()
        except OSError:
            return {}

    def status(self) -> Any:
        """What the node tells its operator."""
        return ask(self.node.gateway, "/v1/status", token=self.node.admin_token()).json()

    def becomes(self, status: str) -> Any:
        """Wait for this word of readiness; answers with all that is told with it."""
        self.gateway.wait_for(
            lambda: self.health().get("status") == status, f"the node is {status}"
        )
        return self.health()

    def said(self, event: str) -> list[dict[str, Any]]:
        """The lines of the gateway's log with this event, of all its lives."""
        lines = (line for line in self.gateway.said().splitlines() if line.startswith("{"))
        return [each for each in map(json.loads, lines) if each["event"] == event]

    def end(self) -> None:
        self.node.end()
        self.control.end()


@contextmanager
def pair(folder: Path, **options: Any) -> Iterator[Pair]:
    """Both, ended with the block."""
    made = Pair(folder, **options)
    try:
        yield made
    finally:
        made.end()


def configure(node: Place, *, seed: str = "", ours: str = "") -> None:
    """Add lines to a gateway's tables; its log is for machines."""
    text = node.config.read_text()
    for table, lines in (
        ("[apim.sync_runtime_artifacts.gateway]\n", seed),
        ("[gatesync.gateway]\n", ours),
        ("[gatesync]\n", 'log_format = "json"'),
    ):
        text = text.replace(table, f"{table}{lines}\n")
    node.config.write_text(text)


def digest(name: str, text: str) -> str:
    artifact = artifact_from_xml(sequence_xml(name, text), f"{name}.xml")
    return digest_of(canonical.encode(artifact))


def api_id_of(name: str) -> str:
    return artifact_from_xml(sequence_xml(name), f"{name}.xml").identity.default_api_id()


@contextmanager
def cache_of(made: Pair) -> Iterator[sqlite3.Connection]:
    """The cache as somebody with another program sees it."""
    with closing(sqlite3.connect(made.node.data / "cache/cache.db", isolation_level=None)) as db:
        yield db


def is_kept(made: Pair, count: int) -> bool:
    """Whether so many artifacts are in the cache, applied."""
    with cache_of(made) as db:
        return bool(db.execute("SELECT count(*) FROM applied").fetchone()[0] == count)

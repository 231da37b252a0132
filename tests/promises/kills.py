"""Publishers, writers and readers on one database while things are killed: see test_sql_kills."""

import asyncio
import random
import signal
import uuid
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeAlias

from gatesync.artifacts.changes import ChangeSet, Cursor, Entry
from gatesync.artifacts.digests import EMPTY_LABEL
from gatesync.artifacts.synapse import artifact_from_xml
from gatesync.events.nats_credentials import credentials_path
from gatesync.publisher.requests import ChangeAnswer
from gatesync.stores.sql import SqlStore
from gatesync.stores.store import Saver, StoreError, read_manifest
from gatesync.web.client import AnsweredError, HttpClient, UnreachableError, open_client
from tests.contracts.saves import applied, digest_over
from tests.servers.database import DatabaseProcess
from tests.servers.gatesync import Place, Role, document, sequence_xml
from tests.stores.reader import moved

LABELS: Final = ("Shop", "Café", "Production and Sandbox")
WRITERS: Final = 16  # at each publisher
NAMES: Final = 5  # that each writer has artifacts of
ANSWER_SECONDS: Final = 10.0
PAUSE_SECONDS: Final = 0.1  # of a writer that was told no, and of a supervisor

Change: TypeAlias = tuple[str, int, str, str, str]
"""Label, revision, instruction, api_id, digest."""


class Publishers:
    """Several publishers on one database, each started again when it has died."""

    def __init__(self, folder: Path, url: str, broker: Place, count: int) -> None:
        self.places = [Place(folder / f"p{number}", node=f"p{number}") for number in range(count)]
        self.roles: list[Role] = []
        for place in self.places:
            text = place.config.read_text()
            text = text.replace(
                "[gatesync.publisher]\n", "[gatesync.publisher]\nretention_revisions = 1000000\n"
            )
            place.config.write_text(
                f"{text}[apim.event_hub]\n"
                f'event_listening_endpoints = ["nats://127.0.0.1:{broker.broker_port}"]\n'
                f'[gatesync.event_hub]\ncredentials_file = "{credentials_path(broker.data)}"\n'
                f'[database.sync_runtime_artifacts_db]\nurl = "{url}"\n'
            )
            self.roles.append(place.role("publisher"))

    def start(self) -> None:
        with ThreadPoolExecutor() as threads:
            list(threads.map(Role.start, self.roles))

    async def supervise(self) -> None:
        """As a service manager would: what has ended is started again."""
        while True:
            for role in self.roles:
                if not role.alive:
                    role.start(wait=False)
            await asyncio.sleep(PAUSE_SECONDS)

    def end(self) -> None:
        for place in self.places:
            place.end()


class Kills:
    """Kills a publisher or the database at random, and counts.

    `database` is odd while the database is down.
    """

    def __init__(self, server: DatabaseProcess, publishers: Publishers) -> None:
        self.database = 0
        self.publishers = 0
        self._server = server
        self._publishers = publishers

    async def kill(self, rounds: int, seconds: float) -> None:
        """Spread over these seconds, in each round two publishers and the database."""
        for _ in range(rounds):
            for victim in random.sample(["publisher", "publisher", "database"], 3):
                await asyncio.sleep(random.uniform(0.5, 1.5) * seconds / rounds / 3)
                if victim == "database":
                    await self._kill_database()
                else:
                    self._kill_publisher()

    def _kill_publisher(self) -> None:
        role = random.choice(self._publishers.roles)
        if role.alive:
            role.stop(signal.SIGKILL)
            self.publishers += 1

    async def _kill_database(self) -> None:
        self.database += 1
        await asyncio.to_thread(self._server.kill)
        await asyncio.to_thread(self._server.start)
        self.database += 1


class Writer:
    """Publishes, edits and removes artifacts of its own, in labels of its own choice.

    It repeats each request with its key until that is answered, as the command line does.
    """

    def __init__(self, publisher: Place, name: str) -> None:
        self.acknowledged: list[ChangeAnswer] = []
        self.told: Counter[str] = Counter()
        self._publisher = publisher
        self._name = name
        self._chance = random.Random(name)

    async def write(self, stop: asyncio.Event) -> None:
        labels = self._chance.sample(LABELS, self._chance.randint(1, 2))
        held: set[str] = set()
        async with open_client(
            self._publisher.publisher, self._publisher.operator, timeout=ANSWER_SECONDS
        ) as client:
            while not stop.is_set():
                name = f"{self._name}x{self._chance.randrange(NAMES)}"
                if name in held and self._chance.random() < 0.3:
                    held.discard(name)
                    change: dict[str, Any] = {"remove": [_id_of(name)]}
                else:
                    held.add(name)
                    xml = sequence_xml(name, str(uuid.uuid4()))
                    change = {"publish": [{"artifact": document(name, xml)}]}
                body = {"labels": labels, **change}
                self.acknowledged.append(await self._deliver(client, body))

    async def _deliver(self, client: HttpClient, body: dict[str, Any]) -> ChangeAnswer:
        key = {"Idempotency-Key": str(uuid.uuid4())}
        while True:
            try:
                return await client.post("/v1/changes", body, ChangeAnswer, headers=key)
            except UnreachableError as error:
                self.told[str(error)] += 1
            except AnsweredError as error:
                self.told[f"{error.status} {error.code}: {error.reasons}"] += 1
                if error.status != 503:
                    raise
            await asyncio.sleep(PAUSE_SECONDS)


class Reader:
    """Follows all labels, and believes nothing: see `step`.

    Args:
        store: what it reads.
        kills: of the database.
        forgets: whether a database that is killed may lose what it has shown. It is never what
            was acknowledged; the reader begins anew then.
    """

    def __init__(self, store: SqlStore, kills: Kills, *, forgets: bool) -> None:
        self.held: dict[str, dict[str, Entry]] = {}
        self.revisions: dict[str, int] = {}
        self.steps = 0
        self.outages = 0
        self.lost: list[str] = []
        self._store = store
        self._kills = kills
        self._forgets = forgets
        self._begin()

    def _begin(self) -> None:
        self.held = {label: {} for label in LABELS}
        self.revisions = dict.fromkeys(LABELS, 0)

    async def read(self, stop: asyncio.Event) -> None:
        """Read until `stop`."""
        while not stop.is_set():
            kills = self._kills.database
            try:
                await self.step()
            except StoreError:
                self.outages += 1
                await asyncio.sleep(PAUSE_SECONDS)
            except AssertionError:
                if not self._forgets or self._kills.database == kills:
                    raise
            if self._forgets and (kills % 2 or self._kills.database != kills):
                await self._forget()

    async def step(self) -> None:
        """Read each label on: no gap, each revision whole, and no way back (promise 2)."""
        self.steps += 1
        heads = await self._store.heads(LABELS)
        for label, head in heads.items():
            since = self.revisions[label]
            assert head.revision >= since, f"{label}: the head went back from {since}"
            log = await self._store.change_sets(label, since, 1_000_000)
            held, digest, revision = self.held[label], digest_over(self.held[label]), since
            for each in log:
                assert each.previous == revision < each.revision, f"{label}: a gap after {revision}"
                for change in each.changes:
                    digest = moved(digest, change, held)
                held, revision = applied(held, each), each.revision
                assert digest == each.digest, f"{label}: revision {revision} is not whole"
                if revision == head.revision:
                    assert digest == head.digest
            assert revision >= head.revision, f"{label}: the log ends before the head"
            delta = await self._store.changes(label, Cursor(self._store.epoch, since))
            assert delta.head.revision >= revision, f"{label}: the head went back from {revision}"
            if delta.head.revision == revision:
                assert applied(self.held[label], delta) == held
            self.held[label], self.revisions[label] = held, revision

    async def _forget(self) -> None:
        """Begin anew, but note in which labels what was seen never was."""
        try:
            for label in LABELS:
                at = Cursor(self._store.epoch, self.revisions[label])
                there = await self._store.digest_at(label, at) if at.revision else EMPTY_LABEL
                if there != digest_over(self.held[label]):
                    self.lost.append(label)
        except StoreError:
            pass  # then it is not known
        self._begin()


async def whole_log(store: Saver) -> list[ChangeSet]:
    """Every change set of every label; each label's manifest adds up to its head."""
    log: list[ChangeSet] = []
    for label in LABELS:
        log += await store.change_sets(label, 0, 1_000_000)
        await read_manifest(store, label)
    return log


def changes_of(log: Sequence[ChangeSet]) -> Counter[Change]:
    return Counter(
        (each.label, each.revision, change.instruction, change.entry.api_id, change.entry.digest)
        for each in log
        for change in each.changes
    )


def _id_of(name: str) -> str:
    return artifact_from_xml(sequence_xml(name), f"{name}.xml").identity.default_api_id()

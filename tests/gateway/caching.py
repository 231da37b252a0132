"""A node with a cache behind it, and what lies in the file."""

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

from gatesync.artifacts.changes import Entry
from gatesync.artifacts.digests import digest_of
from gatesync.gateway.cache import Cache, Remembered, open_cache
from gatesync.gateway.desired import Wanted
from gatesync.gateway.log import Decision, LabelLog
from tests.contracts.saves import id_of
from tests.gateway.makers import History, content, entry


class Node:
    """A node that follows histories and applies what they hold, with a cache behind it."""

    def __init__(self, cache: Cache, remembered: Remembered | None = None) -> None:
        self.cache = cache
        self.logs: dict[str, LabelLog] = dict(remembered.labels) if remembered else {}
        self.applied: dict[str, Wanted] = dict(remembered.applied) if remembered else {}
        self.serves: dict[str, bytes] = {}

    def take(self, history: History, *, continues: bool = True) -> None:
        log = self.logs.setdefault(history.label, LabelLog(history.label))
        log.take_list(history.head, history.entries, continues=continues)
        self._follow(log)

    def hear(self, history: History, *names: str, version: object = 1) -> None:
        log = self.logs[history.label]
        assert log.offer_change_set(history.publish(*names, version=version)) is Decision.TAKEN
        self._follow(log)

    def hear_removal(self, history: History, *names: str) -> None:
        log = self.logs[history.label]
        assert log.offer_change_set(history.remove(*names)) is Decision.TAKEN
        self._follow(log)

    def apply(self, label: str, *names: str, version: object = 1, keep: bool = True) -> None:
        entries = [entry(name, version) for name in names]
        contents = {each.digest: content(each.name, version) for each in entries}
        for each in entries:
            self.applied[each.api_id] = Wanted(label, each)
            self.serves[each.api_id] = contents[each.digest]
        touched = [each.api_id for each in entries]
        self.cache.applied(self.applied, touched, contents if keep else {})

    def undeploy(self, *names: str) -> None:
        for name in names:
            del self.applied[id_of(name)]
        self.cache.applied(self.applied, [id_of(name) for name in names], {})

    def _follow(self, log: LabelLog) -> None:
        touched, log.touched = log.touched, set()
        self.cache.follow(log, touched)


def same(one: LabelLog, other: LabelLog) -> bool:
    return (one.state(), one.entries, one.retained) == (
        other.state(),
        other.entries,
        other.retained,
    )


def digests_of(*names: str, version: object = 1) -> list[str]:
    return [digest_of(content(name, version)) for name in names]


async def held(folder: Path, labels: Collection[str] = ("L",)) -> Remembered:
    """What a node that starts now would know."""
    async with open_cache(folder) as cache:
        return await cache.load(labels)


def contents_in(folder: Path) -> set[bytes]:
    with closing(sqlite3.connect(folder / "cache.db")) as db:
        return {body for (body,) in db.execute("SELECT body FROM content")}


def rows_in(folder: Path) -> list[tuple[object, ...]]:
    """Everything, with the places where contents lie: one that is written again moves."""
    with closing(sqlite3.connect(folder / "cache.db")) as db:
        tables = ("label", "entry", "applied", "content")
        return [row for table in tables for row in db.execute(f"SELECT * FROM {table}")]


async def change(folder: Path) -> None:
    """Change a label until one is killed, and tell each revision that is in the file.

    Each change set publishes ten of thirty artifacts and another removes some of them. The engine
    has them at the same moment.
    """
    async with open_cache(folder, interval=0) as cache:
        node = Node(cache, await cache.load(["L"]))
        history = History()
        log = node.logs.get("L")
        if log is None:
            node.take(history)
        else:
            assert log.cursor is not None
            history.revision, history.entries = log.cursor.revision, dict(log.entries)
        while True:
            step = history.revision
            names = [f"menu-{(step * 7 + number) % 30}" for number in range(10)]
            there = [name for name in names if id_of(name) in history.entries]
            if step % 3 == 0 and there:
                node.hear_removal(history, *there)
                node.undeploy(*there)
            else:
                node.hear(history, *names, version=step)
                for name in names:
                    node.applied[id_of(name)] = Wanted("L", entry_of(history, name))
                contents = {entry_of(history, n).digest: content(n, step) for n in names}
                cache.applied(node.applied, [id_of(name) for name in names], contents)
            assert await cache.flush()
            print(history.revision, flush=True)


def entry_of(history: History, name: str) -> Entry:
    return history.entries[id_of(name)]


async def write_once(folder: Path, how: str) -> None:
    """Write one artifact, and end or crash."""
    async with open_cache(folder) as cache:
        node, history = Node(cache), History()
        node.take(history)
        node.hear(history, "menu-9")
        node.apply("L", "menu-9")
        assert await cache.flush()
        if how == "crash":
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    _, folder, how = sys.argv
    asyncio.run(change(Path(folder)) if how == "change" else write_once(Path(folder), how))

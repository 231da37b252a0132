"""Promise 2 with real publishers: two processes on one store, and readers at both."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from gatesync.artifacts.digests import EMPTY_LABEL, LabelDigest
from tests.servers.gatesync import LABEL, Place, document, place, publishing

WRITERS, PUBLISHES = 3, 8  # at each publisher, and by each writer


class Reader:
    """Follows a label at one publisher, and adds up what it reads."""

    def __init__(self, publisher: Place, epoch: str) -> None:
        self.revisions: list[int] = [0]
        self.faults: list[str] = []
        self._publisher = publisher
        self._epoch = epoch
        self._held: dict[str, str] = {}
        self._digest = EMPTY_LABEL

    def read(self) -> None:
        """Take the difference to the head; a gap would keep the digest from coming out."""
        query = f"label={quote(LABEL)}&epoch={self._epoch}&since={self.revisions[-1]}"
        delta = self._publisher.ask(f"/v1/changes?{query}").json()["delta"]
        for change in delta["changes"]:
            self._take(change["instruction"], change["entry"])
        head = delta["head"]
        said = LabelDigest(**head["digest"])
        if said != self._digest:
            self.faults.append(f"revision {head.get('revision')}: {said} is not {self._digest}")
        self.revisions.append(head.get("revision", 0))

    def _take(self, instruction: str, entry: dict[str, Any]) -> None:
        api_id = entry["api_id"]
        after = entry["digest"] if instruction == "Publish" else None
        self._digest = self._digest.replace(api_id, self._held.get(api_id), after)
        if after is None:
            self._held.pop(api_id, None)
        else:
            self._held[api_id] = after


class Writer:
    """Publishes one artifact after the other at one publisher."""

    def __init__(self, publisher: Place, name: str) -> None:
        self.revisions: list[int] = []
        self.refused: list[bytes] = []
        self._publisher = publisher
        self._name = name

    def write(self) -> None:
        for number in range(PUBLISHES):
            body = publishing(document(f"{self._name}x{number}"))
            answer = self._publisher.ask("/v1/changes", method="POST", body=body)
            if answer.status == 200:
                self.revisions += [each["revision"] for each in answer.json()["change_sets"]]
            else:
                self.refused.append(answer.body)


@contextmanager
def two_publishers(folder: Path) -> Iterator[list[Place]]:
    """Two processes on the SQLite file of the first, and no broker."""
    with place(folder / "one") as one, place(folder / "two", node="gw2") as two:
        for each in (one, two):
            with each.config.open("a") as config:
                config.write("[apim.event_hub]\nenable = false\n")
                config.write('[database.sync_runtime_artifacts_db]\ntype = "sqlite"\n')
                config.write(f'url = "jdbc:sqlite:{folder / "shared.db"}"\n')
            each.role("publisher").start()
        yield [one, two]


@pytest.mark.promise(2)
def test_readers_see_no_gap_while_two_publishers_write(tmp_path: Path) -> None:
    with two_publishers(tmp_path) as publishers:
        (epoch,) = {each.ask("/v1/cluster").json()["epoch"] for each in publishers}
        readers = [Reader(each, epoch) for each in publishers]
        writers = [Writer(each, f"{each.node}w{n}") for each in publishers for n in range(WRITERS)]
        with ThreadPoolExecutor() as threads:
            writing = [threads.submit(writer.write) for writer in writers]
            while not all(each.done() for each in writing):
                for reader in readers:
                    reader.read()
        for reader in readers:
            reader.read()

    total = len(writers) * PUBLISHES
    assert [writer.refused for writer in writers] == [[]] * len(writers)
    acknowledged = sorted(revision for writer in writers for revision in writer.revisions)
    assert acknowledged == list(range(1, total + 1))
    for reader in readers:
        assert reader.faults == []
        assert reader.revisions == sorted(reader.revisions)
        assert reader.revisions[-1] == total
        assert len(set(reader.revisions)) > 3  # it did read while they wrote

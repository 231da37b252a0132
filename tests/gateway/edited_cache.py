"""The file of a gateway's cache, edited by somebody who knows its format."""

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec

from gatesync.artifacts.changes import Entry
from gatesync.artifacts.digests import EMPTY_LABEL, digest_of
from gatesync.gateway.cache_rows import RowReader, applied_row, entry_row, key_of, label_row
from gatesync.gateway.desired import Wanted
from gatesync.gateway.log import LogState

replace = msgspec.structs.replace


class Disk:
    """One label of a cache. What it writes has checksums and digests that fit."""

    def __init__(self, folder: Path, label: str = "L") -> None:
        self._path = folder / "cache.db"
        self._label = label

    def run(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self._path)) as db, db:
            return db.execute(statement, values).fetchall()

    def state(self) -> LogState:
        question = "SELECT name, state, sum FROM label WHERE name = ?"
        [row] = self.run(question, self._label.encode())
        return RowReader().label(*row)[1]  # type: ignore[arg-type]

    def entries(self) -> dict[str, Entry]:
        question = "SELECT retained, api_id, body, sum FROM entry WHERE label = ?"
        rows = self.run(question, self._label.encode())
        return RowReader().entries(self._label, rows)[0]  # type: ignore[arg-type]

    def write(self, entries: dict[str, Entry], state: LogState | None = None) -> None:
        """These entries, with a state and checksums that fit them, and all of it applied."""
        digest = EMPTY_LABEL
        for api_id, entry in entries.items():
            digest = digest.add(api_id, entry.digest)
        state = replace(state or self.state(), digest=digest)
        self.run("DELETE FROM entry WHERE label = ?", self._label.encode())
        self.run("DELETE FROM applied WHERE label = ?", self._label.encode())
        self.run("REPLACE INTO label VALUES (?, ?, ?)", *label_row(self._label, state))
        for entry in entries.values():
            row = entry_row(self._label, entry, retained=False)
            self.run("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?)", *row)
            self.apply(entry)

    def apply(self, entry: Entry) -> None:
        self.run(
            "REPLACE INTO applied VALUES (?, ?, ?, ?, ?)", *applied_row(Wanted(self._label, entry))
        )

    def keep(self, content: bytes) -> str:
        digest = digest_of(content)
        self.run("INSERT INTO content (digest, body) VALUES (?, ?)", key_of(digest), content)
        return digest

"""Managers that run `gatesync rsync`, each with a data folder and a source tree of its own."""

import hashlib
import json
from pathlib import Path
from typing import Any, Final

from tests.mirroring.workers import CONFIGS, Source, Workers
from tests.servers.gatesync import Done, Place, Role, environment, run, sequence_xml

TAKEOVER: Final = "5s"  # a busy machine may keep a process waiting for seconds


class Manager:
    """A host: `source` is what it copies, and `database`, if any, where its lease is."""

    def __init__(
        self, folder: Path, name: str, workers: Workers, source: Source, database: str = ""
    ) -> None:
        self.place = Place(folder / name, node=name)
        self.folder = self.place.folder
        self.source = source
        self.workers = workers
        if database:
            with self.place.config.open("a") as config:
                config.write(f'[database.sync_runtime_artifacts_db]\nurl = "{database}"\n')
        self.list = self.folder / "workers-list.txt"
        self.list.write_text("# the workers\n\n" + "\n".join(workers.lines) + "\n")
        self.started: list[Role] = []

    def options(self, *more: str) -> list[str]:
        server = self.workers.server
        return [
            *("--workers", str(self.list), "--source", str(self.source.root)),
            *("--identity-file", str(server.identity_file), "--strict-host-keys"),
            *("--known-hosts", str(server.known_hosts), "--config", str(self.place.config)),
            *("--takeover-after", TAKEOVER, *more),
        ]

    def runner(self, *mode: str) -> Role:
        """A process that goes on; it is ended with the manager."""
        role = Role(self.folder, ["rsync", *self.options(*mode)], (), environment())
        self.started.append(role)
        return role

    def run(self, *more: str) -> Done:
        """`gatesync rsync --once`, from cron's point of view: in a pipe."""
        return run(self.folder, "rsync", *self.options("--once", *more))

    def status(self) -> Any:
        """What the runner of this host remembers."""
        return run(self.folder, "rsync", "status", "--config", self.place.config, "--json").json()

    def end(self) -> None:
        for role in self.started:
            if role.alive:
                role.stop()


def write(source: Source, name: str, text: str) -> None:
    """A sequence that can be published."""
    source.write(path_of(name), sequence_xml(name, text).decode())


def path_of(name: str) -> str:
    return f"{CONFIGS}/sequences/{name}.xml"


def texts(workers: Workers, name: str) -> list[str]:
    """Of each worker what it has of a sequence; empty where there is none."""
    found = []
    for folder, part in workers.parts:
        path = folder / path_of(name).removeprefix(f"{part}/")
        content = path.read_text() if path.exists() else ""
        found.append(content.partition('value="')[2].partition('"')[0])
    return found


def assert_heads_are_true(workers: Workers) -> int:
    """Whatever was killed: who says that it has all of something has it, byte for byte.

    Answers with how many say so.
    """
    complete = 0
    for folder, _ in workers.parts:
        head = folder / ".gatesync" / "head"
        if not head.exists():
            continue
        said = json.loads(head.read_bytes())
        if said["state"] != "complete":
            continue
        complete += 1
        manifest = (folder / ".gatesync" / "manifest").read_bytes()
        assert hashlib.sha256(manifest).hexdigest() == said["manifest"]
        for file in json.loads(manifest)["files"]:
            content = (folder / file["path"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == file["sha256"], file["path"]
    return complete

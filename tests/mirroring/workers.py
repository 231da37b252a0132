"""A source tree, and folders of workers behind a real sshd, for tests."""

import hashlib
import random
import shutil
import stat
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from gatesync.mirroring.outcome import Outcome
from gatesync.mirroring.passes import Passes, PassSettings, open_passes
from gatesync.mirroring.source_manifest import SourceFile, SourceManifest, next_manifest
from gatesync.mirroring.ssh import SshSettings
from gatesync.mirroring.worker_manifest import Head, State, WorkerManifest
from gatesync.mirroring.workers import parse_workers
from tests.servers.sshd import Sshd

SERVER: Final = "deployment/server"
CONFIGS: Final = f"{SERVER}/synapse-configs/default"
API: Final = f"{CONFIGS}/api/menu.xml"
SEQUENCE: Final = f"{CONFIGS}/sequences/menu--In.xml"
QUOTED: Final = f'{CONFIGS}/api/it\'s é a "menü" of $HOME.xml'
TENANT: Final = "tenants/1/synapse-configs/default/api/orders.xml"
FILES: Final = {
    # Few kinds: each is a run of rsync.
    API: "<api/>",
    QUOTED: "<api context='/quoted'/>",
    SEQUENCE: "<sequence/>",
    TENANT: "<api context='/t/1'/>",
}


class Source:
    """A tree, and its manifest as a scanner would make it. `epoch` may be changed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.epoch = "11111111-1111-4111-8111-111111111111"
        self._last: SourceManifest | None = None

    def write(self, path: str, content: str, mode: int = 0o644) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        target.chmod(mode)

    def remove(self, path: str) -> None:
        (self.root / path).unlink()

    def manifest(self, withheld: Sequence[str] = ()) -> SourceManifest:
        """What stands there now."""
        if self._last is not None and self._last.epoch != self.epoch:
            self._last = None
        files = [
            SourceFile(
                str(path.relative_to(self.root)),
                path.stat().st_size,
                hashlib.sha256(path.read_bytes()).hexdigest(),
                stat.S_IMODE(path.stat().st_mode),
            )
            for path in self.root.rglob("*")
            if path.is_file() and not path.is_symlink()
        ]
        self._last = next_manifest(self._last, files, withheld, new_epoch=lambda: self.epoch)
        return self._last


class Workers:
    """Folders, and the lines that name them."""

    def __init__(self, folder: Path, server: Sshd, names: Sequence[str]) -> None:
        self.folder = folder
        self.server = server
        self.homes = [folder / name for name in names]
        self.parts: list[tuple[Path, str]] = []
        for home in self.homes:
            self.add(home / SERVER, SERVER)

    def add(self, path: Path, part: str) -> Path:
        path.mkdir(parents=True, exist_ok=True)
        self.parts.append((path, part))
        return path

    @property
    def lines(self) -> list[str]:
        where = f"ssh://{self.server.user}@127.0.0.1:{self.server.port}"
        return [f"{where}{path}" for path, _ in self.parts]

    def ssh(self, **more: Any) -> SshSettings:
        told = {
            "identity_file": self.server.identity_file,
            "known_hosts": self.server.known_hosts,
            "strict_host_keys": True,
            **more,
        }
        return SshSettings(**told)

    def head(self, number: int = 0) -> Head:
        head = Head.of_line((self.parts[number][0] / ".gatesync" / "head").read_bytes())
        assert head is not None
        return head

    def files(self, number: int = 0) -> dict[str, str]:
        """What is there by paths in the source, but for gatesync's own."""
        path, part = self.parts[number]
        return {
            f"{part}/{each.relative_to(path)}": each.read_text()
            for each in path.rglob("*")
            if each.is_file() and ".gatesync" not in each.parts
        }

    def assert_true(self) -> None:
        """What the heads vouch for is so, on every worker: no manifest lies."""
        for path, _ in self.parts:
            folder = path / ".gatesync"
            head = Head.of_line((folder / "head").read_bytes()) if folder.exists() else None
            if head is None or head.state is State.CHANGING:
                continue
            data = (folder / "manifest").read_bytes()
            manifest = WorkerManifest.of_json(data)
            assert manifest is not None
            assert head.manifest == hashlib.sha256(data).hexdigest()
            for file in manifest.files:
                there = (path / file.path).read_bytes()
                assert hashlib.sha256(there).hexdigest() == file.sha256, file.path

    def assert_all_like(self, source: Source) -> None:
        for number, (_, part) in enumerate(self.parts):
            wanted = {
                path: text for path, text in tree(source.root).items() if path.startswith(part)
            }
            assert self.files(number) == wanted, self.lines[number]
            assert self.head(number).state is State.COMPLETE


def tree(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()
    }


@asynccontextmanager
async def passes(
    folder: Path,
    source: Source,
    workers: "Workers | Sequence[str]",
    *,
    ssh: SshSettings | None = None,
    now: Callable[[], float] = time.time,
    jitter: Callable[[], float] = random.random,
    **settings: Any,
) -> AsyncIterator[Passes]:
    """Opened for these workers, or lines of a list; `settings` as in `PassSettings`."""
    if isinstance(workers, Workers):
        ssh, workers = ssh or workers.ssh(), workers.lines
    assert ssh is not None
    listed = parse_workers("\n".join(workers).encode(), "workers-list.txt")
    assert not listed.problems
    told = PassSettings(
        source=source.root,
        folder=folder / "runner",
        ssh=ssh,
        **({"silence_seconds": 60.0} | settings),
    )
    async with open_passes(told, listed.workers, now=now, jitter=jitter) as opened:
        yield opened


def only(outcomes: Sequence[Outcome]) -> Outcome:
    assert len(outcomes) == 1
    return outcomes[0]


def needs_rsync() -> None:
    if shutil.which("rsync") is None:
        pytest.skip("needs rsync: apt-get install rsync")

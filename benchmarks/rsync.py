"""rsync to 8 workers behind a real sshd, in turns with the procedure that WSO2 documents.

That one is a loop of `rsync --delete -arve "ssh -i KEY -o StrictHostKeyChecking=no"`, one worker
after the other, begun at the moment of the change (cron would begin it up to a minute later). Ours
is a process that runs `gatesync rsync --watch`, and passes of the same code. `change`: from when a
file is written until the last worker has it. `nothing`: a pass over workers that have everything;
ours looks at the whole source and reads what each worker says it has, theirs compares the trees.
`comparison`: all of one worker: theirs sizes and times, ours all contents.
"""

import argparse
import asyncio
import getpass
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from figures import Peer, Target, milliseconds, print_figure, print_skipped
from gatesync.mirroring.passes import Passes, PassSettings, open_passes
from gatesync.mirroring.settling import MOMENT_SECONDS
from gatesync.mirroring.source_manifest import SourceManifest
from gatesync.mirroring.source_tree import SourceTree
from gatesync.mirroring.ssh import SshSettings
from gatesync.mirroring.workers import parse_workers
from parts import GATESYNC, free_port

BENCHMARK = "rsync"
SERVER = "deployment/server"
FOLDER = f"{SERVER}/synapse-configs/default/sequences"
CHANGED = Target(
    "ratio",
    at_least=5.0,
    why="The source must rest for 0.2 s, so that nothing half-written is taken, and then both ends "
    "of 8 rsyncs at once share the cores of one machine here.",
)
NOTHING = Target("ratio", at_least=5.0, why="What is left is to look at 10,000 files.")
COMPARED = Target("ratio", at_least=1.0, why="Ours reads all contents, on both sides.")
SECONDS = 60.0
SSHD = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
PasswordAuthentication no
StrictModes no
UsePAM no
MaxStartups 1000
MaxSessions 1000
# Else bash reads the user's own start files for each session: 0.13 s each on the machine that this
# was written on, 8 times for both ways.
SetEnv SHLVL=1
"""


def main() -> None:
    """Measure, and print one line for each of the three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=4_096, help="bytes of each")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["nothing", "comparison", "change"])
    options = parser.parse_args()
    if shutil.which("rsync") is None or _sshd() is None:
        print_skipped(BENCHMARK, "all", "rsync or sshd is not installed")
        return
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="gatesync-bench-", dir=memory if memory.is_dir() else None
    ) as folder:
        asyncio.run(_measure(_Bench(Path(folder), options), options))


class _Bench:
    """A source tree, and two sets of workers: ours, and those of the documented procedure."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder = folder
        self.source = folder / "repository"
        self.key = folder / "key"
        self.port = free_port()
        self.user = getpass.getuser()
        self.ours = [folder / "ours" / str(n) / SERVER for n in range(options.workers)]
        self.theirs = [folder / "theirs" / str(n) / SERVER for n in range(options.workers)]
        self.size = options.size
        self.files = options.files
        for each in (*self.ours, *self.theirs):
            each.mkdir(parents=True)
        (self.source / FOLDER).mkdir(parents=True)
        for number in range(options.files):
            self.write(number, 0)

    def write(self, number: int, edit: int) -> tuple[str, bytes]:
        """Put a file in its place, whole; answers with its path below the part and its content."""
        head = (
            f'<sequence xmlns="http://ws.apache.org/ns/synapse" name="s{number}"><!-- {edit:08d} '
        )
        seed = hashlib.sha256(f"{number}/{edit}".encode()).hexdigest()
        end = " --><log/></sequence>"
        filler = (seed * (self.size // len(seed) + 1))[: self.size - len(head) - len(end)]
        path = self.source / FOLDER / f"s{number}.xml"
        new = path.with_name(f".{path.name}.new")
        new.write_text(head + filler + end)
        new.replace(path)
        return str(path.relative_to(self.source / SERVER)), (head + filler + end).encode()

    def lines(self) -> list[str]:
        """Of our workers' list."""
        return [f"ssh://{self.user}@127.0.0.1:{self.port}{each}" for each in self.ours]

    def seed(self, workers: list[Path]) -> None:
        """The documented loop, as it is printed but for the port."""
        for worker in workers:
            shell = f"ssh -i {self.key} -o StrictHostKeyChecking=no -p {self.port}"
            shell += f" -o UserKnownHostsFile={self.folder}/known_hosts -F none -o LogLevel=ERROR"
            subprocess.run(
                [
                    *("rsync", "--delete", "-arve", shell),
                    *(f"{self.source / SERVER}/", f"{self.user}@127.0.0.1:{worker}"),
                ],
                check=True,
                stdout=subprocess.DEVNULL,
            )

    def print(self, what: str, way: str, took: "_Took", target: Target, **more: Any) -> None:
        """Print a line with both, and how many times faster ours is."""
        ours, theirs = (milliseconds(took.milliseconds[whose]) for whose in ("ours", "theirs"))
        print_figure(
            BENCHMARK,
            what,
            way=way,
            **{"files": self.files, "bytes": self.size, "workers": len(self.ours)} | more,
            **ours,
            limit={"what": "the documented loop", **theirs},
            ratio=round(theirs["p50"] / ours["p50"], 2),
            target=target,
            peer=Peer("rsync", _version(), {"loop": 'rsync --delete -arve "ssh -i KEY"'}),
        )

    @contextmanager
    def sshd(self) -> Iterator[None]:
        """A server of its own, that lets one key in."""
        for name in ("host_key", "key"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / name]
            subprocess.run(command, check=True)
        shutil.copy(self.folder / "key.pub", self.folder / "authorized_keys")
        host_key = (self.folder / "host_key.pub").read_text()
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {host_key}")
        config = self.folder / "sshd_config"
        config.write_text(SSHD.format(port=self.port, folder=self.folder))
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        with (self.folder / "sshd.log").open("wb") as log:
            process = subprocess.Popen([_sshd(), "-D", "-e", "-f", config], stderr=log)
        try:
            yield
        finally:
            process.terminate()
            process.wait()

    @contextmanager
    def watching(self) -> Iterator[subprocess.Popen[bytes]]:
        """`gatesync rsync --watch`."""
        (self.folder / "list").write_text("\n".join(self.lines()))
        with (self.folder / "rsync.log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *(GATESYNC, "rsync", "--watch", "--workers", "list"),
                    *("--source", self.source, "--identity-file", self.key),
                    *("--known-hosts", "known_hosts"),
                ],
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


async def _measure(bench: _Bench, options: argparse.Namespace) -> None:
    with bench.sshd():
        for name, measure in (
            *(("nothing", _nothing_changed), ("comparison", _compared), ("change", _changed)),
        ):
            if options.only in {None, name}:
                await measure(bench, options.rounds)


async def _nothing_changed(bench: _Bench, rounds: int) -> None:
    took = _Took()
    async with _Passes(bench, bench.lines()) as (tree, passes):
        await passes.run_pass(await _quiet(tree))
        bench.seed(bench.theirs)
        for _ in range(rounds):
            with took.ours():
                settled = await asyncio.to_thread(tree.look)
                assert settled.manifest is not None
                outcomes = await passes.run_pass(settled.manifest)
            assert {each.revision for each in outcomes} == {settled.manifest.revision}
            with took.theirs():
                bench.seed(bench.theirs)
    bench.print("nothing changed, a pass over all workers", "nothing", took, NOTHING)


async def _compared(bench: _Bench, rounds: int) -> None:
    took = _Took()
    bench.seed(bench.theirs)
    async with _Passes(bench, bench.lines()[:1]) as (tree, passes):
        manifest = await _quiet(tree)
        for _ in range(rounds):
            with took.ours():
                outcomes = await passes.run_pass(manifest, compare=True)
            assert outcomes[0].compared
            with took.theirs():
                bench.seed(bench.theirs[:1])
    bench.print("a full comparison of one worker", "comparison", took, COMPARED, workers=1)


async def _changed(bench: _Bench, rounds: int) -> None:
    took = _Took()
    bench.seed(bench.theirs)
    with bench.watching() as runner:
        _until_all_have(bench.ours, *bench.write(0, 2))
        for number in range(rounds):
            await asyncio.sleep(1.5)  # it has nothing to do, as at most times
            with took.ours():
                _until_all_have(bench.ours, *bench.write(number, 3))
            runner.send_signal(signal.SIGSTOP)  # else both would be at it at once
            with took.theirs():
                path, content = bench.write(number, 4)
                bench.seed(bench.theirs)
            runner.send_signal(signal.SIGCONT)
            assert (bench.theirs[-1] / path).read_bytes() == content
            _until_all_have(bench.ours, path, content)
    floor = {"moment_ms": MOMENT_SECONDS * 1000, "bare_rsyncs_ms": _bare(bench, rounds)}
    what = "one changed file, until the last worker has it"
    bench.print(what, "change", took, CHANGED, floor=floor)


def _bare(bench: _Bench, rounds: int) -> float:
    """Milliseconds of 8 rsyncs at once that bring that one file, over a kept connection."""
    ssh = f"ssh -F none -S {bench.folder}/s -o UserKnownHostsFile={bench.folder}/known_hosts"
    where = f"{bench.user}@127.0.0.1"
    master = [*ssh.split(), "-M", "-N", "-i", bench.key, "-p", str(bench.port), where]
    connection = subprocess.Popen(master)
    took = []
    try:
        while not (bench.folder / "s").exists():
            assert connection.poll() is None, "ssh ended"
            time.sleep(0.01)
        for number in range(rounds):
            path, _ = bench.write(number, 1)
            began = time.perf_counter()
            command = ["rsync", "-pI", "-e", ssh, bench.source / SERVER / path]
            all_at_once = [
                subprocess.Popen([*command, f"{where}:{worker}/{Path(path).parent}/"])
                for worker in bench.ours
            ]
            assert not any(each.wait() for each in all_at_once)
            took.append((time.perf_counter() - began) * 1000)
    finally:
        connection.terminate()
        connection.wait()
    return milliseconds(took)["p50"]


class _Took:
    """Milliseconds that turns took: ours, and those of the documented loop."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, list[float]] = {"ours": [], "theirs": []}

    @contextmanager
    def ours(self) -> Iterator[None]:
        """One turn of ours."""
        with self._turn("ours"):
            yield

    @contextmanager
    def theirs(self) -> Iterator[None]:
        """One turn of theirs."""
        with self._turn("theirs"):
            yield

    @contextmanager
    def _turn(self, whose: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.milliseconds[whose].append((time.perf_counter() - began) * 1000)


class _Passes:
    """Our passes over these workers, and the source; a context."""

    def __init__(self, bench: _Bench, lines: list[str]) -> None:
        settings = PassSettings(
            source=bench.source,
            folder=bench.folder / "work",
            ssh=SshSettings(identity_file=bench.key, known_hosts=bench.folder / "known_hosts"),
        )
        listed = parse_workers("\n".join(lines).encode(), "list")
        self._open = open_passes(settings, listed.workers)
        self._tree = SourceTree(bench.source, bench.folder / "source.json")

    async def __aenter__(self) -> tuple[SourceTree, Passes]:
        return self._tree, await self._open.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        await self._open.__aexit__(*error)


async def _quiet(tree: SourceTree) -> SourceManifest:
    while True:
        settled = await asyncio.to_thread(tree.look)
        if settled.manifest is not None and not settled.restless:
            return settled.manifest
        await asyncio.sleep(tree.moment)


def _until_all_have(workers: list[Path], path: str, content: bytes) -> None:
    left = [worker / path for worker in workers]
    deadline = time.monotonic() + SECONDS
    while left:
        assert time.monotonic() < deadline, f"not within {SECONDS:g} s: {left[0]}"
        left = [each for each in left if not each.exists() or each.read_bytes() != content]
        if left:
            time.sleep(0.002)


def _sshd() -> str | None:
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def _version() -> str:
    told = subprocess.run(["rsync", "--version"], capture_output=True, text=True, check=True)
    return told.stdout.split()[2]


if __name__ == "__main__":
    main()

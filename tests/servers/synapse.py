"""A real Apache Synapse, from Maven Central, that hot-deploys what lies in a saved tree."""

import fcntl
import hashlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template

import pytest

from tests.servers.gatesync import ask, free_ports, until

FILES = Path(__file__).parent / "synapse_engine"
PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
SERVER = "org.apache.synapse.SynapseServer"
MAVEN_SECONDS = 300.0
SCAN_SECONDS = 10.0  # Axis2 looks for changed files this often, and cannot be told otherwise
START_SECONDS = 60.0

# In the order that they are to be looked at in, each with what it deploys.
FOLDERS = {
    "local-entries": "LocalEntryDeployer",
    "endpoints": "EndpointDeployer",
    "sequences": "SequenceDeployer",
    "api": "APIDeployer",
}


class SynapseProcess:
    """One engine; `log` is what it said."""

    def __init__(self, folder: Path, configs: Path, jars: Path) -> None:
        self.log = folder / "synapse.log"
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        repository, axis2 = folder / "repository", folder / "axis2.xml"
        repository.mkdir(parents=True)
        axis2.write_text(
            Template((FILES / "axis2.xml").read_text()).substitute(
                port=self.port, deployers=_deployers(configs)
            )
        )
        command = ["java", "-Xmx128m", "-cp", f"{FILES}:{jars}/*", SERVER]
        command += [str(each) for each in (repository, axis2, folder, configs, repository)]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait_started(self) -> None:
        until(self._listens, "Synapse listens", START_SECONDS)

    def get(self, path: str) -> tuple[int, str]:
        """The status and the body of an answer."""
        assert self._process.poll() is None, self.log.read_text()
        answer = ask(self.url, path)
        return answer.status, answer.body.decode()

    def end(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        finally:
            self._process.kill()

    def _listens(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def synapse_engine(folder: Path, configs: Path) -> Iterator[SynapseProcess]:
    """An engine that serves the files of `configs`, a `synapse-configs/default`.

    Args:
        folder: of its own, which is made.
        configs: its sequences `main` and `fault` lie there already.
    """
    engine = SynapseProcess(folder, configs, synapse_jars())
    try:
        engine.wait_started()
        yield engine
    finally:
        engine.end()


def synapse_jars() -> Path:
    """The folder with the engine's jars, from Maven Central at the first time (9 MB).

    They are kept in the virtual environment, by the digest of what names them.
    """
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program}: apt-get install maven")
    digest = hashlib.sha256((FILES / "pom.xml").read_bytes() + PLUGIN.encode()).hexdigest()[:16]
    cache = Path(sys.prefix) / "synapse"
    jars = cache / digest
    cache.mkdir(exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other workers of this test run wait for the first
        if not jars.exists():
            _fetch(cache, jars)
    return jars


def _fetch(cache: Path, jars: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache) as part:
        command = ["mvn", "--batch-mode", "--quiet", "--strict-checksums"]
        command += ["--file", str(FILES / "pom.xml"), PLUGIN, f"-DoutputDirectory={part}/jars"]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=MAVEN_SECONDS, check=False
        )
        if done.returncode:
            pytest.skip(f"Maven Central does not give Apache Synapse: {done.stdout[-2000:]}")
        Path(part, "jars").rename(jars)


def _deployers(configs: Path) -> str:
    """The folders that it deploys from, named so that it looks at them in our order.

    Axis2 keeps them in a Java HashMap by their names: in which order it looks at them hangs on
    where the tree lies. An API that is written with a new sequence is deployed up to 2 s before
    that sequence where `api` happens to come first.
    """
    elements, places = [], 16 // len(FOLDERS)
    for number, (folder, deployer) in enumerate(FOLDERS.items()):
        names = (f"{configs}{'/.' * dots}/{folder}" for dots in range(200))
        name = next(name for name in names if _place_in_hash_map(name) // places == number)
        elements.append(
            f'  <deployer extension="xml" directory="{name}" '
            f'class="org.apache.synapse.deployers.{deployer}"/>'
        )
    return "\n".join(elements)


def _place_in_hash_map(text: str) -> int:
    """Which of the 16 places of a new Java HashMap a string takes."""
    value = 0
    for letter in text:
        value = (31 * value + ord(letter)) & 0xFFFFFFFF
    return (value ^ value >> 16) & 15

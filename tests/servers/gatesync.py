"""Roles of gatesync as real processes, on ports and in folders of their own, for tests."""

import http.client
import itertools
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psutil

from gatesync.publisher.tokens import Role as TokenRole
from gatesync.publisher.tokens import TokenFile

TIMEOUT = 60.0
LABEL = "Production and Sandbox"
EXAMPLES = Path(__file__).parents[2] / "examples"
GATESYNC = Path(sys.executable).with_name("gatesync")
HEARTBEAT_MS = 200
FIRST_PORT, PORTS_EACH, WORKERS = 10_240, 1_200, 8


class Answer(NamedTuple):
    """What an HTTP request was answered with."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reasons(self) -> str:
        return "\n".join(self.json()["reasons"])


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """The one document on standard output."""
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)


def until(condition: Callable[[], Any], what: str, timeout: float = TIMEOUT) -> Any:
    """Ask again until the condition holds; answers with what it gave."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(0.02)  # of another process: nothing to await
    return found


def free_ports(count: int) -> list[int]:
    """Ports that nobody has, and that no other worker of this test run will be given.

    They lie below the range that the system takes ports of outgoing connections from.
    """
    return [next(_ports) for _ in range(count)]


def _unused_ports() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = FIRST_PORT + worker % WORKERS * PORTS_EACH
    begin = os.getpid() % PORTS_EACH  # so that runs one after the other do not meet
    for number in itertools.count():
        port = first + (begin + number) % PORTS_EACH
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port


_ports = _unused_ports()


def ask(
    url: str,
    path: str,
    *,
    method: str = "GET",
    token: str | None = None,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request on one connection. A body may be bytes, chunks, or what becomes JSON.

    With https the certificate is not looked at: this is for what is said over the connection.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        unchecked = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT, context=unchecked)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    sent = {"Authorization": f"Bearer {token}"} if token is not None else {}
    if body is not None and not isinstance(body, bytes | Iterator):
        body = json.dumps(body).encode()
    if body is not None:
        sent["Content-Type"] = "application/json"
    try:
        connection.request(method, path, body, sent | dict(headers or {}))
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read())
    finally:
        connection.close()


class Role:
    """One process of gatesync; its log is in `log`."""

    def __init__(
        self, folder: Path, arguments: Sequence[str], ready: Sequence[str], env: Mapping[str, str]
    ) -> None:
        self.folder = folder
        self.arguments = arguments
        self.log = folder / f"{arguments[0]}.log"
        self._ready = ready  # URLs that answer once it does its work
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def start(self, *, wait: bool = True) -> "Role":
        """Returns once it is ready, unless told not to wait."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(GATESYNC), *self.arguments],
                cwd=self.folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        if wait:
            for url in self._ready:
                self.wait_for(lambda url=url: _is_ready(url), f"{url} is ready")
        return self

    def wait_for(self, condition: Callable[[], Any], what: str) -> Any:
        """As `until`, but at once when the process ends."""

        def or_dead() -> Any:
            assert self.alive, self.said()
            return condition()

        return until(or_dead, what)

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children(recursive=True)

    def rss(self) -> int:
        """Bytes that are resident now, from /proc."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Answers with the exit code, below zero for a signal."""
        assert self._process is not None
        self._process.send_signal(number)
        try:
            return self._process.wait(TIMEOUT)
        finally:
            self._process.kill()

    def end(self) -> None:
        """Stop it if it still runs."""
        if self.alive:
            self.stop()


def _is_ready(url: str) -> bool:
    try:
        return ask(url, "/health/ready").status == 200
    except OSError:
        return False


class Place:
    """A folder with a deployment.toml, three ports, and what runs there.

    Args:
        folder: that the roles and commands are run in.
        labels: of its gateway.
        node: its id.
        publisher: the URL of a publisher elsewhere.
        heartbeat_ms: between two heartbeats.
        save: whether its gateway keeps files, too; most tests do not care, and are faster so.
    """

    def __init__(
        self,
        folder: Path,
        *,
        labels: Sequence[str] = (LABEL,),
        node: str = "gw1",
        publisher: str | None = None,
        heartbeat_ms: int = HEARTBEAT_MS,
        save: bool = False,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        ports = free_ports(3)
        self.folder = folder
        self.node = node
        self.data = folder / "gatesync-data"
        self.publisher = f"http://127.0.0.1:{ports[0]}"
        self.gateway = f"http://127.0.0.1:{ports[1]}"
        self.broker_port = ports[2]
        self.config = folder / "deployment.toml"
        hub = f'[apim.event_hub]\nservice_url = "{publisher}"\n' if publisher else ""
        self.config.write_text(
            f"{hub}"
            "[apim.sync_runtime_artifacts.gateway]\n"
            f"gateway_labels = {json.dumps(list(labels), ensure_ascii=False)}\n"
            f"save_artifacts_locally = {json.dumps(save)}\n"
            f'[gatesync]\nnode_id = "{node}"\nheartbeat_interval = {heartbeat_ms}\n'
            f'[gatesync.publisher]\nlisten = "127.0.0.1:{ports[0]}"\n'
            f'[gatesync.gateway]\nlisten = "127.0.0.1:{ports[1]}"\n'
            f'[gatesync.traffic_manager]\nlisten = "127.0.0.1:{ports[2]}"\n'
        )
        self.started: list[Role] = []

    def role(self, name: str, **env: str) -> Role:
        """A role that runs here; it is ended with the place."""
        ready = {
            "up": (self.publisher, self.gateway),
            "publisher": (self.publisher,),
            "gateway": (self.gateway,),
        }.get(name, ())
        role = Role(self.folder, (name, "--config", str(self.config)), ready, environment(**env))
        self.started.append(role)
        return role

    def end(self) -> None:
        """The last to start is the first to stop."""
        for role in reversed(self.started):
            role.end()

    def run(self, *arguments: str | bytes | Path, **env: str) -> Done:
        """Run a command here, as its user would."""
        return run(self.folder, *arguments, **env)

    @property
    def operator(self) -> str:
        """The token that the publisher gave to whoever is at this machine."""
        (line,) = (
            line for line in (self.data / "client.toml").read_text().splitlines() if "token" in line
        )
        return line.split('"')[1]

    def node_token(self) -> str:
        return (self.data / "gateway.token").read_text().strip()

    def admin_token(self) -> str:
        return (self.data / "admin.token").read_text().strip()

    def give_token(self, other: "Place", *labels: str) -> None:
        """Give the gateway of another place a token of this place's publisher."""
        other.data.mkdir(mode=0o700, exist_ok=True)
        path = other.data / "gateway.token"
        path.write_text(self.create_token("node", other.node, *labels))
        path.chmod(0o600)

    def create_token(self, role: str, holder: str, *labels: str) -> str:
        return TokenFile(self.data / "tokens.json").create(TokenRole(role), holder, labels)

    def ask(self, path: str, **more: Any) -> Answer:
        """Ask the publisher, with the operator's token unless another is given."""
        return ask(self.publisher, path, **({"token": self.operator} | more))

    def heads(self) -> Any:
        """Where every label stands."""
        answer = self.ask("/v1/labels")
        assert answer.status == 200, answer.body
        return answer.json()["labels"]

    def health(self) -> Answer:
        """The gateway's readiness, as its operator is told it; `OSError` before it listens."""
        return ask(self.gateway, "/health/ready", token=self.admin_token())

    def held(self) -> dict[str, str]:
        """Names and digests of what the gateway serves, recomputed by it from its bytes."""
        answer = ask(self.gateway, "/v1/held", token=self.admin_token())
        assert answer.status == 200, answer.body
        return {each["name"]: each["digest"] for each in answer.json()["artifacts"]}


@contextmanager
def place(folder: Path, **options: Any) -> Iterator[Place]:
    """A place whose roles are ended with the block."""
    made = Place(folder, **options)
    try:
        yield made
    finally:
        made.end()


def run(folder: Path, *arguments: str | bytes | Path, **env: str) -> Done:
    """Run `gatesync` with these arguments; a traceback is a failure whatever the test is about."""
    done = subprocess.run(
        [GATESYNC, *arguments],
        cwd=folder,
        env=environment(**env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT * 2,
        check=False,
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    assert "Traceback" not in out + err, err
    if "--json" in arguments and out:
        json.loads(out)
    return Done(done.returncode, out, err)


def environment(**more: str) -> dict[str, str]:
    """The tests' own environment without what would name another publisher."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GATESYNC_")}
    return kept | more


def sequence_xml(name: str, text: str = "hello") -> bytes:
    """A Synapse file: the smallest thing that can be published."""
    return (
        f'<sequence xmlns="http://ws.apache.org/ns/synapse" name="{name}">'
        f'<log><property name="p" value="{text}"/></log></sequence>'
    ).encode()


def document(name: str, content: bytes | None = None, **changed: Any) -> dict[str, Any]:
    """The artifact document of such a file, as HTTP takes it."""
    text = (sequence_xml(name) if content is None else content).decode()
    part = {"role": "sequence", "name": name, "path": f"sequences/{name}.xml", "text": text}
    whole = {
        "format": "gatesync.artifact/1",
        "tenant": "carbon.super",
        "kind": "sequence",
        "name": name,
        "version": "",
        "api_id": "",
        "parts": [part],
        "extra": {},
    }
    return whole | changed


def publishing(*documents: dict[str, Any], label: str = LABEL, **more: Any) -> dict[str, Any]:
    """The body of a request that publishes these."""
    return {"labels": [label], "publish": [{"artifact": each} for each in documents]} | more

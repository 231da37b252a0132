"""A real Envoy that serves what the translation made, and upstreams that remember what arrived."""

import http.client
import os
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from envoy.config.bootstrap.v3 import bootstrap_pb2
from google.protobuf import json_format

from gatesync.artifacts.model import SUPER_TENANT, Artifact, Identity, Part
from gatesync.artifacts.synapse import artifact_from_xml
from gatesync.engines.envoy.bootstrap import RUNTIME
from gatesync.engines.envoy.listener import static_listener
from gatesync.engines.envoy.node import Node
from gatesync.engines.envoy.options import Options
from gatesync.engines.envoy.process import find_envoy
from gatesync.engines.envoy.resources import CLUSTER, SCOPE
from tests.servers.gatesync import free_ports
from tests.web.certificates import Pair

TIMEOUT = 30.0
NAMESPACE = 'xmlns="http://ws.apache.org/ns/synapse"'


class Seen(NamedTuple):
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: str


class Answered(NamedTuple):
    """An answer as the client got it."""

    status: int
    headers: dict[str, str]
    body: str


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream: ClassVar["Upstream"]

    def _any(self) -> None:
        length = int(self.headers.get("content-length", 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(length).decode()
        self.upstream.seen.append(Seen(self.command, self.path, headers, body))
        time.sleep(float(headers.get("x-slow", "0")))
        if "x-hang-up" in headers:
            self.close_connection = True
            return
        answer = b"" if self.command == "HEAD" else f"from {self.upstream.name}".encode()
        self.send_response_only(int(headers.get("x-want", "200")))
        self.send_header("server", "upstream/1")
        self.send_header("x-upstream", self.upstream.name)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(answer)))
        with suppress(BrokenPipeError, ConnectionResetError):  # who asked may wait no longer
            self.end_headers()
            self.wfile.write(answer)
            self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        """Nothing: pytest shows what failed."""


for _method in ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"):
    setattr(_Handler, f"do_{_method}", _Handler._any)


class Upstream:
    """Answers everything, and remembers it."""

    def __init__(self, name: str, certificate: Pair | None = None) -> None:
        self.name = name
        self.seen: list[Seen] = []
        handler = type("Handler", (_Handler,), {"upstream": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.certificate, certificate.key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Serving:
    """An Envoy that runs, and its upstreams by name."""

    def __init__(self, port: int, upstreams: Mapping[str, Upstream]) -> None:
        self.port = port
        self.upstreams = upstreams

    def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: str | None = None,
    ) -> Answered:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("content-length", str(len(body.encode())))
            connection.endheaders(body.encode() if body else None)
            answer = connection.getresponse()
            given = {name.lower(): value for name, value in answer.getheaders()}
            return Answered(answer.status, given, answer.read().decode())
        finally:
            connection.close()

    def through(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: str | None = None,
        *,
        upstream: str = "UP",
    ) -> tuple[Seen, Answered]:
        """Ask, and say what arrived at an upstream: this request and no other."""
        seen = self.upstreams[upstream].seen
        seen.clear()
        answer = self.ask(method, path, headers, body)
        (arrived,) = seen
        return arrived, answer


def api(context: str, inner: str, attributes: str = "", tenant: str = SUPER_TENANT) -> Artifact:
    """An API that is named after its context."""
    name = context.strip("/").replace("/", "-")
    xml = f'<api {NAMESPACE} name="{name}" context="{context}" {attributes}>{inner}</api>'
    return artifact_from_xml(xml.encode(), f"{name}.xml", tenant=tenant)


def resource(into: str, out: str | None = None, attributes: str = 'methods="GET POST"') -> str:
    """A resource with these sequences."""
    sequence = "" if out is None else f"<outSequence>{out}</outSequence>"
    return f"<resource {attributes}><inSequence>{into}</inSequence>{sequence}</resource>"


def send(endpoint: str) -> str:
    return f"<send><endpoint>{endpoint}</endpoint></send>"


def shared(xml: str) -> Artifact:
    """A sequence, an endpoint or a local entry."""
    marked = xml.replace(" ", f" {NAMESPACE} ", 1)
    return artifact_from_xml(marked.encode(), "shared.xml")


def policy(name: str, text: str) -> Artifact:
    identity = Identity(SUPER_TENANT, "policy", name)
    part = Part("policy", name, f"executionplans/{name}.siddhi", text.encode())
    return Artifact(identity, identity.default_api_id(), (part,))


def bootstrap_of(node: Node) -> str:
    """A configuration that never changes, with everything of a node in it."""
    config = json_format.ParseDict({"layered_runtime": RUNTIME}, bootstrap_pb2.Bootstrap())
    resources = node.resources()
    scopes = resources.of(SCOPE).values()
    config.static_resources.listeners.append(static_listener(node.options, scopes))
    config.static_resources.clusters.extend(resources.of(CLUSTER).values())
    return json_format.MessageToJson(config, indent=None)


def filled(artifact: Artifact, ports: Mapping[str, int]) -> Artifact:
    """With `@UP@` and the like replaced by addresses, `@UP.port@` by a port alone."""

    def content(part: Part) -> bytes:
        text = part.content
        for name, port in ports.items():
            text = text.replace(f"@{name}.port@".encode(), str(port).encode())
            text = text.replace(f"@{name}@".encode(), f"127.0.0.1:{port}".encode())
        return text

    parts = tuple(Part(each.role, each.name, each.path, content(each)) for each in artifact.parts)
    return Artifact(artifact.identity, artifact.api_id, parts, artifact.extra)


@contextmanager
def serving(
    folder: Path,
    artifacts: Iterable[Artifact],
    *,
    certificate: Pair | None = None,
    **options: Any,
) -> Iterator[Serving]:
    """Serve the artifacts; upstreams are `UP`, `OTHER`, `TLS` (with a certificate), none at `DOWN`.

    No artifact may be refused.
    """
    upstreams = {name: Upstream(name) for name in ("UP", "OTHER")}
    if certificate is not None:
        upstreams["TLS"] = Upstream("TLS", certificate)
    port, down = free_ports(2)
    ports = {name: each.port for name, each in upstreams.items()} | {"DOWN": down}
    node = Node(Options(port=port, **options))
    try:
        applied = node.apply([filled(each, ports) for each in artifacts], ())
        assert applied.refused == {}
        with envoy(folder, bootstrap_of(node), port):
            yield Serving(port, upstreams)
    finally:
        for each in upstreams.values():
            each.close()


@contextmanager
def envoy(folder: Path, config: str, port: int) -> Iterator[None]:
    """A process that listens on the port while the block runs."""
    file, log = folder / "envoy.json", folder / "envoy.log"
    file.write_text(config)
    command = [str(find_envoy(None)), "-c", str(file), "--disable-hot-restart"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--concurrency", "1", "-l", "warning"], stdout=out, stderr=out
        )
    try:
        deadline = time.monotonic() + TIMEOUT
        while not _listens(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)  # another process: nothing to await
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(TIMEOUT)
    assert "critical" not in log.read_text()


def _listens(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.connect()
    except ConnectionRefusedError:
        return False
    connection.close()
    return True


def validate(folder: Path, config: str) -> str:
    """What Envoy has against a configuration; empty: nothing."""
    file = folder / "validated.json"
    file.write_text(config)
    result = subprocess.run(
        [str(find_envoy(None)), "--mode", "validate", "-c", str(file), "-l", "error"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT * 4,
        env={"PATH": os.environ.get("PATH", "")},
        check=False,
    )
    return "" if result.returncode == 0 else result.stdout + result.stderr

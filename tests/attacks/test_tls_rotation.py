"""Certificates are renewed under load: nobody notices, but that new connections see the new one.

Twenty rotations over HTTP, with a shorter look at the files, are in tests/web/test_tls.py.
"""

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.attacks.handshakes import broker_handshake
from tests.servers.gatesync import Place, document, place, publishing, until
from tests.web.certificates import LOOPBACK, Authority, Pair
from tests.web.test_tls import lay

pytestmark = pytest.mark.promise(8)

HOST = "127.0.0.1"
ROTATIONS = 3


class Load:
    """Does the same thing over and over in a thread, and remembers what failed."""

    def __init__(self, what: str, once: Callable[[int], None]) -> None:
        self.what = what
        self.done = 0
        self.failed: list[str] = []
        self._once = once
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._once(self.done)
                self.done += 1
            except (OSError, http.client.HTTPException, AssertionError) as error:
                self.failed.append(f"{self.what}, number {self.done}: {error!r}")
                self._ended.wait(0.1)

    def goes_on(self, more: int = 5) -> None:
        """Wait until it was done a few times more."""
        wanted = self.done + more
        until(lambda: self.done >= wanted or self.failed, f"{self.what} goes on")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def live(tmp_path: Path, authority: Authority) -> Pair:
    files = Pair(tmp_path / "live.pem", tmp_path / "live.key")
    lay(authority.issue("first", *LOOPBACK), files)
    return files


@pytest.fixture
def here(tmp_path: Path, authority: Authority, live: Pair) -> Iterator[Place]:
    with place(tmp_path / "here") as made:
        made.publisher = made.publisher.replace("http:", "https:")
        made.gateway = made.gateway.replace("http:", "https:")
        with made.config.open("a") as config:
            config.write(
                f'[gatesync.tls]\ncertificate = "{live.certificate}"\nkey = "{live.key}"\n'
                f'ca = "{authority.file}"\n'
            )
        made.role("up").start()
        yield made


def test_certificates_are_rotated_under_load_without_a_failed_request(
    here: Place, authority: Authority, live: Pair
) -> None:
    """HTTP and NATS, kept connections and new ones; the broker's process and connections stay."""
    context = ssl.create_default_context(cafile=str(authority.file))
    (role,) = here.started
    (broker,) = role.children()
    here.ask("/v1/changes", method="POST", body=publishing(document("before")))
    until(lambda: "before" in here.held(), "the gateway has the first")
    kept = connections(broker)
    assert len(kept) == 2  # the publisher's and the gateway's
    port = int(here.publisher.rpartition(":")[2])
    staying = http.client.HTTPSConnection(HOST, port, timeout=30, context=context)
    headers = {"Authorization": f"Bearer {here.operator}", "Content-Type": "application/json"}

    def connect(_: int) -> None:
        connection = http.client.HTTPSConnection(HOST, port, timeout=30, context=context)
        connection.request("GET", "/health/live")
        assert connection.getresponse().status == 200
        connection.close()

    def publish(number: int) -> None:
        body = publishing(document(f"n{number % 50}", extra={"number": number}))
        staying.request("POST", "/v1/changes", encoded(body), headers)
        answer = staying.getresponse()
        answer.read()
        assert answer.status == 200

    def connect_to_broker(_: int) -> None:
        broker_handshake(HOST, here.broker_port, context)

    loads = (
        Load("a new connection", connect),
        Load("a publish on one connection", publish),
        Load("a new connection to the broker", connect_to_broker),
    )
    with loads[0], loads[1], loads[2]:
        for number in range(ROTATIONS):
            pair = authority.issue(f"next-{number}", *LOOPBACK)
            lay(pair, live)
            shown = ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())
            until(lambda s=shown: http_peer(port, context) == s, "the publisher shows it")
            until(
                lambda s=shown: broker_handshake(HOST, here.broker_port, context) == s,
                "the broker shows it",
            )
            for load in loads:
                load.goes_on()
    staying.close()
    assert [failure for load in loads for failure in load.failed] == []
    assert role.children() == [broker]
    until(lambda: connections(broker) == kept, "only the two connections are left")
    assert "broker.lost" not in role.said()
    served = {f"n{number}" for number in range(min(50, loads[1].done))} | {"before"}
    until(lambda: set(here.held()) == served, "the gateway has all of them")


def encoded(body: Any) -> bytes:
    return json.dumps(body).encode()


def http_peer(port: int, context: ssl.SSLContext) -> bytes | None:
    """The certificate that a new connection is shown."""
    with (
        socket.create_connection((HOST, port), 30) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as connection,
    ):
        return connection.getpeercert(binary_form=True)


def connections(process: psutil.Process) -> set[Any]:
    return {each.raddr for each in process.net_connections("tcp") if each.status == "ESTABLISHED"}

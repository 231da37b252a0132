"""Who is slow, large or many costs a real process little, and nobody else anything.

The limits one by one, without a process: tests/web/test_limits.py (connections), test_guard.py
(bodies) and test_limits_rates.py; what no body may hold: tests/web/test_bad_requests.py.
"""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from gatesync.artifacts.compression import compress
from tests.servers.gatesync import LABEL, Place, Role, ask, document, place, publishing
from tests.servers.gatesync import until as wait_until

pytestmark = pytest.mark.promise(8)

ROOT = Path(__file__).parents[2]
MIB = 1024 * 1024
LARGEST = 8 * MIB  # a request of this publisher's, where others take 64 MiB
ASKING = 64 * 1024  # of who may not publish
MANY = 200
GROWTH = 160 * MIB  # four requests of that size, and what they become on the way


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("limits")) as made:
        text = made.config.read_text()
        limits = f"[gatesync.publisher]\nrequest_max_bytes = {LARGEST}\n"
        made.config.write_text(
            f"{text.replace('[gatesync.publisher]', limits.strip(), 1)}"
            '[gatesync.event_hub]\nadapter = "tests.attacks.impatient:open_nats_hub"\n'
        )
        made.role("up", PYTHONPATH=str(ROOT)).start()
        yield made


@pytest.fixture
def node(cluster: Place) -> str:
    return cluster.create_token("node", "thief", LABEL)


def peak(role: Role) -> int:
    """The most bytes that were ever resident, from /proc."""
    status = Path(f"/proc/{role.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


@contextmanager
def small_and_serving(cluster: Place) -> Iterator[None]:
    """While the block lasts, memory stays below its cap; then everybody is served as before."""
    (role,) = cluster.started
    Path(f"/proc/{role.pid}/clear_refs").write_text("5")  # the peak begins anew
    before = role.rss()
    yield
    grown = peak(role) - before
    assert grown < GROWTH, f"{grown / MIB:.0f} MiB"
    assert role.alive
    assert cluster.ask("/v1/labels").status == 200
    assert ask(cluster.gateway, "/health/ready").status == 200
    assert "Traceback" not in role.said()


def connect(url: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 30)


def rest_of(connection: socket.socket) -> bytes:
    """What comes until the other side ends the connection, or resets it."""
    got = b""
    try:
        while piece := connection.recv(65536):
            got += piece
    except ConnectionError:
        pass
    return got


def post(token: str, length: object, path: str = "/v1/changes") -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def published(name: str) -> bytes:
    return json.dumps(publishing(document(name))).encode()


def test_many_slow_connections_end_and_others_are_served(cluster: Place) -> None:
    beginnings = (
        b"",
        b"GET /health/live HTTP/1.1\r\nHost: h\r\n",
        b"GET /" + b"x" * 1000,
        post("nobody", 1000)[:-2],
        post(cluster.operator, MIB) + b"x" * 100,
    )
    with small_and_serving(cluster), ExitStack() as stack:
        slow = [
            stack.enter_context(connect(url))
            for url in (cluster.publisher, cluster.gateway)
            for _ in range(MANY)
        ]
        for number, connection in enumerate(slow):
            connection.sendall(beginnings[number % len(beginnings)])
        assert ask(cluster.publisher, "/health/ready").status == 200
        assert ask(cluster.gateway, "/health/ready").status == 200
        for connection in slow:
            assert b"200 OK" not in rest_of(connection)


@pytest.mark.parametrize("of", ["publisher", "gateway"])
def test_heads_without_end_are_refused(cluster: Place, of: str) -> None:
    url = cluster.publisher if of == "publisher" else cluster.gateway
    with small_and_serving(cluster):
        for head in (b"GET / HTTP/1.1\r\n" + b"a: " + b"x" * MIB, b"GET /" + b"x" * MIB):
            with connect(url) as connection, ignoring_resets():
                connection.sendall(head)
                assert rest_of(connection).startswith((b"HTTP/1.1 431 ", b""))
        many = "".join(f"h{number}: x\r\n" for number in range(10_000)).encode()
        with connect(url) as connection, ignoring_resets():
            connection.sendall(b"GET /health/live HTTP/1.1\r\n" + many + b"\r\n")
            assert b"200 OK" not in rest_of(connection)


@contextmanager
def ignoring_resets() -> Iterator[None]:
    with suppress(ConnectionError):
        yield


def test_many_huge_bodies_of_one_credential_are_not_held(cluster: Place) -> None:
    """Each misses its last byte; other credentials, and small requests, are answered meanwhile."""
    other = cluster.create_token("publish", "other")
    piece = b" " * MIB
    with small_and_serving(cluster), ExitStack() as stack:
        answers: list[bytes] = []
        for _ in range(30):
            connection = stack.enter_context(connect(cluster.publisher))
            with ignoring_resets():
                connection.sendall(post(cluster.operator, LARGEST))
                for _ in range(LARGEST // MIB - 1):
                    connection.sendall(piece)
                connection.sendall(piece[:-1])
            connection.setblocking(False)
            with ignoring_resets():
                try:
                    answers.append(connection.recv(65536))
                except BlockingIOError:
                    answers.append(b"")
            connection.setblocking(True)
        body = json.loads(published("meanwhile"))
        assert cluster.ask("/v1/changes", method="POST", body=body, token=other).status == 200
        assert cluster.ask("/v1/labels").status == 200


@pytest.mark.parametrize("role", ["node", "read"])
def test_who_may_not_publish_has_nothing_large_decoded(cluster: Place, role: str) -> None:
    labels = [LABEL] if role == "node" else []
    token = cluster.create_token(role, f"large-{role}", *labels)
    lists = b'{"labels":["l"],"publish":[{"artifact":{"extra":[' + b"[]," * ASKING + b"1]}}]}"
    bomb = compress(b" " * (64 * MIB))
    with small_and_serving(cluster):
        for path in ("/v1/changes", "/v1/plans", "/v1/labels/confirm", "/v1/verifications"):
            with connect(cluster.publisher) as connection, ignoring_resets():
                connection.sendall(post(token, len(lists), path))
                answered = rest_of(connection)  # before there is any of the body
                assert answered.startswith(b"HTTP/1.1 413 ")
                assert f"a request has at most {ASKING} bytes".encode() in answered
            headers = {"Content-Encoding": "zstd"}
            answer = cluster.ask(path, method="POST", body=bomb, token=token, headers=headers)
            assert answer.status == 400, answer.body
            assert f"decompresses to more than {ASKING} bytes" in answer.reasons


def test_bombs_without_a_token_are_not_opened(cluster: Place) -> None:
    bomb = compress(b" " * (256 * MIB))
    headers = {"Content-Encoding": "zstd"}
    with small_and_serving(cluster):
        for url in (cluster.publisher, cluster.gateway):
            for path, status in (("/v1/changes", 401), ("/v1/events", 401), ("/health/ready", 413)):
                answer = ask(url, path, method="POST", body=bomb, headers=headers)
                assert answer.status == status, answer.body


def test_a_length_that_is_not_the_bodys_changes_nothing_that_was_not_asked(cluster: Place) -> None:
    body = published("whole")
    before = cluster.heads()
    with small_and_serving(cluster):
        with connect(cluster.publisher) as connection:  # it says more, and ends
            connection.sendall(post(cluster.operator, len(body) + 1) + body)
            connection.shutdown(socket.SHUT_WR)
            assert b"200 OK" not in rest_of(connection)
        with connect(cluster.publisher) as connection:  # it says less: the body is cut short
            connection.sendall(post(cluster.operator, len(body) - 1) + body)
            assert rest_of(connection).startswith(b"HTTP/1.1 400 ")
        for wrong in ("-1", "1e3", "0x10", "18446744073709551617"):
            with connect(cluster.publisher) as connection:
                connection.sendall(post(cluster.operator, wrong) + body)
                assert b" 200 OK" not in rest_of(connection)
        assert cluster.heads() == before


def test_a_request_hidden_behind_a_wrong_length_needs_a_token_of_its_own(cluster: Place) -> None:
    """What follows a body is a request by itself, asked by nobody."""
    hidden = post("", len(published("smuggled"))) + published("smuggled")
    hidden = hidden.replace(b"Host:", b"Connection: close\r\nHost:")
    outer = published("outer")
    with connect(cluster.publisher) as connection:
        connection.sendall(post(cluster.operator, len(outer)) + outer + hidden)
        answers = rest_of(connection)
    assert answers.count(b"HTTP/1.1 200 ") == 1
    assert answers.count(b"HTTP/1.1 401 ") == 1
    names = {each["entry"]["name"] for each in cluster.ask("/v1/artifacts").json()["artifacts"]}
    assert "smuggled" not in names


def test_too_many_labels_or_artifacts_in_one_request_are_refused(cluster: Place) -> None:
    before = cluster.heads()
    for body, reason in (
        ({"labels": [f"l{n}" for n in range(101)], "remove": ["x"]}, "101 labels; at most 100"),
        ({"labels": ["l"], "remove": [f"x{n}" for n in range(20_001)]}, "20001 artifacts; at most"),
    ):
        answer = cluster.ask("/v1/changes", method="POST", body=body)
        assert answer.status == 400, answer.body
        assert reason in answer.reasons
    assert cluster.heads() == before


def test_digests_and_labels_asked_for_at_once_are_limited(cluster: Place, node: str) -> None:
    with small_and_serving(cluster):
        label = quote(LABEL)
        for path in (
            "/v1/frames/" + "A" * 60_000,
            f"/v1/manifest?label={label}&limit=1000000",
            "/v1/heads?" + "&".join(f"label={label}" for _ in range(3_000)),
        ):
            assert cluster.ask(path, token=node).status < 500


def test_it_is_still_the_same_process(cluster: Place) -> None:
    """Runs last."""
    (role,) = cluster.started
    assert role.alive
    assert "a request failed" not in role.said()
    process = psutil.Process(role.pid)
    settled: Callable[[], bool] = lambda: len(process.net_connections("tcp")) < 30  # noqa: E731
    wait_until(settled, "no connection of an attacker is left")

"""A cluster whose gateways trust keys, and those who try to have them deploy something else.

thief   knows the broker's login of the publishers, and the push token; has a key of their own
liar    answers for the publisher over HTTP, and changes what it says
"""

import asyncio
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec

from gatesync.artifacts.changes import ChangeSet, Entry
from gatesync.artifacts.digests import digest_of
from gatesync.artifacts.signatures import Signer, TrustedKey
from gatesync.events.messages import ChangeAnnounced, HeadsAnnounced, announce_change, encode
from gatesync.events.nats_credentials import read_credentials_file
from gatesync.events.pushed import EVENT_TYPE, EVENTS_PATH
from gatesync.publisher.requests import ChangeAnswer
from tests.contracts.hub import connected
from tests.events.nodes import publishers_hub
from tests.servers.gatesync import (
    TIMEOUT,
    Answer,
    Place,
    Role,
    ask,
    document,
    free_ports,
    place,
    publishing,
    sequence_xml,
    until,
)

SHOP, OTHER = "Shop", "Other"
THIEF = Signer(bytes(range(7, 39)))
_METRIC = re.compile(r"^gatesync_gateway_untrusted_total\{(.+)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="(\w+)"')

Lie = Callable[[Any], Any]


class Liar:
    """A proxy before the publisher's HTTP.

    Attributes:
        lies: by path, what becomes of the JSON of a good answer; raising `KeyError` is a 410.
        frozen: what it answered goes on being its answer; it answers nothing else.
        up: whether it answers at all.
    """

    def __init__(self, publisher: str) -> None:
        self.lies: dict[str, Lie] = {}
        self.frozen = False
        self.up = True
        self._publisher = publisher.removeprefix("http://")
        self._said: dict[str, tuple[int, dict[str, str], bytes]] = {}
        (self.port,) = free_ports(1)
        liar = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                liar._answer(self, b"")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                liar._answer(self, body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def honest(self) -> None:
        self.lies.clear()
        self._said.clear()
        self.frozen, self.up = False, True

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(TIMEOUT)

    def _answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        if not self.up:
            handler.close_connection = True
            return
        known = self._said.get(handler.path) if self.frozen else None
        if self.frozen and known is None:
            handler.close_connection = True
            return
        status, headers, answer = known or self._ask(handler, body)
        self._said[handler.path] = status, headers, answer
        path = handler.path.partition("?")[0]
        if status == 200 and path in self.lies:
            try:
                answer = json.dumps(self.lies[path](json.loads(answer))).encode()
            except KeyError:
                status = 410
                problem = {"format": "gatesync.http/1", "code": "too-old", "reasons": ["list"]}
                answer = json.dumps(problem).encode()
        handler.send_response(status)
        for name in ("Content-Type", "Retry-After"):
            if name in headers:
                handler.send_header(name, headers[name])
        handler.send_header("Content-Length", str(len(answer)))
        handler.end_headers()
        handler.wfile.write(answer)

    def _ask(
        self, handler: BaseHTTPRequestHandler, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        connection = HTTPConnection(self._publisher, timeout=TIMEOUT)
        try:
            sent = {
                name: handler.headers[name]
                for name in ("Authorization", "Content-Type", "Accept")
                if name in handler.headers
            }
            connection.request(handler.command, handler.path, body or None, sent)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()


def too_old(_: Any) -> Any:
    """Have the gateway read the list instead of a difference."""
    raise KeyError


class Gateway:
    """A gateway process, and what it says of itself."""

    def __init__(self, where: Place, role: Role) -> None:
        self.where = where
        self.role = role

    def refused(self) -> dict[tuple[str, str], int]:
        """How much it did not trust, by way and reason; what it refused nothing of is left out."""
        answer = ask(self.where.gateway, "/metrics", token=self.where.admin_token())
        assert answer.status == 200
        found = {}
        for labels, number in _METRIC.findall(answer.body.decode()):
            names = dict(_LABEL.findall(labels))
            found[names["way"], names["reason"]] = int(float(number))
        assert found
        return {key: number for key, number in found.items() if number}

    def status(self) -> Any:
        return ask(self.where.gateway, "/v1/status", token=self.where.admin_token()).json()

    def label(self, label: str = SHOP) -> Any:
        (found,) = [each for each in self.status()["labels"] if each["label"] == label]
        return found

    def held(self) -> dict[str, str]:
        return self.where.held()

    def push(self, message: bytes) -> Answer:
        token = (self.where.data / "push.token").read_text().strip()
        headers = {"Content-Type": EVENT_TYPE}
        return ask(
            self.where.gateway, EVENTS_PATH, method="POST", token=token, body=message,
            headers=headers,
        )  # fmt: skip

    @contextmanager
    def refusing(self, way: str, why: str) -> Iterator[None]:
        """What the block does has to be refused in this way, and nothing served may change."""
        before, held = self.refused(), self.held()
        yield
        until(
            lambda: self.refused().get((way, why), 0) > before.get((way, why), 0),
            f"{self.where.node} refuses by {way} what is {why}",
        )
        assert self.held() == held


class SignedCluster:
    """Everything in one publisher, and gateways that read it in different ways."""

    def __init__(self, main: Place, key: TrustedKey, second: TrustedKey) -> None:
        self.main = main
        self.key = key
        self.second = second
        self.gateways: dict[str, Gateway] = {}

    def change(self, label: str = SHOP, **body: Any) -> ChangeSet:
        """Publish or remove as an operator does; the signed change set."""
        answer = self.main.ask("/v1/changes", method="POST", body={"labels": [label]} | body)
        assert answer.status == 200, answer.body
        (made,) = msgspec.json.decode(answer.body, type=ChangeAnswer).change_sets
        return made

    def publish(self, name: str, text: str = "hello", label: str = SHOP) -> ChangeSet:
        return self.change(**publishing(document(name, sequence_xml(name, text)), label=label))

    def announce(self, label: str, message: bytes) -> None:
        """Say something on the broker as a publisher does."""

        async def say() -> None:
            login = read_credentials_file(self.main.data / "broker-credentials.json").publisher
            url = f"nats://127.0.0.1:{self.main.broker_port}"
            async with publishers_hub(url, login) as hub:
                await connected(hub)
                await hub.announce(label, message)

        asyncio.run(asyncio.wait_for(say(), TIMEOUT))


def event_of(change_set: ChangeSet, *contents: bytes) -> bytes:
    """The event that tells of a change set, with what it publishes."""
    return encode(announce_change(change_set, {digest_of(each): each for each in contents}))


def bare(change_set: ChangeSet) -> bytes:
    return encode(ChangeAnnounced(change_set))


def heartbeat(*heads: Any) -> bytes:
    return encode(HeadsAnnounced(tuple(heads), "thief", 1))


def evil(entry: Entry, content: bytes = b"evil") -> Entry:
    """The same artifact with other bytes."""
    return msgspec.structs.replace(entry, digest=digest_of(content), size=len(content))


def trusting(*keys: str) -> str:
    """The lines that have a gateway trust these; `KEY@LABEL` for one label only."""
    lines = []
    for key in keys:
        public, _, label = key.partition("@")
        lines.append(f'[[gatesync.trusted_keys]]\nkey = "{public}"\n')
        if label:
            lines.append(f'labels = ["{label}"]\n')
    return "".join(lines)


def add(where: Place, lines: str) -> None:
    with where.config.open("a") as config:
        config.write(lines)


@contextmanager
def signed_cluster(folder: Path, liar: list[Liar]) -> Iterator[SignedCluster]:
    """Publisher, broker and `main`; `lied`, which reads through a liar; `direct`, the database."""
    labels = [SHOP, OTHER]
    with place(folder / "main", labels=labels, node="main") as main:
        keys = []
        for _ in range(2):
            done = main.run("keys", "create", "--json")
            assert done.code == 0, done.err
            keys.append(TrustedKey.parse(done.json()["public"]))
        first, second = keys
        plain = main.config.read_text()
        main.config.write_text(plain + trusting(first.text, f"{second.text}@{OTHER}"))
        up = main.role("up").start()
        made = SignedCluster(main, first, second)
        made.gateways["main"] = Gateway(main, up)
        lying = Liar(main.publisher)
        liar.append(lying)
        try:
            with (
                place(folder / "lied", labels=labels, node="lied", publisher=lying.url) as lied,
                place(
                    folder / "direct", labels=labels, node="direct", publisher=main.publisher
                ) as direct,
            ):
                _insert(lied, "apim.event_hub", "enable = false")
                gateway = "apim.sync_runtime_artifacts.gateway"
                _insert(lied, gateway, 'data_retrieval_mode = "async"')
                url = f'url = "jdbc:sqlite:{main.data / "artifacts.db"}"\n'
                add(direct, f'[database.sync_runtime_artifacts_db]\ntype = "sqlite"\n{url}')
                for where in (lied, direct):
                    add(where, trusting(first.text, second.text))
                    main.give_token(where, *labels)
                    role = where.role("gateway").start(wait=False)
                    made.gateways[where.node] = Gateway(where, role)
                made.publish("bread")
                made.publish("menu", label=OTHER)
                for gateway in made.gateways.values():
                    role = gateway.role
                    role.wait_for(
                        lambda g=gateway: _serves(g, {"bread", "menu"}), "it serves what is signed"
                    )
                yield made
        finally:
            lying.close()


def _insert(where: Place, table: str, line: str) -> None:
    text = where.config.read_text()
    assert text.count(f"[{table}]\n") == 1
    where.config.write_text(text.replace(f"[{table}]\n", f"[{table}]\n{line}\n"))


def _serves(gateway: Gateway, names: set[str]) -> bool:
    try:
        return set(gateway.held()) >= names
    except OSError:
        return False

"""TLS that does not hold, between real processes: refused, named, nothing served; mended, it works.

Five gateways start at once, and each is wrong in another way: as a client of publisher and broker,
and as the server that the publisher pushes to. Then the files are put right, and nothing is
restarted. What the command line says of each is in tests/cli/test_tls.py, twenty rotations and
less than TLS 1.2 over HTTP in tests/web/test_tls.py, a hub that meets such brokers in
tests/events/test_nats_access.py.
"""

import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.attacks.handshakes import asked, broker_greets, broker_handshake, old_tls
from tests.servers.gatesync import LABEL, Place, document, publishing, run, until
from tests.web.certificates import LOOPBACK, Authority, Pair
from tests.web.test_tls import lay

pytestmark = pytest.mark.promise(8)

HOST = "127.0.0.1"  # what the servers' first certificates are for
# Its reason, which it sends with the end of the connection, may be overtaken by that.
BROKER_HANGS_UP = "broker.(tls_failed.*name a certificate that it accepts|unreachable)"
OURS, THEIRS = "only who has a certificate", "does not (trust the authority of|accept) our"


class Wrong(NamedTuple):
    """A gateway, what it says of publisher and broker, and what the publisher says of it."""

    place: Place
    said: str
    broker: str
    pushed: str


class Cluster:
    """A publisher with a broker that speak mutual TLS, and gateways of which none is right."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder / "authority")
        self.stranger = Authority(folder / "stranger", "stranger")
        self.operator = self.authority.issue("operator")
        self.one = Place(folder / "one", node="one")
        self.one.publisher = self.one.publisher.replace("http:", "https:")
        self.server = self.live("one", self.authority.issue("one", HOST))
        self.client = self.live("one-client", self.authority.issue("one-client"))
        self.gateways = {
            "host": self.gateway(
                "host",
                "is not for this host",
                "broker.tls_failed.*mismatch.*write the name that it is for",
                "is not for this host",
                url=self.one.publisher.replace(HOST, "localhost"),
                server=self.authority.issue("host", "elsewhere.example"),
            ),
            "unknown": self.gateway(
                "unknown",
                "from an authority that is not trusted here",
                r"broker.tls_failed.*name its authority with ca in \[gatesync.tls\]",
                "from an authority that is not trusted here",
                ca=self.stranger.file,
                server=self.stranger.issue("unknown", *LOOPBACK),
            ),
            "stranger": self.gateway(
                "stranger",
                THEIRS,
                BROKER_HANGS_UP,
                THEIRS,
                client=self.stranger.issue("stranger-client"),
                client_ca=self.stranger.file,
            ),
            "late": self.gateway(
                "late",
                "does not accept our certificate.* expired",
                BROKER_HANGS_UP,
                "its certificate has expired; renew it there",
                client=self.authority.issue("late-client", minutes=-1),
                server=self.authority.issue("late", *LOOPBACK, minutes=-1),
            ),
            "none": self.gateway("none", OURS, BROKER_HANGS_UP, "", anonymous=True),
        }
        self._configure_publisher()

    def live(self, name: str, pair: Pair) -> Pair:
        """Files that a process reads, to be replaced while it does."""
        live = Pair(self.folder / f"{name}.live.pem", self.folder / f"{name}.live.key")
        lay(pair, live)
        return live

    def gateway(
        self,
        name: str,
        said: str,
        broker: str,
        pushed: str,
        *,
        url: str = "",
        ca: Path | None = None,
        client: Pair | None = None,
        anonymous: bool = False,
        server: Pair | None = None,
        client_ca: Path | None = None,
    ) -> Wrong:
        """One that is right but for what is given; `anonymous`: as a client it shows nothing."""
        url = url or self.one.publisher
        place = Place(self.folder / name, node=name, publisher=url)
        place.gateway = place.gateway.replace("http:", "https:")
        trusted, lets_in = place.folder / "ca.pem", place.folder / "client-ca.pem"
        trusted.write_bytes((ca or self.authority.file).read_bytes())
        lets_in.write_bytes((client_ca or self.authority.file).read_bytes())
        shown = self.live(name, server or self.authority.issue(name, *LOOPBACK))
        lines = {"certificate": shown[0], "key": shown[1], "ca": trusted, "client_ca": lets_in}
        if not anonymous:
            own = self.live(f"{name}-client", client or self.authority.issue(f"{name}-client"))
            lines |= {"client_certificate": own[0], "client_key": own[1]}
        endpoint = f"tls://{url.partition('//')[2].partition(':')[0]}:{self.one.broker_port}"
        text = place.config.read_text()
        text = text.replace(
            "[apim.event_hub]\n", f'[apim.event_hub]\nevent_listening_endpoints = ["{endpoint}"]\n'
        ).replace(
            "[apim.sync_runtime_artifacts.gateway]\n",
            "[apim.sync_runtime_artifacts.gateway]\ndeployment_retry_duration = 200\n",
        )
        ours = f'[gatesync.gateway]\npush_token = "push-token-{name}"\n'
        text = text.replace("[gatesync.gateway]\n", ours)
        place.config.write_text(text + tls_section(lines))
        return Wrong(place, said, broker, pushed)

    def _configure_publisher(self) -> None:
        files = {
            "certificate": self.server[0],
            "key": self.server[1],
            "ca": self.authority.file,
            "client_ca": self.authority.file,
            "client_certificate": self.client[0],
            "client_key": self.client[1],
        }
        text = self.one.config.read_text()
        for name, wrong in self.gateways.items():
            if wrong.pushed:
                text += (
                    f'[[apim.gateway.environment]]\nname = "{name}"\nlabels = ["{LABEL}"]\n'
                    f'service_url = "{wrong.place.gateway}"\npassword = "push-token-{name}"\n'
                )
        self.one.config.write_text(text + tls_section(files))

    def start(self) -> None:
        broker, publisher = self.one.role("traffic-manager"), self.one.role("publisher")
        publisher._ready = ()  # who asks has to show a certificate, which `Role` has none of
        broker.start()
        publisher.start()
        publisher.wait_for(lambda: self.is_ready(self.one.publisher), "the publisher is ready")
        roles = []
        for wrong in self.gateways.values():
            self.one.give_token(wrong.place, LABEL)
            roles.append(wrong.place.role("gateway").start(wait=False))
        for role in roles:  # that take a while to start, all together on a busy machine
            role.wait_for(lambda role=role: "gateway started" in role.said(), "it has started")

    def end(self) -> None:
        for wrong in self.gateways.values():
            wrong.place.end()
        self.one.end()

    # Asking, as an operator with a certificate.

    def ask(self, url: str, path: str, token: str = "", body: Any = None) -> tuple[int, Any]:
        context = ssl.create_default_context(cafile=str(self.authority.file))
        context.load_cert_chain(*self.operator)
        return asked(url, path, context, token, body)

    def is_ready(self, url: str) -> bool:
        try:
            return self.ask(url, "/health/ready")[0] == 200
        except OSError:
            return False

    def publish(self, name: str) -> None:
        body = publishing(document(name))
        status, answer = self.ask(self.one.publisher, "/v1/changes", self.one.operator, body)
        assert status == 200, answer

    def environments(self) -> dict[str, Any]:
        _, found = self.ask(self.one.publisher, "/v1/gateways", self.one.operator)
        return {each["name"]: each for each in found["environments"]}

    def mend(self) -> None:
        """Put every file right that can be put right."""
        lay(self.authority.issue("one", *LOOPBACK), self.server)
        for name, wrong in self.gateways.items():
            folder = wrong.place.folder
            for file in ("ca.pem", "client-ca.pem"):
                (folder / file).write_bytes(self.authority.file.read_bytes())
            lay(self.authority.issue(name, *LOOPBACK), live_of(self.folder, name))
            if name != "none":
                client = f"{name}-client"
                lay(self.authority.issue(client), live_of(self.folder, client))


def live_of(folder: Path, name: str) -> Pair:
    return Pair(folder / f"{name}.live.pem", folder / f"{name}.live.key")


def tls_section(files: dict[str, Path]) -> str:
    return "[gatesync.tls]\n" + "".join(f'{name} = "{path}"\n' for name, path in files.items())


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("tls"))
    try:
        made.start()
        yield made
    finally:
        made.end()


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


# The tests below run in this order on one cluster.


def test_who_is_wrong_is_told_and_gets_nothing(cluster: Cluster) -> None:
    cluster.publish("first")
    for name, wrong in cluster.gateways.items():
        (role,) = wrong.place.started
        role.wait_for(lambda role=role, w=wrong: matches(w.said, role.said()), f"{name} says why")
        role.wait_for(
            lambda role=role, w=wrong: matches(w.broker, role.said()),
            f"{name} says why it has no broker",
        )
        assert role.alive
        if wrong.pushed:
            until(
                lambda name=name, w=wrong: matches(
                    w.pushed, cluster.environments()[name]["reason"]
                ),
                f"{name} is not pushed to, and why",
            )
    _, listed = cluster.ask(cluster.one.publisher, "/v1/gateways", cluster.one.operator)
    assert listed["gateways"] == []


def test_less_than_tls_1_2_is_spoken_nowhere(cluster: Cluster) -> None:
    gateway = cluster.gateways["none"].place.gateway
    for port in (port_of(cluster.one.publisher), port_of(gateway), cluster.one.broker_port):
        broker = port == cluster.one.broker_port
        with pytest.raises((ssl.SSLError, ConnectionError)):
            old_tls(HOST, port, broker=broker)
        assert not is_answered_plainly(port)


def is_answered_plainly(port: int) -> bool:
    """Whether anything but an end, or the broker's greeting, follows what is sent plainly."""
    with socket.create_connection((HOST, port), 30) as connection:
        connection.settimeout(30)
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        try:
            while piece := connection.recv(4096):
                answer += piece
        except ConnectionError:
            pass
    return b"HTTP/1.1 200" in answer or b"PONG" in answer


def test_a_certificate_of_another_authority_opens_no_http(cluster: Cluster) -> None:
    """Not even with a good token, at the publisher or at a gateway's admin interface."""
    trusts = ssl.create_default_context(cafile=str(cluster.authority.file))
    gateway = cluster.gateways["none"].place
    for pair in (None, cluster.stranger.issue("thief"), cluster.authority.issue("old", minutes=-1)):
        if pair is not None:
            trusts.load_cert_chain(*pair)
        for url, token in (
            (cluster.one.publisher, cluster.one.operator),
            (gateway.gateway, gateway.admin_token()),
        ):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                asked(url, "/health/live", trusts, token)
    assert cluster.ask(gateway.gateway, "/v1/status", gateway.admin_token())[0] == 200


def test_the_broker_says_nothing_before_tls_and_nothing_to_strangers(cluster: Cluster) -> None:
    greeting = broker_greets(HOST, cluster.one.broker_port)
    assert greeting["tls_required"] is True
    assert greeting["tls_verify"] is True
    trusts = ssl.create_default_context(cafile=str(cluster.authority.file))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        broker_handshake(HOST, cluster.one.broker_port, trusts, ping=True)
    trusts.load_cert_chain(*cluster.stranger.issue("nobody"))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        broker_handshake(HOST, cluster.one.broker_port, trusts, ping=True)


def test_what_is_mended_works_without_a_restart(cluster: Cluster) -> None:
    pids = {role.pid for role in cluster.one.started}
    cluster.mend()
    for name, wrong in cluster.gateways.items():
        (role,) = wrong.place.started
        if name == "none":
            continue
        role.wait_for(lambda w=wrong: cluster.is_ready(w.place.gateway), f"{name} is ready")
        role.wait_for(lambda w=wrong: is_connected(cluster, w.place), f"{name} hears the broker")
    until(
        lambda: all(e["node"] and not e["failures"] for e in cluster.environments().values()),
        "every environment answers",
    )
    cluster.publish("second")
    for name, wrong in cluster.gateways.items():
        if name != "none":
            until(lambda w=wrong: held(cluster, w.place) == {"first", "second"}, f"{name} has both")
    (role,) = cluster.gateways["none"].place.started
    assert held(cluster, cluster.gateways["none"].place) == set()
    assert role.alive
    assert {role.pid for role in cluster.one.started} == pids
    assert all(role.alive for role in cluster.one.started)


def held(cluster: Cluster, place: Place) -> set[str]:
    status, found = cluster.ask(place.gateway, "/v1/held", place.admin_token())
    assert status == 200, found
    return {each["name"] for each in found["artifacts"]}


def is_connected(cluster: Cluster, place: Place) -> bool:
    return bool(cluster.ask(place.gateway, "/health/ready")[1]["connected"])


def matches(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None


def test_plain_text_beyond_this_machine_is_refused_by_each_role(tmp_path: Path) -> None:
    config = tmp_path / "deployment.toml"
    open_to_all = {
        "publisher": '[gatesync.publisher]\nlisten = "0.0.0.0:9"\n',
        "traffic-manager": '[gatesync.traffic_manager]\nlisten = "0.0.0.0:9"\n',
        "gateway": '[apim.event_hub]\nservice_url = "http://publisher.example:9640"\n',
    }
    for role, text in open_to_all.items():
        config.write_text(text)
        done = run(tmp_path, role, "--config", config)
        assert done.code == 2, done
        assert "allow_plaintext = true" in done.err

"""What a node's credential, or none, opens at the broker: its own labels and its own reports.

Against real processes: a traffic manager and a publisher that share a data folder.
"""

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from gatesync.artifacts.names import label_token
from gatesync.events.messages import NodeReport, encode
from gatesync.events.nats_server import run_nats_server
from gatesync.events.nkeys import key_of_token
from gatesync.publisher.tokens import TokenFile
from tests.attacks.raw_node import PATIENCE, RawNode, is_let_in, let_in, raw_node
from tests.contracts.hub import connected, take
from tests.events.nodes import Node, publishers_hub
from tests.servers.gatesync import Place, document, place, publishing, until

pytestmark = pytest.mark.promise(8)

A, B = "Label A", "Label B"
USERS = 200


def subject(label: str) -> str:
    return f"gatesync.label.{label_token(label)}"


NODES = {"reads-a": [A], "reads-b": [B], "reads-all": ["*"], "liar": [A], "honest": [A]}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("broker"), heartbeat_ms=500) as here:
        for name, labels in NODES.items():
            (here.folder / name).write_text(here.create_token("node", name, *labels))
        here.role("traffic-manager").start()
        here.role("publisher").start()
        yield here


@pytest.fixture(scope="module")
def url(cluster: Place) -> str:
    return f"nats://127.0.0.1:{cluster.broker_port}"


def token_of(cluster: Place, name: str) -> str:
    return (cluster.folder / name).read_text()


def node(cluster: Place, name: str) -> AbstractAsyncContextManager[RawNode]:
    """One of `NODES`, at the broker."""
    url = f"nats://127.0.0.1:{cluster.broker_port}"
    return raw_node(url, key_of_token(token_of(cluster, name)))


async def publish(cluster: Place, label: str, name: str) -> None:
    body = publishing(document(name), label=label)
    answer = await asyncio.to_thread(cluster.ask, "/v1/changes", method="POST", body=body)
    assert answer.status == 200, answer.body


def broker_of(cluster: Place) -> psutil.Process:
    (process,) = (
        each
        for role in cluster.started
        if role.arguments[0] == "traffic-manager"
        for each in role.children()
        if each.name() == "nats-server"
    )
    return process


def connections(cluster: Place) -> int:
    """So many clients the broker has."""
    return sum(each.status == "ESTABLISHED" for each in broker_of(cluster).net_connections("tcp"))


async def test_a_node_hears_its_labels_and_nothing_else(cluster: Place) -> None:
    others = [
        *(subject(B), ">", "*", "gatesync.>", "gatesync.*.*", "gatesync.label.>"),
        *("gatesync.label.*", "gatesync.report.>", "gatesync.report.*", "gatesync.report.honest"),
        *("_INBOX.>", "_INBOX.reads-b.>", "_INBOX_reads-b.>", "$SYS.>", "$SYS.ACCOUNT.>", "$JS.>"),
        *(subject(guess) for guess in ("label b", "Label B ", "Production and Sandbox", "*")),
        *(f"gatesync.label.{B.replace(' ', '_')}", f"{subject(A)}.>", subject(A).upper()),
    ]
    async with node(cluster, "reads-a") as thief, node(cluster, "reads-b") as owner:
        await owner.listen(subject(B))
        await owner.settled()
        for each in others:
            await thief.listen(each)
            await thief.listen(each, queue="thieves")
        await thief.settled()
        for each in others:
            words = f'permissions violation for subscription to "{each.lower()}"'
            assert any(words in said.lower() for said in thief.refused), each
        await thief.listen(subject(A))
        await publish(cluster, B, "only-b")
        await publish(cluster, A, "a")
        await owner.heard_on(subject(B))
        await thief.heard_on(subject(A))
        assert {where for where, _ in thief.heard} == {subject(A)}
        assert not any(b"only-b" in said or B.encode() in said for _, said in thief.heard)
        assert not owner.refused


async def test_a_node_forges_no_event(cluster: Place, url: str) -> None:
    """Neither for another label nor for its own, nor for a node that reads all."""
    async with (
        node(cluster, "reads-a") as forger,
        node(cluster, "reads-b") as first,
        node(cluster, "reads-all") as second,
    ):
        await first.listen(subject(B))
        await second.listen("gatesync.label.*")
        await first.settled()
        await second.settled()
        targets = [subject(A), subject(B), "gatesync.label.x", "gatesync.label", "_INBOX.x"]
        for each in targets:
            await forger.client.publish(each, b"forged")
            await forger.client.publish(each, b"forged", reply=subject(B))
        await forger.settled()
        for each in targets:
            words = f'permissions violation for publish to "{each.lower()}"'
            assert any(words in said.lower() for said in forger.refused), (each, forger.refused)
        await publish(cluster, A, "a2")
        await publish(cluster, B, "b2")
        await first.heard_on(subject(B))
        await second.heard_on(subject(A))
        await second.heard_on(subject(B))
        assert not [said for _, said in first.heard + second.heard if said == b"forged"]


async def test_a_node_acknowledges_for_nobody_else(cluster: Place) -> None:
    def refused_reports() -> float:
        metrics = cluster.ask("/metrics").body.decode()
        found = re.search(r"(?m)^gatesync_publisher_reports_refused_total (\S+)$", metrics)
        assert found, metrics
        return float(found[1])

    def gateways() -> set[str]:
        return {each["node"] for each in cluster.ask("/v1/gateways").json()["gateways"]}

    def report(of: str) -> bytes:
        return encode(NodeReport(of, "0" * 8, 1, "0", "memory", "http://127.0.0.1:1", 1, ()))

    before = refused_reports()
    async with node(cluster, "honest"), node(cluster, "liar") as liar:
        await liar.client.publish("gatesync.report.honest", report("honest"))
        await liar.client.publish("gatesync.report.liar.honest", report("honest"))
        await liar.client.publish("gatesync.report.*", report("honest"))
        await liar.settled()
        assert len(liar.refused) == 3, liar.refused
        await liar.client.publish("gatesync.report.liar", report("honest"))  # on its own subject
        await liar.client.publish("gatesync.report.liar", report("liar"))
        await liar.settled()
        await asyncio.to_thread(until, lambda: "liar" in gateways(), "its own report counts")
        assert "honest" not in gateways()
        assert refused_reports() == before + 1


async def test_nobody_gets_in_by_what_lies_in_files_or_by_guessing(
    cluster: Place, url: str
) -> None:
    text = token_of(cluster, "reads-a")
    key = key_of_token(text)
    assert await is_let_in(url, key)
    tokens = json.loads((cluster.data / "tokens.json").read_text())["tokens"]
    (known,) = (each for each in tokens if each["id"] == "reads-a")
    assert known["nkey"] == key.public
    token_id = text.split("_")[1]
    guesses = [
        f"gs_{token_id}_{known['sha256'][:43]}",  # the hash in place of the secret
        f"gs_{token_id}_{known['nkey'][:43]}",
        f"gs_{token_id}_{'A' * 43}",
        cluster.operator,  # a publisher's token is no key of the broker's
        cluster.create_token("read", "reader"),
    ]
    for guess in guesses:
        assert not await is_let_in(url, key_of_token(guess))
        assert not await is_let_in(url, key_of_token(guess), claims=key.public)  # its own signature
    passwords = json.loads((cluster.data / "broker-credentials.json").read_text())
    assert set(passwords) == {"publisher"}
    password = passwords["publisher"]["password"]
    assert await is_let_in(url, user="publisher", password=password)
    for user, given in (
        ("gateway", password),
        ("publisher", ""),
        ("publisher", text),
        ("reads-a", text),
        (key.public, text),
    ):
        assert not await is_let_in(url, user=user, password=given)
    assert not await is_let_in(url)


async def test_what_a_publisher_tells_holds_no_login(cluster: Place) -> None:
    text = token_of(cluster, "reads-a")
    told = cluster.ask("/v1/cluster", token=text).json()["event_hub"]
    url = f"nats://127.0.0.1:{cluster.broker_port}"
    assert told == {"endpoints": [url], "login": "node-key"}
    assert cluster.ask("/v1/broker/users", token=text).status == 403
    limited = cluster.run(
        "token", "create", "--role", "publish", "--id", "ci", "--label", A, "-c", cluster.config
    ).out.strip()
    assert cluster.ask("/v1/broker/users", token=limited).status == 403
    answer = cluster.ask("/v1/broker/users")
    (known,) = (each for each in answer.json()["nodes"] if each["node"] == "reads-a")
    key = key_of_token(text).public
    assert known == {"node": "reads-a", "nkey": key, "hears": [subject(A)]}
    for secret in (text.split("_", 2)[2], cluster.operator, A):
        assert secret not in answer.body.decode()
    again = cluster.ask("/v1/broker/users", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status, again.body) == (304, b"")


async def test_a_token_opens_and_closes_the_broker_while_everybody_else_stays(
    cluster: Place, url: str
) -> None:
    (publisher,) = (role for role in cluster.started if role.arguments[0] == "publisher")
    async with node(cluster, "reads-a") as stays, AsyncExitStack() as stack:
        await stays.listen(subject(A))
        await stays.settled()
        before, pid = connections(cluster), broker_of(cluster).pid
        key = key_of_token(cluster.create_token("node", "comes", A, B))
        await let_in(url, key)
        comes = await stack.enter_async_context(raw_node(url, key))
        await comes.listen(subject(B))
        await comes.settled()
        await publish(cluster, B, "b3")
        assert await comes.heard_on(subject(B))
        assert connections(cluster) == before + 1

        revoked = await asyncio.to_thread(
            cluster.run, "token", "revoke", "comes", "-c", cluster.config
        )
        assert revoked.code == 0
        async with asyncio.timeout(PATIENCE):
            await comes.closed.wait()
        assert not await is_let_in(url, key)
        await asyncio.to_thread(until, lambda: connections(cluster) == before, "only it was cut")
        assert not stays.closed.is_set()
        await publish(cluster, A, "a3")
        assert await stays.heard_on(subject(A))
        assert broker_of(cluster).pid == pid
        assert publisher.said().count("broker.connected") == 1
        assert "broker.lost" not in publisher.said()


async def test_a_token_that_is_older_than_keys_gets_one_when_it_is_shown(
    cluster: Place, url: str
) -> None:
    text, path = token_of(cluster, "honest"), cluster.data / "tokens.json"
    key, tokens = key_of_token(text), TokenFile(path)
    assert await is_let_in(url, key)
    content = path.read_text().replace(f'"{key.public}"', "null")
    with tokens._locked():
        path.write_text(content)

    def is_out() -> bool:
        return not asyncio.run(is_let_in(url, key))

    await asyncio.to_thread(until, is_out, "the broker forgot it")
    assert cluster.ask("/v1/cluster", token=text[:-1] + "!").status == 401
    assert cluster.ask("/v1/cluster", token=text).status == 200
    await let_in(url, key)
    assert key.public in path.read_text()


async def test_a_traffic_manager_elsewhere_follows_and_starts_without_a_publisher(
    cluster: Place, tmp_path: Path
) -> None:
    tokens, mine = TokenFile(cluster.data / "tokens.json"), tmp_path / "broker.token"
    with place(tmp_path, publisher=cluster.publisher, heartbeat_ms=200) as far:
        mine.write_text(cluster.create_token("read", "traffic-manager"))
        mine.chmod(0o600)
        ours = "[gatesync.traffic_manager]\n"
        text = far.config.read_text().replace(ours, f'{ours}token_file = "broker.token"\n')
        far.config.write_text(text)
        url = f"nats://127.0.0.1:{far.broker_port}"
        broker = far.role("traffic-manager").start()
        first = key_of_token(token_of(cluster, "liar"))
        await let_in(url, first)
        second = key_of_token(cluster.create_token("node", "new", B))
        await let_in(url, second)
        async with raw_node(url, first) as gone, raw_node(url, second) as stays:
            tokens.revoke("liar")
            async with asyncio.timeout(PATIENCE):
                await gone.closed.wait()
            assert not stays.closed.is_set()
        tokens.revoke("traffic-manager")  # as good as no publisher
        await asyncio.to_thread(until, lambda: "broker.users_unchanged" in broker.said(), "401")
        broker.stop()
        broker.start()
        await let_in(url, second)
        assert not await is_let_in(url, first)
        assert mine.read_text() not in broker.said()
        assert (far.data / "broker-users.json").stat().st_mode & 0o077 == 0


async def test_the_password_that_all_gateways_had_opens_nothing_any_more(tmp_path: Path) -> None:
    before = {who: {"user": who, "password": f"{who}'s"} for who in ("publisher", "gateway")}
    path = tmp_path / "broker-credentials.json"
    path.write_text(json.dumps(before))
    path.chmod(0o600)
    async with run_nats_server(tmp_path, port=0) as server:
        url = server.connect_url
        assert await is_let_in(url, user="publisher", password="publisher's")
        assert not await is_let_in(url, user="gateway", password="gateway's")
        assert "gateway's" not in (tmp_path / "broker" / "nats-server.conf").read_text()


async def test_two_hundred_nodes_each_hear_their_own_and_none_is_dropped_for_a_new_one(
    tmp_path: Path,
) -> None:
    nodes = [Node(f"gw{number}", f"label {number}", "all") for number in range(USERS)]
    async with run_nats_server(
        tmp_path, port=0, nodes=[each.user for each in nodes]
    ) as server, AsyncExitStack() as stack:  # fmt: skip
        url = server.connect_url
        publisher = await stack.enter_async_context(
            publishers_hub(url, server.credentials.publisher)
        )
        await connected(publisher)
        hubs = [await stack.enter_async_context(each.hub(url)) for each in nodes]
        for hub in hubs:
            await connected(hub)
        news = [
            await stack.enter_async_context(hub.announcements([f"label {number}", "all"]))
            for number, hub in enumerate(hubs)
        ]
        for number in range(USERS):
            await publisher.announce(f"label {number}", b"%d" % number)
        await publisher.announce("all", b"end")
        for number, listener in enumerate(news):
            assert await take(listener, 2) == [b"%d" % number, b"end"]
        one_more = Node("new", "all")
        with capture_logs() as logs:
            await server.allow([each.user for each in (*nodes[1:], one_more)])
            async with one_more.hub(url) as hub:
                await connected(hub)
                await connected(hubs[0], False)
                await publisher.announce("all", b"still")
                for listener in news[1:]:
                    assert await take(listener, 1) == [b"still"]  # and no `Lost` before it
        assert [e for e in logs if e["event"] == "broker.users"]
        assert len([e for e in logs if e["event"] == "broker.lost"]) == 1

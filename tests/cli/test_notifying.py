"""What a service manager hears of a role, on a real notify socket."""

import json
import os
import re
import secrets
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gatesync.cli import notifying
from gatesync.cli.state_line import state_line
from gatesync.gateway.health import GatewayStatus, LabelStatus
from tests.servers.gatesync import EXAMPLES, LABEL, TIMEOUT, Place, Role, free_ports, place, until

Message = dict[str, str]


class NotifySocket:
    """The receiving end, as systemd's."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.heard: list[Message] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1))

    def wait_for(self, name: str, value: str = ".*") -> Message:
        """The first message from now on with a variable of this value, a regular expression."""
        self._socket.settimeout(TIMEOUT)
        while True:
            message = self._receive()
            if name in message and re.search(value, message[name]):
                return message

    def drain(self) -> None:
        """Take what was sent so far."""
        self._socket.setblocking(False)
        try:
            while True:
                self._receive()
        except BlockingIOError:
            pass

    def said(self, name: str) -> list[str]:
        return [each[name] for each in self.heard if name in each]

    def close(self) -> None:
        self._socket.close()

    def _receive(self) -> Message:
        text = self._socket.recv(65_536).decode()
        message = dict(line.split("=", 1) for line in text.splitlines())
        self.heard.append(message)
        return message


@contextmanager
def notify_socket(*, abstract: bool = False) -> Iterator[NotifySocket]:
    with tempfile.TemporaryDirectory() as folder:  # its path is short: a socket's has to be
        opened = NotifySocket(f"@{secrets.token_hex(8)}" if abstract else f"{folder}/notify")
        try:
            yield opened
        finally:
            opened.close()


@pytest.fixture
def service_manager() -> Iterator[NotifySocket]:
    with notify_socket() as opened:
        yield opened


def watched(where: Place, role: str, service_manager: NotifySocket, **env: str) -> Role:
    asked = {"NOTIFY_SOCKET": service_manager.address, "WATCHDOG_USEC": "200000"}
    return where.role(role, **(asked | env))


def configure(
    where: Place, section: str = "[apim.sync_runtime_artifacts.gateway]\n", **keys: Any
) -> None:
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
    where.config.write_text(where.config.read_text().replace(section, section + lines))


@pytest.mark.parametrize("name", ["publisher", "traffic-manager", "up"])
def test_a_role_says_when_it_is_ready_lives_and_stops(
    name: str, tmp_path: Path, service_manager: NotifySocket
) -> None:
    with place(tmp_path) as where:
        if name == "publisher":
            with where.config.open("a") as file:
                file.write("[apim.event_hub]\nenable = false\n")
        role = watched(where, name, service_manager).start(wait=False)
        ready = service_manager.wait_for("READY", "1")
        assert re.search(r"listens at (http|nats)://127|in step with 1 label;", ready["STATUS"])
        service_manager.wait_for("WATCHDOG", "1")
        assert role.stop() == 0
        service_manager.drain()
    assert service_manager.said("READY") == ["1"]
    assert service_manager.said("STOPPING") == ["1"]


def test_an_abstract_socket_is_told_too(tmp_path: Path) -> None:
    with notify_socket(abstract=True) as service_manager, place(tmp_path) as where:
        watched(where, "traffic-manager", service_manager).start(wait=False)
        assert service_manager.wait_for("READY", "1")


@pytest.mark.promise(11)
def test_a_node_in_sync_mode_asks_for_time_until_it_has_what_it_is_to_serve(
    tmp_path: Path, service_manager: NotifySocket
) -> None:
    with place(tmp_path / "cluster") as cluster:
        url = cluster.publisher
        with cluster.config.open("a") as file:
            file.write("[apim.event_hub]\nenable = false\n")
        publisher = cluster.role("publisher").start()
        assert cluster.run("publish", EXAMPLES / "menu", "--label", LABEL).code == 0
        with place(tmp_path / "node", node="gw2", publisher=url) as where:
            cluster.give_token(where, LABEL)
            configure(where, deployment_retry_duration=200)
            configure(where, "[gatesync.gateway]\n", max_retry_count=1000)
            publisher.stop()
            node = watched(where, "gateway", service_manager).start(wait=False)
            assert (
                service_manager.wait_for("EXTEND_TIMEOUT_USEC")["EXTEND_TIMEOUT_USEC"] == "60000000"
            )
            service_manager.wait_for("STATUS", url)  # which publisher is not there
            service_manager.drain()
            assert not service_manager.said("READY")
            publisher.start(wait=False)  # this socket holds few messages, and is to be read
            ready = service_manager.wait_for("READY", "1")
            assert "1 artifact" in ready["STATUS"]
            service_manager.wait_for("WATCHDOG", "1")
            assert node.stop() == 0


def test_a_node_in_async_mode_is_ready_at_once(
    tmp_path: Path, service_manager: NotifySocket
) -> None:
    nobody = f"http://127.0.0.1:{free_ports(1)[0]}"
    with place(tmp_path, publisher=nobody) as where:
        configure(where, data_retrieval_mode="async")
        where.data.mkdir(mode=0o700)
        token = where.data / "gateway.token"
        token.touch(0o600)
        token.write_text("any")
        watched(where, "gateway", service_manager).start(wait=False)
        ready = service_manager.wait_for("READY", "1")
        assert ready["STATUS"].startswith("stale; 0 artifacts")


def test_a_reload_ends_with_what_the_node_follows_now(
    tmp_path: Path, service_manager: NotifySocket
) -> None:
    with place(tmp_path) as where:
        watched(where, "up", service_manager).start()
        assert "in step with 1 label;" in service_manager.wait_for("READY")["STATUS"]
        text = where.config.read_text()
        for changed, line in (
            (text.replace(f'["{LABEL}"]', f'["{LABEL}", "Shop"]'), "in step with 2 labels;"),
            (text.replace("[gatesync]", "[gatesync"), ""),  # wrong: nothing changes
        ):
            where.config.write_text(changed)
            before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            os.kill(where.started[0].pid, signal.SIGHUP)
            assert int(service_manager.wait_for("RELOADING", "1")["MONOTONIC_USEC"]) > before
            service_manager.wait_for("READY", "1")
            if line:
                service_manager.wait_for("STATUS", line)
        assert where.started[0].stop() == 0


def test_what_keeps_a_role_from_running_is_its_last_status(
    tmp_path: Path, service_manager: NotifySocket
) -> None:
    with place(tmp_path) as where:
        where.role("traffic-manager").start(wait=False)
        until((where.data / "broker-credentials.json").exists, "the broker runs")
        second = watched(where, "traffic-manager", service_manager).start(wait=False)
        assert "another traffic manager runs on" in service_manager.wait_for("STATUS")["STATUS"]
        until(lambda: not second.alive, "it ends")
    assert not service_manager.said("READY")


def test_a_watchdog_that_is_meant_for_another_process_gets_no_answer(
    tmp_path: Path, service_manager: NotifySocket
) -> None:
    with place(tmp_path) as where:
        role = watched(where, "traffic-manager", service_manager, WATCHDOG_PID="1")
        role.start(wait=False)
        service_manager.wait_for("READY")
        role.stop()
        service_manager.drain()
    assert service_manager.said("STOPPING")
    assert not service_manager.said("WATCHDOG")


@pytest.mark.fast
def test_a_reload_has_a_beginning_with_its_time_and_an_end(
    service_manager: NotifySocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", service_manager.address)
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    with notifying.reloading():
        begun = service_manager.wait_for("RELOADING", "1")
        service_manager.drain()
        assert not service_manager.said("READY")
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert before <= int(begun["MONOTONIC_USEC"]) <= after
    assert service_manager.wait_for("READY", "1")


@pytest.mark.fast
def test_a_line_break_does_not_begin_another_variable(
    service_manager: NotifySocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", service_manager.address)
    notifying.tell(STATUS="refused:\nSTOPPING=1")
    assert service_manager.wait_for("STATUS") == {"STATUS": "refused: STOPPING=1"}


@pytest.mark.fast
@pytest.mark.parametrize("address", [None, "", "/nowhere/notify", "@nobody"])
async def test_nobody_who_listens_is_no_trouble(
    address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    notifying.tell(READY=1)
    with notifying.reloading():
        pass

    async def ready() -> None:
        return

    async with notifying.told(ready, lambda: "good"):
        pass
    await notifying.keep_alive()


@pytest.mark.fast
@pytest.mark.parametrize("said", ["", "0", "soon", "-5"])
async def test_a_watchdog_that_is_none_is_not_answered(
    said: str, service_manager: NotifySocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", service_manager.address)
    monkeypatch.setenv("WATCHDOG_USEC", said)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    await notifying.keep_alive()
    service_manager.drain()
    assert not service_manager.heard


LABELS = (LabelStatus(label="a"), LabelStatus(label="b"))
UNTRUSTED = (LABELS[0], LabelStatus(label="b", untrusted="revision 7 is not signed"))


@pytest.mark.fast
@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({}, "in step with 2 labels; 120 artifacts"),
        ({"labels": LABELS[:1], "applied": 1}, "in step with 1 label; 1 artifact"),
        ({"failed": {"x": "why"}}, "in step with 2 labels; 120 artifacts; 1 refused"),
        ({"status": "starting", "applied": 3, "waiting": 9}, "starting; 3 artifacts; 9 to come"),
        ({"store_error": "gone"}, "not in step; 120 artifacts; gone"),
        ({"status": "stale", "store_error": "gone"}, "stale; 120 artifacts; gone"),
        ({"labels": UNTRUSTED}, "not in step; 120 artifacts; revision 7 is not signed"),
    ],
)
def test_a_node_says_how_it_is_in_one_line(changed: dict[str, Any], line: str) -> None:
    status = {"node": "gw1", "ready": True, "status": "ready", "applied": 120, "labels": LABELS}
    assert state_line(GatewayStatus(**(status | changed))) == line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_role_stops_cleanly(number: signal.Signals, tmp_path: Path) -> None:
    with place(tmp_path) as where:
        role = where.role("traffic-manager").start(wait=False)
        broker = role.wait_for(role.children, "the broker runs")[0]
        until((where.data / "broker-credentials.json").exists, "it is set up")
        role.wait_for(lambda: "traffic manager started" in role.said(), "it listens")
        assert role.stop(number) == 0
        assert not broker.is_running()

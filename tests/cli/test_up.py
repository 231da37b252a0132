"""`gatesync up` and its end: what is left behind, and what comes back."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.servers.gatesync import LABEL, Place, Role, place, run, sequence_xml, until


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path / "here") as made:
        (made.folder / "a.xml").write_bytes(sequence_xml("a"))
        yield made


def broker_of(role: Role) -> psutil.Process:
    (child,) = role.children()
    assert "nats-server" in child.name()
    return child


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 0),
        (signal.SIGINT, 0),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_no_process_outlives_it_and_it_starts_again_with_everything(
    here: Place, number: signal.Signals, code: int
) -> None:
    role = here.role("up").start()
    assert here.run("publish", "a.xml", "-l", LABEL, "--wait", "all").code == 0
    held, heads, broker = here.held(), here.heads(), broker_of(role)

    assert role.stop(number) == code
    until(lambda: is_gone(broker), "the broker has ended")
    assert "Traceback" not in role.said()

    role.start()
    assert here.heads() == heads
    until(lambda: here.held() == held, "the gateway serves what it served")
    done = here.run("publish", "a.xml", "-l", LABEL, "--wait", "all", "--timeout", "20s")
    assert done.code == 0, done.out + done.err
    assert "nothing changed" in done.out
    assert role.stop() == 0


def test_a_second_one_in_the_same_folder_is_refused(here: Place) -> None:
    role = here.role("up").start()
    assert here.run("publish", "a.xml", "-l", LABEL, "--wait", "all").code == 0

    second = here.run("up", "--config", here.config)

    assert (second.code, second.out) == (3, "")
    assert second.err.count("gatesync: ") == 1
    assert f"another traffic manager runs on {here.data}" in second.err
    assert here.run("publish", "a.xml", "-l", LABEL, "--wait", "all").code == 0
    assert here.run("verify").code == 0
    assert role.alive


def test_a_second_one_on_the_same_data_with_other_ports_is_refused(
    here: Place, tmp_path: Path
) -> None:
    here.role("up").start()
    with place(tmp_path / "other") as other:
        text = other.config.read_text()
        data = f'[gatesync]\ndata = "{here.data}"\n'
        other.config.write_text(text.replace("[gatesync]\n", data))

        second = run(other.folder, "up", "--config", other.config)

    assert (second.code, second.out) == (3, "")
    assert str(here.data) in second.err
    assert "another traffic manager runs on" in second.err
    assert here.run("publish", "a.xml", "-l", LABEL, "--wait", "all").code == 0


@pytest.mark.parametrize("server", ["publisher", "gateway", "traffic_manager"])
def test_a_port_that_is_taken(here: Place, tmp_path: Path, server: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        head, mark, tail = here.config.read_text().partition(f'[gatesync.{server}]\nlisten = "')
        here.config.write_text(f"{head}{mark}127.0.0.1:{port}{tail[tail.index(chr(34)) :]}")
        done = here.run("up", "--config", here.config)
    assert (done.code, done.out) == (3, "")
    (line,) = (line for line in done.err.splitlines() if line.startswith("gatesync: "))
    assert f"127.0.0.1:{port}" in line or f"port {port} of 127.0.0.1 is taken" in line


def test_the_broker_may_take_any_free_port(here: Place) -> None:
    head, mark, tail = here.config.read_text().partition('[gatesync.traffic_manager]\nlisten = "')
    here.config.write_text(f"{head}{mark}127.0.0.1:0{tail[tail.index(chr(34)) :]}")
    role = here.role("up").start()
    until(lambda: "broker.connected" in role.said(), "the publisher found it")
    assert "broker.unreachable" not in role.said()
    assert here.run("publish", "a.xml", "-l", LABEL, "--wait", "all").code == 0
    assert role.stop() == 0

    alone = here.run("publisher", "--config", here.config)
    assert (alone.code, alone.out) == (2, "")
    assert "event_listening_endpoints: is empty, and the traffic manager" in alone.err


def test_a_data_folder_that_cannot_be_made(here: Place) -> None:
    here.data.write_text("a file is here")
    done = here.run("up", "--config", here.config)
    assert (done.code, done.out) == (2, "")
    assert f"{here.data} cannot be made" in done.err


@pytest.mark.parametrize("file", ["tokens.json", "client.toml", "admin.token", "artifacts.db"])
def test_a_file_of_its_own_that_it_cannot_use(here: Place, file: str) -> None:
    (here.data / file).mkdir(parents=True)
    done = here.run("up", "--config", here.config)
    assert done.code in {2, 3}
    assert done.out == ""
    assert str(here.data / file) in done.err


def test_a_gateway_without_a_token_says_how_to_get_one(here: Place) -> None:
    done = here.run("gateway", "--config", here.config)
    assert (done.code, done.out) == (2, "")
    assert f"gatesync token create --role node --id gw1 --label '{LABEL}'" in done.err
    assert str(here.data / "gateway.token") in done.err
    table = "[gatesync.gateway]\n"
    text = here.config.read_text()
    assert table in text
    here.config.write_text(text.replace(table, f'{table}token_file = "gone"\n'))
    named = here.run("gateway", "--config", here.config)
    assert (named.code, named.out) == (2, "")
    assert "gatesync token create --role node" in named.err
    assert f"into {here.config.parent / 'gone'} " in named.err


def test_a_gateway_with_a_token_that_nobody_may_read(here: Place) -> None:
    here.data.mkdir()
    token = here.data / "gateway.token"
    token.write_text("gst_abc\nsecond line\n")
    token.chmod(0o600)
    broken = here.run("gateway", "--config", here.config)
    assert (broken.code, broken.out) == (2, "")
    assert "holds a line break or a letter that no token has" in broken.err
    assert "gst_abc" not in broken.err
    token.chmod(0o644)
    readable = here.run("gateway", "--config", here.config)
    assert (readable.code, readable.out) == (2, "")
    assert "others can access it (mode 0644); run chmod 600 on it" in readable.err

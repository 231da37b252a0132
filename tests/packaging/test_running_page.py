"""docs/running.md: its files are there, its configurations are good, its messages are real."""

import re
import tomllib
from pathlib import Path

import pytest

from gatesync.cli.state_line import state_line
from gatesync.gateway.health import GatewayStatus, LabelStatus
from tests.packaging.test_units import FOLDER, directives, systemd_analyze
from tests.servers.gatesync import place, run, until

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "running.md").read_text()
CONFIGURATIONS = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.fast
def test_every_file_that_it_names_is_there() -> None:
    names = re.findall(r"(?:packaging|requirements|tests)/[\w./-]*\w", PAGE)
    assert len(names) > 5
    for name in names:
        assert list(ROOT.glob(f"{name}*")), name


@pytest.mark.fast
@pytest.mark.parametrize("text", CONFIGURATIONS)
def test_its_configurations_are_read_without_doubt(text: str, tmp_path: Path) -> None:
    assert tomllib.loads(text)
    path = tmp_path / "deployment.toml"
    path.write_text(text)
    done = run(tmp_path, "config", "check", path)
    assert done.code == 0, done.err
    assert "warning" not in done.out + done.err


@pytest.mark.fast
def test_an_offset_moves_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "deployment.toml").write_text(CONFIGURATIONS[0])
    shown = run(tmp_path, "config", "show", tmp_path / "deployment.toml").out
    said = re.search(r"It listens on (\d+), and is `HOST(-\d+)`", PAGE)
    assert said
    assert f'listen = "127.0.0.1:{said[1]}"' in shown
    assert re.search(rf'node_id = "\S+{said[2]}"', shown)


@pytest.mark.fast
def test_its_units_and_figures_are_those_of_the_files() -> None:
    gateway = dict(directives(FOLDER / "gatesync-gateway.service"))
    backoff = dict(directives(FOLDER / "gatesync-.service.d" / "backoff.conf"))
    assert f"is ended after {gateway['TimeoutStartSec']} s" in PAGE
    assert f"after {gateway['WatchdogSec']} s of silence" in PAGE
    assert f"again after {gateway['RestartSec']} s" in PAGE
    assert f"up to {int(backoff['RestartMaxDelaySec']) // 60} minutes" in PAGE
    assert f'`data = "{gateway["WorkingDirectory"]}"`' in PAGE.replace("[gatesync] ", "")


@pytest.mark.fast
def test_the_exposure_is_not_worse_than_it_says() -> None:
    said = re.search(r"gives the units ([\d.]+) of 10", PAGE)
    assert said
    units = sorted(FOLDER.glob("*.service"))
    threshold = round(float(said[1]) * 10)
    done = systemd_analyze("security", "--offline=true", f"--threshold={threshold}", *units)
    assert done.returncode == 0, done.stdout


@pytest.mark.fast
def test_the_status_is_what_a_gateway_says() -> None:
    said = re.search(r'Status: "(.*?)"', PAGE)
    assert said
    labels = tuple(LabelStatus(label=name) for name in "abc")
    status = GatewayStatus(node="gw1", ready=True, status="ready", applied=120, labels=labels)
    assert state_line(status) == said[1]


def test_what_a_second_process_says_is_what_it_says(tmp_path: Path) -> None:
    same_folder, same_port = re.findall(r"^    (gatesync: .*)$", PAGE, re.MULTILINE)
    with place(tmp_path / "first") as first, place(tmp_path / "second") as second:
        first.role("traffic-manager").start(wait=False)
        until((first.data / "broker-credentials.json").exists, "the broker runs")
        other = first.role("traffic-manager").start(wait=False)
        until(lambda: not other.alive, "it ends")
        assert same_folder.replace("/var/lib/gatesync", str(first.data)) in other.said()

        second.config.write_text(first.config.read_text())
        second.publisher = first.publisher
        first.role("publisher").start()
        second.data.mkdir(mode=0o700)
        credentials = (first.data / "broker-credentials.json").read_text()
        (second.data / "broker-credentials.json").touch(0o600)
        (second.data / "broker-credentials.json").write_text(credentials)
        other = second.role("publisher").start(wait=False)
        until(lambda: not other.alive, "it ends")
        port = first.publisher.rpartition(":")[2]
        assert same_port.replace("9640", port) in other.said()
        assert other.stop() == 3

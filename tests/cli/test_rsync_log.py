"""The log of `gatesync rsync`: a line an event, rotating, and never in anybody's way."""

import stat
from pathlib import Path

import pytest

from gatesync.cli import rsync_log
from gatesync.cli.rsync_log import open_run_log

pytestmark = pytest.mark.fast


def test_each_event_is_a_line_with_its_time(tmp_path: Path) -> None:
    path = tmp_path / "rsync.log"
    with open_run_log(path) as log:
        log.line("w1: in step")
        log.line("w2: a name\nwith a break, \x1b[2J, and \udcff")
    one, two = path.read_text().splitlines()
    assert one.endswith("Z w1: in step")
    assert one[:2] == "20"
    assert two.endswith("Z w2: a name\\nwith a break, \\x1b[2J, and \\udcff")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_never_has_more_than_so_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rsync_log, "FILE_BYTES", 1_000)
    monkeypatch.setattr(rsync_log, "FILES", 2)
    with open_run_log(tmp_path / "rsync.log") as log:
        for number in range(100):
            log.line(f"{number} {'x' * 80}")
    names = sorted(each.name for each in tmp_path.iterdir())
    assert names == ["rsync.log", "rsync.log.1", "rsync.log.2"]
    assert max(each.stat().st_size for each in tmp_path.iterdir()) <= 1_000
    assert "99 x" in (tmp_path / "rsync.log").read_text()


def test_a_full_disk_stops_nothing() -> None:
    with open_run_log(Path("/dev/full")) as log:
        log.line("lost")


def test_without_a_file_there_is_none() -> None:
    with open_run_log(None) as log:
        log.line("nowhere")


def test_a_log_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as told, open_run_log(tmp_path / "no" / "log"):
        raise AssertionError
    assert str(tmp_path / "no" / "log") in str(told.value)

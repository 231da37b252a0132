"""`gatesync gateway` starts a gateway, with no more of the command line than its options need."""

import sys
from pathlib import Path
from typing import NoReturn

import pytest

from gatesync.cli import app, commands, gateway_process

pytestmark = pytest.mark.fast


class CommandLineError(Exception):
    """All of it was asked for."""


@pytest.mark.parametrize(
    ("options", "given"),
    [
        ([], ()),
        (["--config", "a.toml"], (Path("a.toml"),)),
        (["-c", "a.toml"], (Path("a.toml"),)),
        (["--config=a.toml"], (Path("a.toml"),)),
        (["--help"], None),
        (["--config"], None),
        (["--config", "--help"], None),
        (["--config", "a.toml", "--print-envoy-bootstrap"], None),
        (["a.toml"], None),
    ],
)
def test_only_what_a_gateway_is_mostly_started_with_goes_past_the_command_line(
    options: list[str], given: tuple[Path, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[Path, ...]] = []

    def run_gateway(*config: Path) -> int:
        started.append(config)
        return 7

    def run_command() -> NoReturn:
        raise CommandLineError

    monkeypatch.setattr(sys, "argv", ["gatesync", "gateway", *options])
    monkeypatch.setattr(gateway_process, "main", run_gateway)
    monkeypatch.setattr(commands, "main", run_command)
    if given is None:
        with pytest.raises(CommandLineError):
            app.main()
        assert not started
        return
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 7
    assert started == [given]


def test_other_commands_are_the_command_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_command() -> NoReturn:
        raise CommandLineError

    monkeypatch.setattr(commands, "main", run_command)
    for arguments in ([], ["publisher"], ["--version"], ["--ca", "a.pem", "gateway"]):
        monkeypatch.setattr(sys, "argv", ["gatesync", *arguments])
        with pytest.raises(CommandLineError):
            app.main()

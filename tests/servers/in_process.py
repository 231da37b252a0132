"""Commands in the test's own process: to start one takes a second, its work a tenth of that."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from gatesync.cli.app import main
from tests.servers.gatesync import Done


def runner(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Sequence[str | Path], str], Done]:
    """What runs commands in this folder; each is given its arguments, and a token or nothing."""

    def run(arguments: Sequence[str | Path], token: str = "") -> Done:
        with monkeypatch.context() as patch:
            patch.chdir(folder)
            for name in ("GATESYNC_PUBLISHER", "GATESYNC_TOKEN"):
                patch.delenv(name, raising=False)
            if token:
                patch.setenv("GATESYNC_TOKEN", token)
            patch.setattr(sys, "argv", ["gatesync", *map(str, arguments)])
            capsys.readouterr()
            with pytest.raises(SystemExit) as ended:
                main()
            assert isinstance(ended.value.code, int)
            return Done(ended.value.code, *capsys.readouterr())

    return run

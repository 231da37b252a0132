"""A peer that is not installed is said to be so, with what installs it, and nothing is started."""

import importlib
import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("against_opal", "python benchmarks/peers.py install"),
        ("against_etcd", "apt-get install etcd-server"),
        ("against_lsyncd", "apt-get install"),
    ],
)
def test_it_is_skipped_with_a_reason(
    name: str,
    how: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("peers.SBIN", (str(tmp_path),))
    monkeypatch.setattr(sys, "argv", [name])
    importlib.import_module(name).main()
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert line["benchmark"] == name
    assert how in line["skipped"]
    assert line["peer"]["name"] == name.removeprefix("against_").replace("opal", "OPAL")

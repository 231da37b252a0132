from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from gatesync.config import Checked, ConfigProblem, Loaded, check, load

TABLE = "database.sync_runtime_artifacts_db"  # of the database
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "deployment.toml"
        path.write_text(text)
        return path

    return write


class Reading:
    """Loads texts as files, with an environment and a host name that tests know."""

    def __init__(self, write: Write) -> None:
        self._write = write

    def load(self, text: str, environ: Mapping[str, str] | None = None) -> Loaded:
        return load(self._write(text), environ=environ or {}, hostname="host")

    def check(self, text: str, environ: Mapping[str, str] | None = None) -> Checked:
        return check(self._write(text), environ=environ or {}, hostname="host")

    def problem(self, text: str, environ: Mapping[str, str] | None = None) -> ConfigProblem:
        (problem,) = self.check(text, environ).problems
        return problem


@pytest.fixture
def reading(write: Write) -> Reading:
    return Reading(write)


def table(**keys: object) -> str:
    """The database section with these keys."""
    return f"[{TABLE}]\n" + "\n".join(f"{name} = {value!r}" for name, value in keys.items())

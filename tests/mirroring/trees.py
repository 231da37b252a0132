"""Trees for tests, and clocks that tests move."""

from pathlib import Path
from typing import Any, Final

from gatesync.mirroring.source_tree import Settled, SourceTree

CONFIGS: Final = "deployment/server/synapse-configs/default"
MOMENT: Final = 0.2


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now

    def ns(self) -> int:
        """For what counts in nanoseconds."""
        return int(self.now * 1e9)


def write(root: Path, path: str, content: str) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    return file


def sequence(name: str, inside: str = "") -> str:
    return f'<sequence name="{name}">{inside}</sequence>'


def endpoint(name: str) -> str:
    return f'<endpoint name="{name}"><address uri="http://127.0.0.1"/></endpoint>'


def api(name: str, version: str = "1.0.0", inside: str = "", context: str = "") -> str:
    where = context or f"/{name.lower()}/{version}"
    return (
        f'<api name="admin--{name}" context="{where}" version="{version}" '
        f'version-type="context"><resource methods="GET" url-mapping="/*"><inSequence>{inside}'
        "</inSequence></resource></api>"
    )


def api_file(name: str, version: str = "1.0.0") -> str:
    return f"{CONFIGS}/api/admin--{name}_v{version}.xml"


def sequence_file(name: str) -> str:
    return f"{CONFIGS}/sequences/{name}.xml"


def endpoint_file(name: str) -> str:
    return f"{CONFIGS}/endpoints/{name}.xml"


class Watched:
    """A tree, looked at by a clock of its own."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.clock = Clock()
        self.root = folder / "repository"
        self.root.mkdir(exist_ok=True)
        self.record = folder / "record.json"
        self._more = more
        self.tree = self.opened()

    def opened(self) -> SourceTree:
        self.tree = SourceTree(
            self.root,
            self.record,
            clock=self.clock.ns,
            steady=self.clock,
            moment=MOMENT,
            **self._more,
        )
        return self.tree

    def write(self, path: str, content: str) -> Path:
        return write(self.root, path, content)

    def look(self, **more: Any) -> Settled:
        """One look, a moment after the one before."""
        self.clock.now += MOMENT + 0.001  # seconds are no whole numbers
        return self.tree.look(**more)

    def settle(self) -> Settled:
        """Look until nothing moves."""
        for _ in range(200):
            if not (settled := self.look()).restless:
                return settled
        raise AssertionError(f"never quiet: {settled.restless}")

    def paths(self) -> list[str]:
        """What the manifest names."""
        manifest = self.settle().manifest
        assert manifest is not None
        return [file.path for file in manifest.files]

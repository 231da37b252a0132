"""A file system for a database server of a test, which can become full."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

LARGE: Final = 1024 * 1024 * 1024  # bytes that it may hold; it takes as many as it does hold
SLACK: Final = 64 * 1024


def can_mount() -> bool:
    return os.geteuid() == 0 and shutil.which("mount") is not None


class SmallDisk:
    """A tmpfs at a folder that others may enter."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def full(self) -> Iterator[None]:
        """Next to nothing more fits on it while the block runs."""
        # Made smaller instead of filled: a ballast would take memory.
        usage = shutil.disk_usage(self.folder)
        self._resize(usage.used + SLACK)
        try:
            yield
        finally:
            self._resize(LARGE)

    def _resize(self, size: int) -> None:
        _run("mount", "-o", f"remount,size={size}", str(self.folder))


@contextmanager
def small_disk() -> Iterator[SmallDisk]:
    """Mounted while the block runs; only root can."""
    folder = Path(tempfile.mkdtemp(prefix="gatesync-disk-"))
    try:
        _run("mount", "-t", "tmpfs", "-o", f"size={LARGE},mode=0755", "none", str(folder))
        try:
            yield SmallDisk(folder)
        finally:
            _run("umount", "--lazy", str(folder))
    finally:
        folder.rmdir()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"

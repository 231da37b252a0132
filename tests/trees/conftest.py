"""Folders in memory, where syncing costs nothing."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

MEMORY: Final = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""What a killed process wrote is not lost; what is lost with the power is not tried here."""


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        yield Path(name)

"""Folders in memory, where syncing costs nothing."""

from tests.trees.conftest import folder

__all__ = ["folder"]

"""A folder that is there whole or not at all: written beside its place, then renamed into it."""

import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gatesync.artifacts.errors import Problem
from gatesync.cli.running import EXIT_UNREACHABLE, EXIT_WRONG
from gatesync.cli.session import CommandError

__all__ = ["NewFolder", "new_folder"]


class NewFolder:
    """A folder in the course of being written. Use `new_folder`.

    Attributes:
        files: how many were written.
        size: their bytes.
    """

    def __init__(self, root: Path) -> None:
        self.files = 0
        self.size = 0
        self._root = root

    def write(self, path: str, content: bytes) -> None:
        """Write one file, `path` being `/`-separated.

        Raises:
            Problem: the path would lead out of the folder, or this file system takes it for that
                of a file which is there already.
            CommandError: the file cannot be written.
        """
        steps = path.split("/")
        if any(step in {"", ".", ".."} or "\\" in step or "\0" in step for step in steps):
            raise Problem("is no path below a folder", where=path)
        place = self._root.joinpath(*steps)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("xb") as file:  # never over another, however names are folded
                file.write(content)
        except FileExistsError:
            raise Problem(
                "this file system takes its path for that of another file", where=path
            ) from None
        except OSError as error:
            reason = f"{path} cannot be written: {error.strerror}; nothing was kept"
            raise CommandError(EXIT_UNREACHABLE, reason) from error
        self.files += 1
        self.size += len(content)


@contextmanager
def new_folder(path: Path) -> Iterator[NewFolder]:
    """Make a folder that has its place when the block ends well; else nothing of it is left.

    Only a process that is killed leaves something: a hidden folder `.gatesync-...` beside it.

    Raises:
        CommandError: 2 where the path is not free, 3 where nothing can be written there.
    """
    place = path.resolve()
    check_free(path)
    root = place.with_name(f".gatesync-{secrets.token_hex(8)}")
    try:
        root.mkdir()
        if place.exists():
            root.chmod(stat.S_IMODE(place.stat().st_mode))
    except OSError as error:
        reason = f"no folder can be made in {place.parent}: {error.strerror}"
        raise CommandError(EXIT_UNREACHABLE, reason) from error
    try:
        yield NewFolder(root)
        root.rename(place)
    except OSError as error:
        reason = f"{path} cannot be put in its place: {error.strerror}; nothing was kept"
        raise CommandError(EXIT_UNREACHABLE, reason) from error
    finally:
        shutil.rmtree(root, ignore_errors=True)  # gone already, when all went well


def check_free(path: Path) -> None:
    """Raise `CommandError` where a new folder cannot stand."""
    place = path.resolve()
    try:
        if not place.parent.is_dir():
            reason = f"there is no folder {path.parent} to put {path.name} in; make it first"
        elif place == Path.cwd():
            reason = f"{path} is the folder you are in; name one below it"
        elif place.is_dir() and not any(place.iterdir()):
            return
        elif place.exists():
            reason = f"{path} is there already; name a folder that is empty or does not exist"
        else:
            return
    except OSError as error:
        reason = f"{path} cannot be looked at: {error.strerror}"
    raise CommandError(EXIT_WRONG, reason)

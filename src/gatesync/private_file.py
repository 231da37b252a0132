"""Files that only their owner may read: tokens, credentials, keys."""

import os
from pathlib import Path

__all__ = ["write_private_file"]


def write_private_file(path: Path, content: bytes) -> None:
    """Replace a file durably, with mode 0600: nobody ever sees half of it.

    For one writer at a time. Raises `OSError`, with the file's name; the old one is untouched
    then.
    """
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)  # left by a crash
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException as error:
        new.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # such as a full disk
            error.filename = str(path)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)

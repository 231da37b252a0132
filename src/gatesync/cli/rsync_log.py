"""The log that `gatesync rsync --log-file` writes: a line an event, and never more than so much."""

import logging
import logging.handlers
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

__all__ = ["RunLog", "open_run_log"]

FILE_BYTES: Final = 10_000_000
FILES: Final = 5  # older ones beside it: .1 to .5


class RunLog:
    """Takes lines; without a file it takes them nowhere. A full disk never stops the work."""

    def __init__(self, handler: logging.Handler | None) -> None:
        self._handler = handler

    def line(self, text: str) -> None:
        """Write one line, whatever characters are in it."""
        if self._handler is not None:
            shown = text.encode("utf-8", "backslashreplace").decode()
            clean = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in shown)
            record = logging.LogRecord("rsync", logging.INFO, "", 0, clean, None, None)
            self._handler.handle(record)


class _Handler(logging.handlers.RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - its name
        """A line that cannot be written is lost."""

    def _open(self) -> Any:
        descriptor = os.open(
            self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        return os.fdopen(descriptor, "a", encoding="utf-8")


@contextmanager
def open_run_log(path: Path | None) -> Iterator[RunLog]:
    """Open the log, or none. Raises `OSError` when it cannot be written."""
    if path is None:
        yield RunLog(None)
        return
    handler = _Handler(path, maxBytes=FILE_BYTES, backupCount=FILES, encoding="utf-8")
    formatter = logging.Formatter("%(asctime)sZ %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    try:
        yield RunLog(handler)
    finally:
        with suppress(OSError):  # a full disk: what was buffered is lost
            handler.close()

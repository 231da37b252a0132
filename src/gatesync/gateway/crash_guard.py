"""An engine that ends the process when it is given one artifact, and what is done about it.

Before the engine is given anything it is written down what, and crossed out afterwards. What was
under way when the process ended is deployed alone after the next start; what was under way at two
ends in a row, the second time alone, is left out: the third start goes on without it.
"""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import structlog

from gatesync.engines.engine import Deployable, Engine

__all__ = ["CautiousEngine", "cautious"]

ENDS: Final = 2  # of the process, while it was deployed

_log = structlog.get_logger("gatesync.gateway")


class _Record(msgspec.Struct):
    """What the file holds: digests by api_id, and how many ends each suspect has seen."""

    under_way: dict[str, str] = {}
    ends: dict[str, tuple[str, int]] = {}


class CautiousEngine:
    """See the module, and `Engine`.

    The file is for a process that ends, not for a power failure: it is not synced, and costs a
    change a few microseconds.
    """

    def __init__(self, engine: Engine, file: int, ends: dict[str, tuple[str, int]]) -> None:
        self.name = engine.name
        self._engine = engine
        self._file = file
        self._ends = ends

    async def apply(
        self, deploy: Sequence[Deployable], undeploy: Collection[str]
    ) -> Mapping[str, str]:
        """See `Engine.apply`: refuses what ended the process before."""
        if not self._ends:
            return await self._apply(deploy, undeploy)
        refused = {each.entry.api_id: reason for each in deploy if (reason := self._refusal(each))}
        others = [each for each in deploy if each.entry.api_id not in refused]
        alone = [each for each in others if self._ends_at(each)]
        rest = [each for each in others if not self._ends_at(each)]
        refused |= await self._apply(rest, undeploy)
        for each in alone:
            refused |= await self._apply([each], ())
            self._ends.pop(each.entry.api_id, None)
        for api_id in undeploy:
            self._ends.pop(api_id, None)
        self._write({})
        return refused

    def content(self, api_id: str) -> bytes | None:
        """See `Engine.content`."""
        return self._engine.content(api_id)

    def api_ids(self) -> Collection[str]:
        """See `Engine.api_ids`."""
        return self._engine.api_ids()

    def forgive(self, api_ids: Collection[str] | None) -> None:
        """Try these again when they are next deployed, or everything: an operator says so."""
        for api_id in list(self._ends if api_ids is None else api_ids):
            self._ends.pop(api_id, None)

    def _ends_at(self, each: Deployable) -> int:
        """How often the process ended at these very bytes.

        What was served before them comes first after a start, and clears them of nothing.
        """
        digest, ends = self._ends.get(each.entry.api_id, ("", 0))
        return ends if digest == each.entry.digest else 0

    def _refusal(self, each: Deployable) -> str:
        ends = self._ends_at(each)
        if ends < ENDS:
            return ""
        return (
            f"this node's process ended {ends} times while it deployed this; left out until it "
            "changes, or is redeployed by hand"
        )

    async def _apply(
        self, deploy: Sequence[Deployable], undeploy: Collection[str]
    ) -> Mapping[str, str]:
        if deploy:
            self._write({each.entry.api_id: each.entry.digest for each in deploy})
        answer = await self._engine.apply(deploy, undeploy)
        if deploy:
            self._write({})
        return answer

    def _write(self, under_way: dict[str, str]) -> None:
        try:
            written = msgspec.json.encode(_Record(under_way, self._ends))
            os.pwrite(self._file, written, 0)
            os.ftruncate(self._file, len(written))
        except OSError as error:  # a full disk keeps nobody from serving
            _log.debug("what is under way was not written down", reason=str(error))


@contextmanager
def cautious(engine: Engine, path: Path) -> Iterator[CautiousEngine]:
    """Put this between a node and its engine.

    Args:
        engine: what may end the process.
        path: the file to write down in, of this node alone; made with mode 0600.

    Raises:
        OSError: it cannot be read or made.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        ends = _ends(_read(file))
        left_out = [api_id for api_id, (_, count) in ends.items() if count >= ENDS]
        if left_out:
            _log.error("artifacts that ended this process twice are left out", api_ids=left_out)
        elif ends:
            _log.warning(
                "this process ended while it deployed; what was under way is deployed one by one",
                artifacts=len(ends),
            )
        yield CautiousEngine(engine, file, ends)
    finally:
        os.close(file)


def _read(file: int) -> _Record:
    try:
        return msgspec.json.decode(os.pread(file, os.fstat(file).st_size, 0), type=_Record)
    except msgspec.DecodeError:  # empty, or the end came while it was written
        return _Record()


def _ends(record: _Record) -> dict[str, tuple[str, int]]:
    """How often each suspect has seen the process end, now that it ended once more."""
    ends = {api_id: each for api_id, each in record.ends.items() if each[1] >= ENDS}
    alone = len(record.under_way) == 1
    for api_id, digest in record.under_way.items():
        before = record.ends.get(api_id, ("", 0))
        count = before[1] + 1 if before[0] == digest else 1
        # Among others it is one of many: only alone does the second end tell anything.
        ends[api_id] = (digest, count if alone else min(count, ENDS - 1))
    if record.under_way:
        return ends
    return {**record.ends, **ends}

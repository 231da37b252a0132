"""What people did to the files of a tree: found by size, time and inode, proved by digest."""

from typing import Final, Literal, NamedTuple

import structlog

from gatesync.trees.disk import Disk, Facts
from gatesync.trees.errors import InTheWayError, TreeError, explain
from gatesync.trees.manifest import Manifest, Row

__all__ = ["Drift", "DriftKind", "drift_after", "forget_other_root"]

PAGE: Final = 1000  # files that are looked at in one go

DriftKind = Literal["edited", "missing", "replaced"]

_log = structlog.get_logger("gatesync.trees")


class Drift(NamedTuple):
    """A file that is not as gatesync wrote it.

    `replaced`: a link, a folder or a device stands there, which gatesync leaves alone.
    """

    path: str
    api_id: str
    what: DriftKind


def drift_after(disk: Disk, manifest: Manifest, after: str) -> tuple[list[Drift], str]:
    """See `TreeWriter.drift`."""
    rows = manifest.after(after, PAGE)
    found, fresh = [], []
    with disk:
        for row in rows:
            what, facts = _compared(disk, row)
            if what is not None:
                found.append(Drift(row.path, row.api_id, what))
            elif facts is not None and facts != row.facts:
                fresh.append(row._replace(facts=facts))
    if fresh:
        manifest.record(fresh, (), ())
    return found, rows[-1].path if len(rows) == PAGE else ""


def forget_other_root(disk: Disk, manifest: Manifest) -> None:
    """Where the record is of a folder elsewhere, only what is the same here is ours.

    Raises:
        TreeError: that cannot be told.
    """
    root = str(disk.root)
    known = manifest.meta("root")
    if known == root:
        return
    after, gone = "", []
    while known is not None and (rows := manifest.after(after, PAGE)):
        after = rows[-1].path
        with disk:
            gone += [row.path for row in rows if _compared(disk, row, closely=True)[0] is not None]
    if gone:
        _log.warning("files that were saved elsewhere stay there", was=known, now=root)
        manifest.record((), gone, ())
    manifest.set_meta("root", root)


def _compared(
    disk: Disk, row: Row, *, closely: bool = False
) -> tuple[DriftKind | None, Facts | None]:
    try:
        facts = disk.look(row.path)
        if facts is None:
            return "missing", None
        if (facts == row.facts and not closely) or disk.digest(row.path) == row.digest:
            return None, facts
    except FileNotFoundError:
        return "missing", None
    except InTheWayError:
        return "replaced", None
    except OSError as error:
        raise TreeError(explain(error, row.path)) from error
    return "edited", facts

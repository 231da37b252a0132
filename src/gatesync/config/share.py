"""`[apim.sync_runtime_artifacts.shared]`: what `SharedFileSystemSaver` and `-Retriever` mount."""

from pathlib import Path
from typing import Final

import msgspec

from gatesync.config import kinds
from gatesync.config.adapters import WSO2_NAMES
from gatesync.config.problems import ConfigError, ConfigProblem
from gatesync.config.reader import Reader
from gatesync.stores.share_source import (
    CHECK_SECONDS,
    DEADLINE_SECONDS,
    VERIFY_SECONDS,
    ShareSource,
)

__all__ = ["SHARE_TABLE", "ShareSettings", "read_share", "refuse_share_without_path"]

SHARE_TABLE: Final = "apim.sync_runtime_artifacts.shared"


class ShareSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`source` is None where no path is given."""

    source: ShareSource | None

    def source_of(self, key: str) -> ShareSource:
        """The share, which is asked for by this key. Raises `ConfigError`: none is named."""
        if self.source is None:
            reason = f"needs a mounted folder: the key path in [{SHARE_TABLE}]"
            raise ConfigError([ConfigProblem(reason, key)])
        return self.source


def read_share(reader: Reader, data: Path, folder: Path, node_id: str) -> ShareSettings:
    """The section as a document gives it; faults are left in `reader.problems`.

    Args:
        reader: the document.
        data: the process's own folder.
        folder: where relative paths begin.
        node_id: what other publishers call this one.
    """
    ours = reader.section(SHARE_TABLE)
    path = ours.optional("path", kinds.path_in(folder))
    labels = ours.read("labels", kinds.labels, ["Production and Sandbox"])
    adopt = ours.read("adopt", kinds.boolean, False)
    check_ms = ours.read("check_interval", kinds.milliseconds(100), int(CHECK_SECONDS * 1000))
    verify_ms = ours.read("verify_interval", kinds.milliseconds(100), int(VERIFY_SECONDS * 1000))
    answer_ms = ours.read("answer_timeout", kinds.milliseconds(1_000), int(DEADLINE_SECONDS * 1000))
    if path is None:
        return ShareSettings(source=None)
    return ShareSettings(
        source=ShareSource(
            path=path,
            state=data / "share",
            labels=labels,
            holder=node_id,
            adopt=adopt,
            check_seconds=check_ms / 1000,
            verify_seconds=verify_ms / 1000,
            deadline_seconds=answer_ms / 1000,
        )
    )


def refuse_share_without_path(
    reader: Reader, share: ShareSettings, saver: str, retriever: str
) -> None:
    """Who stores in a share, or reads from there, has to say where: better now than later."""
    if share.source is not None or reader.lookup(reader.section(SHARE_TABLE).place("path")):
        return
    for role, key, name in (
        ("publisher", "artifact_saver", saver),
        ("gateway", "artifact_retriever", retriever),
    ):
        if WSO2_NAMES.get(name, name) == "share":
            table = reader.section(f"apim.sync_runtime_artifacts.{role}")
            table.problem(
                key, f"is {name}, which needs a mounted folder: the key path in [{SHARE_TABLE}]"
            )

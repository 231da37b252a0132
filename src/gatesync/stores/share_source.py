"""Which shared file system the store opens, and how: values, without any I/O.

`gatesync.config` makes these of deployment.toml; the openers take them:

    gatesync.stores.share_store.open_share_saver(source)          -> a `Saver`, for publishers
    gatesync.stores.share_store.open_share_retriever(source)      -> a `Retriever`, for gateways
"""

from pathlib import Path
from typing import Final

import msgspec

__all__ = ["CHECK_SECONDS", "DEADLINE_SECONDS", "VERIFY_SECONDS", "ShareSource"]

CHECK_SECONDS: Final = 1.0
VERIFY_SECONDS: Final = 30.0
DEADLINE_SECONDS: Final = 30.0  # a mount whose server is away answers after minutes, or never


class ShareSource(msgspec.Struct, frozen=True, kw_only=True):
    """A folder that several hosts mount.

    Attributes:
        path: the folder; what is gatesync's in it is made by `gatesync share create` alone.
        state: a folder of this process's own, on a local disk: which share it knows, and which
            files of the tree it wrote. None for those who only read.
        labels: what is served there, the preferred first: nothing else is saved, and the tree in
            the share has what they hold. Empty: any label is saved, and there is no tree.
        holder: what other publishers call this one; empty for the id in `state`.
        adopt: others write the tree; gatesync does not.
        check_seconds: how often the one publisher that keeps the tree looks for news.
        verify_seconds: how often it compares each file with what it wrote.
        deadline_seconds: how long the file system may take for an answer.
    """

    path: Path
    state: Path | None = None
    labels: tuple[str, ...] = ()
    holder: str = ""
    adopt: bool = False
    check_seconds: float = CHECK_SECONDS
    verify_seconds: float = VERIFY_SECONDS
    deadline_seconds: float = DEADLINE_SECONDS

    def __str__(self) -> str:
        """As messages name it: `share /mnt/apim`."""
        return f"share {self.path}"

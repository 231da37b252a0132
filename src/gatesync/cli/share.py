"""gatesync share: the shared file system that deployment.toml names."""

import os

from gatesync.cli.auditing import recorded
from gatesync.cli.output import Output
from gatesync.cli.running import EXIT_UNREACHABLE, EXIT_WRONG
from gatesync.cli.session import CommandError
from gatesync.config import Settings
from gatesync.config.share import SHARE_TABLE
from gatesync.stores.share_chain import first_manifest
from gatesync.stores.share_files import create_share
from gatesync.stores.share_source import ShareSource
from gatesync.stores.share_state import open_state
from gatesync.stores.share_store import ShareStore
from gatesync.stores.store import Saver, StoreError

__all__ = ["create", "tree_said"]


def create(settings: Settings, output: Output) -> int:
    """Make a share of a folder: by hand, since an empty folder may be one with nothing mounted."""
    source = settings.share.source
    if source is None:
        reason = f"deployment.toml names no folder: the key path in [{SHARE_TABLE}]"
        raise CommandError(EXIT_WRONG, reason)
    with recorded(settings, output, "create share", str(source)):
        try:
            epoch = _create(source)
        except StoreError as error:
            raise CommandError(EXIT_UNREACHABLE, str(error)) from None
    output.document({"share": str(source.path), "epoch": epoch})
    output.line(f"{source} is made, of epoch {epoch}")
    if not os.path.ismount(source.path):
        output.line(f"{source.path} is an ordinary folder: nothing is mounted just there")
    return 0


def tree_said(store: Saver) -> str:
    """How the tree in a share stands; empty where the store is none, or has none."""
    return store.tree if isinstance(store, ShareStore) else ""


def _create(source: ShareSource) -> str:
    """Refuses where this publisher knows a share there, which may only not be mounted now."""
    if not source.path.is_dir():
        raise StoreError(f"{source.path} is no folder; make it, or mount the file system there")
    with open_state(source) as state:
        if state.known_epoch:
            raise StoreError(
                f"this publisher knows a share at {source.path}, of epoch {state.known_epoch}: "
                f"mount it. To begin anew, remove {source.state} first"
            )
        epoch = create_share(source.path, first_manifest)
        state.know(epoch)
    return epoch

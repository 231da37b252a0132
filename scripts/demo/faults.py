"""The demo publisher's event hub: NATS, except that files in a folder make things go wrong.

The publisher's deployment.toml names it (`adapter = "demo.faults:open_faulty_hub"`), as it would
any other adapter. Nothing else in the publisher knows of it.
"""

import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from gatesync.events.hub import EventHub
from gatesync.events.messages import ChangeAnnounced, decode_announcement
from gatesync.events.nats import open_nats_hub

__all__ = ["DIE_BEFORE_EVENT", "DROP_EVENTS", "FOLDER_VARIABLE", "open_faulty_hub"]

FOLDER_VARIABLE: Final = "GATESYNC_DEMO_FAULTS"
DROP_EVENTS: Final = "drop-events"  # while there is such a file, nothing is announced
DIE_BEFORE_EVENT: Final = "die-before-event"  # the next change that is announced kills us instead


class FaultyHub:
    """Another hub, with faults in what it announces."""

    def __init__(self, hub: EventHub, folder: Path) -> None:
        self._hub = hub
        self._folder = folder

    def __getattr__(self, name: str) -> Any:
        """Everything else is the other hub's."""
        return getattr(self._hub, name)

    async def announce(self, label: str, message: bytes) -> None:
        """Announce, drop or die, as the files say."""
        fuse = self._folder / DIE_BEFORE_EVENT
        if fuse.exists() and isinstance(decode_announcement(message), ChangeAnnounced):
            fuse.unlink()  # else the next process would die of it too
            os.kill(os.getpid(), signal.SIGKILL)
        if not (self._folder / DROP_EVENTS).exists():
            await self._hub.announce(label, message)


@asynccontextmanager
async def open_faulty_hub(
    endpoints: Sequence[str], *, user: str | None, password: str | None, name: str, **more: Any
) -> AsyncIterator[FaultyHub]:
    """Open the hub; an `OpenHub` like any adapter."""
    async with open_nats_hub(endpoints, user=user, password=password, name=name, **more) as hub:
        yield FaultyHub(hub, Path(os.environ[FOLDER_VARIABLE]))

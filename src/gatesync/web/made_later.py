"""An application that is made when it is first asked for something.

What a web framework brings along takes longer to load than a gateway needs to deploy a thousand
artifacts, and nobody asks a gateway anything before it has started.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias

from gatesync.web.guard import Receive, Scope, Send

__all__ = ["MadeLater"]

App: TypeAlias = Any


class MadeLater:
    """An ASGI application that another one stands behind.

    Args:
        make: imports what that one needs, and makes it; called once, in a thread.
    """

    def __init__(self, make: Callable[[], App]) -> None:
        self._make = make
        self._made: App = None
        self._making = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, as ASGI says."""
        if self._made is None:
            await self.made()
        await self._made(scope, receive, send)

    async def made(self) -> None:
        """Have it made now; whoever asks meanwhile waits."""
        async with self._making:
            if self._made is None:
                self._made = await asyncio.to_thread(self._make)

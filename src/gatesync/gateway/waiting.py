"""Waiting for whichever comes first."""

import asyncio
import contextlib

__all__ = ["wait_for"]


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, but no longer than this."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()

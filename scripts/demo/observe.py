"""Looking at gateways from outside: their bytes, over HTTP, hashed here."""

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from demo.cluster import Gateway
from demo.verdicts import Verdict, judge
from gatesync.web.client import AnsweredError, UnreachableError

__all__ = ["Seen", "held_by", "seconds_until_held", "watch"]

POLL_SECONDS: Final = 0.025  # of a listing of a hundred artifacts: 1 ms of work for a gateway
FAST_POLL_SECONDS: Final = 0.001  # for one artifact


class Seen(NamedTuple):
    """A gateway's verdict, and when that was, by the monotonic clock.

    `waited`: whether it was otherwise at first.
    """

    gateway: Gateway
    verdict: Verdict
    at: float
    waited: bool


class _Item(msgspec.Struct):
    api_id: str
    digest: str


class _Listing(msgspec.Struct):
    artifacts: list[_Item]


async def watch(gateway: Gateway, expected: Mapping[str, str], seconds: float) -> Seen:
    """Look at a gateway until it holds exactly this, or until the time is up.

    A listing is asked for every 25 ms. Only when it looks right, or in the end, is every artifact
    fetched and hashed: the verdict is about those bytes and no others.

    Args:
        gateway: whom to ask.
        expected: SHA-256 by api_id.
        seconds: how long to go on.
    """
    deadline, waited = time.monotonic() + seconds, False
    while True:
        listed, at = await _listing(gateway), time.monotonic()
        if listed == expected or at >= deadline:
            verdict = judge(gateway.name, expected, await held_by(gateway, expected))
            if verdict.in_step or at >= deadline:
                return Seen(gateway, verdict, at, waited)
        waited = True
        await asyncio.sleep(POLL_SECONDS)


async def held_by(gateway: Gateway, asked_for: Mapping[str, str]) -> dict[str, str]:
    """The SHA-256 of everything that the gateway serves, by api_id, from the bytes themselves.

    Whatever is asked for is tried, whether the gateway lists it or not.
    """
    listed = await _listing(gateway) or {}
    found = {}
    for api_id in sorted(listed.keys() | asked_for.keys()):
        digest = await _digest(gateway, api_id)
        if digest is not None:
            found[api_id] = digest
    return found


async def seconds_until_held(
    gateways: Sequence[Gateway], api_id: str, digest: str, began: float, seconds: float
) -> float | None:
    """Seconds from `began` until all of them serve these bytes; None when time was up before."""

    async def one(gateway: Gateway) -> None:
        while await _digest(gateway, api_id) != digest:  # noqa: ASYNC110 - another process
            await asyncio.sleep(FAST_POLL_SECONDS)

    try:
        async with asyncio.timeout(seconds):
            await asyncio.gather(*(one(gateway) for gateway in gateways))
    except TimeoutError:
        return None
    return time.monotonic() - began


async def _listing(gateway: Gateway) -> dict[str, str] | None:
    try:
        answer = await gateway.client.get("/v1/held", _Listing)
    except (UnreachableError, AnsweredError):
        return None
    return {item.api_id: item.digest for item in answer.artifacts}


async def _digest(gateway: Gateway, api_id: str) -> str | None:
    try:
        answer = await gateway.client.request(
            "GET", "/v1/held/content", params=[("api_id", api_id)]
        )
    except (UnreachableError, AnsweredError):
        return None
    return hashlib.sha256(answer.body).hexdigest()

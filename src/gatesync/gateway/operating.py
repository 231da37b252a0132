"""What an operator does at one node: find an artifact, deploy it anew, undeploy it for a while."""

import asyncio
import contextlib
from collections.abc import Collection
from typing import Final

import msgspec
import structlog

from gatesync.engines.engine import Engine
from gatesync.gateway.health import HealthView
from gatesync.gateway.informer import Informer
from gatesync.gateway.selecting import Selection, SelectionError, select

__all__ = ["Operator", "Outcome"]

WAIT_SECONDS: Final = 10.0  # for contents to come, before the answer says that they are waited for
_LOOK_SECONDS: Final = 0.01

_log = structlog.get_logger("gatesync.gateway")


class Outcome(msgspec.Struct, frozen=True):
    """What it came to: how many were done; which wait for their contents; which failed, and why."""

    done: int
    waiting: tuple[str, ...] = ()
    failed: dict[str, str] = {}


class Operator:
    """See the module.

    Args:
        informer: the node's.
        engine: what it deploys into.
        view: how far it is.
    """

    def __init__(self, informer: Informer, engine: Engine, view: HealthView) -> None:
        self.informer = informer
        self.engine = engine
        self.view = view

    def find(self, selection: Selection) -> str:
        """The api_id of what is meant. Raises `SelectionError`."""
        return select(selection, self.informer.deployment)

    def content(self, api_id: str) -> bytes | None:
        """The canonical form that the engine serves."""
        return self.engine.content(api_id)

    async def redeploy(self, api_ids: Collection[str] | None) -> Outcome:
        """Deploy these anew, or everything; waits for their contents a while.

        What is served meanwhile goes on being served, also where the engine refuses (promise 4).
        """
        deployment = self.informer.deployment
        count = await self.informer.redeploy(api_ids)
        _log.info("redeployed by the operator", artifacts=count, api_ids=_named(api_ids))

        def waiting() -> set[str]:
            found = deployment.waiting.keys() - deployment.failed.keys()
            return found if api_ids is None else found & set(api_ids)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WAIT_SECONDS):
                while waiting():  # noqa: ASYNC110 - any of several tasks may bring them
                    await asyncio.sleep(_LOOK_SECONDS)
        left = waiting()
        asked = deployment.failed.keys() if api_ids is None else set(api_ids)
        failed = {k: each.reason for k, each in deployment.failed.items() if k in asked}
        done = max(0, count - len(left | failed.keys()))
        return Outcome(done, tuple(sorted(left)), failed)

    async def undeploy(self, api_ids: Collection[str]) -> Outcome:
        """Undeploy these until a label changes them.

        Raises:
            SelectionError: they are not to be served any more, and about to go anyway.
        """
        count = await self.informer.undeploy(api_ids)
        if not count:
            reason = "no label of this node has it any more; it is about to be undeployed"
            raise SelectionError(409, "leaving", reason)
        _log.info("undeployed by the operator", artifacts=count, api_ids=_named(api_ids))
        still = {each for each in api_ids if each in self.informer.deployment.applied}
        failed = dict.fromkeys(still, "the engine did not undeploy it yet; it is tried again")
        return Outcome(count - len(failed), (), failed)


def _named(api_ids: Collection[str] | None) -> list[str] | str:
    return "all" if api_ids is None else sorted(api_ids)

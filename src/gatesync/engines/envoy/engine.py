"""The engine `envoy`: artifacts are translated, delivered over ADS, and acknowledged by Envoy.

    apply → Node (translation) → target → Session.deliver → acknowledged → served
    rejected → the artifacts whose resources were in it are taken back, then added in parts, until
    those are found which Envoy rejects: they are refused with its words, the others are served
    Envoy comes (back) → it is told what it lacks → what failed meanwhile is tried again at once

Until the node knows everything that is to be served, nothing is delivered (`started`): an Envoy
that went on serving while this process was away keeps what it has.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

import structlog
from immutables import Map

from gatesync.artifacts import canonical
from gatesync.artifacts.model import Artifact
from gatesync.engines.engine import Deployable, EngineError, ServingState
from gatesync.engines.envoy.admin import Admin, AdminError
from gatesync.engines.envoy.ads import DisconnectedError, RejectedError, Session
from gatesync.engines.envoy.configuration import Configuration
from gatesync.engines.envoy.metrics import EnvoyMetrics
from gatesync.engines.envoy.node import Node
from gatesync.engines.envoy.parts import in_parts, said
from gatesync.engines.envoy.process import EnvoyProcess
from gatesync.engines.envoy.resources import CLUSTER, LISTENER, SCOPE
from gatesync.engines.envoy.versions import UNKNOWN

__all__ = ["EnvoyEngine"]

CONNECT_SECONDS: Final = 10.0  # for Envoy to come back, before an artifact counts as failed
WARM_SECONDS: Final = 5.0  # for an upstream's name to be resolved, before its routes go live
RETRY_SECONDS: Final = 1.0  # between two tries to deliver what Envoy did not take in time

_log = structlog.get_logger("gatesync.engines.envoy")


class EnvoyEngine:
    """See `Engine` and `Serving`.

    Args:
        node: translates.
        admin: asks Envoy.
        answer_seconds: how long Envoy may take to acknowledge.
        held_back: whether to wait for `started` before anything is delivered.
        process: the Envoy that this gateway runs; None where others do.
        read: the artifact with this api_id and this canonical form.

    Attributes:
        on_back: called with the api_ids that failed because Envoy was away, or that it rejected
            later, to have them deployed again.
        rejections: responses that Envoy rejected.
        known: whether everything that is to be served is known, and Envoy may be told.
    """

    name = "envoy"

    def __init__(
        self,
        node: Node,
        admin: Admin,
        *,
        answer_seconds: float = 30.0,
        held_back: bool = False,
        process: EnvoyProcess | None = None,
        read: Callable[[str, bytes], Artifact] = lambda _, content: canonical.decode(content),
    ) -> None:
        self.on_back: Callable[[Collection[str]], Awaitable[None]] | None = None
        self.rejections = 0
        self.metrics = EnvoyMetrics(self.counts, admin)
        self.session: Session | None = None
        self._admin = admin
        self._process = process
        self._answer_seconds = answer_seconds
        self.known = not held_back  # everything that is to be served is in the target
        self._proven = not held_back  # and what is not in it may be taken from any Envoy
        self._served: Map[str, bytes] = Map()
        self._drifted: frozenset[str] = frozenset()
        self._wanted = Configuration(node, read, self._touch)
        self._owed: set[str] = set()  # failed, and to be deployed again when Envoy is back
        self._unserved: set[str] = set()  # accepted at the start, and not acknowledged since
        self._lock = asyncio.Lock()
        self._stirred = asyncio.Event()
        self._connected = asyncio.Event()
        self._error = ""

    # What a gateway calls.

    async def apply(
        self, deploy: Sequence[Deployable], undeploy: Collection[str]
    ) -> Mapping[str, str]:
        """See `Engine.apply`: returns once Envoy has acknowledged it."""
        async with self._lock:
            before = self._served
            offered = {each.entry.api_id: each.content for each in deploy}
            try:
                refused = await self._change(offered, undeploy)
            except BaseException as error:
                self._owed |= {*offered, *undeploy}
                self._wanted.take({k: before.get(k) for k in (*offered, *undeploy)}, before)
                if not isinstance(error, asyncio.CancelledError):
                    self._stirred.set()  # a gateway that stops takes nothing back from its Envoy
                if isinstance(error, RejectedError | DisconnectedError | TimeoutError):
                    self._error = _reason(error)
                    raise EngineError(self._error) from error
                raise
            with self._served.mutate() as draft:
                for api_id in undeploy:
                    draft.pop(api_id, None)
                for api_id, content in offered.items():
                    if api_id not in refused:
                        draft[api_id] = content
                self._served = draft.finish()  # promise 5: one assignment, after Envoy's own swap
            self._drifted -= {*offered, *undeploy} - refused.keys()
            self._owed -= {*offered, *undeploy}
            return refused

    def content(self, api_id: str) -> bytes | None:
        """See `Engine.content`. None, too, where Envoy was seen to hold something else."""
        return None if api_id in self._drifted else self._served.get(api_id)

    def api_ids(self) -> Collection[str]:
        """See `Engine.api_ids`."""
        return self._served.keys()

    async def started(self, *, proven: bool) -> None:
        """See `Serving.started`."""
        if (self.known and self._proven) or (self.known and not proven):
            return
        self.known, self._proven = True, self._proven or proven
        self._stirred.set()
        try:
            async with asyncio.timeout(self._answer_seconds):
                await self._until_in_step()
        except TimeoutError:  # what was accepted before is not served: let it be known
            self._unserved.update(self._served)
            self._stirred.set()

    async def look(self) -> None:
        """See `Serving.look`: compares with Envoy's `config_dump`."""
        async with self._lock:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await self._connected.wait()
                    held = await self._admin.held()
            except (AdminError, TimeoutError) as error:
                _log.error("what Envoy holds cannot be told", reason=str(error) or "not connected")
                self._drifted = frozenset(self._served)
                return
            self._compare(held)

    def state(self) -> ServingState:
        """See `Serving.state`."""
        session = self.session
        if session is None:
            trouble = self._process.error if self._process is not None else ""
            return ServingState(False, trouble or self._error or "Envoy is not connected")
        if not self.known:
            return ServingState(False, "Envoy is not told anything before the first lists")
        if self._may_deliver(session) and session.lacks(self._wanted.resources):
            return ServingState(False, self._error or "Envoy has not acknowledged everything yet")
        return ServingState(True)

    def counts(self) -> dict[str, float]:
        """What is measured, by name; see `EnvoyMetrics`."""
        session, process = self.session, self._process
        found: dict[str, float] = {
            "connected": session is not None,
            "in_step": self.state().ready,
            "clusters": len(self._wanted.resources[CLUSTER]),
            "scopes": len(self._wanted.resources[SCOPE]),
            "pushes": 0 if session is None else session.pushes,
            "rejections": self.rejections,
        }
        if process is not None:
            found |= {"starts": process.starts, "deaths": process.deaths}
        return found

    # What runs beside it.

    def connected(self, session: Session) -> None:
        """Envoy opened a stream."""
        _log.info("Envoy is connected", node=session.node)
        self.session = session
        self._error = ""
        self._connected.set()
        self._stirred.set()

    def disconnected(self, session: Session) -> None:
        """The stream ended."""
        if self.session is session:
            _log.warning("Envoy is not connected any more")
            self.session = None
            self._connected.clear()

    async def run(self) -> None:
        """Tell Envoy what it lacks, whenever it comes, until cancelled."""
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            unserved, self._unserved = self._unserved, set()
            if unserved and self.on_back is not None:
                await self.on_back(unserved)
            try:
                async with self._lock:
                    again = await self._catch_up()
            except (RejectedError, DisconnectedError, TimeoutError) as error:
                self._error = _reason(error)
                if self.session is not None:
                    _log.warning("Envoy did not take what it lacks", reason=self._error)
                    await asyncio.sleep(RETRY_SECONDS)
                    self._stirred.set()
                continue
            if again and self.on_back is not None:
                await self.on_back(again)

    async def _catch_up(self) -> set[str]:
        """Deliver everything; answers with what is to be deployed again, for its reasons."""
        session = self.session
        if session is None:
            return set()
        async with asyncio.timeout(self._answer_seconds):
            await self._settled(session)
            if not self._may_deliver(session):
                return set()
            try:
                await self._deliver(session)
            except RejectedError as nack:
                # Accepted before by an Envoy of another version, or not asked about it yet.
                owners = self._wanted.owned(nack.names)
                suspects = {k: v for k, v in self._served.items() if k in owners}
                if not suspects or nack.type_url == LISTENER:
                    raise
                refused = await self._add_in_parts(suspects, {}, nack)
                for api_id in refused:
                    self._served = self._served.delete(api_id)
                self._owed |= refused.keys()
            again, self._owed = self._owed, set()
            return again

    # How a change goes.

    async def _change(
        self, offered: Mapping[str, bytes], undeploy: Collection[str]
    ) -> dict[str, str]:
        refused = await self._wanted.take_all({**dict.fromkeys(undeploy), **offered}, self._served)
        if not self.known:
            return refused  # `started` delivers it
        try:
            await self._delivered()
        except RejectedError as nack:
            suspects = {k: v for k, v in offered.items() if k not in refused}
            if not suspects or nack.type_url == LISTENER:  # no artifact's: its port is taken, say
                raise
            refused |= await self._add_in_parts(suspects, self._served, nack)
        return refused

    async def _add_in_parts(
        self, suspects: Mapping[str, bytes], before: Mapping[str, bytes], nack: RejectedError
    ) -> dict[str, str]:
        """Take these back, then add them again in parts: who is rejected alone is the culprit.

        In their order, so that each finds what it refers to.
        """
        self.rejections += 1
        refused: dict[str, str] = {}
        alone = len(suspects) == 1
        restored = {
            # What was served with these very bytes is left alone, unless nobody else is left.
            k: None if alone and before.get(k) == v else before.get(k)
            for k, v in suspects.items()
        }
        self._wanted.take(restored, before)
        if alone:
            refused = dict.fromkeys(suspects, said(str(nack)))
            _log.error("Envoy rejected an artifact", api_id=next(iter(suspects)), reason=str(nack))
        else:
            for part in in_parts(tuple(suspects), self._named(nack)):
                some = {api_id: suspects[api_id] for api_id in part}
                not_translated = await self._wanted.take_all(some, before)
                refused |= not_translated
                rest = {k: v for k, v in some.items() if k not in not_translated}
                try:
                    await self._delivered(additive=True)
                except RejectedError as error:
                    if not rest or error.type_url == LISTENER:
                        raise
                    refused |= await self._add_in_parts(rest, before, error)
        await self._delivered()  # what was good in a rejected response is not served yet
        return refused

    async def _delivered(self, *, additive: bool = False) -> None:
        """Wait for Envoy, and until it has acknowledged the target."""
        async with asyncio.timeout(self._answer_seconds):
            while True:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await self._connected.wait()
                session = self.session
                if session is None:
                    continue
                try:
                    await self._settled(session)
                    if not self._may_deliver(session):
                        return  # see `started`
                    await self._deliver(session, additive=additive)
                except DisconnectedError:
                    if self.session is session:
                        raise
                    continue  # another one has come, or will
                return

    async def _deliver(self, session: Session, *, additive: bool = False) -> None:
        if not session.lacks(self._wanted.resources):
            return
        await session.deliver(
            self._wanted.resources, self._warmed, additive=additive, only_fresh=not self._proven
        )
        self._error = ""

    async def _settled(self, session: Session) -> None:
        """Until it is known what an Envoy has that was there before us."""
        await session.until_asked(CLUSTER)

    def _may_deliver(self, session: Session) -> bool:
        # promise 6: what an earlier process of this node left is removed with proof only
        return self.known and (self._proven or session.fresh)

    async def _warmed(self, clusters: Collection[str]) -> None:
        with contextlib.suppress(AdminError, TimeoutError):
            async with asyncio.timeout(WARM_SECONDS):
                await self._admin.until_warmed(clusters)

    async def _until_in_step(self) -> None:
        while not self.state().ready:  # noqa: ASYNC110 - it is many things' doing
            await asyncio.sleep(0.005)

    # What Envoy really holds.

    def _named(self, nack: RejectedError) -> set[str]:
        """The artifacts whose resources Envoy names in its words."""
        text = str(nack)
        return self._wanted.owned(name for name in nack.names if name in text)

    def _touch(self, type_url: str, names: Iterable[str]) -> None:
        if self.session is not None:
            self.session.touch(type_url, names)

    def _compare(self, held: Mapping[str, Mapping[str, str]]) -> None:
        """Note what Envoy does not hold as it was told; it is sent again when it is deployed."""
        session = self.session
        if session is None or not self._may_deliver(session):
            return
        drifted = self._wanted.differing(held)
        for type_url, names in self._wanted.resources.items():
            drifted |= {(type_url, name) for name in session.held[type_url].keys() - names.keys()}
        for type_url, name in drifted:
            session.held[type_url][name] = UNKNOWN
            session.touch(type_url, (name,))
            _log.error("Envoy does not hold what it was told", type=type_url, name=name)
        self._drifted = self._wanted.owners(drifted)


def _reason(error: BaseException) -> str:
    match error:
        case RejectedError():
            return said(str(error))
        case TimeoutError():
            return (
                "Envoy did not acknowledge it in time; it is delivered as soon as Envoy is back. "
                "See the node's status, and envoy.log in its data folder"
            )
        case _:
            return f"{error}; it is delivered as soon as Envoy is back"

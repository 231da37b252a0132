"""One worker, brought in step.

    head       what the worker says it has; if that is what it is to have: done
    plan       what differs, by its manifest or by a comparison of everything
    put aside  what is to be brought, proved by its digests
    begin      the head is withdrawn
    bring      contents, what others need first; then removals, the other way round
    finish     the new manifest takes its place, then the head; it is read back

A runner that is killed anywhere leaves a withdrawn head. The next pass compares everything then,
and what was gatesync's before or came on the way stands in one of the two manifests.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence

import msgspec

from gatesync.artifacts.errors import FormatError
from gatesync.mirroring.outcome import Result
from gatesync.mirroring.remote import NO_FOLDER, RemoteHost
from gatesync.mirroring.rsync import Comparison, Rsync
from gatesync.mirroring.sessions import Sessions
from gatesync.mirroring.source_manifest import digest_of_files
from gatesync.mirroring.staging import Stage
from gatesync.mirroring.target import Document, Remembered, Target
from gatesync.mirroring.worker_manifest import (
    WORKER_FOLDER,
    Head,
    Part,
    State,
    WorkerManifest,
    sha256_of,
)
from gatesync.mirroring.worker_plan import Plan, Standing, in_order, in_the_way
from gatesync.mirroring.workers import Worker

__all__ = ["Asked", "Brought", "WorkerError", "WorkerSync"]


class WorkerError(Exception):
    """The worker said no, in its own words."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """How a pass is to go about it."""

    mirror: bool = False
    confirmed: bool = False
    compare_every: float = 600.0  # seconds; 0: now
    dry_run: bool = False


class Brought(msgspec.Struct, kw_only=True):
    """What was done, or would be."""

    result: Result = Result.IN_STEP
    offered: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    repaired: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    compared: bool = False
    bytes_sent: int = 0


class WorkerSync:
    """Brings one worker in step, as often as it is asked to.

    Args:
        worker: which.
        host: the connection to its host.
        rsync: see there.
        slots: how many rsyncs may run at a time.
        remembered: shared by all workers.
        now: seconds since 1970.
        may_write: asked before each thing that is written; False where another runner may be at
            it by now.
    """

    def __init__(
        self,
        worker: Worker,
        host: RemoteHost,
        rsync: Rsync,
        slots: asyncio.Semaphore,
        remembered: Remembered,
        now: Callable[[], float],
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        self.worker = worker
        self._host = host
        self._rsync = rsync
        self.sessions = Sessions(worker, host, rsync, slots)
        self._now = now
        self._remembered = remembered
        self._may_write = may_write

    async def bring(self, target: Target, asked: Asked) -> Brought:
        """Bring it in step with `target`, or say what would be done.

        Raises:
            RemoteError: the host cannot be reached, or does not answer.
            WorkerError: the worker cannot do what is asked, or another version is at work there.
            RsyncError: see there.
            StagingError: see there.
        """
        part = target.part
        has_folder, head = await self._head()
        # A comparison in the future is one by a clock that was wrong.
        is_due = head is None or not 0 <= self._now() - head.compared < asked.compare_every
        is_due |= asked.mirror and asked.confirmed
        # Files are not flushed to the worker's disk: with its power it may have lost some.
        is_due |= head is not None and head.boot not in {"", self._host.boot}
        waits = head is not None and head.held > 0 and asked.confirmed
        if head is not None and _proves(head, part) and not is_due and not waits:
            return await self._in_step(head, part, asked)
        async with self.sessions.place():
            standing = await self._standing(head, part) if has_folder else Standing({}, ())
            comparison = None
            if has_folder and part.files and (is_due or standing.vouched is None):
                comparison = await self._rsync.compare(self.worker, target.stage.source)
            elif standing.vouched is None:
                standing = standing._replace(vouched={})
            planned = target.plan(
                standing, comparison, mirror=asked.mirror, confirmed=asked.confirmed
            )
            return await self._carry_out(target, head, standing, comparison, planned, asked)

    async def _in_step(self, head: Head, part: Part, asked: Asked) -> Brought:
        """Nothing to bring. That the source has gone on elsewhere is noted in the head."""
        done = Brought()
        if head.held:
            standing = await self._standing(head, part)
            done.held = tuple(sorted(each for m in standing.manifests for each in m.held))
        if head.revision != part.revision and not asked.dry_run:
            await self._note(msgspec.structs.replace(head, revision=part.revision))
        return done

    async def _carry_out(
        self,
        target: Target,
        head: Head | None,
        standing: Standing,
        comparison: Comparison | None,
        planned: Plan,
        asked: Asked,
    ) -> Brought:
        part = target.part
        done = Brought(compared=comparison is not None)
        done.held = tuple(sorted(map(_shown, planned.held | planned.foreign)))
        done.removed = tuple(sorted(map(_shown, planned.removed)))
        is_nothing = not (planned.offered or planned.removed)
        if asked.dry_run:
            done.offered, done.repaired = _sorted(planned.offered, planned.repaired)
            done.result = Result.IN_STEP if is_nothing else Result.PLANNED
            return done
        compared, boot = self._now(), self._host.boot
        if head is not None and comparison is None:
            compared, boot = head.compared, head.boot
        if head is not None and is_nothing and _proves(head, part, held=len(planned.held)):
            await self._note(
                msgspec.structs.replace(head, revision=part.revision, compared=compared, boot=boot)
            )
            return done
        missing = await target.stage.add_files(planned.offered)
        offered = planned.offered - missing
        document, left_out = _next_manifest(target, standing, comparison, planned, missing)
        new = Head(
            state=State.PARTIAL if left_out else State.COMPLETE,
            epoch=part.epoch,
            revision=part.revision,
            digest=digest_of_files(document.manifest.files) if left_out else part.digest,
            manifest=document.sha256,
            held=len(planned.held),
            compared=compared,
            boot=boot,
        )
        if head is not None and not (offered or planned.removed) and _is_same(head, new):
            new = msgspec.structs.replace(new, manifest=head.manifest)
            if new != head:
                await self._note(new)
        else:
            done.bytes_sent = await self._change(target, document, new, offered, planned.removed)
            done.result = Result.BROUGHT
            self._remembered.put(document.sha256, document.manifest)
        done.offered, done.repaired = _sorted(offered, planned.repaired - missing)
        done.left_out = tuple(sorted(left_out))
        if left_out:
            done.result = Result.BEHIND
        return done

    async def _change(
        self,
        target: Target,
        document: Document,
        head: Head,
        offered: frozenset[str],
        removed: frozenset[str],
    ) -> int:
        """Change the worker, between two heads; bytes that were sent."""
        stage, part = target.stage, target.part
        begun = msgspec.structs.replace(head, state=State.CHANGING)
        await self._do("begin", begun.line())
        # In the first run, where it comes first: what is brought must be known to be gatesync's
        # before it is there. That saves a run of its own.
        names = [await stage.add_manifest(document.data, document.sha256)]
        sent = 0
        first = in_the_way(removed, offered)
        if first or any(_comes_early(path) for path in offered):
            sent += await self._bring(names)
            names = []
        if first:
            sent += await self._remove(stage, sorted(first, reverse=True))
        for group in in_order(offered, part):
            names += stage.names(group)
            sent += await self._bring(names)
            names = []
        if names:
            sent += await self._bring(names)
        for group in in_order(removed - first, part, removing=True):
            sent += await self._remove(stage, group)
        await self._finish(head)
        return sent

    async def _bring(self, names: Sequence[str]) -> int:
        self._check_turn()
        return await self.sessions.bring(names)

    async def _remove(self, stage: Stage, paths: Sequence[str]) -> int:
        self._check_turn()
        folders = any(path.endswith("/") for path in paths)
        names = stage.add_removals([path.rstrip("/") for path in paths])
        return await self._rsync.remove(self.worker, names, folders=folders)

    async def _head(self) -> tuple[bool, Head | None]:
        """Whether there is a folder, and what its head says."""
        answer = await self._host.ask("head", self.worker.path)
        if answer.code == NO_FOLDER:
            return False, None
        if answer.code != 0:
            raise _no(answer.text)
        try:
            return True, Head.of_line(answer.text)
        except FormatError as error:
            raise WorkerError(f"{error}; a newer gatesync keeps this worker") from None

    async def _standing(self, head: Head | None, part: Part) -> Standing:
        if head is not None and _proves(head, part) and not head.held:
            manifest = WorkerManifest(part.epoch, head.revision, tuple(part.files.values()))
            return Standing(part.files, (manifest,))  # without asking for what we know
        if head is not None and head.state is not State.CHANGING:
            standing = self._remembered.get(head.manifest) or await self._vouched(head)
            if standing is not None:
                return standing
        found = [await self._manifest(name) for name in ("manifest", "next")]
        return Standing(None, [manifest for manifest in found if manifest is not None])

    async def _vouched(self, head: Head) -> Standing | None:
        """What is there by the manifest that the head vouches for; None: by another, or none."""
        answer = await self._host.ask("manifest", self.worker.path)
        if answer.code != 0:
            raise _no(answer.text)
        if sha256_of(answer.text) != head.manifest:
            return None
        manifest = _read(answer.text)
        return None if manifest is None else self._remembered.put(head.manifest, manifest)

    async def _manifest(self, name: str) -> WorkerManifest | None:
        answer = await self._host.ask(name, self.worker.path)
        if answer.code != 0:
            raise _no(answer.text)
        return _read(answer.text)

    async def _note(self, head: Head) -> None:
        self._read_back(await self._do("note", head.line()), head)

    async def _finish(self, head: Head) -> None:
        self._read_back(await self._do("finish", head.line()), head)

    def _read_back(self, text: bytes, head: Head) -> None:
        if text.strip() != head.line().encode():
            raise WorkerError("its head is not what was written: is another runner at work?")

    def _check_turn(self) -> None:
        if not self._may_write():
            raise WorkerError("this runner's turn is over: another one may be at it")

    async def _do(self, task: str, value: str) -> bytes:
        self._check_turn()
        answer = await self._host.ask(task, self.worker.path, value)
        if answer.code == NO_FOLDER:
            raise WorkerError(f"the folder {self.worker.path} is gone")
        if answer.code != 0:
            raise _no(answer.text)
        return answer.text


def _proves(head: Head, part: Part, *, held: int | None = None) -> bool:
    """Whether a worker with this head has the whole part; with `held`, and so many wait."""
    return (
        head.state is State.COMPLETE
        and (head.epoch, head.digest) == (part.epoch, part.digest)
        and held in {None, head.held}
    )


def _next_manifest(
    target: Target,
    standing: Standing,
    comparison: Comparison | None,
    planned: Plan,
    missing: Collection[str],
) -> tuple[Document, frozenset[str]]:
    """The worker's manifest after this pass, and what it lacks.

    What is `missing` in the source stays on the worker as it is, which may be as it should be. Of
    what a comparison found to differ, nobody can say what it is.
    """
    vouched, wanted = standing.vouched or {}, target.part.files
    left_out = frozenset(path for path in missing if vouched.get(path) != wanted[path])
    owned = standing.owned() if left_out or planned.removed else frozenset[str]()
    known = vouched.keys() & left_out if comparison is None else frozenset[str]()
    document = target.document(
        held=planned.held,
        unsure=(left_out & owned) - known,
        going=planned.removed & owned,
        instead=[vouched[path] for path in known],
        without=left_out,
    )
    return document, left_out


def _is_same(old: Head, new: Head) -> bool:
    """Whether the manifest on the worker says already what a new one would."""
    return (old.state, old.epoch, old.digest, old.held) == (
        *(new.state, new.epoch, new.digest, new.held),
    )


def _comes_early(path: str) -> bool:
    """Whether rsync would bring this before `.gatesync/next`: files first, then folders by name."""
    return "/" not in path or path < WORKER_FOLDER


def _read(text: bytes) -> WorkerManifest | None:
    try:
        return WorkerManifest.of_json(text)
    except FormatError as error:
        raise WorkerError(f"{error}; a newer gatesync keeps this worker") from None


def _shown(path: str) -> str:
    """A name that is not gatesync's may have any bytes in it."""
    return path.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _sorted(*paths: Iterable[str]) -> Iterable[tuple[str, ...]]:
    return (tuple(sorted(each)) for each in paths)


def _no(text: bytes) -> WorkerError:
    lines = text.decode(errors="replace").split("\n")
    return WorkerError("; ".join(line.strip() for line in lines if line.strip()) or "it said no")

"""What signatures cost, with and without, in pairs: at the publisher, and at a gateway's start.

`parts`: one change set of one artifact, signed, and verified as a gateway does; a head. `publish`:
single changes, saved by a publisher's committer on SQLite in this process, one after the other and
many at once, in two stores in turn, of which one signs. `start`: a gateway, a real process, starts
with so many artifacts, each a change set of its own, from a publisher over HTTP into an empty
folder, and then from its own disk; one node trusts the publisher's key, the other none.
"""

import argparse
import asyncio
import hashlib
import json
import logging
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog

from gatesync.artifacts.changes import Change, ChangeSet, Entry, Instruction
from gatesync.artifacts.digests import EMPTY_LABEL, digest_of
from gatesync.artifacts.planning import Publish, SaveRequest
from gatesync.artifacts.signatures import Signer, Trust, attestation_of
from gatesync.publisher.committing import Committer
from gatesync.stores.sql import open_sql_store
from gatesync.stores.store import SaveOutcome
from parts import GATESYNC, free_port, print_result, publish_all, role, wait_until
from starting import LABEL, Node, Start, median_start, node_token

SIGNER: Final = Signer(bytes(range(32)))
TRUST: Final = Trust([SIGNER.key])
REPEATED: Final = 2_000  # each part


def main() -> None:
    """Measure, and print lines of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifacts", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=4_096, help="bytes of each")
    parser.add_argument("--changes", type=int, default=500, help="published in each round")
    parser.add_argument("--at-once", type=int, default=64, help="that wait at the same time")
    parser.add_argument("--rounds", type=int, default=7, help="of which the median is told")
    parser.add_argument("--starts", type=int, default=5, help="rounds of starts; 0 for none")
    options = parser.parse_args()
    quiet = structlog.make_filtering_bound_logger(logging.WARNING)
    structlog.configure(wrapper_class=quiet)
    _parts()
    with tempfile.TemporaryDirectory(prefix="gatesync-bench-") as folder:
        asyncio.run(_publishing(Path(folder), options))
        if options.starts:
            _starting(Path(folder), options)


def _parts() -> None:
    entry = _publish(1, 4_096).entry
    change_set = ChangeSet(
        label=LABEL,
        epoch=str(uuid.uuid4()),
        revision=1,
        previous=0,
        changes=(Change(Instruction.PUBLISH, entry),),
        digest=EMPTY_LABEL.add(entry.api_id, entry.digest),
        published_at=1,
    )
    signed = SIGNER.change_set(change_set)
    kept = attestation_of(signed)
    head = SIGNER.head(change_set.head, 1)
    figures = {
        "sign_change_us": _microseconds(lambda: SIGNER.change_set(change_set)),
        "verify_change_us": _microseconds(lambda: TRUST.verify_change_set(signed)),
        "verify_attestation_us": _microseconds(
            lambda: TRUST.verify_attestation(LABEL, change_set.epoch, kept)
        ),
        "sign_head_us": _microseconds(lambda: SIGNER.head(head, 2)),
        "verify_head_us": _microseconds(lambda: TRUST.verify_head(head)),
    }
    print_result("signing", what="parts", **figures)


def _microseconds(work: Callable[[], Any]) -> float:
    taken = []
    for _ in range(REPEATED):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return round(statistics.median(taken) * 1e6, 1)


async def _publishing(folder: Path, options: argparse.Namespace) -> None:
    async with AsyncExitStack() as stack:
        committers = [
            await stack.enter_async_context(_Committing(folder / name, signer))
            for name, signer in (("without", None), ("with", SIGNER))
        ]
        for way, at_once in (("one by one", 1), ("many at once", options.at_once)):
            pairs: list[tuple[_Taken, _Taken]] = []
            for number in range(options.rounds + 1):
                order = committers if number % 2 else committers[::-1]
                taken = {id(each): await each.publish(options, at_once) for each in order}
                pairs.append((taken[id(committers[0])], taken[id(committers[1])]))
            pairs = pairs[1:]
            without, signed = (_median(each) for each in zip(*pairs, strict=True))
            print_result(
                "signing",
                what="publish",
                way=way,
                changes=options.changes,
                at_once=at_once,
                rounds=options.rounds,
                per_second_without=round(1 / without.seconds),
                per_second_with=round(1 / signed.seconds),
                ratio=round(statistics.median(b.seconds / a.seconds for a, b in pairs), 3),
                cpu_us_without=round(without.cpu_seconds * 1e6, 1),
                cpu_us_with=round(signed.cpu_seconds * 1e6, 1),
                cpu_ratio=round(
                    statistics.median(b.cpu_seconds / a.cpu_seconds for a, b in pairs), 3
                ),
            )
    sizes = [each.bytes() / each.published for each in committers]  # closed, one file
    print_result(
        "signing",
        what="store",
        changes=committers[0].published,
        bytes_each_without=round(sizes[0]),
        bytes_each_with=round(sizes[1]),
    )


class _Taken(NamedTuple):
    """What one change took, on the clock and on a CPU."""

    seconds: float
    cpu_seconds: float


def _median(rounds: Sequence[_Taken]) -> _Taken:
    return _Taken(
        statistics.median(each.seconds for each in rounds),
        statistics.median(each.cpu_seconds for each in rounds),
    )


class _Committing:
    """A publisher's committer on a store of its own."""

    def __init__(self, folder: Path, signer: Signer | None) -> None:
        folder.mkdir()
        self.published = 0
        self._folder = folder
        self._signer = signer
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "_Committing":
        url = f"sqlite:///{self._folder}/store.db"
        store = await self._stack.enter_async_context(open_sql_store(url))
        self._committer = Committer(store, _announced, lambda: self._signer)
        self._task = asyncio.create_task(self._committer.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._stack.aclose()

    async def publish(self, options: argparse.Namespace, at_once: int) -> _Taken:
        """Publish new artifacts, so many waiting at a time; answers with what each took."""
        first, last = self.published, self.published + options.changes
        items = {number: _publish(number, options.size) for number in range(first, last)}
        numbers = iter(items)

        async def client() -> None:
            for number in numbers:
                request = SaveRequest((LABEL,), ((items[number],),), str(number), str(number), 1)
                answer = await self._committer.submit(request)
                assert isinstance(answer, SaveOutcome)

        began, cpu = time.perf_counter(), time.process_time()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(at_once):
                tasks.create_task(client())
        self.published = last
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
        return _Taken(seconds / len(items), cpu_seconds / len(items))

    def bytes(self) -> int:
        """Of the store's files."""
        return sum(each.stat().st_size for each in sorted(self._folder.iterdir()))


async def _announced(_request: SaveRequest, _outcome: SaveOutcome) -> None:
    """Nobody is told: what an event takes is measured elsewhere."""


def _publish(number: int, size: int) -> Publish:
    content = f"artifact {number} ".encode().ljust(size, b".")
    name = f"api-{number:06}"
    entry = Entry(
        api_id=str(uuid.UUID(bytes=hashlib.sha256(name.encode()).digest()[:16])),
        tenant="carbon.super",
        kind="api",
        name=name,
        version="1.0.0",
        context=f"/{name}",
        digest=digest_of(content),
        size=size,
    )
    return Publish(entry, content, ())


def _starting(folder: Path, options: argparse.Namespace) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    control = folder / "control.toml"
    control.write_text(
        f"[gatesync]\ndata = 'control'\n[apim.event_hub]\nenable = false\n"
        f"[gatesync.publisher]\nlisten = '127.0.0.1:{port}'\n"
    )
    create = [GATESYNC, "keys", "create", "--json", "--config", str(control)]
    made = subprocess.run(create, capture_output=True, text=True, check=True).stdout
    trusting = f"[[gatesync.trusted_keys]]\nkey = '{json.loads(made)['public']}'\n"
    starts: dict[str, list[tuple[Start, Start]]] = {"http": [], "cache": []}
    with role("publisher", control, folder / "publisher.log"):
        wait_until(f"{url}/health/ready")
        token = node_token(control)
        publish_all(folder / "control" / "client.toml", LABEL, options.artifacts, options.size)
        for number in range(options.starts):
            pair = [
                Node(folder, f"{name}-{number}", LABEL, token, url, more)
                for name, more in (("without", ""), ("with", trusting))
            ]
            starts["http"].append(_pair(pair, options.artifacts, number))
    for number in range(options.starts):
        starts["cache"].append(_pair(pair, options.artifacts, number))
    for way, measured in starts.items():
        without, signed = (median_start(each) for each in zip(*measured, strict=True))
        print_result(
            "signing",
            what="start",
            way=way,
            n=options.artifacts,
            bytes=options.size,
            rounds=options.starts,
            without=_rounded(without),
            with_keys=_rounded(signed),
            added_us_each=round((signed.seconds - without.seconds) / options.artifacts * 1e6, 1),
            ratio=round(_ratio(measured), 3),
        )


def _pair(nodes: list[Node], artifacts: int, number: int) -> tuple[Start, Start]:
    """Start both, now the one and now the other first."""
    order = nodes if number % 2 else nodes[::-1]
    taken = {id(each): each.start(artifacts) for each in order}
    without, signed = nodes
    return taken[id(without)], taken[id(signed)]


def _ratio(pairs: Iterable[tuple[Start, Start]]) -> float:
    return statistics.median(signed.seconds / without.seconds for without, signed in pairs)


def _rounded(start: Start) -> dict[str, float]:
    return {
        "seconds": round(start.seconds, 3),
        "cpu_seconds": round(start.cpu_seconds, 3),
        "peak_mb": round(start.peak_mb, 1),
    }


if __name__ == "__main__":
    main()

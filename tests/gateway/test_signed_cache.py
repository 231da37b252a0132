"""A node's own disk is believed as far as it is signed: whoever can write it deploys nothing."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from gatesync.artifacts.changes import Cursor
from gatesync.artifacts.digests import EMPTY_LABEL
from gatesync.artifacts.signatures import Attestation, Signature, Signer, Trust
from gatesync.gateway import cache_pending
from gatesync.gateway.cache import open_cache
from gatesync.gateway.log import LabelLog
from tests.contracts.saves import id_of, publish
from tests.gateway.cluster import Cluster, Node
from tests.gateway.edited_cache import Disk
from tests.gateway.virtual_time import until

pytestmark = [pytest.mark.fast, pytest.mark.promise(8), pytest.mark.promise(10)]

SIGNER = Signer(bytes(range(32)))
OTHER = Signer(bytes(range(1, 33)))
HEARTBEAT = 0.1
GENEROUS = 30.0
replace = msgspec.structs.replace


@asynccontextmanager
async def node_of(
    cluster: Cluster, folder: Path, *labels: str, up: bool = True, trust: Trust | None = None
) -> AsyncIterator[Node]:
    """A node with its disk; where it is not `up` nobody else is there."""
    async with open_cache(folder, interval=0.0) as cache:
        broker, cluster.has_broker = cluster.has_broker, up
        node = await cluster.start_node("n1", labels or ("L",), cache=cache, trust=trust)
        node.link.up = up
        try:
            yield node
        finally:
            assert await cache.flush()
            await cluster.stop_node("n1")
            cluster.has_broker = broker


async def tried(node: Node) -> None:
    """It has looked at its disk, and asked for what that lacks in vain."""
    await until(lambda: node.informer.pulse.store_failures, within=GENEROUS)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Cluster]:
    """A cluster, and the disk of a node that served menu 2, bread and ham of it."""
    async with Cluster(signer=SIGNER, heartbeat=HEARTBEAT) as cluster:
        await cluster.publish("L", publish("menu", "1"), publish("ham"))
        async with node_of(cluster, tmp_path) as node:
            await until(lambda: node.serves("ham"), within=GENEROUS)
            await cluster.publish("L", [publish("menu", "2"), publish("bread")])
            await until(lambda: node.serves("bread"), within=GENEROUS)
        yield cluster


def swapped(disk: Disk) -> None:
    entries = disk.entries()
    bread = entries[id_of("bread")]
    evil = replace(bread, digest=disk.keep(b"evil"), size=4)
    disk.write(entries | {bread.api_id: evil})


def swapped_where_it_is_applied(disk: Disk) -> None:
    bread = disk.entries()[id_of("bread")]
    disk.apply(replace(bread, digest=disk.keep(b"evil"), size=4))


def added(disk: Disk) -> None:
    entries = disk.entries()
    bread = entries[id_of("bread")]
    evil = replace(bread, api_id="evil", name="evil", digest=disk.keep(b"evil"), size=4)
    disk.write(entries | {"evil": evil})


def left_out(disk: Disk) -> None:
    entries = disk.entries()
    del entries[id_of("bread")]
    disk.write(entries)


def renamed(disk: Disk) -> None:
    entries = disk.entries()
    bread = entries[id_of("bread")]
    disk.write(entries | {bread.api_id: replace(bread, context="/evil")})


def of_a_revision_that_never_was(disk: Disk) -> None:
    state = disk.state()
    assert state.cursor is not None
    disk.write(disk.entries(), replace(state, cursor=replace(state.cursor, revision=99)))


def of_another_epoch(disk: Disk) -> None:
    state = disk.state()
    assert state.cursor is not None
    disk.write(disk.entries(), replace(state, cursor=replace(state.cursor, epoch="another")))


def unsigned(disk: Disk) -> None:
    """As an earlier version left it."""
    disk.run("DROP TABLE attestation")


def with_forged_signatures(disk: Disk) -> None:
    for label, epoch, revision, body in disk.run("SELECT * FROM attestation"):
        attestation = msgspec.msgpack.decode(body, type=Attestation)  # type: ignore[arg-type]
        forged = replace(attestation, signature=replace(attestation.signature, value=bytes(64)))
        row = (label, epoch, revision, msgspec.msgpack.encode(forged))
        disk.run("REPLACE INTO attestation VALUES (?, ?, ?, ?)", *row)


def with_rubbish(disk: Disk) -> None:
    disk.run("UPDATE attestation SET body = 'rubbish'")


ALL = {"menu", "bread", "ham"}


def serving(node: Node) -> set[str]:
    return {name for name in (*ALL, "evil") if node.serves(name)}


async def test_what_was_signed_is_served_again_without_anyone(
    served: Cluster, tmp_path: Path
) -> None:
    async with node_of(served, tmp_path, up=False) as node:
        await until(lambda: serving(node) == ALL, within=GENEROUS)
        assert node.serves("menu", "2")
        assert not node.informer.verifier.refused
        assert node.agent.status().status == "stale"
    async with node_of(served, tmp_path) as node:
        await until(lambda: node.agent.status().status == "ready", within=GENEROUS)
        assert node.informer.pulse.lists == 0
        assert node.link.contents_asked == 0


@pytest.mark.parametrize(
    ("tamper", "left"),
    [
        (swapped, set()),
        (swapped_where_it_is_applied, {"menu", "bread", "ham"}),
        (added, set()),
        (left_out, set()),
        (renamed, {"menu", "ham"}),
        (of_a_revision_that_never_was, set()),
        (of_another_epoch, set()),
        (unsigned, set()),
        (with_forged_signatures, set()),
        (with_rubbish, set()),
    ],
)
async def test_what_was_not_signed_is_not_deployed_from_it_and_is_fetched_again(
    served: Cluster, tmp_path: Path, tamper: Callable[[Disk], None], left: set[str]
) -> None:
    tamper(Disk(tmp_path))
    async with node_of(served, tmp_path, up=False) as node:
        await tried(node)
        await until(lambda: serving(node) == left, within=GENEROUS)
        assert sum(node.informer.verifier.refused.values()) == 1
        assert {way for way, _ in node.informer.verifier.refused} == {"cache"}
        node.link.up = True
        await until(lambda: serving(node) == ALL, within=GENEROUS)
        await until(lambda: not node.informer.deployment.failed, within=GENEROUS)
        assert node.content("bread") == b"<api/>"
        assert node.serves("menu", "2")
        if tamper is unsigned:
            assert node.link.contents_asked == 0, "contents have their digests"
    async with node_of(served, tmp_path, up=False) as node:  # and it is all there
        await until(lambda: serving(node) == ALL, within=GENEROUS)
        assert not node.informer.verifier.refused


async def test_what_a_retired_key_signed_is_not_deployed_after_a_restart(
    served: Cluster, tmp_path: Path
) -> None:
    served.signer = OTHER
    both = Trust([SIGNER.key, OTHER.key])
    async with node_of(served, tmp_path, trust=both) as node:
        await served.publish("L", publish("bread", "2"))
        await until(lambda: node.serves("bread", "2"), within=GENEROUS)
    async with node_of(served, tmp_path, up=False, trust=Trust([OTHER.key])) as node:
        await until(lambda: serving(node) == {"bread"}, within=GENEROUS)
        await until(lambda: len(node.informer.deployment.failed) == 2, within=GENEROUS)
        reasons = {each.reason for each in node.informer.deployment.failed.values()}
        assert all(f"{SIGNER.key_id}, which is not trusted here" in each for each in reasons)


async def test_what_nothing_needs_any_more_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_pending, "SUPERFLUOUS", 5)
    async with Cluster(signer=SIGNER, heartbeat=HEARTBEAT) as cluster:
        async with node_of(cluster, tmp_path) as node:
            await until(lambda: node.informer.processed, within=GENEROUS)
            for number in range(30):
                await cluster.publish("L", publish("menu", str(number)))
                await until(lambda n=number: node.serves("menu", str(n)), within=GENEROUS)
        rows = Disk(tmp_path).run("SELECT revision FROM attestation ORDER BY revision")
        assert rows[-1] == (30,)
        assert len(rows) <= 2 * 5 + 2
        async with node_of(cluster, tmp_path, up=False) as node:
            await until(lambda: node.serves("menu", "29"), within=GENEROUS)


def test_attestations_that_did_not_reach_the_disk_are_asked_for_again() -> None:
    pending = cache_pending.Pending(lambda _: None)
    log = LabelLog("L")
    log.cursor = Cursor("epoch", 1)
    pending.follow(log, [])
    attestation = Attestation(1, 0, EMPTY_LABEL, bytes(32), Signature("ab" * 8, bytes(64)))
    pending.attest("L", "epoch", [attestation])
    assert not pending.unattested()
    batch = pending.take()
    pending.not_written(batch)
    assert pending.take().attestations == batch.attestations
    pending.attest("L", "epoch", [replace(attestation, leaves=bytes(65 * 1024 * 1024))])
    assert pending.dropped == 1
    assert pending.unattested() == {"L"}
    assert not pending.unattested(), "told once"
    pending.lost()
    assert pending.unattested() == {"L"}

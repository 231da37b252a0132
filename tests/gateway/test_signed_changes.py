"""A gateway that trusts keys takes only what they signed: events, heads, lists (promise 8)."""

import asyncio
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import msgspec
import pytest

from gatesync.artifacts.changes import Change, ChangeSet, Entry, Instruction
from gatesync.artifacts.planning import Publish, Remove, Renew
from gatesync.artifacts.signatures import Signer, Trust
from gatesync.engines.engine import Deployable
from gatesync.events.messages import (
    ChangeAnnounced,
    HeadsAnnounced,
    announce_change,
    decode_announcement,
    encode,
)
from gatesync.gateway.verifying import RECENT_SECONDS
from gatesync.stores.memory import MemoryStore
from gatesync.stores.store import ManifestPage, SaveOutcome
from tests.contracts.saves import asked, id_of, publish, remove
from tests.gateway.cluster import HEARTBEAT, Cluster, Node, WatchedEngine
from tests.gateway.histories import backup_of
from tests.gateway.virtual_time import in_virtual_time, until

pytestmark = [pytest.mark.fast, pytest.mark.promise(8)]

SIGNER = Signer(bytes(range(32)))
OTHER = Signer(bytes(range(1, 33)))
AT_ONCE = 0.1  # seconds: less than any interval
SOON = 2 * HEARTBEAT
replace = msgspec.structs.replace


def signed(**options: Any) -> Cluster:
    return Cluster(signer=SIGNER, **options)


async def in_step(cluster: Cluster, *labels: str, **options: Any) -> Node:
    node = await cluster.start_node("n1", labels or ("L",), **options)
    await until(lambda: node.informer.processed, within=AT_ONCE)
    return node


def refused(node: Node) -> dict[tuple[str, str], int]:
    """What the node did not take, by way and reason."""
    found: dict[tuple[str, str], int] = dict(node.informer.verifier.refused)
    return found


def age(node: Node, label: str = "L") -> float:
    """Seconds since the label was proved to be in step; infinite for never."""
    proof = node.informer.proofs.get(label, float("-inf"))
    return asyncio.get_running_loop().time() - float(proof)


async def unsigned(saver: MemoryStore, *items: Publish | Remove) -> tuple[ChangeSet, bytes]:
    """Written into the store behind the publisher's back; and the event that would tell of it."""
    return await saved_by(saver, None, *items)


async def saved_by(
    saver: MemoryStore, signer: Signer | None, *items: Publish | Remove, label: str = "L"
) -> tuple[ChangeSet, bytes]:
    sign = signer.change_set if signer else None
    [outcome] = await saver.save([asked(label, list(items))], sign=sign)
    assert isinstance(outcome, SaveOutcome)
    [change_set] = outcome.change_sets
    contents = {item.entry.digest: item.content for item in items if isinstance(item, Publish)}
    return change_set, encode(announce_change(change_set, contents))


async def renew(cluster: Cluster, signer: Signer = SIGNER) -> None:
    """What `gatesync keys sign` does."""
    saver = cluster.memory
    page = await saver.manifest("L")
    request = asked("L", [Renew(entry) for entry in page.entries])  # type: ignore[list-item]
    [outcome] = await saver.save([request], sign=signer.change_set)
    assert isinstance(outcome, SaveOutcome)


async def recorded(cluster: Cluster) -> list[bytes]:
    """What was announced to any label, from now on."""
    messages: list[bytes] = []
    announce = cluster.broker.announce

    async def record(label: str, message: bytes) -> None:
        messages.append(message)
        await announce(label, message)

    cluster.broker.announce = record  # type: ignore[method-assign]
    return messages


# What is signed goes its way.


@in_virtual_time
async def test_a_signed_event_is_taken_without_any_question() -> None:
    async with signed() as cluster:
        node = await in_step(cluster)
        questions = node.link.questions
        await cluster.publish("L", publish("menu", "1"), publish("bread"))
        await cluster.publish("L", remove("bread"))
        await until(lambda: node.serves("menu", "1") and not node.serves("bread"), within=AT_ONCE)
        assert node.link.questions == questions
        assert refused(node) == {}


@pytest.mark.parametrize("issued", [True, False], ids=["heads too", "heads not"])
@in_virtual_time
async def test_lists_and_differences_are_taken_where_they_are_signed(issued: bool) -> None:
    async with signed() as cluster:
        await cluster.publish("L", [publish("menu", "1"), publish("bread")], publish("ham"))
        await cluster.publish("L", remove("ham"), publish("menu", "2"))
        node = await cluster.start_node("n1", ["L"])
        node.link.signs_heads = issued
        await until(lambda: node.serves("menu", "2") and node.serves("bread"), within=AT_ONCE)
        cluster.faults.drop = 1.0
        for number in range(3):
            await cluster.publish("L", publish(f"api-{number}"), remove("bread"))
            await cluster.publish("L", publish("bread"))
        cluster.faults.drop = 0.0
        await until(lambda: node.serves("api-2") and node.serves("bread"), within=SOON)
        await until(lambda: age(node) < HEARTBEAT, within=SOON)
        assert node.informer.pulse.lists == 1
        assert refused(node) == {}


@in_virtual_time
async def test_without_trusted_keys_signatures_are_not_looked_at() -> None:
    async with signed() as cluster:
        cluster.signer = None
        node = await in_step(cluster)
        cluster.signer = OTHER
        await cluster.publish("L", publish("menu"))
        cluster.signer = None
        await cluster.publish("L", publish("bread"))
        await until(lambda: node.serves("menu") and node.serves("bread"), within=AT_ONCE)


# Events.


def moved(change_set: ChangeSet) -> ChangeSet:
    return replace(change_set, label="L")


def as_removal(change_set: ChangeSet) -> ChangeSet:
    changes = (Change(Instruction.REMOVE, change_set.changes[0].entry),)
    return replace(change_set, changes=changes)


@pytest.mark.parametrize(
    ("forge", "why"),
    [
        (lambda c: replace(c, signature=None), "unsigned"),
        (lambda c: OTHER.change_set(c), "key"),
        (lambda c: replace(c, published_at=1, revision=c.revision + 1), "altered"),
        (as_removal, "altered"),
        (lambda c: replace(c, changes=()), "altered"),
    ],
    ids=["unsigned", "another key", "another place", "a removal", "nothing"],
)
@in_virtual_time
async def test_a_forged_event_moves_nothing(
    forge: Callable[[ChangeSet], ChangeSet], why: str
) -> None:
    async with signed() as cluster:
        node = await in_step(cluster)
        await cluster.publish("L", publish("bread"))
        await until(lambda: age(node) < 1, within=SOON)
        change_set, event = await saved_by(cluster.memory, SIGNER, publish("menu"))
        questions, known = node.link.questions, node.informer.logs["L"].state()
        announced = decode_announcement(event)
        assert isinstance(announced, ChangeAnnounced)
        forged = replace(announced, change_set=forge(change_set))
        await cluster.hub.announce("L", encode(forged))
        await until(lambda: refused(node) == {("event", why): 1}, within=AT_ONCE)
        assert node.informer.logs["L"].state() == known
        assert node.link.questions == questions
        assert not node.serves("menu")
        await until(lambda: node.serves("menu"), within=SOON)  # the heartbeat heals


@in_virtual_time
async def test_an_artifact_cannot_be_moved_to_another_label() -> None:
    async with signed() as cluster:
        node = await in_step(cluster)
        _, event = await saved_by(cluster.memory, SIGNER, publish("menu"), label="M")
        announced = decode_announcement(event)
        assert isinstance(announced, ChangeAnnounced)
        forged = replace(announced, change_set=moved(announced.change_set))
        await cluster.hub.announce("L", encode(forged))
        await until(lambda: refused(node) == {("event", "altered"): 1}, within=AT_ONCE)
        assert not node.serves("menu")


@in_virtual_time
async def test_a_key_that_is_trusted_for_another_label_only_signs_nothing_here() -> None:
    async with signed() as cluster:
        trust = Trust([replace(SIGNER.key, labels=("M",))])
        node = await in_step(cluster, "L", "M", trust=trust)
        await cluster.publish(["L", "M"], publish("menu"))
        await cluster.publish("L", publish("bread"))
        await until(lambda: node.serves("menu"), within=AT_ONCE)
        await until(lambda: "not trusted for this label" in node.agent.status().why, within=SOON)
        assert refused(node)["event", "key"] == 2
        assert refused(node)["head", "key"] > 0
        assert not node.serves("bread")


@pytest.mark.promise(7)
@in_virtual_time
async def test_a_flood_of_replays_is_verified_once() -> None:
    async with signed() as cluster:
        messages = await recorded(cluster)
        node = await in_step(cluster)
        await cluster.publish("L", publish("menu"), publish("bread"))
        await cluster.publish("L", remove("menu"))
        await until(lambda: node.informer.pulse.heard > 0, within=SOON)
        await asyncio.sleep(HEARTBEAT)
        served, questions = node.engine.snapshot(), node.link.questions
        sent = [each for each in messages for _ in range(50)]
        before = node.informer.pulse.events
        with patch.object(Trust, "_verify", side_effect=AssertionError("verified")):
            for message in sent:
                await cluster.broker.announce("L", message)
            await until(lambda: node.informer.pulse.events >= before + len(sent), within=1)
        assert node.engine.snapshot() == served
        assert node.link.questions == questions
        assert node.serves("bread")


# Heads.


@pytest.mark.promise(11)
@in_virtual_time
async def test_an_old_head_that_is_sent_again_makes_nothing_fresh() -> None:
    """A freeze: whoever holds back all news and repeats old ones is found out by their age."""
    async with signed() as cluster:
        messages = await recorded(cluster)
        node = await in_step(cluster)
        await cluster.publish("L", publish("menu"))
        await until(lambda: age(node) < 1, within=SOON)
        await asyncio.sleep(HEARTBEAT)
        heads = [m for m in messages if isinstance(decode_announcement(m), HeadsAnnounced)]
        cluster.faults.drop = 1.0
        node.link.up = False
        for _ in range(30):
            await asyncio.sleep(HEARTBEAT)
            for message in heads:
                await cluster.broker.announce("L", message)
        assert 30 * HEARTBEAT <= age(node) < 32 * HEARTBEAT
        status = node.agent.status()
        assert status.status == "stale", status
        assert node.serves("menu")
        node.link.up = True
        cluster.faults.drop = 0.0
        await until(lambda: node.agent.status().status == "ready", within=SOON)


@pytest.mark.promise(7)
@in_virtual_time
async def test_heads_of_a_history_that_is_over_are_old_and_lead_to_no_question() -> None:
    async with signed() as cluster:
        messages = await recorded(cluster)
        node = await in_step(cluster)
        await cluster.publish("L", publish("menu"))
        await until(lambda: age(node) < 1, within=SOON)
        heads = [m for m in messages if isinstance(decode_announcement(m), HeadsAnnounced)]
        await cluster.stop_publisher()
        cluster.saver = MemoryStore("another epoch")
        await cluster.start_publisher()
        await until(lambda: node.held("L") == 1, within=SOON)
        await asyncio.sleep(2 * RECENT_SECONDS)
        questions = node.link.questions
        for message in heads:
            await cluster.broker.announce("L", message)
        await until(lambda: refused(node) == {("head", "old"): len(heads)}, within=AT_ONCE)
        assert node.link.questions == questions


@pytest.mark.promise(11)
@in_virtual_time
async def test_a_node_that_starts_during_a_freeze_is_never_in_step() -> None:
    async with signed() as cluster:
        messages = await recorded(cluster)
        await cluster.publish("L", publish("menu", "1"))
        await asyncio.sleep(SOON)
        old, heads = backup_of(cluster.memory), list(messages)
        await cluster.publish("L", publish("menu", "2"))
        cluster.faults.drop = 1.0
        await asyncio.sleep(4 * RECENT_SECONDS)
        cluster.replica = old
        engine = WatchedEngine()
        left = publish("ham")  # by an earlier process; perhaps it is in what is held back
        await engine.apply([Deployable(left.entry, left.content)], [])
        node = await cluster.start_node("n1", ["L"], engine)
        node.link.signs_heads = False
        await until(lambda: node.serves("menu", "1"), within=1)
        for _ in range(20):
            await asyncio.sleep(HEARTBEAT)
            for message in heads:
                await cluster.broker.announce("L", message)
        assert node.agent.status().status == "stale"
        assert age(node) > 4 * RECENT_SECONDS
        assert node.serves("ham")
        cluster.replica, node.link.signs_heads, cluster.faults.drop = None, True, 0.0
        await until(lambda: node.serves("menu", "2") and not node.serves("ham"), within=SOON)


@pytest.mark.parametrize(
    ("forge", "why"),
    [
        (lambda head: replace(head, issue=None), "unsigned"),
        (lambda head: OTHER.head(head, head.issue.issued_at), "key"),
        (
            lambda head: replace(head, issue=replace(head.issue, issued_at=2**50)),
            "altered",
        ),
        (lambda head: replace(head, revision=head.revision + 1), "altered"),
    ],
)
@in_virtual_time
async def test_a_forged_head_is_no_proof_and_no_hint(forge: Callable[[Any], Any], why: str) -> None:
    async with signed() as cluster:
        node = await in_step(cluster)
        await cluster.publish("L", publish("menu"))
        await until(lambda: age(node) < 1, within=SOON)
        head = cluster.running.issuer.issue((await cluster.saver.heads(["L"]))["L"])
        cluster.faults.drop = 1.0
        await asyncio.sleep(2)
        questions, before = node.link.questions, node.informer.proofs["L"]
        later = SIGNER.head(head, head.issue.issued_at + 1_000) if head.issue else head
        forged = HeadsAnnounced((forge(later),), "p", 1, verification="v")
        await cluster.broker.announce("L", encode(forged))
        await until(lambda: refused(node) == {("head", why): 1}, within=AT_ONCE)
        # Hashing everything is nothing that anybody may ask for.
        assert "v" not in node.agent._verified
        assert decode_announcement(encode(forged)) == forged
        assert node.link.questions == questions
        assert node.informer.proofs["L"] == before


@pytest.mark.promise(11)
@in_virtual_time
async def test_what_the_store_says_of_heads_unsigned_are_hints_and_no_proofs() -> None:
    async with signed() as cluster:
        cluster.faults.drop = 1.0
        await cluster.publish("L", publish("menu"))
        node = await cluster.start_node("n1", ["L"])
        node.link.signs_heads = False
        await until(lambda: node.serves("menu"), within=AT_ONCE)
        await cluster.publish("L", publish("bread"))
        await until(lambda: node.serves("bread"), within=SOON)
        assert node.agent.status().labels[0].proof_age_ms is None
        cluster.faults.drop = 0.0
        await until(lambda: age(node) < HEARTBEAT, within=SOON)


@pytest.mark.promise(11)
@pytest.mark.parametrize("ahead", [-3 * RECENT_SECONDS, -5.0, 5.0, 3 * RECENT_SECONDS])
@in_virtual_time
async def test_clocks_that_differ_stop_no_change(ahead: float) -> None:
    async with signed() as cluster:
        node = await cluster.start_node("n1", ["L"])
        clock = node.informer.verifier._wall_clock
        node.informer.verifier._wall_clock = lambda: clock() + ahead
        await cluster.publish("L", publish("menu"))
        await until(lambda: node.serves("menu"), within=AT_ONCE)
        cluster.faults.drop = 1.0
        await cluster.publish("L", publish("bread"))
        cluster.faults.drop = 0.0
        await until(lambda: node.serves("bread"), within=SOON)
        await asyncio.sleep(2 * SOON)
        expected = {True: "ready", False: "stale"}[abs(ahead) <= RECENT_SECONDS]
        assert node.agent.status().status == expected
        assert bool(refused(node).get(("head", "clock"))) is (ahead < -RECENT_SECONDS)


# Lists and differences.


@pytest.mark.promise(6)
@in_virtual_time
async def test_what_the_store_says_unsigned_is_refused_whole_and_shown_until_it_is_signed() -> None:
    async with signed() as cluster:
        await cluster.publish("L", publish("menu", "1"), publish("bread"))
        node = await in_step(cluster)
        await unsigned(cluster.memory, publish("menu", "evil"))
        await unsigned(cluster.memory, remove("bread"))
        await until(lambda: refused(node).get(("delta", "unsigned")), within=SOON)
        await asyncio.sleep(4 * RECENT_SECONDS)
        assert node.serves("menu", "1")
        assert node.serves("bread")
        status = node.agent.status()
        assert status.labels[0].untrusted == (
            "revision 4 of label 'L' is not signed by a key that this node trusts; "
            "run `gatesync keys sign` where a publisher with a trusted key runs"
        )
        assert status.status == "stale"
        assert "gatesync keys sign" in status.why
        assert not status.store_error
        await renew(cluster)
        await until(lambda: node.serves("menu", "evil"), within=RECENT_SECONDS)
        await until(lambda: node.agent.status().labels[0].untrusted == "", within=SOON)
        assert not node.serves("bread")
        assert node.agent.status().status == "ready"


@in_virtual_time
async def test_a_first_list_that_is_not_signed_deploys_nothing() -> None:
    async with signed() as cluster:
        await unsigned(cluster.memory, publish("menu"))
        node = await cluster.start_node("n1", ["L"])
        await until(lambda: refused(node).get(("list", "unsigned")), within=AT_ONCE)
        await asyncio.sleep(4 * RECENT_SECONDS)
        assert not node.engine.api_ids()
        assert node.informer.pulse.lists == 1, "so much is not read again and again"
        await cluster.publish("L", publish("bread"))
        await until(lambda: node.serves("bread"), within=2 * RECENT_SECONDS)
        [case] = node.informer.deployment.failed.values()
        assert case.reason.startswith("revision 1 of label 'L' is not signed by a key")
        assert not node.serves("menu")
        await renew(cluster)
        await until(lambda: node.serves("menu"), within=SOON)
        assert not node.informer.deployment.failed


def without(name: str) -> Callable[[ManifestPage], ManifestPage]:
    """A consistent list with one entry left out."""

    def lie(page: ManifestPage) -> ManifestPage:
        kept = tuple(each for each in page.entries if each.name != name)
        [gone] = [each for each in page.entries if each.name == name]
        digest = page.head.digest.remove(gone.api_id, gone.digest)
        return ManifestPage(replace(page.head, digest=digest, issue=None), kept, page.after)

    return lie


def with_other(one: str, /, **fields: Any) -> Callable[[ManifestPage], ManifestPage]:
    """A consistent list in which one entry is another."""

    def lie(page: ManifestPage) -> ManifestPage:
        [before] = [each for each in page.entries if each.name == one]
        entry = replace(before, **fields)
        digest = page.head.digest.remove(before.api_id, before.digest)
        head = replace(page.head, digest=digest.add(entry.api_id, entry.digest))
        if head.digest != page.head.digest:
            head = replace(head, issue=None)
        entries = tuple(entry if each is before else each for each in page.entries)
        return ManifestPage(head, entries, page.after)

    return lie


@pytest.mark.promise(6)
@pytest.mark.parametrize(
    "lie",
    [
        without("bread"),
        with_other("bread", digest="ab" * 32),
        with_other("bread", api_id="evil"),
        lambda page: ManifestPage(replace(page.head, label="M", issue=None), page.entries),
    ],
    ids=["left out", "swapped", "renamed", "of another label"],
)
@in_virtual_time
async def test_a_list_that_differs_from_what_was_signed_is_refused_whole(
    lie: Callable[[ManifestPage], ManifestPage],
) -> None:
    async with signed() as cluster:
        await cluster.publish("L", publish("menu"), publish("bread"))
        fresh = await cluster.start_node("n1", ["L"])
        fresh.link.lies["manifest"] = lie
        node = await cluster.start_node("n2", ["L"])
        await until(lambda: node.serves("bread"), within=AT_ONCE)
        await until(lambda: refused(fresh).get(("list", "altered")), within=AT_ONCE)
        assert not fresh.engine.api_ids()
        cluster.faults.drop = 1.0
        await cluster.publish("L", publish("ham"))
        await cluster.saver.compact("L", 0)  # so that the list is asked for
        node.link.lies["manifest"] = lie
        cluster.faults.drop = 0.0
        await until(lambda: refused(node).get(("list", "altered")), within=SOON)
        assert node.serves("menu")
        assert node.serves("bread")
        for each in (fresh, node):
            each.link.lies.clear()
            await until(lambda each=each: each.serves("ham"), within=RECENT_SECONDS)
            assert each.serves("bread")


@pytest.mark.promise(4)
@in_virtual_time
async def test_an_entry_that_nobody_signed_fails_alone_and_shadows_nobody() -> None:
    """The label digest covers api_ids and digests; what else an entry says its leaf covers."""
    async with signed() as cluster:
        await cluster.publish("L", publish("menu"), publish("bread"))
        await cluster.publish("M", publish("olives"))
        node = await in_step(cluster, "L", "M")
        await until(lambda: len(node.engine.api_ids()) == 3, within=AT_ONCE)
        cluster.faults.drop = 1.0
        await cluster.publish("L", publish("ham"))
        await cluster.saver.compact("L", 0)
        node.link.lies["manifest"] = with_other("bread", context="/olives", name="olives")
        cluster.faults.drop = 0.0
        await until(lambda: node.serves("ham"), within=SOON)
        await until(lambda: node.informer.deployment.failed, within=AT_ONCE)
        [(api_id, case)] = node.informer.deployment.failed.items()
        assert api_id == id_of("bread")
        assert "did not bring" in case.reason
        assert refused(node) == {("list", "unsigned"): 1}
        for name in ("menu", "bread", "ham", "olives"):
            assert node.serves(name), name
        assert not node.informer.deployment.skipped
        node.link.lies.clear()
        await cluster.publish("L", publish("bread", "2"))
        await until(lambda: node.serves("bread", "2"), within=AT_ONCE)
        assert not node.informer.deployment.failed
        assert not node.informer.verifier.doubted()


@pytest.mark.promise(6)
@pytest.mark.parametrize("compacted", [False, True], ids=["difference", "list"])
@in_virtual_time
async def test_beside_what_nobody_signed_nothing_is_removed(compacted: bool) -> None:
    """A label digest is a sum: with entries of their own choice anybody can have it come out."""
    async with signed() as cluster:
        await cluster.publish("L", publish("menu"), publish("bread"))
        node = await in_step(cluster)
        cluster.faults.drop = 1.0
        node.link.up = False
        await unsigned(cluster.memory, publish("evil"))
        await cluster.publish("L", remove("bread"))
        if compacted:
            await cluster.saver.compact("L", 0)
        cluster.faults.drop, node.link.up = 0.0, True
        way = "list" if compacted else "delta"
        await until(lambda: refused(node).get((way, "unsigned")), within=SOON)
        await asyncio.sleep(RECENT_SECONDS)
        assert node.serves("bread")
        assert node.agent.status().labels[0].untrusted == (
            "in label 'L' what no trusted key signed (1) stands beside what would go, or become "
            "older (1); run `gatesync keys sign`"
        )
        await renew(cluster)
        await until(lambda: node.serves("evil") and not node.serves("bread"), within=SOON)


@pytest.mark.promise(4)
@in_virtual_time
async def test_what_is_doubted_is_asked_for_again() -> None:
    async with signed() as cluster:
        await cluster.publish("L", publish("menu"), publish("bread"))
        node = await cluster.start_node("n1", ["L"])
        node.link.lies["attestations"] = lambda page: tuple(a for a in page if a.revision == 2)
        await until(lambda: node.informer.deployment.failed, within=AT_ONCE)
        assert node.serves("bread")
        node.link.lies.clear()
        await until(lambda: not node.informer.verifier.doubted(), within=3 * RECENT_SECONDS)
        await until(lambda: node.serves("menu"), within=AT_ONCE)
        assert not node.informer.deployment.failed


@pytest.mark.promise(6)
@in_virtual_time
async def test_an_old_list_is_refused_and_a_restored_backup_is_not() -> None:
    """Both are of the same history, and signed; only of one a publisher says that it is so."""
    async with signed() as cluster:
        await cluster.publish("L", publish("menu", "1"), publish("bread"))
        old = backup_of(cluster.memory)
        await cluster.publish("L", remove("bread"), publish("menu", "2"))
        node = await in_step(cluster)
        assert node.serves("menu", "2")
        node.link.signs_heads = False
        cluster.faults.drop = 1.0
        cluster.replica = old
        await until(lambda: refused(node).get(("list", "old")), within=2 * RECENT_SECONDS)
        await asyncio.sleep(RECENT_SECONDS)
        assert node.serves("menu", "2")
        assert not node.serves("bread")
        cluster.replica = None
        cluster.faults.drop = 0.0
        node.link.signs_heads = True
        await until(lambda: node.agent.status().status == "ready", within=RECENT_SECONDS)
        await cluster.stop_publisher()
        cluster.saver = old
        await cluster.start_publisher()
        await until(lambda: node.serves("menu", "1"), within=2 * RECENT_SECONDS)
        assert node.serves("bread")


@pytest.mark.promise(6)
@in_virtual_time
async def test_a_head_that_was_signed_long_ago_takes_no_list_back() -> None:
    async with signed() as cluster:
        messages = await recorded(cluster)
        await cluster.publish("L", publish("menu", "1"))
        node = await in_step(cluster)
        await asyncio.sleep(SOON)
        old, known = backup_of(cluster.memory), len(messages)
        cluster.faults.drop = 1.0
        node.link.up = False
        _, event = await saved_by(cluster.memory, SIGNER, publish("menu", "2"))
        await cluster.broker.announce("L", event)
        await until(lambda: node.serves("menu", "2"), within=AT_ONCE)
        await asyncio.sleep(2 * RECENT_SECONDS)
        assert len(messages) == known + 1
        cluster.replica, node.link.signs_heads, node.link.up = old, False, True
        await until(lambda: refused(node).get(("list", "old")), within=2 * RECENT_SECONDS)
        assert node.serves("menu", "2")


@pytest.mark.promise(6)
@in_virtual_time
async def test_a_confirmation_counts_where_an_operator_of_a_trusted_publisher_gave_it() -> None:
    async with signed() as cluster:
        await cluster.publish("L", publish("menu"), publish("bread"))
        node = await in_step(cluster)
        await cluster.stop_publisher()
        cluster.saver = MemoryStore("another epoch")
        await cluster.start_publisher()
        await until(lambda: node.held("L") == 2, within=SOON)
        await cluster.saver.confirm("L", "forged")  # in the database, past the publisher
        await asyncio.sleep(2 * SOON)
        assert node.held("L") == 2
        cluster.faults.drop = 1.0
        for name, pulled in (("ham", "pulls"), ("olives", "lists")):
            before = getattr(node.informer.pulse, pulled)
            await cluster.publish("L", publish(name))
            await until(lambda n=name: node.serves(n), within=SOON)
            assert getattr(node.informer.pulse, pulled) > before
            assert node.held("L") == 2, "a head that was pulled brought it along"
            await cluster.publish("L", publish("salt"))
            await cluster.saver.compact("L", 0)
        node.link.signs_heads = False
        cluster.faults.drop = 1.0
        await cluster.running.confirm("L")
        await asyncio.sleep(2 * SOON)
        assert node.held("L") == 2, "nobody signed that it is the label's now"
        cluster.faults.drop = 0.0
        await until(lambda: node.held("L") == 0, within=SOON)
        assert set(node.engine.api_ids()) == {id_of(each) for each in ("ham", "olives", "salt")}


# Keys come and go.


@pytest.mark.promise(4)
@in_virtual_time
async def test_keys_are_rotated_with_an_overlap_and_nothing_is_ever_away() -> None:
    async with signed() as cluster:
        await cluster.publish("L", publish("menu"), publish("bread"))
        node = await in_step(cluster)
        await node.agent.trust(Trust([SIGNER.key, OTHER.key]))
        cluster.signer = OTHER
        await cluster.publish("L", publish("menu", "2"))
        await until(lambda: node.serves("menu", "2"), within=AT_ONCE)
        await node.agent.trust(Trust([OTHER.key]))
        await until(lambda: node.informer.deployment.failed, within=AT_ONCE)
        [(api_id, case)] = node.informer.deployment.failed.items()
        assert api_id == id_of("bread")
        assert f"by key {SIGNER.key_id}, which is not trusted here" in case.reason
        assert node.serves("bread"), "what is served serves on"
        await renew(cluster, OTHER)
        await until(lambda: not node.informer.deployment.failed, within=SOON)
        assert node.engine.deploys == {id_of("menu"): 2, id_of("bread"): 1}
        assert node.engine.undeploys == {}


@pytest.mark.promise(4)
@in_virtual_time
async def test_a_retired_key_signs_nothing_any_more() -> None:
    async with signed() as cluster:
        await cluster.publish("L", publish("menu"))
        node = await in_step(cluster)
        await node.agent.trust(Trust([OTHER.key]))
        await until(lambda: refused(node).get(("list", "key")), within=AT_ONCE)
        await cluster.publish("L", publish("menu", "2"), publish("bread"))
        await until(lambda: refused(node).get(("event", "key")), within=AT_ONCE)
        await asyncio.sleep(2 * RECENT_SECONDS)
        assert node.serves("menu", "<api/>")
        assert not node.serves("bread")
        assert SIGNER.key_id in node.agent.status().labels[0].untrusted
        await node.agent.trust(None)
        await until(lambda: node.serves("menu", "2") and node.serves("bread"), within=SOON)
        assert node.agent.status().labels[0].untrusted == ""


@in_virtual_time
async def test_trust_is_turned_on_while_unsigned_things_are_served() -> None:
    async with signed() as cluster:
        cluster.signer = None
        await cluster.publish("L", publish("menu"))
        node = await in_step(cluster)
        cluster.signer = SIGNER
        await cluster.publish("L", publish("bread"))
        await until(lambda: node.serves("bread"), within=AT_ONCE)
        await node.agent.trust(Trust([SIGNER.key]))
        await until(lambda: node.informer.deployment.failed, within=AT_ONCE)
        assert list(node.informer.deployment.failed) == [id_of("menu")]
        assert node.serves("menu"), "what is served serves on"
        await renew(cluster)
        await until(lambda: not node.informer.deployment.failed, within=SOON)
        assert node.engine.deploys == {id_of("menu"): 1, id_of("bread"): 1}


def test_an_entry_is_what_its_leaf_says() -> None:
    fields = {each.name for each in msgspec.structs.fields(Entry)}
    assert fields == {
        *("api_id", "tenant", "kind", "name", "version", "context", "digest", "size", "revision")
    }, "a new field of an entry has to be signed, too: see `publish_leaf`"

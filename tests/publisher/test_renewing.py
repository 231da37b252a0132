"""Signing anew what stands: what is proved, what is not, and what gateways make of it."""

from collections.abc import Sequence

import msgspec
import pytest

from gatesync.artifacts.planning import Item, Renew, RenewHead
from gatesync.artifacts.signatures import Attestation, Signer, Trust
from gatesync.gateway.log import LabelLog
from gatesync.publisher.renewing import Renewal, Stand, counted, label_keys, read_stand, renewal
from gatesync.publisher.requests import Stamp
from gatesync.stores.memory import MemoryStore
from tests.contracts.saves import asked, id_of, publish, remove
from tests.gateway.cluster import HEARTBEAT, Cluster, Node
from tests.gateway.virtual_time import in_virtual_time, until

pytestmark = [pytest.mark.fast, pytest.mark.promise(8)]

OLD, NEW, STRANGER = (Signer(bytes([number]) * 32) for number in range(3))
OWN = Trust([OLD.key, NEW.key])
replace = msgspec.structs.replace


async def store_with(*steps: tuple[Signer | None, Sequence[Item]]) -> MemoryStore:
    store = MemoryStore()
    for signer, items in steps:
        sign = signer.change_set if signer is not None else None
        await store.save([asked("L", list(items))], sign=sign)
    return store


async def chosen(store: MemoryStore, *, unsigned: bool = False) -> Renewal:
    return renewal(await read_stand(store, "L"), NEW.key_id, OWN, unsigned=unsigned)


def names(found: Renewal) -> list[str]:
    return sorted(each.entry.name for each in found.items if isinstance(each, Renew))


async def test_only_what_a_key_of_ours_has_signed_is_signed_anew() -> None:
    store = await store_with(
        (OLD, [publish("ours"), publish("also ours")]),
        (NEW, [publish("new")]),
        (STRANGER, [publish("theirs")]),
        (None, [publish("nobody's")]),
    )
    found = await chosen(store)
    assert names(found) == ["also ours", "ours"]
    assert (found.good, found.left, found.refused) == (1, 0, {"key": 1, "unsigned": 1})
    on_my_word = await chosen(store, unsigned=True)
    assert names(on_my_word) == ["also ours", "nobody's", "ours", "theirs"]
    assert (on_my_word.good, on_my_word.refused) == (1, {})


async def test_what_was_altered_behind_our_back_is_left_alone() -> None:
    store = await store_with((OLD, [publish("A"), publish("B")]), (NEW, [publish("C")]))
    stand = await read_stand(store, "L")
    for name in ("A", "C"):
        entry = stand.entries[id_of(name)]
        for field in ("context", "tenant", "kind", "name", "version", "digest"):
            swapped = replace(entry, **{field: "f" * 64})
            entries = {**stand.entries, entry.api_id: swapped}
            found = renewal(replace(stand, entries=entries), NEW.key_id, OWN)
            assert Renew(swapped) not in found.items
            assert found.refused == {"altered": 1}


async def test_an_attestation_that_was_altered_proves_nothing() -> None:
    stand = await read_stand(await store_with((OLD, [publish("A"), publish("B")])), "L")
    [kept] = stand.attestations.values()
    first, second = kept.leaves[:32], kept.leaves[32:]
    changed: list[Attestation] = [replace(kept, leaves=second + first), replace(kept, previous=9)]
    for each in changed:
        altered = Stand(stand.head, stand.entries, {1: each})
        assert renewal(altered, NEW.key_id, OWN).refused == {"altered": 2}


async def test_it_is_done_in_parts_and_then_there_is_nothing_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gatesync.publisher.renewing.RENEWED_AT_ONCE", 2)
    store = await store_with((OLD, [publish(f"N{number}") for number in range(5)]))
    left = []
    while (found := await chosen(store)).items:
        left.append(found.left)
        await store.save([asked("L", list(found.items))], sign=NEW.change_set)
    assert left == [3, 1, 0]
    assert (found.good, found.refused) == (5, {})
    keys = label_keys(await read_stand(store, "L"))
    assert (keys.keys, keys.unsigned, keys.head) == ({NEW.key_id: 5}, 0, NEW.key_id)
    assert counted([keys], NEW.key_id) == {"L": 5}
    assert counted([keys], OLD.key_id) == {}


async def test_a_head_that_an_old_key_signed_is_signed_anew_too() -> None:
    """Else nobody could prove that there is nothing more, once the old key is trusted no longer."""
    store = await store_with((NEW, [publish("A")]), (OLD, [publish("B")]), (OLD, [remove("B")]))
    keys = label_keys(await read_stand(store, "L"))
    assert keys.keys == {OLD.key_id: 1, NEW.key_id: 1}
    found = await chosen(store)
    assert found.items == (RenewHead(3),)
    [outcome] = await store.save([asked("L", list(found.items))], sign=NEW.change_set)
    assert (await chosen(store)).items == ()
    [repeated] = await store.save([asked("L", list(found.items))], sign=NEW.change_set)
    assert getattr(repeated, "change_sets", None) == ()  # the label has moved on
    assert getattr(outcome, "change_sets", ())[0].changes == ()


async def test_the_head_of_an_empty_label_that_nobody_signed_takes_an_operators_word() -> None:
    store = await store_with((None, [publish("A")]), (None, [remove("A")]))
    found = await chosen(store)
    assert (found.items, found.refused) == ((), {"unsigned": 1})
    assert (await chosen(store, unsigned=True)).items == (RenewHead(2),)
    never_used = await chosen(MemoryStore(), unsigned=True)
    assert (never_used.items, never_used.refused) == ((), {})


@in_virtual_time
async def test_gateways_follow_a_rotation_and_deploy_nothing_for_it() -> None:
    async with Cluster(signer=OLD) as cluster:
        await cluster.publish("L", publish("A"))
        await cluster.publish("M", publish("B"))
        await cluster.publish("M", remove("B"))
        node = await cluster.start_node("n1", ["L", "M"], trust=OWN)
        await until(lambda: node.informer.processed, within=2 * HEARTBEAT)
        cluster.signer = NEW
        for label in ("L", "M"):
            found = renewal(await read_stand(cluster.memory, label), NEW.key_id, OWN)
            assert cluster.publisher is not None
            outcome = await cluster.publisher.renew(label, found.items, f"k{label}", Stamp())
            assert len(outcome.change_sets) == 1

        def stands(where: Node) -> dict[str, int]:
            logs: dict[str, LabelLog] = where.informer.logs
            return {name: log.cursor.revision for name, log in logs.items() if log.cursor}

        await until(lambda: stands(node) == {"L": 2, "M": 3}, within=2 * HEARTBEAT)
        assert node.engine.deploys == {id_of("A"): 1}
        assert not node.informer.verifier.refused
        later = await cluster.start_node("n2", ["L", "M"], trust=Trust([NEW.key]))
        await until(lambda: stands(later) == {"L": 2, "M": 3}, within=2 * HEARTBEAT)
        await until(lambda: later.serves("A"), within=HEARTBEAT)
        assert not later.informer.verifier.refused

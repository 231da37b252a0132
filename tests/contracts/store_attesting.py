"""What every store keeps of the signatures that changes were saved with (promise 8)."""

from collections.abc import Mapping

import pytest

from gatesync.artifacts.changes import ChangeSet, Entry, Head
from gatesync.artifacts.planning import Renew
from gatesync.artifacts.signatures import (
    Attestation,
    Signer,
    Trust,
    attestation_of,
    publish_leaf,
)
from gatesync.stores import store as stores
from gatesync.stores.store import SaveOutcome, read_manifest
from tests.contracts.genuine import held, publish
from tests.contracts.saves import Bench, asked, every, id_of, nth, refused, remove, saved

SIGNER = Signer(bytes(range(32)))
OTHER = Signer(bytes(range(1, 33)))
TRUST = Trust([SIGNER.key, OTHER.key])


async def attested(bench: Bench, label: str) -> dict[int, Attestation]:
    """Every attestation of the label, verified, read two at a time."""
    found: dict[int, Attestation] = {}
    after = 0
    while page := await bench.store.attestations(label, after, 2):
        assert len(page) <= 2
        revisions = [each.revision for each in page]
        assert revisions == sorted(revisions)
        assert revisions[0] > after
        for each in page:
            TRUST.verify_attestation(label, bench.store.epoch, each)
            found[each.revision] = each
        after = revisions[-1]
    return found


async def proved(bench: Bench, label: str) -> tuple[Head, Mapping[str, Entry]]:
    """The list of the label, proved as a gateway does it."""
    head, entries = await read_manifest(bench.store, label)
    attestations = await attested(bench, label)
    assert attestations[head.revision].digest == head.digest
    for entry in entries.values():
        assert publish_leaf(entry) in attestations[entry.revision].split()
    return head, entries


class Attesting:
    @pytest.mark.promise(8)
    async def test_what_is_signed_is_answered_announced_and_kept(self, bench: Bench) -> None:
        request = asked(
            ("Shop", "Cafe"),
            (publish("A"), publish("B")),
            publish("C"),
            (remove("A"), publish("C", "2"), publish("D")),
        )
        [outcome] = await saved(bench, request, sign=SIGNER.change_set)
        assert len(outcome.change_sets) == 6
        for each in outcome.change_sets:
            TRUST.verify_change_set(each)
        for label in ("Shop", "Cafe"):
            mine = [each for each in outcome.change_sets if each.label == label]
            kept = await attested(bench, label)
            assert list(kept.values()) == [attestation_of(each) for each in mine]
            assert await bench.store.change_sets(label, 0, 10) == mine
            _, entries = await proved(bench, label)
            assert {each.name for each in entries.values()} == {"B", "C", "D"}
        assert await bench.store.attestations("Nobody") == ()

    async def test_what_is_not_signed_has_none(self, bench: Bench) -> None:
        await saved(bench, asked("Shop", publish("A")))
        [outcome] = await saved(bench, asked("Shop", publish("B")), sign=SIGNER.change_set)
        await saved(bench, asked("Shop", publish("C")))
        assert list(await attested(bench, "Shop")) == [await nth(bench, "Shop", 2)]
        first, second, third = await bench.store.change_sets("Shop", 0, 10)
        assert (first.signature, third.signature) == (None, None)
        assert (second,) == outcome.change_sets

    async def test_a_repeated_request_is_answered_as_it_was_signed(self, bench: Bench) -> None:
        request = asked("Shop", publish("A"))
        twice = await saved(bench, request, request, sign=SIGNER.change_set)
        await bench.reopen()
        [again] = await saved(bench, request, sign=OTHER.change_set)
        for each in (*twice, again):
            assert each.change_sets == twice[0].change_sets
        assert again.repeated

    async def test_what_stands_is_signed_anew(self, bench: Bench) -> None:
        """Under a new revision, with the same bytes; who claims and needs what stays as it was."""
        needy, needed = publish("A", needs=["seq"]), publish("B", "b", claims=["seq"])
        await saved(bench, asked("Shop", [needy, needed], publish("C")))
        _, before = await read_manifest(bench.store, "Shop")
        renewals = [Renew(entry) for entry in before.values()]
        [outcome] = await saved(bench, asked("Shop", renewals[:2]), sign=SIGNER.change_set)
        [change_set] = outcome.change_sets
        assert {change.entry.revision for change in change_set.changes} == {
            await nth(bench, "Shop", 3)
        }
        [again] = await saved(bench, asked("Shop", renewals), sign=OTHER.change_set)
        [rest] = again.change_sets  # of these, two have another revision by now
        assert [change.entry.api_id for change in rest.changes] == [renewals[2].entry.api_id]
        await bench.reopen()
        head, entries = await proved(bench, "Shop")
        assert (head.revision, head.digest) == (
            await nth(bench, "Shop", 4),
            outcome.heads[0].digest,
        )
        assert {k: each.digest for k, each in entries.items()} == {
            k: each.digest for k, each in before.items()
        }
        assert await held(bench, "Shop") == {"A": b"<api/>", "B": b"b", "C": b"<api/>"}
        await refused(bench, asked("Shop", publish("D", claims=["seq"])))
        await refused(bench, asked("Shop", remove("B")))
        nothing = await saved(bench, asked("Shop", [Renew(before[id_of("A")])]))
        assert nothing[0].change_sets == ()

    async def test_two_publishers_sign_with_keys_of_their_own(self, bench: Bench) -> None:
        for number, signer in enumerate((SIGNER, OTHER, SIGNER)):
            await saved(bench, asked("Shop", publish(f"N{number}")), sign=signer.change_set)
        kept = await attested(bench, "Shop")
        keys = [each.signature.key_id for each in kept.values()]
        assert keys == [SIGNER.key_id, OTHER.key_id, SIGNER.key_id]
        await proved(bench, "Shop")

    async def test_the_signature_covers_what_can_be_read_later(self, bench: Bench) -> None:
        """A change set that is read from the log again is the one that was signed."""
        await saved(bench, asked("Shop", publish("A"), publish("B")), sign=SIGNER.change_set)
        steps = ((publish("A", "2"), remove("B")), publish("B", "3"), remove("A"))
        await saved(bench, asked("Shop", *steps), sign=SIGNER.change_set)
        await bench.reopen()
        change_sets: list[ChangeSet] = await bench.store.change_sets("Shop", 0, 10)
        assert len(change_sets) == 5
        for each in change_sets:
            TRUST.verify_change_set(each)

    async def test_a_page_ends_by_size_too(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(stores, "ATTESTATIONS_BYTES", 100)
        sets = [publish("A"), [publish(f"N{n}") for n in range(4)], publish("B"), publish("C")]
        await saved(bench, asked("Shop", *sets), sign=SIGNER.change_set)
        pages = []
        after = 0
        while page := await bench.store.attestations("Shop", after):
            pages.append([each.revision for each in page])
            after = page[-1].revision
        first, second, *rest = await every(bench, "Shop", (1, 2, 3, 4))
        assert pages == [[first], [second], rest]

    async def test_a_confirmation_is_signed_and_answered(self, bench: Bench) -> None:
        await saved(bench, asked("Shop", publish("A")), sign=SIGNER.change_set)
        confirmed = await bench.store.confirm("Shop", "id", sign=SIGNER.confirmation)
        await bench.catch_up()
        TRUST.verify_confirmation("Shop", confirmed)
        assert (await bench.store.heads(["Shop"]))["Shop"].confirmation == confirmed
        [outcome] = await saved(bench, asked("Shop", publish("B")), sign=SIGNER.change_set)
        await bench.reopen()
        [head] = await bench.store.labels()
        assert isinstance(outcome, SaveOutcome)
        assert head.confirmation == confirmed
        unsigned = await bench.store.confirm("Shop", "another")
        await bench.catch_up()
        assert unsigned.signature is None
        assert (await bench.store.heads(["Shop"]))["Shop"].confirmation == unsigned

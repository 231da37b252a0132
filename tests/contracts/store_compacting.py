"""What every store keeps when its log is compacted."""

import pytest

from gatesync.artifacts.changes import Cursor
from gatesync.stores.store import TooOld, read_manifest
from tests.contracts.genuine import held, publish
from tests.contracts.saves import (
    Bench,
    Items,
    applied,
    asked,
    held_at,
    remove,
    revision,
    saved,
)
from tests.contracts.store_attesting import OTHER, SIGNER, attested, proved
from tests.contracts.store_history import steps_of


class Compacting:
    async def test_revisions_from_the_floor_on_stay_as_they_were(self, bench: Bench) -> None:
        epoch = bench.store.epoch
        steps: Items = [
            publish("A", "1"),
            publish("B"),
            publish("A", "2"),
            remove("B"),
            publish("A", "3"),
        ]
        [outcome] = await saved(bench, asked("Shop", *steps, publish("B", "2"), remove("A")))
        before = {n: await held_at(bench.store, "Shop", Cursor(epoch, n)) for n in range(8)}
        assert await bench.store.compact("Shop", keep=4) == 3
        await bench.catch_up()
        for number in (3, 4, 5, 6, 7):
            at = Cursor(epoch, number)
            assert await held_at(bench.store, "Shop", at) == before[number]
            delta = await bench.store.changes("Shop", at)
            assert applied(before[number], delta) == before[7]
        kept = await bench.store.change_sets("Shop", 0, 100)
        assert tuple(kept) == outcome.change_sets[3:]
        assert await bench.store.change_sets("Shop", 0, 2) == kept[:2]

    async def test_below_the_floor_a_reader_has_to_list_again(self, bench: Bench) -> None:
        epoch = bench.store.epoch
        await saved(bench, asked("Shop", *(publish("A", str(number)) for number in range(6))))
        assert await bench.store.compact("Shop", keep=2) == 4
        await bench.catch_up()
        for number in range(4):
            with pytest.raises(TooOld):
                await bench.store.changes("Shop", Cursor(epoch, number))
            with pytest.raises(TooOld):
                await bench.store.manifest("Shop", at=Cursor(epoch, number))
        assert await held(bench, "Shop") == {"A": b"5"}

    async def test_digests_reach_further_back_than_the_floor(self, bench: Bench) -> None:
        [outcome] = await saved(bench, asked("Shop", publish("A"), publish("B"), publish("C")))
        await bench.store.compact("Shop", keep=0)
        await bench.catch_up()
        for each in outcome.change_sets:
            assert await bench.store.digest_at("Shop", each.head.cursor) == each.digest

    async def test_the_floor_never_moves_back(self, bench: Bench) -> None:
        await saved(bench, asked("Shop", *(publish("A", str(number)) for number in range(5))))
        assert await bench.store.compact("Shop", keep=1) == 4
        assert await bench.store.compact("Shop", keep=3) == 4
        assert await bench.store.compact("Shop", keep=100) == 4
        assert await bench.store.compact("Nobody", keep=1) == 0

    async def test_contents_go_with_the_last_revision_that_names_them(self, bench: Bench) -> None:
        one, two, three = (publish("A", text) for text in ("1", "2", "3"))
        digests = [item.entry.digest for item in (one, two, three)]
        await saved(bench, asked("Shop", one, two, three))
        await bench.store.compact("Shop", keep=1)
        await bench.catch_up()
        assert set(await bench.store.contents(digests)) == set(digests[1:])
        await bench.store.compact("Shop", keep=0)
        await bench.catch_up()
        assert set(await bench.store.contents(digests)) == {digests[2]}

    async def test_contents_stay_while_any_label_names_them(self, bench: Bench) -> None:
        one, two = publish("A", "1"), publish("A", "2")
        digest = one.entry.digest
        await saved(bench, asked(("Shop", "Cafe", "Bar"), one))
        await saved(bench, asked(("Shop", "Cafe"), two))
        for label, still_there in (("Shop", True), ("Cafe", True), ("Bar", True)):
            await bench.store.compact(label, keep=0)
            await bench.catch_up()
            assert (digest in await bench.store.contents([digest])) is still_there
        await saved(bench, asked("Bar", two))
        assert await bench.store.contents([digest]) == {
            digest: one.content
        }  # Bar's floor still names it
        await bench.store.compact("Bar", keep=0)
        await bench.catch_up()
        assert await bench.store.contents([digest]) == {}

    async def test_the_last_contents_of_what_was_removed_go_too(self, bench: Bench) -> None:
        gone, held_twice = publish("A", "1"), publish("B", "2")
        digests = [gone.entry.digest, held_twice.entry.digest]
        await saved(bench, asked("Shop", gone), asked(("Shop", "Cafe"), held_twice))
        await saved(bench, asked("Shop", remove("A"), remove("B"), publish("C", "3")))
        await bench.store.compact("Shop", keep=2)
        await bench.catch_up()
        assert set(await bench.store.contents(digests)) == {digests[1]}  # B goes at 4
        await bench.store.compact("Shop", keep=0)
        await bench.catch_up()
        assert await held(bench, "Cafe") == {"B": b"2"}
        await saved(bench, asked("Cafe", remove("B")))
        await bench.store.compact("Cafe", keep=0)
        await bench.catch_up()
        assert await bench.store.contents(digests) == {}
        await saved(bench, asked("Shop", gone))
        assert await held(bench, "Shop") == {"A": b"1", "C": b"3"}

    async def test_what_is_young_is_kept_however_much_it_is(self, bench: Bench) -> None:
        items = [publish("A", str(number)) for number in range(8)]
        for number, item in enumerate(items):
            await saved(bench, asked("Shop", item, published_at=1_000 * number))
        assert await bench.store.compact("Shop", keep=2, young=0) == 0
        assert await bench.store.compact("Shop", keep=2, young=3_001) == 4
        await bench.catch_up()
        kept = {item.entry.digest for item in items[3:]}  # what was held at the floor, too
        assert set(await bench.store.contents({i.entry.digest for i in items})) == kept
        delta = await bench.store.changes("Shop", Cursor(bench.store.epoch, 4))
        assert delta.head.revision == 8
        with pytest.raises(TooOld):
            await bench.store.changes("Shop", Cursor(bench.store.epoch, 3))
        assert await bench.store.compact("Shop", keep=2, young=0) == 4
        assert await bench.store.compact("Shop", keep=2, young=9_000) == 6
        assert await bench.store.compact("Shop", keep=9, young=9_000) == 6
        assert await bench.store.compact("Nobody", keep=1, young=0) == 0

    async def test_of_publishers_whose_clocks_differ_the_young_are_kept(self, bench: Bench) -> None:
        for number, at in enumerate((5_000, 1_000, 2_000, 9_000, 3_000)):
            await saved(bench, asked("Shop", publish("A", str(number)), published_at=at))
        assert await bench.store.compact("Shop", keep=1, young=4_000) == 0
        assert await bench.store.compact("Shop", keep=1, young=6_000) == 3
        assert await bench.store.compact("Shop", keep=0, young=6_000) == 3

    async def test_a_compacted_label_goes_on(self, bench: Bench) -> None:
        await saved(bench, asked("Shop", publish("A"), publish("B"), remove("A")))
        await bench.store.compact("Shop", keep=0)
        await bench.reopen()
        await saved(bench, asked("Shop", publish("A"), publish("B", "2")))
        assert await revision(bench, "Shop") == 5
        head, entries = await read_manifest(bench.store, "Shop")
        assert {entry.name for entry in entries.values()} == {"A", "B"}
        delta = await bench.store.changes("Shop", Cursor(head.epoch, 3))
        assert {change.entry.name for change in delta.changes} == {"A", "B"}

    @pytest.mark.promise(3)
    async def test_a_key_is_still_known_after_compaction(self, bench: Bench) -> None:
        first = asked("Shop", publish("A"))
        await saved(bench, first)
        await saved(bench, asked("Shop", publish("A", "2")))
        await bench.store.compact("Shop", keep=0)
        [again] = await saved(bench, first)
        assert again.repeated
        assert again.change_sets == ()
        assert [head.revision for head in again.heads] == [1]
        assert await held(bench, "Shop") == {"A": b"2"}

    async def test_below_the_floor_the_last_state_is_remembered(self, bench: Bench) -> None:
        steps = [publish("Menu", "1"), publish("Menu", "2"), publish("X"), publish("Menu", "3")]
        await saved(bench, asked("Shop", *steps, author="ann"))
        await bench.store.compact("Shop", keep=1)
        await bench.catch_up()
        history = await bench.store.history("Menu")
        assert steps_of(history) == [(4, "ann"), (2, "ann")]
        assert history.floors == {"Shop": 3}

    async def test_compaction_keeps_what_the_kept_revisions_are_proved_with(
        self, bench: Bench
    ) -> None:
        steps = [publish("Old"), publish("A", "1"), publish("A", "2"), remove("A"), publish("B")]
        await saved(bench, asked("Shop", *steps), sign=SIGNER.change_set)
        await bench.store.compact("Shop", keep=1)
        await bench.catch_up()
        assert list(await attested(bench, "Shop")) == [1, 4, 5]
        await proved(bench, "Shop")
        await saved(bench, asked("Shop", publish("Old", "2"), remove("B")), sign=OTHER.change_set)
        await bench.store.compact("Shop", keep=2)
        await bench.catch_up()
        assert list(await attested(bench, "Shop")) == [1, 5, 6, 7]  # the list at 5 can be proved
        await bench.store.compact("Shop", keep=0)
        await bench.catch_up()
        assert list(await attested(bench, "Shop")) == [6, 7]
        await proved(bench, "Shop")

"""What every store keeps when it is read."""

import os

import pytest

from gatesync.artifacts.changes import Cursor, Instruction
from gatesync.artifacts.digests import EMPTY_LABEL, LabelDigest
from gatesync.stores.store import Behind, TooOld, read_manifest
from tests.contracts.genuine import held, publish
from tests.contracts.saves import Bench, Items, applied, asked, every, held_at, nth, remove, saved

MIB = 1024 * 1024


class Reading:
    async def test_a_delta_is_the_net_difference(self, bench: Bench) -> None:
        await saved(bench, asked("Shop", [publish(name) for name in "ABC"]))
        since = Cursor(bench.store.epoch, await nth(bench, "Shop", 1))
        steps: Items = [
            publish("A", "2"),
            publish("A", "3"),
            remove("B"),
            publish("D"),
            remove("D"),
        ]
        await saved(bench, asked("Shop", *steps))
        delta = await bench.store.changes("Shop", since)
        assert [delta.since, delta.head.revision] == await every(bench, "Shop", (1, 6))
        assert {(change.instruction, change.entry.name) for change in delta.changes} == {
            (Instruction.PUBLISH, "A"),
            (Instruction.REMOVE, "B"),
        }
        before = await held_at(bench.store, "Shop", since)
        _, now = await read_manifest(bench.store, "Shop")
        assert applied(before, delta) == now

    async def test_a_removal_in_a_delta_names_what_the_reader_holds(self, bench: Bench) -> None:
        [first] = await saved(bench, asked("Shop", publish("A", "1")))
        await saved(bench, asked("Shop", publish("A", "2"), remove("A")))
        delta = await bench.store.changes("Shop", first.heads[0].cursor)
        assert [change.entry for change in delta.changes] == [first.change_sets[0].changes[0].entry]

    async def test_what_came_and_went_is_no_change(self, bench: Bench) -> None:
        await saved(bench, asked("Shop", publish("A")))
        since = Cursor(bench.store.epoch, await nth(bench, "Shop", 1))
        await saved(bench, asked("Shop", publish("B"), remove("B")))
        delta = await bench.store.changes("Shop", since)
        assert (delta.changes, delta.head.revision) == ((), await nth(bench, "Shop", 3))

    async def test_nothing_has_happened_since_the_head(self, bench: Bench) -> None:
        [outcome] = await saved(bench, asked("Shop", publish("A")))
        delta = await bench.store.changes("Shop", outcome.heads[0].cursor)
        assert (delta.changes, delta.head) == ((), outcome.heads[0])

    async def test_a_delta_from_0_is_everything(self, bench: Bench) -> None:
        await saved(bench, asked("Shop", publish("A"), publish("B"), remove("A")))
        delta = await bench.store.changes("Shop", Cursor(bench.store.epoch, 0))
        assert [change.entry.name for change in delta.changes] == ["B"]

    async def test_a_cursor_ahead_of_the_head_is_answered_behind(self, bench: Bench) -> None:
        await saved(bench, asked("Shop", publish("A")))
        ahead = Cursor(bench.store.epoch, await nth(bench, "Shop", 2))
        with pytest.raises(Behind) as caught:
            await bench.store.changes("Shop", ahead)
        assert caught.value.head.revision == await nth(bench, "Shop", 1)
        assert caught.value.wanted == ahead
        with pytest.raises(Behind):
            await bench.store.changes("Nobody", Cursor(bench.store.epoch, 1))

    async def test_a_cursor_of_another_epoch_is_too_old(self, bench: Bench) -> None:
        await saved(bench, asked("Shop", publish("A")))
        for number in (0, 1, 2):
            with pytest.raises(TooOld):
                await bench.store.changes("Shop", Cursor("another", number))

    async def test_at_least_is_answered_with_that_or_newer(self, bench: Bench) -> None:
        [outcome] = await saved(bench, asked("Shop", publish("A"), publish("B")))
        for number in await every(bench, "Shop", (0, 1, 2)):
            wanted = Cursor(bench.store.epoch, number)
            heads = await bench.store.heads(["Shop"], {"Shop": wanted})
            assert heads == {"Shop": outcome.heads[0]}
            page = await bench.store.manifest("Shop", at_least=wanted)
            assert page.head == outcome.heads[0]

    @pytest.mark.parametrize("epoch", ["", "another"])
    async def test_at_least_of_the_future_or_another_epoch_is_behind(
        self, bench: Bench, epoch: str
    ) -> None:
        await saved(bench, asked(("Shop", "Cafe"), publish("A")))
        first, future = await every(bench, "Shop", (1, 2))
        wanted = Cursor(epoch, first) if epoch else Cursor(bench.store.epoch, future)
        with pytest.raises(Behind) as caught:
            await bench.store.heads(["Cafe", "Shop"], {"Shop": wanted})
        assert caught.value.head.label == "Shop"
        with pytest.raises(Behind):
            await bench.store.manifest("Shop", at_least=wanted)
        with pytest.raises(Behind):
            await bench.store.manifest("Shop", at=wanted)

    @pytest.mark.promise(2)
    async def test_a_list_read_in_pages_is_of_one_moment(self, bench: Bench) -> None:
        names = [f"N{number}" for number in range(10)]
        await saved(bench, asked("Shop", [publish(name) for name in names]))
        page = await bench.store.manifest("Shop", limit=3)
        head, got = page.head, list(page.entries)
        for number in range(10):  # each page has other writes before it
            await saved(bench, asked("Shop", publish(f"X{number}"), remove(f"N{number}")))
            if page.after is None:
                break
            page = await bench.store.manifest("Shop", at=head.cursor, after=page.after, limit=3)
            assert page.head.cursor == head.cursor
            assert len(page.entries) <= 3
            got += page.entries
        assert page.after is None
        assert sorted(entry.name for entry in got) == names
        ids = [entry.api_id for entry in got]
        assert ids == sorted(ids)

    async def test_pages_that_come_out_even_have_no_empty_one_after(self, bench: Bench) -> None:
        await saved(bench, asked("Shop", [publish(name) for name in "ABCD"]))
        first = await bench.store.manifest("Shop", limit=2)
        assert first.after is not None
        last = await bench.store.manifest("Shop", after=first.after, limit=2)
        assert (len(last.entries), last.after) == (2, None)

    async def test_every_revision_can_be_listed(self, bench: Bench) -> None:
        epoch = bench.store.epoch
        steps: Items = [
            publish("A", "1"),
            publish("B"),
            publish("A", "2"),
            remove("B"),
            publish("C"),
        ]
        expected = [set(), {"A"}, {"A", "B"}, {"A", "B"}, {"A"}, {"A", "C"}]
        await saved(bench, asked("Shop", *steps))
        for place, names in enumerate(expected):
            number = await nth(bench, "Shop", place)
            entries = await held_at(bench.store, "Shop", Cursor(epoch, number))
            assert {entry.name for entry in entries.values()} == names

    async def test_an_entry_says_which_revision_brought_it(self, bench: Bench) -> None:
        await saved(bench, asked("Shop", publish("A"), publish("B"), publish("A", "2")))
        _, entries = await read_manifest(bench.store, "Shop")
        assert {entry.name: entry.revision for entry in entries.values()} == {
            "A": await nth(bench, "Shop", 3),
            "B": await nth(bench, "Shop", 2),
        }

    async def test_a_whole_list_adds_up_to_its_head(self, bench: Bench) -> None:
        [outcome] = await saved(bench, asked("Shop", publish("A"), publish("B"), remove("A")))
        head, entries = await read_manifest(bench.store, "Shop", outcome.heads[0].cursor)
        assert head == outcome.heads[0]
        assert [entry.name for entry in entries.values()] == ["B"]

    async def test_the_history_can_be_proved_by_its_digests(self, bench: Bench) -> None:
        epoch = bench.store.epoch
        [outcome] = await saved(bench, asked("Shop", publish("A"), publish("B")))
        digests: list[LabelDigest | None] = [EMPTY_LABEL]
        digests += [each.digest for each in outcome.change_sets]
        digests.append(None)
        for place, digest in enumerate(digests):
            number = await nth(bench, "Shop", place)
            assert await bench.store.digest_at("Shop", Cursor(epoch, number)) == digest
        assert await bench.store.digest_at("Shop", Cursor("another", 1)) is None

    async def test_contents_are_found_by_digest(self, bench: Bench) -> None:
        old, new = publish("A", "1"), publish("A", "2")
        gone = publish("B", "3")
        await saved(bench, asked("Shop", old, gone), asked("Shop", new, remove("B")))
        wanted = [each.entry.digest for each in (old, new, gone)]
        found = await bench.store.contents([*wanted, "0" * 64])
        assert found == {each.entry.digest: each.content for each in (old, new, gone)}
        assert await bench.store.contents([]) == {}

    async def test_sizes_are_known_before_contents_are_fetched(self, bench: Bench) -> None:
        old, new, gone = publish("A", "1"), publish("A", "four"), publish("B", "no")
        await saved(bench, asked(("Shop", "Cafe"), old, gone))
        await saved(bench, asked("Shop", new, remove("B")))
        wanted = [each.entry.digest for each in (old, new, gone)]
        assert await bench.store.sizes([*wanted, "0" * 64]) == {
            each.entry.digest: len(each.content) for each in (old, new, gone)
        }
        assert await bench.store.sizes([]) == {}

    async def test_many_contents_are_found_at_once(self, bench: Bench) -> None:
        items = [publish(f"N{number}", f"content {number}") for number in range(1_100)]
        await saved(bench, asked("Shop", items))
        found = await bench.store.contents({item.entry.digest for item in items})
        assert found == {item.entry.digest: item.content for item in items}
        assert len(await held(bench, "Shop")) == 1_100

    async def test_15_mib_come_back_byte_for_byte(self, bench: Bench) -> None:
        beside = publish("Large", "").entry.size
        item = publish("Large", os.urandom((15 * MIB - beside) // 2).hex())
        assert 15 * MIB - 1 <= item.entry.size <= 15 * MIB
        await saved(bench, asked("Shop", item))
        found = await bench.store.contents([item.entry.digest])
        assert found[item.entry.digest] == item.content
        await saved(bench, asked("Shop", publish("Large", b"small")))
        found = await bench.store.contents([item.entry.digest])
        assert found[item.entry.digest] == item.content

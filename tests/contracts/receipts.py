"""What every receipt book keeps: the contract of `gatesync.stores.receipts.ReceiptBook`."""

import asyncio
import itertools
from collections.abc import Collection

import pytest

from gatesync.stores.receipts import NodeRecord, ReceiptBook

_editions = itertools.count(2**62)


def record(node: str, state: bytes = b"state", heard_at: int = 1_700_000_000_000) -> NodeRecord:
    return NodeRecord(node, next(_editions), heard_at, state)


async def held(book: ReceiptBook) -> dict[str, bytes]:
    return {each.node: each.state for each in await book.read(await book.editions())}


def seen(*records: NodeRecord) -> dict[str, int]:
    return {each.node: each.edition for each in records}


def names(count: int) -> Collection[str]:
    return [f"node-{number:04d}" for number in range(count)]


class ReceiptBookContract:
    """A subclass gives a fixture `book`: an empty one."""

    async def test_an_empty_book_answers(self, book: ReceiptBook) -> None:
        assert await book.editions() == {}
        assert await book.read(["gw1"]) == []
        await book.remove({"gw1": 1})
        await book.forget(1)

    async def test_what_was_written_is_read(self, book: ReceiptBook) -> None:
        one, two = record("gw1", bytes(range(256)), 2**42), record("gw2", b"")
        assert await book.write([one, two], {}) == {"gw1", "gw2"}
        assert await book.editions() == seen(one, two)
        assert await book.read(["gw2", "gw1", "never"]) in ([one, two], [two, one])

    async def test_a_record_of_a_megabyte(self, book: ReceiptBook) -> None:
        large = record("gw1", b"\x00\xff" * 500_000)
        await book.write([large], {})
        assert await book.read(["gw1"]) == [large]

    async def test_who_has_seen_the_record_replaces_it(self, book: ReceiptBook) -> None:
        first, second = record("gw1", b"first"), record("gw1", b"second")
        await book.write([first], {})
        assert await book.write([second], seen(first)) == {"gw1"}
        assert await book.read(["gw1"]) == [second]

    async def test_what_somebody_else_wrote_is_left_alone(self, book: ReceiptBook) -> None:
        first, theirs, mine = (record("gw1", text) for text in (b"first", b"theirs", b"mine"))
        await book.write([first], {})
        await book.write([theirs], seen(first))
        other = record("gw2")
        for known in ({}, seen(first)):
            assert await book.write([mine, other], known) == {"gw2"}
            await book.remove(seen(other))
        assert await held(book) == {"gw1": b"theirs"}

    async def test_what_somebody_else_removed_is_not_written_again(self, book: ReceiptBook) -> None:
        first = record("gw1")
        await book.write([first], {})
        await book.remove(seen(first))
        assert await book.write([record("gw1")], seen(first)) == set()
        assert await book.editions() == {}

    async def test_only_the_edition_that_was_seen_is_removed(self, book: ReceiptBook) -> None:
        first, second = record("gw1"), record("gw1")
        await book.write([first], {})
        await book.write([second], seen(first))
        await book.remove(seen(first))
        assert await book.editions() == seen(second)
        await book.remove(seen(second))
        assert await book.editions() == {}

    async def test_who_was_last_heard_long_ago_is_forgotten(self, book: ReceiptBook) -> None:
        await book.write([record(f"gw{at}", heard_at=at) for at in (1, 2, 3)], {})
        await book.forget(3)
        assert set(await book.editions()) == {"gw3"}

    async def test_more_nodes_than_fit_one_statement(self, book: ReceiptBook) -> None:
        first = [record(name) for name in names(1_100)]
        assert len(await book.write(first, {})) == 1_100
        second = [record(name, b"new") for name in names(1_100)]
        assert len(await book.write(second, seen(*first))) == 1_100
        assert set((await held(book)).values()) == {b"new"}
        await book.remove(seen(*second[:1_000]))
        assert len(await book.editions()) == 100

    async def test_names_that_differ_in_case_stay_apart(self, book: ReceiptBook) -> None:
        await book.write([record("gw"), record("GW"), record("Gw")], {})
        assert set(await book.editions()) == {"gw", "GW", "Gw"}

    @pytest.mark.parametrize("known", [False, True])
    async def test_of_those_who_write_at_once_one_does(
        self, book: ReceiptBook, known: bool
    ) -> None:
        first = [record(name) for name in names(20)]
        if known:
            await book.write(first, {})
        rivals = [[record(name, b"%d" % number) for name in names(20)] for number in range(4)]
        written = await asyncio.gather(
            *(book.write(each, seen(*first) if known else {}) for each in rivals)
        )
        assert sorted(node for some in written for node in some) == names(20)
        for each in await book.read(names(20)):
            assert each.node in written[int(each.state)]

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gatesync.stores.memory import MemoryStore
from gatesync.stores.store import ManifestPage, StoreError, read_manifest
from tests.contracts.saves import asked, publish

pytestmark = pytest.mark.fast

Change = Callable[[ManifestPage], ManifestPage]


class Untrue(MemoryStore):
    """Pages of two entries, each changed on its way to the reader."""

    def __init__(self, change: Change) -> None:
        super().__init__()
        self.change = change

    async def manifest(self, label: str, **asked: Any) -> ManifestPage:
        return self.change(await super().manifest(label, **{**asked, "limit": 2}))


def as_it_is(page: ManifestPage) -> ManifestPage:
    return page


def cut_short(page: ManifestPage) -> ManifestPage:
    return msgspec.structs.replace(page, after=None)


def one_missing(page: ManifestPage) -> ManifestPage:
    return msgspec.structs.replace(page, entries=page.entries[1:])


def empty(page: ManifestPage) -> ManifestPage:
    return msgspec.structs.replace(page, entries=(), after=None)


def one_altered(page: ManifestPage) -> ManifestPage:
    wrong = msgspec.structs.replace(page.entries[0], digest="0" * 64)
    return msgspec.structs.replace(page, entries=(wrong, *page.entries[1:]))


class Again:
    """The first page over and over, and never the last; patient for a while."""

    def __init__(self) -> None:
        self.pages = 0
        self.first: ManifestPage | None = None

    def __call__(self, page: ManifestPage) -> ManifestPage:
        self.pages += 1
        assert self.pages < 10, "it goes on for ever"
        self.first = self.first or page
        return self.first


class Ever(Again):
    """Always something new."""

    def __call__(self, page: ManifestPage) -> ManifestPage:
        first = super().__call__(page)
        made = (msgspec.structs.replace(first.entries[0], api_id=str(self.pages)),)
        return msgspec.structs.replace(first, entries=made)


async def read(change: Change) -> int:
    store = Untrue(change)
    await store.save([asked("Shop", [publish(name) for name in "ABCDE"])])
    _, entries = await read_manifest(store, "Shop")
    return len(entries)


async def test_a_list_of_several_pages_is_read_whole() -> None:
    assert await read(as_it_is) == 5


@pytest.mark.promise(6)
@pytest.mark.parametrize("change", [cut_short, one_missing, empty, one_altered])
async def test_a_list_that_does_not_add_up_is_no_list(change: Change) -> None:
    with pytest.raises(StoreError, match=r"'Shop' does not add up .*5 were announced"):
        await read(change)


@pytest.mark.promise(6)
@pytest.mark.parametrize("change", [Again(), Ever()], ids=["again", "ever"])
async def test_a_list_without_an_end_is_no_list(change: Change) -> None:
    with pytest.raises(StoreError, match=r"'Shop' does not add up"):
        await read(change)

"""What somebody may put into a share's own folder who may write there, and what comes of it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from gatesync.artifacts.planning import Remove
from gatesync.stores.share_chain import ShareChain
from gatesync.stores.share_log import Saved, Step
from gatesync.stores.share_source import ShareSource
from gatesync.stores.share_store import ShareRetriever, ShareStore
from gatesync.stores.share_sweep import ShareSweep
from gatesync.stores.store import StoreError
from tests.contracts.saves import asked, id_of
from tests.stores.share.making import LABEL, made_share, saved_one, shown, writer

pytestmark = pytest.mark.fast


@pytest.fixture
def source(tmp_path: Path) -> ShareSource:
    return made_share(tmp_path / "share")


def folder(at: Path) -> None:
    at.mkdir()
    (at / "in it").write_text("x")


def pipe(at: Path) -> None:
    os.mkfifo(at)


def device(at: Path) -> None:
    at.symlink_to("/dev/full")  # gives zeros without an end


def link_to_itself(at: Path) -> None:
    at.symlink_to(at)


@pytest.mark.parametrize("made", [folder, pipe, device, link_to_itself])
async def test_what_is_no_file_does_not_exist_for_anybody(
    source: ShareSource, made: Callable[[Path], None]
) -> None:
    """Nobody waits for a pipe, reads a device to its end, or gives up over a folder."""
    store = writer(source)
    await saved_one(store, "A")
    for name in ("manifest.9.9", "heads/x", "holder.1", "tree.1", "dropped/x", "new/x"):
        made(store.files.path / "gatesync" / name)
    made(store.files.path / "gatesync" / "objects" / ("a" * 64))
    assert await shown(source) == {"A": b"A"}
    await saved_one(store, "B")
    await store.sweep()
    ShareSweep(store.files, grace=0, kept=0).sweep(store.known.manifest)
    assert store.files.read("holder.1") is None
    assert set(await shown(source)) == {"A", "B"}


@pytest.mark.parametrize("made", [folder, pipe, device, link_to_itself])
async def test_what_stands_at_the_next_manifests_name_is_told(
    source: ShareSource, made: Callable[[Path], None]
) -> None:
    store = writer(source)
    await store.catch_up()
    made(source.path / "gatesync" / store.known.manifest.next_name)
    with pytest.raises(StoreError, match=r"damaged manifest\.1\.1.*move that file away"):
        await saved_one(store, "A")


@pytest.mark.parametrize("linked", ["", "new", "dropped", "dropped/x", "objects", "heads"])
async def test_no_link_leads_out_of_a_share(
    source: ShareSource, tmp_path: Path, linked: str
) -> None:
    """A publisher may have rights where whoever writes to the share has none."""
    store = writer(source)
    await saved_one(store, "A")
    elsewhere, at = tmp_path / "elsewhere", source.path / "gatesync" / linked
    if at.exists():
        shutil.move(at, elsewhere)
    for name in ("precious", "f" * 64, "sub/precious"):
        (elsewhere / name).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / name).write_text("x")
    at.symlink_to(elsewhere)
    before = {each.relative_to(elsewhere) for each in elsewhere.rglob("*")}

    async def tidied() -> None:
        ShareSweep(store.files, grace=0, kept=0).sweep(store.known.manifest)

    troubles = []
    for work in (saved_one(store, "B"), store.sweep(), store.keep_issues("p", [], 1), tidied()):
        try:
            await work
        except StoreError as error:
            troubles.append(str(error))
    assert {each.relative_to(elsewhere) for each in elsewhere.rglob("*")} == before
    if linked != "dropped/x":  # a file of some name there is nobody's business
        assert any("follows no link there: put the folder back" in each for each in troubles)


class Odd(msgspec.Struct, frozen=True, tag="merged"):
    """A step of another version's."""

    label: str


@pytest.mark.promise(6)
@pytest.mark.parametrize("follows", [True, False])
@pytest.mark.parametrize("odd", [True, False])
async def test_a_log_that_makes_no_sense_is_an_error_and_no_end(
    source: ShareSource, follows: bool, odd: bool
) -> None:
    store, reader = writer(source), ShareRetriever(source)
    await saved_one(store, "A")
    if follows:
        await reader.heads([LABEL])
    steps: list[Step] = [Odd(LABEL)] if odd else await removed_twice(store)  # type: ignore[list-item]
    assert ShareChain(store.files).extend(store.known, steps, {}) is not None
    for _ in range(2):  # what was taken over by half is no ground for the next answer
        with pytest.raises(StoreError, match=r"cannot be read .*upgrade this one"):
            await reader.heads([LABEL])


async def removed_twice(store: ShareStore) -> list[Step]:
    removal = asked(LABEL, Remove(id_of("A")), key="gone")
    [record] = store.index.plan([removal]).records
    return [Saved(record), Saved(record)]

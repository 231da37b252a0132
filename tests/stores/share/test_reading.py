"""What readers of a share take for true, and what they say when it is not there."""

import asyncio
import errno
import hashlib
import shutil
import threading
from pathlib import Path

import pytest

from gatesync.artifacts.changes import Cursor
from gatesync.stores import share_chain
from gatesync.stores.share_files import ShareFiles
from gatesync.stores.share_source import ShareSource
from gatesync.stores.share_state import open_state
from gatesync.stores.share_store import ShareRetriever, open_share_store
from gatesync.stores.share_sweep import ShareSweep
from gatesync.stores.store import Refused, StoreError, TooOld
from tests.contracts.saves import asked, publish
from tests.stores.share.making import LABEL, made_share, saved_one, shown, writer

pytestmark = pytest.mark.fast


@pytest.fixture
def source(tmp_path: Path) -> ShareSource:
    return made_share(tmp_path / "share")


async def test_half_written_foreign_and_stale_files_do_not_exist_for_anybody(
    source: ShareSource, tmp_path: Path
) -> None:
    other = made_share(tmp_path / "other")
    own = source.path / "gatesync"
    store = writer(source)
    await saved_one(store, "A")
    newest = own / store.known.manifest.name
    content = newest.read_bytes()
    stranger = writer(other)
    await saved_one(stranger, "Stolen")
    for name, text in {
        "manifest.9.9": content,  # says that it is another one
        "manifest.8.8": content[:-10],
        "manifest.7.7": b"",
        "manifest.1.7~": content,
        "manifest.01.7": content,
        "manifest.one.two": b"?",
        ".nfs000000000000001": content,
        "manifest.1.7.swp": content,
        "objects/.nfs1": b"x",
        "heads/.nfs2": b"x",
        "heads/x": b"not JSON",
    }.items():
        (own / name).write_bytes(text)
    theirs = other.path / "gatesync" / stranger.known.manifest.name
    shutil.copy(theirs, own / "manifest.1.5")
    assert (own / "manifest.1.5").exists()
    assert await shown(source) == {"A": b"A"}
    await saved_one(store, "B")
    await store.sweep()
    assert (own / "objects" / ".nfs1").exists()
    assert set(await shown(source)) == {"A", "B"}


@pytest.mark.promise(8)
async def test_a_content_with_other_bytes_is_not_there(source: ShareSource) -> None:
    await saved_one(writer(source), "A", "good")
    digest = hashlib.sha256(b"good").hexdigest()
    (source.path / "gatesync" / "objects" / digest).write_bytes(b"evil")
    assert await ShareRetriever(source).contents([digest]) == {}
    await saved_one(writer(source), "B", "good")  # who has it mends it
    assert await ShareRetriever(source).contents([digest]) == {digest: b"good"}


async def test_a_log_with_a_missing_piece_is_an_error_and_nothing_less(
    source: ShareSource,
) -> None:
    store = writer(source)
    await saved_one(store, "A")
    [pack] = store.known.manifest.packs
    (source.path / "gatesync" / "objects" / pack.digest).unlink()
    with pytest.raises(StoreError, match=f"is damaged: objects/{pack.digest} is missing"):
        await ShareRetriever(source).heads([LABEL])


async def test_a_long_log_is_in_few_objects_for_who_follows_and_who_comes_anew(
    source: ShareSource,
) -> None:
    store, following = writer(source), ShareRetriever(source)
    for number in range(70):
        await saved_one(store, f"N{number % 7}", str(number))
        if number % 5 == 0:
            await following.heads([LABEL])
    assert len(store.known.manifest.packs) < 32
    fresh = ShareRetriever(source)
    head = (await following.heads([LABEL]))[LABEL]
    assert (await fresh.heads([LABEL]))[LABEL] == head
    assert head.revision == 70
    since = Cursor(store.epoch, 30)
    assert await following.changes(LABEL, since) == await fresh.changes(LABEL, since)


@pytest.mark.promise(6)
async def test_a_mount_that_is_gone_is_no_empty_share(source: ShareSource, tmp_path: Path) -> None:
    """What is left is the folder on which it was mounted."""
    store, reader = writer(source), ShareRetriever(source)
    await saved_one(store, "A")
    await reader.heads([LABEL])
    away = source.path.rename(tmp_path / "away")
    source.path.mkdir()
    for question in (
        reader.heads([LABEL]),
        reader.manifest(LABEL),
        reader.changes(LABEL, Cursor(store.epoch, 0)),
        store.labels(),
        saved_one(store, "B"),
        store.compact(LABEL, keep=0),
        store.confirm(LABEL, "why"),
        store.keep_issues("p", [], 0),
    ):
        with pytest.raises(StoreError, match=r"is not (there|mounted)|it is not mounted"):
            await question
    assert list(source.path.iterdir()) == []  # nothing was made there
    source.path.rmdir()
    away.rename(source.path)
    assert (await reader.heads([LABEL]))[LABEL].revision == 1
    await saved_one(store, "B")
    assert set(await shown(source)) == {"A", "B"}


async def test_another_share_in_its_place_is_another_history(
    source: ShareSource, tmp_path: Path
) -> None:
    store, reader = writer(source), ShareRetriever(source)
    await saved_one(store, "A")
    head = (await reader.heads([LABEL]))[LABEL]
    source.path.rename(tmp_path / "away")
    made_share(source.path)
    assert (await reader.heads([LABEL]))[LABEL].epoch not in {head.epoch, store.epoch}
    with pytest.raises(TooOld):
        await reader.changes(LABEL, head.cursor)
    for _ in range(2):
        with pytest.raises(StoreError, match="is another one now"):
            await saved_one(store, "B")


async def test_a_publisher_that_starts_anew_knows_its_share(
    source: ShareSource, tmp_path: Path
) -> None:
    known = ShareSource(path=source.path, state=tmp_path / "state")
    async with open_share_store(known) as store:
        await saved_one(store, "A")
    source.path.rename(tmp_path / "away")
    source.path.mkdir()
    with pytest.raises(StoreError, match="is not there"):
        async with open_share_store(known):
            pass
    source.path.rmdir()
    made_share(source.path)
    with pytest.raises(StoreError, match="is not the one that this publisher knows"):
        async with open_share_store(known):
            pass


async def test_a_share_that_went_back_is_read_as_it_is(source: ShareSource, tmp_path: Path) -> None:
    """A backup that was put back: gateways see by the digests that it lacks what they have."""
    store, reader = writer(source), ShareRetriever(source)
    await saved_one(store, "A")
    shutil.copytree(source.path, tmp_path / "backup")
    await saved_one(store, "B")
    head = (await reader.heads([LABEL]))[LABEL]
    shutil.rmtree(source.path)
    shutil.copytree(tmp_path / "backup", source.path)
    assert (await reader.heads([LABEL]))[LABEL].revision == 1
    assert await reader.digest_at(LABEL, head.cursor) is None
    await saved_one(store, "C")
    assert set(await shown(source)) == {"A", "C"}
    assert (await reader.heads([LABEL]))[LABEL].revision == 2
    assert await reader.digest_at(LABEL, head.cursor) != head.digest


async def test_only_labels_that_the_share_serves_are_saved(source: ShareSource) -> None:
    store = writer(ShareSource(path=source.path, labels=("Shop", "Cafe")))
    answers = await store.save(
        [asked("Bar", publish("A")), asked("Cafe", publish("A")), asked(("Shop", "Bar"))]
    )
    assert [isinstance(each, Refused) for each in answers] == [True, False, True]
    assert "label 'Bar' is not served by" in str(answers[0])
    [seen, _] = await store.preview([asked("Bar", publish("A")), asked("Shop", publish("A"))])
    assert isinstance(seen, Refused)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "is full; nothing was saved"),
        (errno.EROFS, "is mounted read-only"),
        (errno.ESTALE, "does not answer"),
        (errno.EIO, "does not answer"),
        (errno.ENOTCONN, "does not answer"),
        (errno.EACCES, "refuses access"),
    ],
)
async def test_what_the_file_system_says_is_told_in_words(
    source: ShareSource, number: int, said: str
) -> None:
    def fail(_step: str) -> None:
        raise OSError(number, "?")

    with pytest.raises(StoreError, match=said) as caught:
        await saved_one(writer(source, fail), "A")
    assert not caught.value.unsure  # nothing can have been saved yet
    assert await shown(source) == {}


async def test_a_file_system_that_never_answers_holds_up_nobody_for_long(
    source: ShareSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = ShareRetriever(ShareSource(path=source.path, deadline_seconds=0.05))
    hang = threading.Event()
    epoch = ShareFiles.epoch

    def hanging(self: ShareFiles) -> str:
        hang.wait(60)
        return epoch(self)

    monkeypatch.setattr(ShareFiles, "epoch", hanging)
    for _ in range(3):
        with pytest.raises(StoreError, match="has not answered for"):
            await reader.heads([LABEL])
    hang.set()
    monkeypatch.undo()
    while True:
        try:
            found = await reader.heads([LABEL])
        except StoreError:
            await asyncio.sleep(0.01)
            continue
        break
    assert found[LABEL].revision == 0


async def test_two_publishers_of_a_host_do_not_share_a_folder(
    source: ShareSource, tmp_path: Path
) -> None:
    known = ShareSource(path=source.path, state=tmp_path / "state")
    with open_state(known), pytest.raises(StoreError, match="another publisher of this host"):
        async with open_share_store(known):
            pass


def test_a_store_says_nothing_before_it_was_read(source: ShareSource) -> None:
    with pytest.raises(StoreError, match="was not read yet"):
        assert writer(source).known


async def test_what_is_old_is_cleaned_up_after_it_stood_there_for_long_enough(
    source: ShareSource,
) -> None:
    """By the clock of whoever cleans up, from when it has seen that it is old."""
    store, now = writer(source), 0.0
    for number in range(8):
        await saved_one(store, "A", str(number))
    own = source.path / "gatesync"
    (own / "new" / "left").write_bytes(b"by a writer that was killed")
    (own / "holder.0").write_bytes(b"of an earlier lease")
    (own / "manifest.1.9").write_bytes(b"half-writ")
    sweep = ShareSweep(store.files, lambda: now, grace=10, kept=3)
    sweep.sweep(store.known.manifest)
    now = 9.9
    sweep.sweep(store.known.manifest)
    assert len(store.files.names()) == 4 + 9 + 1 + 1
    now = 10
    sweep.sweep(store.known.manifest)
    kept = {f"manifest.1.{number}" for number in (5, 6, 7, 8, 9)}
    assert set(store.files.names()) == kept | {"objects", "heads", "new", "dropped"}
    assert list((own / "new").iterdir()) == []
    assert await shown(source) == {"A": b"7"}


async def test_what_no_reader_would_take_is_not_written(
    source: ShareSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = writer(source)
    await saved_one(store, "A")
    monkeypatch.setattr(share_chain, "STEPS_BYTES", 100)
    with pytest.raises(StoreError, match="publish fewer artifacts at a time") as caught:
        await saved_one(store, "B")
    assert not caught.value.unsure
    assert await shown(source) == {"A": b"A"}

"""What the last-known-good cache keeps, and for whom."""

import asyncio
import errno
import os
import threading
from pathlib import Path

import msgspec
import pytest

from gatesync.artifacts.changes import Entry
from gatesync.artifacts.digests import digest_of
from gatesync.gateway import cache_pending
from gatesync.gateway.cache import Remembered, open_cache
from gatesync.gateway.desired import Wanted
from gatesync.gateway.log import Decision, LabelLog
from tests.contracts.saves import id_of
from tests.gateway.caching import Node, contents_in, digests_of, held, rows_in, same
from tests.gateway.makers import OTHER, History, content, entry

pytestmark = pytest.mark.fast


async def test_an_empty_folder_remembers_nothing(tmp_path: Path) -> None:
    async with open_cache(tmp_path / "new" / "cache") as cache:
        assert await cache.load(["L"]) == Remembered({}, {})
        assert await cache.contents(digests_of("menu")) == {}
        assert (cache.counts.misses, cache.counts.error) == (1, "")


@pytest.mark.promise(10)
async def test_a_node_knows_after_a_restart_what_it_knew_before(tmp_path: Path) -> None:
    history = History()
    history.publish("bread")
    history.confirm("first")
    async with open_cache(tmp_path) as cache:
        node = Node(cache)
        node.take(history)
        node.hear(history, "menu", "olives")
        node.hear_removal(history, "olives")
        node.take(History("M"))
        node.apply("L", "menu", "bread")
    async with open_cache(tmp_path) as cache:
        remembered = await cache.load(["L", "M"])
        found = await cache.contents(digests_of("menu", "bread", "olives"))
        assert (cache.counts.hits, cache.counts.misses) == (2, 1)
    assert remembered.labels.keys() == {"L", "M"}
    assert same(remembered.labels["L"], node.logs["L"])
    assert same(remembered.labels["M"], node.logs["M"])
    assert remembered.labels["L"].touched == {id_of("menu"), id_of("bread")}
    assert remembered.applied == node.applied
    assert set(found.values()) == {content("menu"), content("bread")}
    assert all(digest_of(each) == digest for digest, each in found.items())


@pytest.mark.promise(6)
async def test_what_another_history_may_not_remove_is_still_held_after_a_restart(
    tmp_path: Path,
) -> None:
    history, other = History(), History(epoch=OTHER)
    history.publish("menu", "bread")
    other.publish("menu")
    other.confirm("of the other history")
    async with open_cache(tmp_path) as cache:
        node = Node(cache)
        node.take(history)
        node.apply("L", "menu", "bread")
        assert await cache.flush()
        node.take(other, continues=False)
    log = (await held(tmp_path)).labels["L"]
    assert log.retained.keys() == {id_of("bread")}
    assert log.offer_head(other.head) is Decision.TAKEN
    assert log.retained, "a confirmation that came before the restart must not count after it"
    assert log.offer_head(other.confirm("of the removal")) is Decision.TAKEN
    assert not log.retained


async def test_a_restored_log_goes_on_and_is_kept(tmp_path: Path) -> None:
    history = History()
    async with open_cache(tmp_path) as cache:
        Node(cache).take(history)
    async with open_cache(tmp_path) as cache:
        node = Node(cache, await cache.load(["L"]))
        node.hear(history, "menu")
        node.apply("L", "menu")
        assert await cache.flush()
        node.hear(history, "menu", "bread", version=2)
        node.hear_removal(history, "menu")
        node.undeploy("menu")
    remembered = await held(tmp_path)
    assert same(remembered.labels["L"], node.logs["L"])
    assert remembered.applied == {}


async def test_labels_that_are_not_followed_any_more_are_forgotten(tmp_path: Path) -> None:
    histories = [History("L"), History("M"), History("N")]
    for history in histories:
        history.publish(f"of-{history.label}")
    async with open_cache(tmp_path) as cache:
        node = Node(cache)
        for history in histories:
            node.take(history)
        node.apply("L", "of-L")
        node.apply("M", "of-M")
        cache.applied(node.applied, [], {digests_of("of-N")[0]: content("of-N")})
        assert await cache.flush()
        assert content("of-N") in contents_in(tmp_path)
        cache.forget("N")
    assert content("of-N") not in contents_in(tmp_path)
    assert (await held(tmp_path, "LMN")).labels.keys() == {"L", "M"}
    async with open_cache(tmp_path) as cache:
        remembered = await cache.load(["L"])
        node = Node(cache, remembered)
        assert remembered.labels.keys() == {"L"}
        assert remembered.applied.keys() == {id_of("of-L"), id_of("of-M")}
        node.undeploy("of-M")
    assert (await held(tmp_path, "LMN")).labels.keys() == {"L"}
    assert contents_in(tmp_path) == {content("of-L")}


async def test_a_forgotten_label_that_is_followed_again_is_kept(tmp_path: Path) -> None:
    history = History()
    history.publish("menu")
    async with open_cache(tmp_path) as cache:
        node = Node(cache)
        node.take(history)
        assert await cache.flush()
        cache.forget("L")
        del node.logs["L"]
        node.take(history)
    assert same((await held(tmp_path)).labels["L"], node.logs["L"])


async def test_contents_go_when_nothing_refers_to_them(tmp_path: Path) -> None:
    history = History()
    history.publish("menu", "bread")
    async with open_cache(tmp_path) as cache:
        node = Node(cache)
        node.take(history)
        node.apply("L", "menu", "bread")
        assert await cache.flush()
        assert contents_in(tmp_path) == {content("menu"), content("bread")}

        node.hear(history, "menu", version=2)
        assert await cache.flush()
        assert content("menu") in contents_in(tmp_path), "it is still what the engine serves"

        node.apply("L", "menu", version=2)
        node.hear_removal(history, "bread")
        assert await cache.flush()
        assert contents_in(tmp_path) == {content("menu", 2), content("bread")}

        node.undeploy("bread")
        assert await cache.flush()
        assert contents_in(tmp_path) == {content("menu", 2)}


async def test_contents_that_an_entry_names_are_kept_before_they_are_applied(
    tmp_path: Path,
) -> None:
    history = History()
    history.publish("menu")
    stranger = content("stranger")
    async with open_cache(tmp_path) as cache:
        node = Node(cache)
        node.take(history)
        digest = digest_of(stranger)
        contents = {digests_of("menu")[0]: content("menu"), digest: stranger}
        cache.applied(node.applied, [], contents)
    assert contents_in(tmp_path) == {content("menu")}


async def test_bytes_that_two_artifacts_share_stay_as_long_as_one_needs_them(
    tmp_path: Path,
) -> None:
    async with open_cache(tmp_path) as cache:
        node = Node(cache)
        node.apply("L", "menu")
        twin = msgspec.structs.replace(entry("menu"), api_id="twin")
        node.applied["twin"] = Wanted("L", twin)
        cache.applied(node.applied, ["twin"], {})
        assert await cache.flush()
        node.undeploy("menu")
        assert await cache.flush()
        assert contents_in(tmp_path) == {content("menu")}
        del node.applied["twin"]
        cache.applied(node.applied, ["twin"], {})
        assert await cache.flush()
        assert contents_in(tmp_path) == set()


async def test_a_start_that_changes_nothing_writes_nothing(tmp_path: Path) -> None:
    history = History()
    history.publish("menu", "bread")
    async with open_cache(tmp_path) as cache:
        node = Node(cache)
        node.take(history)
        node.apply("L", "menu", "bread")
    async with open_cache(tmp_path) as cache:
        node = Node(cache, await cache.load(["L"]))
        log = node.logs["L"]
        cache.follow(log, log.touched)
        node.apply("L", "menu", keep=False)
        assert await cache.flush()
        assert cache.counts.writes == 0
        node.hear(history, "menu", version=2)
        node.apply("L", "menu", version=2)
        assert await cache.flush()
        assert cache.counts.writes == 1
        node.apply("L", "menu")
        assert await cache.flush()
        node.undeploy("bread")
    remembered = await held(tmp_path)
    assert same(remembered.labels["L"], log)
    assert remembered.applied == {id_of("menu"): Wanted("L", entry("menu"))}


async def test_what_is_told_again_is_not_written_again(tmp_path: Path) -> None:
    history = History()
    history.publish("menu")
    async with open_cache(tmp_path) as cache:
        node = Node(cache)
        node.take(history)
        node.apply("L", "menu")
        assert await cache.flush()
        before = rows_in(tmp_path)
        for _ in range(3):
            cache.follow(node.logs["L"], [id_of("menu")])
            node.apply("L", "menu")
            assert await cache.flush()
        assert rows_in(tmp_path) == before


async def test_a_start_whose_first_write_fails_writes_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = History()
    history.publish("menu", "bread")
    async with open_cache(tmp_path) as cache:
        node = Node(cache)
        node.take(history)
        node.apply("L", "menu", "bread")
    async with open_cache(tmp_path) as cache:
        node = Node(cache, await cache.load(["L"]))
        cache.follow(node.logs["L"], node.logs["L"].touched)
        del node.applied[id_of("bread")]  # it comes back a moment later
        node.undeploy("menu")
        with monkeypatch.context() as patch:
            patch.setattr(cache._file, "write", no_room)
            assert not await cache.flush()
        assert await cache.flush()
        node.apply("L", "bread")
    assert (await held(tmp_path)).applied == {id_of("bread"): Wanted("L", entry("bread"))}


def no_room(_batch: object) -> list[str]:
    raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_batch_is_one_moment_and_costs_what_was_touched(tmp_path: Path) -> None:
    history = History()
    history.publish(*(f"menu-{number}" for number in range(100)))
    pending = cache_pending.Pending(lambda _: None)
    log = LabelLog("L")
    log.take_list(history.head, history.entries, continues=True)
    pending.follow(log, log.touched)
    first = pending.take()
    assert first.labels[0].whole
    assert first.labels[0].entries == history.entries
    pending.written([])
    log.offer_change_set(history.publish("menu-7", version=2))
    pending.follow(log, [id_of("menu-7")])
    log.offer_change_set(history.publish("bread"))  # told of a moment later
    [part] = pending.take().labels
    assert not part.whole
    assert part.entries == {id_of("menu-7"): entry("menu-7", 2, revision=2)}
    assert part.state == log.state()
    pending.written([])
    pending.follow(log, [id_of("bread")])
    [part] = pending.take().labels
    assert part.entries == {id_of("bread"): entry("bread", revision=3)}


async def test_changes_that_come_while_a_batch_is_written_are_in_the_next(tmp_path: Path) -> None:
    history = History()
    pending = cache_pending.Pending(lambda _: None)
    log = LabelLog("L")
    log.take_list(history.head, history.entries, continues=True)
    pending.follow(log, [])
    applied: dict[str, Wanted] = {}
    pending.applied(applied, [], {})
    pending.take()
    log.offer_change_set(history.publish("menu"))
    pending.follow(log, [id_of("menu")])
    applied[id_of("menu")] = Wanted("L", entry("menu"))
    pending.applied(applied, [id_of("menu")], {})
    pending.written([])
    assert pending.dirty
    batch = pending.take()
    assert batch.labels[0].entries == history.entries
    assert batch.applied == applied
    pending.written([])
    assert not pending.dirty


async def test_what_a_start_holds_is_written_once_it_is_over(tmp_path: Path) -> None:
    history = History()
    history.publish("menu")
    async with open_cache(tmp_path, interval=0.01) as cache:
        node = Node(cache)
        cache.hold()
        node.take(history)
        async with asyncio.timeout(60):
            assert await cache.flush(), "a flush waits for nothing"
            assert cache.counts.writes == 1
            history.publish("bread")
            node.take(history)
            cache.release()
            while cache.counts.writes < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
    assert (await held(tmp_path)).labels["L"].entries.keys() == {id_of("menu"), id_of("bread")}


async def test_writes_follow_by_themselves_and_many_changes_share_one(tmp_path: Path) -> None:
    history = History()
    async with open_cache(tmp_path, interval=0.01) as cache:
        node = Node(cache)
        node.take(history)
        for number in range(50):
            node.hear(history, f"menu-{number}")
        async with asyncio.timeout(10):
            while not cache.counts.writes:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        assert cache.counts.writes == 1


async def test_the_event_loop_does_not_wait_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = threading.Event()
    async with open_cache(tmp_path) as cache:
        write = cache._file.write

        def slowly(*arguments: object) -> list[str]:
            assert disk.wait(10)
            return write(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(cache._file, "write", slowly)
        node = Node(cache)
        flushed = asyncio.create_task(cache.flush())
        node.apply("L", "menu")
        await asyncio.sleep(0)
        node.apply("L", "bread")  # nothing here waits
        assert not flushed.done()
        disk.set()
        assert await flushed
    assert (await held(tmp_path)).applied == node.applied


async def test_bytes_that_find_no_room_are_asked_of_the_engine_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_pending, "PENDING_BYTES", 2 * len(content("menu-0")))
    monkeypatch.setattr(cache_pending, "SERVED_BYTES", 1)  # so that each takes a turn of its own
    names = [f"menu-{number}" for number in range(6)]
    async with open_cache(tmp_path, served=lambda api_id: node.serves[api_id]) as cache:
        node = Node(cache)
        node.apply("L", *names)
        assert cache.counts.dropped == 4
        assert await cache.flush()
        assert contents_in(tmp_path) == {content(name) for name in names}
        assert cache.counts.writes == 5


async def test_bytes_that_the_engine_changed_are_not_kept(tmp_path: Path) -> None:
    async with open_cache(tmp_path, served=lambda _: b"edited by hand") as cache:
        Node(cache).apply("L", "menu", keep=False)
        assert await cache.flush()
        assert contents_in(tmp_path) == set()


async def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        async with open_cache(tmp_path / "cache") as cache:
            Node(cache).apply("L", "menu")
            assert await cache.flush()
            modes = {
                each.name: each.stat().st_mode & 0o777 for each in cache._file.path.parent.iterdir()
            }
    finally:
        os.umask(mask)
    assert modes == dict.fromkeys(["lock", "cache.db", "cache.db-wal", "cache.db-shm"], 0o600)
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


async def test_any_name_can_be_kept(tmp_path: Path) -> None:
    history = History("Café\0 'L' ☕")
    log = LabelLog(history.label)
    strange = msgspec.structs.replace(entry("menu"), api_id="a\0b ☕ 'x'")
    history.entries[strange.api_id] = strange
    log.take_list(history.head, history.entries, continues=True)
    async with open_cache(tmp_path) as cache:
        cache.follow(log, log.touched)
        cache.applied({strange.api_id: Wanted(history.label, strange)}, [strange.api_id], {})
    remembered = await held(tmp_path, [history.label])
    assert same(remembered.labels[history.label], log)
    assert remembered.applied == {strange.api_id: Wanted(history.label, strange)}


async def test_an_entry_that_a_label_and_the_engine_hold_is_one_in_memory(tmp_path: Path) -> None:
    history = History()
    history.publish("menu")
    async with open_cache(tmp_path) as cache:
        node = Node(cache)
        node.take(history)
        node.apply("L", "menu")
    remembered = await held(tmp_path)
    mine: Entry = remembered.labels["L"].entries[id_of("menu")]
    assert remembered.applied[id_of("menu")].entry is mine

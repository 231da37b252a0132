"""The tree in a share: kept by one publisher, taken over by another, its files proved."""

import uuid
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from gatesync.artifacts.changes import Entry
from gatesync.artifacts.model import Artifact
from gatesync.artifacts.planning import Publish, Remove
from gatesync.stores.share_keeper import SILENT_SECONDS, ShareKeeper
from gatesync.stores.share_source import ShareSource
from gatesync.stores.share_state import open_state
from gatesync.stores.share_store import ShareStore
from gatesync.stores.share_tree import winners
from gatesync.stores.store import SaveOutcome, StoreError
from tests.contracts.saves import asked
from tests.stores.share.making import Interrupter, KilledError, made_share
from tests.trees.making import CONFIGS, artifact, deployable, files_in, files_wanted, menu, part

pytestmark = pytest.mark.fast

VERIFY = 30.0
API = f"{CONFIGS}/api/admin--Menu_v1.0.0.xml"


class Publisher:
    """A publisher that keeps the share when it is told to look, with a clock of its own."""

    def __init__(self, store: ShareStore, source: ShareSource) -> None:
        self.store = store
        self.source = source
        self.now = 0.0
        self.hook = Interrupter()
        self.keeper = ShareKeeper(store, source, clock=lambda: self.now, step=self.hook)

    async def publish(self, *artifacts: Artifact, label: str = "Shop") -> None:
        await self._save(label, [put(each) for each in artifacts])

    async def remove(self, *artifacts: Artifact, label: str = "Shop") -> None:
        await self._save(label, [Remove(each.api_id) for each in artifacts])

    async def check(self, later: float = 0.0) -> None:
        self.now += later
        await self.keeper.check()

    async def _save(self, label: str, items: "list[Publish] | list[Remove]") -> None:
        [answer] = await self.store.save([asked(label, items)])
        assert isinstance(answer, SaveOutcome), answer


def put(made: Artifact) -> Publish:
    found = deployable(made)
    return Publish(found.entry, found.content, ())


class Share:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "share"
        self.tree = self.path / "repository"
        self._folder = folder
        self._stack = ExitStack()
        folder.mkdir(exist_ok=True)
        made_share(self.path)

    def publisher(self, name: str = "", *labels: str) -> Publisher:
        """Another one, on another host: a name that is known already is a restart."""
        source = ShareSource(
            path=self.path,
            state=self._folder / (name or uuid.uuid4().hex),
            labels=labels or ("Shop", "Cafe"),
            holder=name,
            verify_seconds=VERIFY,
        )
        stack = ExitStack() if name else self._stack
        with stack:
            state = stack.enter_context(open_state(source))
            state.know(state.known_epoch)
            return Publisher(ShareStore(source, state, chance=lambda: 0.0), source)


@pytest.fixture
def share(folder: Path) -> Share:
    return Share(folder)


@pytest.fixture
async def one(share: Share) -> AsyncIterator[Publisher]:
    publisher = share.publisher()
    yield publisher
    await publisher.keeper.release()


async def test_the_tree_has_what_the_labels_hold(share: Share, one: Publisher) -> None:
    tenant = artifact("Bill", part("sequences/Bill.xml", "<b/>"), tenant="a.example")
    await one.publish(menu("1"), tenant)
    await one.check()
    assert files_in(share.tree) == files_wanted(menu("1"), tenant)
    assert "tenants/a.example/synapse-configs/default/sequences/Bill.xml" in files_in(share.tree)
    await one.publish(menu("2"))
    await one.remove(tenant)
    await one.check()
    assert files_in(share.tree) == files_wanted(menu("2"))
    await one.remove(menu())
    await one.check()
    assert files_in(share.tree) == {}


async def test_of_two_labels_the_first_one_wins(share: Share, one: Publisher) -> None:
    await one.publish(menu("cafe"), menu("cafe", "Bill"), label="Cafe")
    await one.publish(menu("shop"), label="Shop")
    await one.check()
    assert files_in(share.tree) == files_wanted(menu("shop"), menu("cafe", "Bill"))
    await one.remove(menu())
    await one.check()
    assert files_in(share.tree) == files_wanted(menu("cafe"), menu("cafe", "Bill"))


def entry(name: str, api_id: str, context: str = "") -> Entry:
    return Entry(api_id, "t", "api", name, "1", context, "0" * 64, 1)


def test_precedence_is_by_id_by_name_and_by_route() -> None:
    shop = [entry("A", "1", "/a"), entry("B", "2", "/b")]
    cafe = [entry("X", "1", "/x"), entry("B", "3", "/y"), entry("C", "4", "/a"), entry("D", "5")]
    found = winners({"Shop": shop, "Cafe": cafe})
    assert {key: each.label for key, each in found.items()} == {
        "1": "Shop",
        "2": "Shop",
        "5": "Cafe",
    }


async def test_what_people_change_is_put_right_at_the_next_look_at_every_file(
    share: Share, one: Publisher
) -> None:
    await one.publish(menu("1"), menu("1", "Bill"))
    await one.check()
    (share.tree / API).write_text("edited")
    (share.tree / f"{CONFIGS}/sequences/Menu--v1.0.0--In.xml").unlink()
    await one.check()
    assert (share.tree / API).read_text() == "edited"
    await one.check(VERIFY)
    assert files_in(share.tree) == files_wanted(menu("1"), menu("1", "Bill"))


async def test_files_of_others_are_left_alone_and_hold_up_only_who_wants_their_place(
    share: Share, one: Publisher
) -> None:
    (share.tree / API).parent.mkdir(parents=True)
    (share.tree / API).write_text("mine")
    others = {API: b"mine"}
    for name in (".nfs0000001", "Menu.xml~", ".Menu.xml.swp", "Theirs.xml"):
        (share.tree / API).with_name(name).write_text("mine")
        others[f"{CONFIGS}/api/{name}"] = b"mine"
    await one.publish(menu("1"), menu("1", "Bill"))
    await one.check()
    assert files_in(share.tree) == others | files_wanted(menu("1", "Bill"))
    assert "gatesync did not write this file" in one.keeper.refused[menu().api_id]
    assert one.keeper.said().startswith("1 of 2 artifacts are not there: ")
    (share.tree / API).unlink()
    del others[API]
    await one.check(VERIFY)
    assert files_in(share.tree) == others | files_wanted(menu("1", "Bill"), menu("1"))
    assert one.keeper.refused == {}
    assert one.keeper.said() == "good, 2 artifacts"


async def test_nobody_else_keeps_it_until_its_holder_is_silent(
    share: Share, one: Publisher
) -> None:
    other = share.publisher()
    await one.check()
    await other.check()
    assert other.keeper.said() == "kept by publisher"
    await other.publish(menu("1"))  # who does not keep the tree publishes all the same
    assert (one.keeper.holds, other.keeper.holds) == (True, False)
    assert files_in(share.tree) == {}
    await one.check()
    assert files_in(share.tree) == files_wanted(menu("1"))
    await other.check(SILENT_SECONDS - 1)
    assert not other.keeper.holds
    lease = one.store.known.manifest.next_lease
    one.store.files.write(f"holder.{lease}", b"a sign of life")
    await other.check(1)
    assert not other.keeper.holds
    await other.check(SILENT_SECONDS)
    assert other.keeper.holds
    await one.check()
    assert not one.keeper.holds
    assert other.store.known.manifest.next_lease == lease + 1


async def test_who_stops_in_order_is_followed_at_once(share: Share, one: Publisher) -> None:
    other = share.publisher()
    await one.check()
    await one.keeper.release()
    await other.check()
    assert other.keeper.holds


async def test_the_next_one_knows_which_files_are_ours_and_which_were_changed(
    share: Share, one: Publisher
) -> None:
    """It has nothing of the first one but the share: the log's contents prove the files."""
    await one.publish(menu("1"), menu("1", "Bill"), menu("1", "Gone"))
    await one.check()
    await one.keeper.release()
    other = share.publisher()
    await other.publish(menu("2"))  # while nobody keeps the tree
    await other.remove(menu(name="Gone"))
    bill = share.tree / f"{CONFIGS}/api/admin--Bill_v1.0.0.xml"
    bill.write_text("edited")
    new = share.tree / f"{CONFIGS}/api/admin--New_v1.0.0.xml"
    new.write_text("mine")
    await other.publish(menu("1", "New"))
    await other.check()
    await other.check(VERIFY)
    assert files_in(share.tree) == {
        f"{CONFIGS}/api/{new.name}": b"mine",
        **files_wanted(menu("2"), menu("1", "Bill")),
    }
    assert list(other.keeper.refused) == [menu(name="New").api_id]


@pytest.mark.parametrize("restarted", [True, False])
async def test_whoever_is_killed_at_whichever_step_leaves_whole_files_that_the_next_one_knows(
    folder: Path, restarted: bool
) -> None:
    """Three artifacts change places: one comes, one is edited, one goes."""
    at, done = 0, False
    while not done:
        share = Share(folder / str(at))
        first = share.publisher("first")
        await first.publish(menu("1"), menu("1", "Gone"))
        await first.check()
        await first.publish(menu("2"), menu("1", "New"))
        await first.remove(menu(name="Gone"))
        first.hook.steps.clear()
        first.hook.at = at
        before = files_wanted(menu("1"), menu("1", "Gone"))
        after = files_wanted(menu("2"), menu("1", "New"))
        try:
            await first.check()
            done = True
        except KilledError:
            seen = {k: v for k, v in files_in(share.tree).items() if "/.gatesync-" not in k}
            assert seen.items() <= before.items() | after.items()
        next_one = share.publisher("first" if restarted else "second")
        await next_one.check()
        await next_one.check(SILENT_SECONDS)
        assert next_one.keeper.holds
        assert next_one.keeper.refused == {}
        assert files_in(share.tree) == after, first.hook.steps[at:]
        at += 1
    assert at > 15


@pytest.mark.promise(6)
async def test_a_mount_that_is_gone_keeps_the_tree_as_it_was(
    share: Share, one: Publisher, folder: Path
) -> None:
    await one.publish(menu("1"))
    await one.check()
    away = share.path.rename(folder / "away")
    share.path.mkdir()
    with pytest.raises(StoreError, match="is not there"):
        await one.check(VERIFY)
    assert list(share.path.iterdir()) == []
    share.path.rmdir()
    away.rename(share.path)
    await one.publish(menu("2"))
    await one.check(VERIFY)
    assert files_in(share.tree) == files_wanted(menu("2"))


async def test_where_others_write_the_tree_gatesync_does_not(folder: Path) -> None:
    share = Share(folder)
    publisher = share.publisher()
    publisher.source = msgspec.structs.replace(publisher.source, adopt=True)
    publisher.keeper = ShareKeeper(publisher.store, publisher.source)
    await publisher.publish(menu("1"))
    await publisher.check()
    assert publisher.keeper.holds
    assert files_in(share.tree) == {}

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gatesync.artifacts import canonical
from gatesync.artifacts.changes import ChangeSet, Entry, Instruction
from gatesync.artifacts.description import describe
from gatesync.artifacts.entries import entry_of
from gatesync.artifacts.errors import FormatError
from gatesync.artifacts.planning import Publish, SaveRequest
from gatesync.artifacts.synapse import artifact_from_xml
from gatesync.mirroring.adopter import Adopter, Stamp
from gatesync.mirroring.adopting import is_in_place
from gatesync.mirroring.scanning import SourceGoneError
from gatesync.stores.memory import MemoryStore
from gatesync.stores.store import Refused, SaveOutcome, StoreError, read_manifest
from tests.mirroring.trees import (
    CONFIGS,
    Watched,
    api,
    api_file,
    endpoint,
    endpoint_file,
    sequence,
    sequence_file,
)

pytestmark = pytest.mark.fast

LABEL, SECOND = "Production and Sandbox", "second"
ENDPOINT = "Menu--v1.0.0_APIproductionEndpoint"


class Place:
    """A tree that is adopted into labels of a store in memory."""

    def __init__(self, folder: Path, *labels: str, **more: Any) -> None:
        self.watched = Watched(folder, keep=is_in_place)
        self.labels = labels or (LABEL,)
        self.store = MemoryStore()
        self.commits: list[SaveRequest] = []
        self.record = folder / "adopted.json"
        self.more = more
        self.broken = ""
        self.opened()

    def opened(self) -> None:
        self.adopter = Adopter(
            self.watched.tree,
            self.store,
            self.commit,
            self.labels,
            self.record,
            stamp=Stamp("p1", "tree", "host-1"),
            in_thread=at_once,
            clock=self.watched.clock,
            **self.more,
        )

    def restart(self) -> None:
        self.watched.opened()
        self.opened()

    async def commit(self, request: SaveRequest) -> SaveOutcome | Refused:
        if self.broken:
            raise StoreError(self.broken)
        self.commits.append(request)
        return (await self.store.save([request]))[0]

    async def settle(self) -> None:
        """Steps, a moment apart, until there is nothing more to do."""
        for _ in range(6):
            self.watched.clock.now += 1
            await self.adopter.step()

    async def log(self, label: str = LABEL) -> list[ChangeSet]:
        return await self.store.change_sets(label, 0, 1000)

    async def held(self, label: str = LABEL) -> dict[str, Entry]:
        _, entries = await read_manifest(self.store, label)
        return {entry.name: entry for entry in entries.values()}

    async def content(self, name: str) -> dict[str, str]:
        """The files of an artifact that the label holds."""
        digest = (await self.held())[name].digest
        artifact = canonical.decode((await self.store.contents([digest]))[digest])
        return {part.path: part.content.decode() for part in artifact.parts}

    async def publish(self, text: str, file: str, **more: Any) -> Entry:
        """As somebody does with gatesync publish."""
        artifact = artifact_from_xml(text.encode(), file, **more)
        content = canonical.encode(artifact)
        description = describe(artifact)
        entry = entry_of(artifact, description.context, content)
        name = f"by hand {len(await self.log())}"
        item = Publish(entry, content, description.claims)
        request = SaveRequest(self.labels[:1], ((item,),), name, name, 0)
        assert isinstance((await self.store.save([request]))[0], SaveOutcome)
        return entry

    def write(self, path: str, content: str) -> None:
        self.watched.write(path, content)

    def remove(self, *paths: str) -> None:
        for path in paths:
            (self.watched.root / path).unlink()

    def menu(self, inside: str = "") -> None:
        self.write(api_file("Menu"), api("Menu", inside=inside))
        self.write(endpoint_file(ENDPOINT), endpoint(ENDPOINT))


async def at_once(work: Any, /, *args: Any, **kwargs: Any) -> Any:
    return work(*args, **kwargs)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    place.menu()
    for name in ("a", "b", "c"):
        place.write(sequence_file(name), sequence(name))
    return place


async def test_a_tree_becomes_one_change_set(place: Place) -> None:
    await place.settle()
    (change_set,) = await place.log()
    named = sorted((each.entry.kind, each.entry.name) for each in change_set.changes)
    sequences = [("sequence", name) for name in ("a", "b", "c")]
    assert named == [("api", "Menu"), *sequences]
    assert sorted(await place.content("Menu")) == [
        "api/admin--Menu_v1.0.0.xml",
        f"endpoints/{ENDPOINT}.xml",
    ]
    request = place.commits[0]
    assert (request.publisher, request.author, request.origin) == ("p1", "tree", "host-1")
    assert request.published_at > 0


async def test_what_is_settled_is_taken_over_once(place: Place) -> None:
    await place.settle()
    await place.settle()
    place.restart()
    await place.settle()
    assert len(place.commits) == 1
    assert place.adopter.status.artifacts == 4


async def test_one_edit_is_one_change_of_one_artifact(place: Place) -> None:
    await place.settle()
    place.write(endpoint_file(ENDPOINT), endpoint(ENDPOINT) + "\n")
    await place.settle()
    change = (await place.log())[-1].changes
    assert [each.entry.name for each in change] == ["Menu"]
    assert (await place.content("Menu"))[f"endpoints/{ENDPOINT}.xml"].endswith("\n")


async def test_what_was_changed_together_is_one_change_set(place: Place) -> None:
    await place.settle()
    place.menu("<log/>")
    place.write(sequence_file("new"), sequence("new"))
    place.remove(sequence_file("c"))
    await place.settle()
    assert len(await place.log()) == 2
    changes = {each.entry.name: each.instruction for each in (await place.log())[-1].changes}
    assert changes == {
        "Menu": Instruction.PUBLISH,
        "new": Instruction.PUBLISH,
        "c": Instruction.REMOVE,
    }


async def test_what_is_invalid_is_told_and_served_on_and_the_rest_goes_on(place: Place) -> None:
    await place.settle()
    before = await place.held()
    place.write(sequence_file("a"), "<sequence name='a'>\n</sequenc>")
    place.write(sequence_file("b"), sequence("b", "<log/>"))
    place.write(sequence_file("odd"), endpoint("odd"))
    await place.settle()
    after = await place.held()
    assert after["a"] == before["a"]
    assert after["b"] != before["b"]
    told = place.adopter.status.problems
    assert any(line.startswith(f"{sequence_file('a')}:2: not well-formed XML") for line in told)
    assert any("its root element makes it a endpoint" in line for line in told)
    place.write(sequence_file("a"), sequence("a", "<log/>"))
    place.remove(sequence_file("odd"))
    await place.settle()
    assert (await place.held())["a"] != before["a"]
    assert place.adopter.status.problems == ()


async def test_files_of_the_installation_are_never_published(place: Place) -> None:
    for file in ("sequences/main.xml", "registry.xml", "api/_OpenService_.xml"):
        place.write(f"{CONFIGS}/{file}", "<definitions/>")
    place.write("deployment/server/webapps/x.xml", sequence("x"))
    await place.settle()
    assert (await place.held()).keys() == {"Menu", "a", "b", "c"}
    assert place.adopter.status.problems == ()


async def test_other_tenants_and_policies_are_taken_over(place: Place) -> None:
    place.write("deployment/server/executionplans/gold.siddhi", "@Plan:name('gold')")
    place.write("tenants/1/synapse-configs/default/sequences/t.xml", sequence("t"))
    await place.settle()
    held = await place.held()
    assert (held["gold"].kind, held["t"].tenant) == ("policy", "1")


async def test_what_a_label_refuses_is_told_and_the_rest_goes_on(place: Place) -> None:
    await place.publish(api("Other", context="/menu/1.0.0"), "other.xml")
    await place.settle()
    assert {"a", "b", "c"} < (await place.held()).keys()
    assert "Menu" not in await place.held()
    assert "the context '/menu/1.0.0'" in str(place.adopter.status.problems)
    commits = len(place.commits)
    await place.settle()
    assert len(place.commits) == commits  # it is not tried again and again
    place.write(api_file("Menu"), api("Menu", context="/carte/1.0.0"))
    await place.settle()
    assert "Menu" in await place.held()


async def test_two_apis_of_one_context_are_refused_by_the_label(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.menu()
    await place.settle()
    place.remove(api_file("Menu"), endpoint_file(ENDPOINT))
    place.write(api_file("Carte"), api("Carte", context="/menu/1.0.0"))
    place.write(sequence_file("a"), sequence("a"))
    await place.settle()
    # Menu is all that there was: its removal waits, so its context is still its own.
    assert (await place.held()).keys() == {"Menu", "a"}
    assert any("/menu/1.0.0" in line for line in place.adopter.status.problems)
    assert "gone from the tree: 1, more than half" in place.adopter.status.waiting
    await place.store.confirm(LABEL, "yes")
    await place.settle()
    assert (await place.held()).keys() == {"Carte", "a"}
    assert (place.adopter.status.problems, place.adopter.status.waiting) == ((), "")


async def test_a_file_that_now_holds_what_is_refused_does_not_take_the_old_away(
    place: Place,
) -> None:
    await place.publish(api("Other", context="/carte/1.0.0"), "other.xml")
    await place.settle()
    place.write(api_file("Menu"), api("Carte", context="/carte/1.0.0"))
    await place.settle()
    assert "the context '/carte/1.0.0'" in str(place.adopter.status.problems)
    assert {"Menu", "Other"} < {name.removeprefix("admin--") for name in await place.held()}


# Removals ---------------------------------------------------------------------------------------


async def test_a_removed_file_removes_its_artifact(place: Place) -> None:
    await place.settle()
    place.remove(sequence_file("a"))
    await place.settle()
    assert (await place.held()).keys() == {"Menu", "b", "c"}
    place.write(sequence_file("a"), sequence("a"))
    await place.settle()
    assert "a" in await place.held()


@pytest.mark.promise(6)
async def test_what_never_lay_in_the_tree_is_not_removed_by_it(place: Place) -> None:
    await place.publish(sequence("by-hand"), "by-hand.xml")
    await place.settle()
    place.remove(sequence_file("a"))
    await place.settle()
    assert "by-hand" in await place.held()


@pytest.mark.promise(6)
@pytest.mark.parametrize("how", ["unmounted", "gone", "emptied"])
async def test_a_tree_that_goes_away_removes_nothing(
    place: Place, tmp_path: Path, how: str
) -> None:
    await place.settle()
    before = await place.held()
    away = tmp_path / "away"
    place.watched.root.rename(away)
    if how == "gone":
        with pytest.raises(SourceGoneError):
            await place.adopter.step()
    else:
        place.watched.root.mkdir()
        if how == "emptied":
            (place.watched.root / CONFIGS / "sequences").mkdir(parents=True)
        await place.settle()
        assert "gone from the tree" in place.adopter.status.waiting
        place.restart()
        await place.settle()
    assert await place.held() == before
    if how != "gone":
        shutil.rmtree(place.watched.root)
    away.rename(place.watched.root)
    await place.settle()
    assert await place.held() == before
    assert place.adopter.status.waiting == ""
    assert len(place.commits) == 1


@pytest.mark.promise(6)
async def test_more_than_half_waits_until_the_label_is_confirmed(place: Place) -> None:
    await place.settle()
    await place.store.confirm(LABEL, "long ago")
    await place.settle()
    place.remove(*(sequence_file(name) for name in "abc"))
    place.menu("<log/>")
    await place.settle()
    assert len(await place.held()) == 4
    assert place.adopter.status.waiting
    assert len(place.commits) == 2  # what was changed went on
    await place.store.confirm(LABEL, "now")
    await place.settle()
    assert (await place.held()).keys() == {"Menu"}
    assert place.adopter.status.waiting == ""


@pytest.mark.promise(6)
async def test_what_was_published_otherwise_is_not_removed(place: Place) -> None:
    await place.settle()
    await place.publish(sequence("a", "<pop/>"), "a.xml")
    place.remove(sequence_file("a"))
    await place.settle()
    assert "a" in await place.held()
    (line,) = place.adopter.status.problems
    assert "was published otherwise since; remove it there" in line


async def test_what_is_published_or_rolled_back_stands_until_the_file_changes(
    place: Place,
) -> None:
    await place.settle()
    entry = await place.publish(sequence("a", "<pop/>"), "a.xml")
    await place.settle()
    assert (await place.held())["a"].digest == entry.digest
    place.write(sequence_file("a"), sequence("a", "<log/>"))
    await place.settle()
    assert "<log/>" in (await place.content("a"))["sequences/a.xml"]


async def test_the_id_of_what_was_published_before_stays(place: Place) -> None:
    held = await place.publish(
        sequence("a"), "a.xml", api_id="8c7ad5a4-95e0-4fb0-b4a4-0d1dd30ea3f0"
    )
    await place.settle()
    now = (await place.held())["a"]
    assert (now.digest, now.revision) == (held.digest, 1)
    place.write(sequence_file("a"), sequence("a", "<log/>"))
    await place.settle()
    assert (await place.held())["a"].api_id == held.api_id


# Several labels, several publishers, a store that fails -----------------------------------------


async def test_what_is_new_goes_to_the_first_label_and_what_is_known_where_it_is(
    tmp_path: Path,
) -> None:
    place = Place(tmp_path, LABEL, SECOND)
    place.labels = (SECOND,)
    await place.publish(sequence("a", "<pop/>"), "a.xml")
    place.labels = (LABEL, SECOND)
    place.write(sequence_file("a"), sequence("a"))
    place.write(sequence_file("b"), sequence("b"))
    await place.settle()
    assert (await place.held(LABEL)).keys() == {"b"}
    assert (await place.held(SECOND)).keys() == {"a"}
    assert "<pop/>" not in str(await place.log(SECOND))


async def test_of_several_publishers_one_takes_over_and_another_can_go_on(tmp_path: Path) -> None:
    leading: list[bool] = [False]

    async def leads() -> bool:
        return leading[0]

    place = Place(tmp_path, leads=leads)
    place.write(sequence_file("a"), sequence("a"))
    await place.settle()
    assert place.commits == []
    leading[0] = True
    await place.settle()
    assert (await place.held()).keys() == {"a"}


async def test_who_does_not_lead_knows_what_the_other_took_over(tmp_path: Path) -> None:
    """So what is rolled back after that stands, also when this one goes on."""
    leading: list[bool] = [False]

    async def leads() -> bool:
        return leading[0]

    place = Place(tmp_path, leads=leads)
    place.write(sequence_file("a"), sequence("a"))
    place.write(sequence_file("b"), sequence("b"))
    await place.publish(sequence("a"), "a.xml")  # as the one that leads does
    await place.settle()
    before = await place.publish(sequence("a", "<pop/>"), "a.xml")
    leading[0] = True
    await place.settle()
    assert (await place.held())["a"].digest == before.digest
    assert "b" in await place.held()


async def test_a_store_that_fails_is_asked_again(place: Place) -> None:
    place.broken = "the database is away"
    with pytest.raises(StoreError):
        await place.settle()
    place.broken = ""
    await place.settle()
    assert len(await place.held()) == 4


async def test_run_tells_its_trouble_and_goes_on(place: Place, tmp_path: Path) -> None:
    waits: list[float] = []

    class Enough(Exception):
        pass

    async def wait(seconds: float) -> None:
        waits.append(seconds)
        place.watched.clock.now += seconds
        if len(waits) == 3:
            place.watched.root.rename(tmp_path / "away")
        if len(waits) == 4:
            assert "nothing removed, until it is back" in place.adopter.status.trouble
            (tmp_path / "away").rename(place.watched.root)
        if len(waits) == 6:
            raise Enough

    with pytest.raises(Enough):
        await place.adopter.run(1.0, wait)
    assert place.adopter.status.trouble == ""
    assert place.adopter.status.artifacts == 4
    assert waits[0] == place.watched.tree.moment


def test_a_list_of_what_was_adopted_that_is_damaged_is_refused_by_name(place: Place) -> None:
    place.record.write_text('{"format": "gatesync.adopted/9", "artifacts": []}')
    with pytest.raises(FormatError, match=r"adopted\.json is no list.*nothing is removed"):
        place.opened()


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("deployment/", True),
        ("deployment/server/", True),
        (f"{CONFIGS}/", True),
        (f"{CONFIGS}/api/a.xml", True),
        ("deployment/server/executionplans/p", True),
        ("tenants/", True),
        ("tenants/1/", True),
        ("tenants/1/synapse-configs/default/api/deep/a.xml", True),
        (f"{CONFIGS}/synapse.xml", False),
        ("deployment/server/webapps/", False),
        ("deployment/client/", False),
        ("database/", False),
        ("tenants/1/webapps/", False),
    ],
)
def test_only_where_artifacts_rest_is_looked_at(path: str, wanted: bool) -> None:
    assert is_in_place(path) is wanted

"""What people push is a change like any other: checked, told where it is not sound."""

import tracemalloc
from pathlib import Path

import pytest
from msgspec.structs import replace

from gatesync.artifacts.changes import ChangeSet, Instruction
from gatesync.artifacts.model import SUPER_TENANT, Identity
from gatesync.stores.git_layout import folder_of
from gatesync.stores.git_message import COMMIT_FORMAT, Note, SetNote, fingerprint, with_note
from gatesync.stores.git_retriever import GitRetriever, open_git_retriever
from gatesync.stores.store import SaveOutcome, StoreError, read_manifest
from tests.contracts.genuine import bytes_of, held, publish
from tests.contracts.saves import asked, id_of, refused, remove, saved
from tests.stores.git.bench import GitBench, git, opened, source_of
from tests.stores.git.people import Person

pytestmark = pytest.mark.fast


async def looked(bench: GitBench) -> dict[str, tuple[str, ...]]:
    """Look at the branch; what is not served of it."""
    await bench.store.nudge()
    return bench.store.problems()


async def everywhere(bench: GitBench, label: str, tmp_path: Path) -> None:
    """Who reads the branch from its beginning comes to the same as who has followed it."""
    expected = await bench.store.change_sets(label, 0, 1_000)
    heads = await bench.store.heads([label])
    problems = bench.store.problems()
    await bench.close()
    await bench.reopen_elsewhere(tmp_path / "another clone")
    assert await bench.store.change_sets(label, 0, 1_000) == expected
    assert await bench.store.heads([label]) == heads
    assert bench.store.problems() == problems


async def newest(bench: GitBench, label: str) -> ChangeSet:
    return (await bench.store.change_sets(label, 0, 1_000))[-1]


async def test_a_commit_by_hand_is_one_change_set(
    bench: GitBench, ann: Person, tmp_path: Path
) -> None:
    await saved(bench, asked("Shop", publish("Menu"), publish("Old")))
    ann.pull()
    ann.put("Shop", "Menu", "edited")
    ann.put("Shop", "New")
    ann.remove("Shop", "Old")
    (ann.folder / "README.md").write_text("ours")
    commit = ann.share()
    assert await looked(bench) == {}
    assert await held(bench, "Shop") == {"Menu": b"edited", "New": b"by hand"}
    change_set = await newest(bench, "Shop")
    assert [(c.instruction, c.entry.name) for c in change_set.changes] == [
        (Instruction.PUBLISH, "Menu"),
        (Instruction.PUBLISH, "New"),
        (Instruction.REMOVE, "Old"),
    ]
    [logged] = (await bench.store.history("New")).changes
    assert (logged.author, logged.publisher) == ("Ann", "")
    assert logged.origin == f"commit {commit[:12]} (ann@example.com)"
    await everywhere(bench, "Shop", tmp_path)


async def test_promotion_is_a_copy_of_a_folder(bench: GitBench, ann: Person) -> None:
    await saved(bench, asked("Test", publish("Menu", "ready")))
    ann.pull()
    ann.put("Production and Sandbox", "Menu", "ready")
    ann.share()
    await looked(bench)
    assert await held(bench, "Production and Sandbox") == {"Menu": b"ready"}
    test, production = await bench.store.labels(), await bench.store.heads(["Test"])
    assert {head.digest for head in test} == {production["Test"].digest}


async def test_of_a_merge_only_the_merge_counts(
    bench: GitBench, ann: Person, tmp_path: Path
) -> None:
    git(ann.folder, "switch", "--quiet", "-c", "side")
    ann.put("Shop", "Menu", "draft")
    ann.commit()
    ann.put("Shop", "Menu", "final")
    ann.put("Cafe", "Tea")
    ann.commit()
    git(ann.folder, "switch", "--quiet", "main")
    ann.put("Shop", "Bread")
    ann.commit()
    git(ann.folder, "merge", "--quiet", "--no-ff", "-m", "Merge side", "side")
    ann.push()
    await looked(bench)
    changes = [
        [change.entry.name for change in each.changes]
        for each in await bench.store.change_sets("Shop", 0, 10)
    ]
    assert changes == [["Bread"], ["Menu"]]
    assert await held(bench, "Shop") == {"Bread": b"by hand", "Menu": b"final"}
    assert (await newest(bench, "Cafe")).revision == (await newest(bench, "Shop")).revision
    await everywhere(bench, "Shop", tmp_path)


async def test_an_invalid_folder_is_told_and_the_others_go_on(
    bench: GitBench, ann: Person, tmp_path: Path
) -> None:
    await saved(bench, asked("Shop", publish("Menu", "good")))
    ann.pull()
    place = ann.put("Shop", "Menu", "bad")
    (place / "api" / "a.xml").write_text("<api")
    ann.put("Shop", "Bread")
    ann.share()
    problems = await looked(bench)
    [(where, [reason])] = problems.items()
    assert where == place.relative_to(ann.folder).as_posix()
    assert f"{where}/api/a.xml" in reason
    assert await held(bench, "Shop") == {"Menu": b"good", "Bread": b"by hand"}
    ann.put("Shop", "Menu", "mended")
    ann.share()
    assert await looked(bench) == {}
    assert (await held(bench, "Shop"))["Menu"] == b"mended"
    await everywhere(bench, "Shop", tmp_path)


async def test_a_publisher_mends_what_was_pushed_broken(bench: GitBench, ann: Person) -> None:
    (ann.put("Shop", "Menu") / "artifact.toml").write_text('format = "another"')
    ann.share()
    assert len(await looked(bench)) == 1
    assert await held(bench, "Shop") == {}
    await saved(bench, asked("Shop", publish("Menu", "mended")))
    assert bench.store.problems() == {}
    assert await held(bench, "Shop") == {"Menu": b"mended"}


async def test_a_folder_that_is_not_where_its_artifact_belongs_is_told(
    bench: GitBench, ann: Person
) -> None:
    ann.put("Shop", "Menu").parent.rename(ann.place("Shop", "Other").parent)
    ann.put("Bar", "Bread").parents[3].rename(ann.folder / "Cafe")
    ann.share()
    problems = await looked(bench)
    reasons = {where: " ".join(reasons) for where, reasons in problems.items()}
    assert len(reasons) == 2
    for where, reason in reasons.items():
        right = "Menu~1" if "Other" in where else "Cafe~1/carbon.super/api/Bread~1/1.0.0"
        assert right in reason


async def test_an_artifact_outside_of_the_layout_is_told_and_a_link_is_not_followed(
    bench: GitBench, ann: Person
) -> None:
    (ann.folder / "artifact.toml").write_text("")
    place = ann.put("Shop", "Menu")
    (place / "api" / "a.xml").unlink()
    (place / "api" / "a.xml").symlink_to("/etc/passwd")
    ann.share()
    problems = await looked(bench)
    assert set(problems) == {"artifact.toml", place.relative_to(ann.folder).as_posix()}
    assert "is a link" in problems[place.relative_to(ann.folder).as_posix()][0]
    assert await held(bench, "Shop") == {}
    (ann.folder / "artifact.toml").unlink()
    ann.remove("Shop", "Menu")
    ann.share()
    assert await looked(bench) == {}


async def test_what_others_need_or_claim_is_not_taken_from_them(
    bench: GitBench, ann: Person, tmp_path: Path
) -> None:
    both = [publish("Log", claims=["log"]), publish("Menu", needs=["log"])]
    await saved(bench, asked("Shop", *both))
    ann.pull()
    ann.put("Shop", "Thief", claims=["log"])
    ann.put("Shop", "Needy", needs=["nothing"])
    ann.put("Shop", "Good")
    ann.share()
    problems = await looked(bench)
    assert {where.split("/")[3] for where in problems} == {"Needy~1", "Thief~1"}, problems
    assert set(await held(bench, "Shop")) >= {"Good", "Menu"}
    await everywhere(bench, "Shop", tmp_path)


async def test_what_was_refused_for_another_counts_when_that_is_gone(
    bench: GitBench, ann: Person, tmp_path: Path
) -> None:
    both = [publish("Log", claims=["log"]), publish("Menu", needs=["log"])]
    await saved(bench, asked("Shop", *both))
    ann.pull()
    ann.remove("Shop", "Log")
    ann.share()
    [reasons] = (await looked(bench)).values()
    assert "api Menu 1.0.0" in reasons[0]
    assert set(await held(bench, "Shop")) == {"Log", "Menu"}
    ann.put("Shop", "Menu", "needs nothing")
    ann.share()
    assert await looked(bench) == {}
    assert set(await held(bench, "Shop")) == {"Menu"}
    await everywhere(bench, "Shop", tmp_path)


async def test_a_publisher_takes_away_what_people_could_not(
    bench: GitBench, ann: Person, tmp_path: Path
) -> None:
    """The branch has nothing to change there: the commit says so."""
    both = [publish("Log", claims=["log"]), publish("Menu", needs=["log"])]
    await saved(bench, asked("Shop", *both))
    ann.pull()
    ann.remove("Shop", "Log")
    ann.share()
    await looked(bench)
    await saved(bench, asked("Shop", remove("Log"), force=True))
    assert set(await held(bench, "Shop")) == {"Menu"}
    await everywhere(bench, "Shop", tmp_path)


async def test_a_publisher_knows_what_people_claim_and_need(bench: GitBench, ann: Person) -> None:
    ann.put("Shop", "Log", claims=["log"])
    ann.put("Shop", "Menu", needs=["log"])
    ann.share()
    await looked(bench)
    await refused(bench, asked("Shop", remove("Log")))
    answer = await refused(bench, asked("Shop", publish("Other", claims=["log"])))
    assert "api Log 1.0.0" in answer.reasons[0]


async def test_a_publishers_commit_that_was_taken_elsewhere_is_a_persons(
    bench: GitBench, ann: Person, tmp_path: Path
) -> None:
    request = asked("Shop", publish("Menu", "one"))
    await saved(bench, request)
    ann.pull()
    first = git(ann.folder, "rev-parse", "HEAD").strip()
    ann.remove("Shop", "Menu")
    ann.share()
    git(ann.folder, "cherry-pick", first)
    ann.push()
    await looked(bench)
    assert await held(bench, "Shop") == {"Menu": b"one"}
    assert (await newest(bench, "Shop")).publisher == ""
    [again] = await bench.store.save([request])
    assert isinstance(again, SaveOutcome)
    assert again.repeated
    assert len(again.change_sets) == 1
    await everywhere(bench, "Shop", tmp_path)


MENU = folder_of("Shop", Identity(SUPER_TENANT, "api", "Menu", "1.0.0"))


@pytest.mark.parametrize(
    "sets",
    [
        (SetNote("Shop"), SetNote("Shop")),
        (SetNote("Shop"), SetNote("Cafe", standing=(MENU,))),
        (SetNote("Shop", renewed=("nobody's",)),),
    ],
    ids=["a label twice", "another's folder", "no folder"],
)
async def test_a_note_that_makes_no_sense_is_a_persons_commit_and_no_end(
    bench: GitBench, ann: Person, tmp_path: Path, sets: tuple[SetNote, ...]
) -> None:
    await saved(bench, asked(["Shop", "Cafe"], publish("Menu"), publish("Old")))
    ann.pull()
    ann.remove("Shop", "Old")
    base = git(ann.folder, "rev-parse", "HEAD").strip()
    gone = folder_of("Shop", Identity(SUPER_TENANT, "api", "Old", "1.0.0"))
    files = fingerprint({gone: ()})
    ann.share(with_note("Nothing", Note(COMMIT_FORMAT, base=base, sets=sets, files=files)))
    assert await looked(bench) == {}
    assert set(await held(bench, "Shop")) == {"Menu"}
    [by_hand] = [each for each in (await bench.store.history("Old")).changes if each.origin]
    assert (by_hand.label, by_hand.author) == ("Shop", "Ann")
    ann.put("Shop", "New")
    ann.share()
    assert await looked(bench) == {}
    assert set(await held(bench, "Shop")) == {"Menu", "New"}
    assert set(await held(bench, "Cafe")) == {"Menu", "Old"}
    await everywhere(bench, "Shop", tmp_path)


async def test_files_that_are_too_large_are_told_without_being_read(
    bench: GitBench, ann: Person
) -> None:
    for name, sizes in {"Huge": [60], "Many": [10] * 5}.items():
        place = ann.put("Shop", name)
        for number, size in enumerate(sizes):
            (place / "sequence").mkdir(exist_ok=True)
            (place / "sequence" / f"{number}.xml").write_bytes(bytes(size * 1024 * 1024))
    ann.put("Shop", "New")
    ann.share()
    tracemalloc.start()
    try:
        problems = await looked(bench)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 45 * 1024 * 1024
    assert [reasons[0].partition(": ")[2] for reasons in problems.values()] == [
        "its files are too large; an artifact has at most 15728640 bytes"
    ] * 2
    assert set(await held(bench, "Shop")) == {"New"}


async def test_a_branch_that_people_began_has_an_epoch_of_its_own(url: str, tmp_path: Path) -> None:
    ann = Person(url, tmp_path / "ann")
    ann.put("Shop", "Menu")
    ann.share()
    async with opened(source_of(url, tmp_path / "one")) as bench:
        epoch, heads = bench.store.epoch, await bench.store.labels()
        assert [head.label for head in heads] == ["Shop"]
        await bench.reopen_elsewhere(tmp_path / "two")
        assert (bench.store.epoch, await bench.store.labels()) == (epoch, heads)


async def test_other_files_of_a_repository_are_nobodys_business(
    bench: GitBench, ann: Person, tmp_path: Path
) -> None:
    deep = ann.folder / "docs" / "a" / "b" / "c" / "d" / "e"
    deep.mkdir(parents=True)
    (deep / "notes.txt").write_text("ours")
    (ann.folder / ".github").mkdir()
    (ann.folder / ".github" / "CODEOWNERS").write_text("* @ann")
    ann.share()
    assert await looked(bench) == {}
    assert await bench.store.labels() == []
    place = ann.put("Shop", "Menu")
    ann.share()
    await looked(bench)
    (place / "artifact.toml").unlink()
    ann.share()
    [[reason]] = (await looked(bench)).values()
    assert "artifact.toml: is missing" in reason
    assert set(await held(bench, "Shop")) == {"Menu"}
    await everywhere(bench, "Shop", tmp_path)


async def test_only_the_folder_that_is_named_counts(url: str, tmp_path: Path) -> None:
    ann = Person(url, tmp_path / "ann")
    ann.put("Shop", "Outside")
    ann.share()
    source = replace(source_of(url, tmp_path / "clone"), path="apis/all [1]")
    async with opened(source) as bench:
        await saved(bench, asked("Shop", publish("Menu"), publish("Bread")))
        ann.pull()
        inside = ann.folder / "apis" / "all [1]"
        assert (inside / "Shop~1").is_dir()
        ann.place("Shop", "Outside").rename(inside / "Shop~1/carbon.super/api/Outside~1")
        ann.share()
        [(where, _)] = (await looked(bench)).items()
        assert where == "Shop~1/carbon.super/api/Outside~1/artifact.toml"
        assert set(await held(bench, "Shop")) == {"Menu", "Bread"}
        await bench.reopen_elsewhere(tmp_path / "another")
        assert set(await held(bench, "Shop")) == {"Menu", "Bread"}


async def test_a_gateway_reads_what_people_push(
    bench: GitBench, ann: Person, url: str, tmp_path: Path
) -> None:
    told: list[str] = []
    async with open_git_retriever(source_of(url, tmp_path / "gateway")) as retriever:
        retriever.on_moved(lambda: told.append("moved"))
        assert isinstance(retriever, GitRetriever)
        heads = await retriever.heads(["Shop"])
        assert heads["Shop"].revision == 0
        ann.put("Shop", "Menu", "fresh")
        ann.share()
        await retriever.nudge()
        assert told == ["moved", "moved"]
        head, entries = await read_manifest(retriever, "Shop")
        contents = await retriever.contents([each.digest for each in entries.values()])
        assert [bytes_of(each) for each in contents.values()] == [b"fresh"]
        assert set(entries) == {id_of("Menu")}
        await bench.store.nudge()
        assert (await bench.store.heads(["Shop"]))["Shop"] == head


async def test_a_branch_that_is_gone_removes_nothing(bench: GitBench, ann: Person) -> None:
    await saved(bench, asked("Shop", publish("Menu")))
    git(ann.folder, "push", "--quiet", "origin", "--delete", "main")
    with pytest.raises(StoreError, match="is gone"):
        await bench.store.nudge()
    with pytest.raises(StoreError, match="is gone"):
        await bench.store.heads(["Shop"])

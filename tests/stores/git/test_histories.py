"""A branch whose history was rewritten is another epoch, the same for everybody (promise 6)."""

from pathlib import Path

import pytest

from gatesync.artifacts.changes import Cursor
from gatesync.stores.git_retriever import GitRetriever, open_git_retriever
from gatesync.stores.store import Behind, TooOld
from tests.contracts.genuine import held, publish
from tests.contracts.saves import asked, saved
from tests.stores.git.bench import GitBench, git, opened, source_of
from tests.stores.git.people import Person

pytestmark = [pytest.mark.fast, pytest.mark.promise(6)]


async def rewritten(bench: GitBench, ann: Person, *witnesses: GitRetriever) -> Cursor:
    """Ann takes the last commit off the branch and puts another; where the label stood before."""
    await saved(bench, asked("Shop", publish("Menu", "1")), asked("Shop", publish("Lost")))
    ann.pull()
    git(ann.folder, "reset", "--quiet", "--hard", "HEAD~1")
    ann.put("Shop", "Other")
    ann.commit()
    known = (await bench.store.heads(["Shop"]))["Shop"].cursor
    for each in witnesses:
        await each.nudge()
    ann.push("--force")
    return known


async def test_who_knew_what_was_lost_answers_no_difference_over_it(
    bench: GitBench, ann: Person, url: str, tmp_path: Path
) -> None:
    async with open_git_retriever(source_of(url, tmp_path / "gateway")) as retriever:
        known = await rewritten(bench, ann, retriever)
        await retriever.nudge()  # before any publisher has seen it
        with pytest.raises(TooOld):
            await retriever.changes("Shop", known)
        assert await retriever.digest_at("Shop", known) is None
        with pytest.raises(Behind):
            await retriever.heads(["Shop"], {"Shop": known})


async def test_a_publisher_writes_down_the_epoch_that_all_who_knew_have_found(
    bench: GitBench, ann: Person, url: str, tmp_path: Path
) -> None:
    gateway = source_of(url, tmp_path / "gateway")
    async with open_git_retriever(gateway) as retriever:
        await saved(bench, asked("Shop", publish("First")))
        await retriever.nudge()
        before = bench.store.epoch
        await rewritten(bench, ann)
        # The gateway knew nothing of what is lost: to it, nothing was rewritten.
        await retriever.nudge()
        assert (await retriever.heads(["Shop"]))["Shop"].epoch == before
        await bench.store.nudge()
        heads = await bench.store.labels()
        assert bench.store.epoch != before
        await retriever.nudge()
        assert list((await retriever.heads(["Shop"])).values()) == heads
    assert await held(bench, "Shop") == {
        "First": b"<api/>",
        "Menu": b"1",
        "Other": b"by hand",
    }
    async with opened(source_of(url, tmp_path / "new")) as another:
        assert await another.store.labels() == heads
        await saved(another, asked("Shop", publish("More")))
    await bench.store.nudge()
    assert "More" in await held(bench, "Shop")
    assert bench.store.epoch == heads[0].epoch


async def test_the_loss_is_seen_by_who_was_down_meanwhile(
    bench: GitBench, ann: Person, url: str, tmp_path: Path
) -> None:
    source = source_of(url, tmp_path / "gateway")
    await saved(bench, asked("Shop", publish("Menu", "1")))
    async with open_git_retriever(source) as retriever:
        before = (await retriever.heads(["Shop"]))["Shop"]
    ann.pull()
    git(ann.folder, "reset", "--quiet", "--hard", "HEAD~1")
    ann.push("--force")
    for _ in range(2):  # and it is remembered
        async with open_git_retriever(source) as retriever:
            after = (await retriever.heads(["Shop"]))["Shop"]
            assert after.epoch != before.epoch
            assert after.revision == 0
    await bench.store.nudge()
    await bench.store.labels()
    assert bench.store.epoch == after.epoch


async def test_two_publishers_find_one_epoch(
    bench: GitBench, ann: Person, url: str, tmp_path: Path
) -> None:
    async with opened(source_of(url, tmp_path / "other")) as other:
        known = await rewritten(bench, ann)
        await other.store.nudge()
        await bench.store.nudge()
        await saved(bench, asked("Shop", publish("A")))
        await saved(other, asked("Shop", publish("B")))
        await bench.store.nudge()
        assert bench.store.epoch == other.store.epoch != known.epoch
        assert await bench.store.labels() == await other.store.labels()
        assert set(await held(bench, "Shop")) == {"Menu", "Other", "A", "B"}


async def test_another_root_is_another_epoch(bench: GitBench, url: str, tmp_path: Path) -> None:
    await saved(bench, asked("Shop", publish("Menu")))
    before = bench.store.epoch
    bob = Person(url, tmp_path / "bob")
    bob.put("Shop", "Menu", "another")
    bob.commit()
    bob.push("--force")
    await bench.store.nudge()
    assert bench.store.epoch != before
    assert await held(bench, "Shop") == {"Menu": b"another"}

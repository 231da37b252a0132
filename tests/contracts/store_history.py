"""What every store remembers of an artifact: who changed it, when, from where."""

import msgspec

from gatesync.artifacts.changes import Instruction
from gatesync.stores.store import History
from tests.contracts.genuine import publish
from tests.contracts.saves import Bench, asked, every, id_of, nth, remove, saved


def steps_of(history: History, label: str = "Shop") -> list[tuple[int, str]]:
    """Revision and author of each change in the label, the newest first."""
    return [
        (each.change.entry.revision, each.author) for each in history.changes if each.label == label
    ]


class Remembering:
    async def test_each_change_says_who_when_and_from_where(self, bench: Bench) -> None:
        request = asked(
            "Shop",
            publish("Menu", "1"),
            publisher="p7",
            author="ann",
            origin="10.0.0.7 (ann@desk)",
            published_at=5,
        )
        await saved(bench, request)
        history = await bench.store.history("Menu")
        [logged] = history.changes
        assert logged.change.instruction is Instruction.PUBLISH
        entry = publish("Menu", "1").entry
        assert logged.change.entry == msgspec.structs.replace(
            entry, revision=await nth(bench, "Shop", 1)
        )
        assert (logged.label, logged.published_at, logged.publisher) == ("Shop", 5, "p7")
        assert (logged.author, logged.origin) == ("ann", "10.0.0.7 (ann@desk)")
        assert history.floors == {"Shop": 0}

    async def test_history_goes_on_across_removal_and_another_api_id(self, bench: Bench) -> None:
        await saved(bench, asked("Shop", publish("Menu", "1"), author="ann"))
        await saved(bench, asked("Shop", publish("Menu", "2"), author="bob"))
        await saved(bench, asked("Shop", publish("Other"), author="ann"))
        await saved(bench, asked("Shop", remove("Menu"), author="cyd"))
        await saved(bench, asked("Shop", publish("Menu", "3", api_id="new-id"), author="dan"))
        for name in ("Menu", "new-id", id_of("Menu")):
            history = await bench.store.history(name)
            numbers = await every(bench, "Shop", (5, 4, 2, 1))
            assert steps_of(history) == list(
                zip(numbers, ("dan", "cyd", "bob", "ann"), strict=True)
            )
            assert history.changes[1].change.instruction is Instruction.REMOVE
            assert history.changes[1].change.entry.digest == publish("Menu", "2").entry.digest
            assert history.changes[0].change.entry.api_id == "new-id"

    async def test_each_label_has_a_history_of_its_own(self, bench: Bench) -> None:
        await saved(bench, asked("Cafe", publish("X")))
        await saved(bench, asked(("Shop", "Cafe"), publish("Menu"), author="ann"))
        history = await bench.store.history("Menu")
        assert steps_of(history, "Shop") == [(await nth(bench, "Shop", 1), "ann")]
        assert steps_of(history, "Cafe") == [(await nth(bench, "Cafe", 2), "ann")]
        assert set(history.floors) == {"Shop", "Cafe"}

    async def test_nobody_has_no_history(self, bench: Bench) -> None:
        await saved(bench, asked("Shop", publish("Menu")))
        assert await bench.store.history("menu") == History((), {})
        assert await bench.store.history("Menu ") == History((), {})

    async def test_history_is_there_after_reopening(self, bench: Bench) -> None:
        await saved(bench, asked("Shop", publish("Menu"), remove("Menu"), author="ann"))
        before = await bench.store.history("Menu")
        await bench.reopen()
        assert await bench.store.history("Menu") == before

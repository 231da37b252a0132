"""What every store keeps when something is saved."""

from itertools import pairwise

import pytest

from gatesync.artifacts.changes import Change, Cursor, Entry, Head, Instruction
from gatesync.artifacts.digests import EMPTY_LABEL
from gatesync.artifacts.planning import Publish, Remove
from gatesync.stores.store import Refused, SaveOutcome
from tests.contracts.genuine import held, publish
from tests.contracts.saves import (
    Bench,
    applied,
    asked,
    digest_over,
    every,
    nth,
    refused,
    remove,
    revision,
    saved,
)

LITERAL_LABELS = (
    *("A B", "A_B", "A-B", "a", "A", "x", "x ", " x", "%", "_", "'; --", 'say "hi"', "back\\slash"),
    *("\u00e9", "e\u0301", "ss", "\u00df", "i", "\u0131", "\u212a", "k", "\U0001f680"),
    "é" * 127 + "e",  # 255 bytes
)


class Saving:
    async def test_a_label_that_was_never_used_is_empty_at_revision_0(self, bench: Bench) -> None:
        heads = await bench.store.heads(["Nobody", "Nothing"])
        epoch = bench.store.epoch
        assert heads == {"Nobody": Head("Nobody", epoch), "Nothing": Head("Nothing", epoch)}
        assert await bench.store.labels() == []
        assert await held(bench, "Nobody") == {}

    async def test_labels_are_kept_literally_and_never_meet(self, bench: Bench) -> None:
        requests = [asked(label, publish("Menu", f"in {label}")) for label in LITERAL_LABELS]
        await saved(bench, *requests)
        assert {head.label for head in await bench.store.labels()} == set(LITERAL_LABELS)
        for label in LITERAL_LABELS:
            assert await revision(bench, label) == 1
            assert await held(bench, label) == {"Menu": f"in {label}".encode()}

    async def test_labels_are_listed_in_byte_order(self, bench: Bench) -> None:
        await saved(bench, *(asked(label, publish("Menu")) for label in ("b", "é", "B", "a")))
        assert [head.label for head in await bench.store.labels()] == ["B", "a", "b", "é"]

    async def test_published_edited_removed_and_published_again(self, bench: Bench) -> None:
        steps: list[tuple[Publish | Remove, dict[str, bytes]]] = [
            (publish("Menu", "one"), {"Menu": b"one"}),
            (publish("Menu", "two"), {"Menu": b"two"}),
            (remove("Menu"), {}),
            (publish("Menu", "two"), {"Menu": b"two"}),
            (publish("Menu", "one"), {"Menu": b"one"}),
        ]
        for step, (item, expected) in enumerate(steps, start=1):
            [outcome] = await saved(bench, asked("Shop", item))
            assert [each.revision for each in outcome.change_sets] == [
                await nth(bench, "Shop", step)
            ]
            assert await held(bench, "Shop") == expected
            assert await revision(bench, "Shop") == step

    async def test_each_label_of_a_request_has_revisions_of_its_own(self, bench: Bench) -> None:
        await saved(bench, asked("Shop", publish("Menu", "one")))
        [outcome] = await saved(bench, asked(("Shop", "Cafe"), publish("Menu", "two")))
        numbers = {"Shop": await nth(bench, "Shop", 2), "Cafe": await nth(bench, "Cafe", 1)}
        assert {each.label: each.revision for each in outcome.change_sets} == numbers
        assert {head.label: head.revision for head in outcome.heads} == numbers
        assert await held(bench, "Shop") == await held(bench, "Cafe") == {"Menu": b"two"}

    async def test_change_sets_are_a_chain_whose_digests_come_out(self, bench: Bench) -> None:
        await saved(bench, asked("Shop", publish("A"), [publish("B"), publish("C")]))
        await saved(bench, asked("Shop", publish("A", "new"), [remove("B"), publish("D")]))
        chain = await bench.store.change_sets("Shop", 0, 100)
        numbers = await every(bench, "Shop", range(5))
        assert [(each.previous, each.revision) for each in chain] == list(pairwise(numbers))
        held_so_far: dict[str, Entry] = {}
        for each in chain:
            held_so_far = applied(held_so_far, each)
            assert each.digest == digest_over(held_so_far)
        assert (await bench.store.heads(["Shop"]))["Shop"] == chain[-1].head

    async def test_change_sets_are_answered_in_slices(self, bench: Bench) -> None:
        await saved(bench, asked("Shop", *(publish(name) for name in "ABCDE")))
        first, *both, _, last = await every(bench, "Shop", (1, 2, 3, 4, 5))
        some = await bench.store.change_sets("Shop", first, 2)
        assert [each.revision for each in some] == both
        assert await bench.store.change_sets("Shop", last, 2) == []
        assert await bench.store.change_sets("Nobody", 0, 2) == []

    async def test_the_log_gives_back_what_save_answered(self, bench: Bench) -> None:
        [first] = await saved(bench, asked("Shop", publish("A"), publisher="berlin"))
        [then] = await saved(bench, asked("Shop", publish("A", "2"), remove("A")))
        assert [each.publisher for each in first.change_sets] == ["berlin"]
        everything = await bench.store.change_sets("Shop", 0, 100)
        assert tuple(everything) == first.change_sets + then.change_sets

    async def test_changes_stay_in_the_order_of_the_request(self, bench: Bench) -> None:
        await saved(bench, asked("Shop", [publish(name) for name in "CAB"]))
        steps = [publish("D"), remove("B"), publish("C", "2"), remove("A")]
        [outcome] = await saved(bench, asked("Shop", steps))
        log = await bench.store.change_sets("Shop", 0, 2)
        assert [[change.entry.name for change in each.changes] for each in log] == [
            ["C", "A", "B"],
            ["D", "B", "C", "A"],
        ]
        assert log[1] == outcome.change_sets[0]

    async def test_publishing_what_is_held_makes_no_revision(self, bench: Bench) -> None:
        await saved(bench, asked("Shop", publish("Menu")))
        [outcome] = await saved(bench, asked("Shop", publish("Menu")))
        assert outcome.change_sets == ()
        assert outcome.heads == tuple((await bench.store.heads(["Shop"])).values())
        assert await revision(bench, "Shop") == 1

    async def test_only_what_changes_stands_in_the_change_set(self, bench: Bench) -> None:
        await saved(bench, asked("Shop", [publish("A"), publish("B")]))
        [outcome] = await saved(bench, asked("Shop", [publish("A"), publish("B", "new")]))
        [only] = outcome.change_sets
        assert [change.entry.name for change in only.changes] == ["B"]

    async def test_a_removal_names_the_entry_that_it_removes(self, bench: Bench) -> None:
        [before] = await saved(bench, asked("Shop", publish("Menu")))
        [outcome] = await saved(bench, asked("Shop", remove("Menu")))
        entry = before.change_sets[0].changes[0].entry
        assert outcome.change_sets[0].changes == (Change(Instruction.REMOVE, entry),)

    @pytest.mark.promise(3)
    async def test_a_key_used_again_is_answered_again_and_changes_nothing(
        self, bench: Bench
    ) -> None:
        request = asked(("Shop", "Cafe"), publish("Menu", "one"), remove("Menu"), publish("Bill"))
        [first] = await saved(bench, request)
        assert not first.repeated
        await saved(bench, asked("Shop", publish("Menu", "later")))
        for _ in range(2):
            [again] = await saved(bench, request)
            assert again == SaveOutcome(first.change_sets, first.heads, repeated=True)
            assert await revision(bench, "Shop") == 4
            assert await revision(bench, "Cafe") == 3
            await bench.reopen()

    @pytest.mark.promise(3)
    async def test_a_key_used_for_something_else_is_refused(self, bench: Bench) -> None:
        await saved(bench, asked("Shop", publish("Menu", "one"), key="k"))
        answer = await refused(bench, asked("Shop", publish("Menu", "two"), key="k"))
        assert answer.key_used
        assert "'k'" in answer.reasons[0]
        assert await held(bench, "Shop") == {"Menu": b"one"}

    @pytest.mark.promise(3)
    async def test_a_key_twice_in_a_batch_is_saved_once(self, bench: Bench) -> None:
        request = asked("Shop", publish("Menu"))
        first, second = await saved(bench, request, request)
        assert (first.repeated, second.repeated) == (False, True)
        assert first.change_sets == second.change_sets
        assert await revision(bench, "Shop") == 1

    @pytest.mark.parametrize("known", [False, True])
    async def test_of_two_requests_with_one_key_the_first_is_meant(
        self, bench: Bench, known: bool
    ) -> None:
        right = asked("Shop", publish("Menu", "one"), key="k")
        wrong = asked("Shop", publish("Menu", "two"), key="k")
        if known:
            await saved(bench, right)
        for batch in ([right, wrong], [wrong, right]) if known else ([right, wrong],):
            answers = dict(zip(batch, await bench.store.save(batch), strict=True))
            assert isinstance(answers[right], SaveOutcome)
            no = answers[wrong]
            assert isinstance(no, Refused)
            assert no.key_used
        await bench.catch_up()
        assert await held(bench, "Shop") == {"Menu": b"one"}

    async def test_a_refused_request_leaves_nothing_behind(self, bench: Bench) -> None:
        await saved(bench, asked("Shop", publish("Menu", "one")))
        bad = asked(("Shop", "Typo"), publish("Menu", "two"), publish("New"), remove("Nobody"))
        answer = await refused(bench, bad)
        assert not answer.key_used
        assert any("Nobody" in reason or id_in(reason) for reason in answer.reasons)
        assert await held(bench, "Shop") == {"Menu": b"one"}
        assert await bench.store.contents([publish("Menu", "two").entry.digest]) == {}
        assert [head.label for head in await bench.store.labels()] == ["Shop"]
        assert (await bench.store.heads(["Typo"]))["Typo"].digest == EMPTY_LABEL
        [mended] = await saved(bench, asked("Shop", publish("Menu", "two"), key=bad.key))
        assert not mended.repeated

    async def test_a_refused_request_does_not_hold_up_its_batch(self, bench: Bench) -> None:
        batch = [
            asked("Shop", publish("A")),
            asked("Shop", publish("X"), remove("Nobody")),
            asked("Shop", publish("B")),
        ]
        answers = await bench.store.save(batch)
        await bench.catch_up()
        assert [type(answer) for answer in answers] == [SaveOutcome, Refused, SaveOutcome]
        assert set(await held(bench, "Shop")) == {"A", "B"}
        assert await revision(bench, "Shop") == 2

    async def test_every_reason_for_a_refusal_is_given(self, bench: Bench) -> None:
        answer = await refused(bench, asked(("Shop", "Cafe"), [remove("A"), remove("B")]))
        assert len(answer.reasons) == 4

    async def test_one_artifact_twice_in_a_change_set_is_refused(self, bench: Bench) -> None:
        await refused(bench, asked("Shop", [publish("A", "1"), publish("A", "2")]))
        assert await revision(bench, "Shop") == 0

    async def test_a_name_has_one_owner_in_a_label(self, bench: Bench) -> None:
        await saved(bench, asked("Shop", publish("A", claims=["/menu"])))
        answer = await refused(bench, asked("Shop", publish("B", claims=["/menu"])))
        assert "/menu" in answer.reasons[0]
        assert "'Shop'" in answer.reasons[0]
        assert "api A 1.0.0" in answer.reasons[0]
        assert set(await held(bench, "Shop")) == {"A"}
        await saved(bench, asked("Cafe", publish("B", claims=["/menu"])))

    async def test_a_name_has_one_owner_among_the_requests_of_a_batch(self, bench: Bench) -> None:
        batch = [asked("Shop", publish(name, claims=["/menu"])) for name in "AB"]
        answers = await bench.store.save(batch)
        assert [type(answer) for answer in answers] == [SaveOutcome, Refused]

    async def test_a_removal_frees_its_names(self, bench: Bench) -> None:
        await saved(bench, asked("Shop", publish("A", claims=["/menu"])))
        await saved(bench, asked("Shop", [remove("A"), publish("B", claims=["/menu"])]))
        await saved(bench, asked("Shop", remove("B")))
        await saved(bench, asked("Shop", publish("A", claims=["/menu"])))
        assert set(await held(bench, "Shop")) == {"A"}

    async def test_an_edit_frees_the_names_that_it_gives_up(self, bench: Bench) -> None:
        await saved(bench, asked("Shop", publish("A", "1", claims=["/menu"])))
        await saved(bench, asked("Shop", publish("A", "2", claims=["/food"])))
        await saved(bench, asked("Shop", publish("B", claims=["/menu"])))
        await refused(bench, asked("Shop", publish("B", "2", claims=["/food"])))

    async def test_artifacts_of_one_change_set_can_swap_names(self, bench: Bench) -> None:
        both = [publish("A", "1", claims=["/a"]), publish("B", "1", claims=["/b"])]
        await saved(bench, asked("Shop", both))
        swap = [publish("A", "2", claims=["/b"]), publish("B", "2", claims=["/a"])]
        await saved(bench, asked("Shop", swap))
        await refused(bench, asked("Shop", publish("C", claims=["/a"])))
        await refused(bench, asked("Shop", publish("A", "3", claims=["/a"])))

    async def test_an_api_id_never_becomes_another_artifact(self, bench: Bench) -> None:
        await saved(bench, asked("Shop", publish("Menu", api_id="id-1")))
        there = await refused(bench, asked("Shop", publish("Other", "2", api_id="id-1")))
        assert "id-1 belongs to api Menu 1.0.0" in there.reasons[0]
        answer = await refused(bench, asked("Cafe", publish("Other", api_id="id-1")))
        assert "id-1 belongs to another artifact" in answer.reasons[0]
        assert "Menu" not in answer.reasons[0]

    async def test_a_confirmation_shows_in_the_head_and_stays(self, bench: Bench) -> None:
        await saved(bench, asked("Shop", publish("A")))
        confirmation = await bench.store.confirm("Shop", "c-1")
        await bench.catch_up()
        assert confirmation.epoch == bench.store.epoch
        assert confirmation.revision == await nth(bench, "Shop", 1)
        await saved(bench, asked("Shop", publish("B")))
        await bench.reopen()
        head = (await bench.store.heads(["Shop"]))["Shop"]
        assert (head.confirmation, head.revision) == (confirmation, await nth(bench, "Shop", 2))
        newer = await bench.store.confirm("Shop", "c-2")
        await bench.catch_up()
        assert (await bench.store.labels())[0].confirmation == newer

    async def test_an_empty_label_can_be_confirmed(self, bench: Bench) -> None:
        confirmation = await bench.store.confirm("Shop", "c-1")
        await bench.catch_up()
        assert confirmation.revision == 0
        head = Head("Shop", bench.store.epoch, confirmation=confirmation)
        assert await bench.store.labels() == [head]
        [outcome] = await saved(bench, asked("Shop", publish("A")))
        assert outcome.heads[0].confirmation == confirmation

    @pytest.mark.promise(3)
    async def test_everything_is_there_after_reopening(self, bench: Bench) -> None:
        await saved(bench, asked(("Shop", "Cafe"), publish("A"), publish("B")))
        heads = await bench.store.labels()
        epoch = bench.store.epoch
        await bench.reopen()
        assert bench.store.epoch == epoch
        assert await bench.store.labels() == heads
        assert set(await held(bench, "Shop")) == {"A", "B"}
        first = await nth(bench, "Cafe", 1)
        delta = await bench.store.changes("Cafe", Cursor(epoch, first))
        assert [change.entry.name for change in delta.changes] == ["B"]

    async def test_an_empty_batch_is_answered_with_nothing(self, bench: Bench) -> None:
        assert await bench.store.save([]) == []


def id_in(reason: str) -> bool:
    return remove("Nobody").api_id in reason

"""What every store keeps of what artifacts need of each other, and of what is only asked."""

import pytest

from gatesync.stores.store import Refused, SaveOutcome
from tests.contracts.genuine import held, publish
from tests.contracts.saves import Bench, asked, refused, remove, revision, saved


class Referring:
    async def test_what_an_artifact_needs_must_be_in_its_label(self, bench: Bench) -> None:
        await saved(bench, asked("Cafe", publish("Log", claims=["log"])))
        answer = await refused(bench, asked("Shop", publish("Menu", needs=["log"])))
        [reason] = answer.reasons
        assert reason.startswith("api Menu 1.0.0/api/a.xml:3: refers to sequence 'log'")
        assert "'Shop'" in reason
        assert await revision(bench, "Shop") == 0
        await saved(bench, asked("Cafe", publish("Menu", needs=["log"])))

    @pytest.mark.parametrize("together", [True, False], ids=["one change set", "two"])
    async def test_artifacts_of_one_request_may_need_each_other(
        self, bench: Bench, together: bool
    ) -> None:
        first, second = publish("A", claims=["a"], needs=["b"]), publish("B", claims=["b"])
        sets = [[first, second]] if together else [first, second]
        await saved(bench, asked("Shop", *sets))
        assert set(await held(bench, "Shop")) == {"A", "B"}

    async def test_what_another_needs_is_not_removed(self, bench: Bench) -> None:
        await saved(bench, asked("Shop", publish("Log", claims=["log"])))
        await saved(bench, asked("Shop", publish("Menu", needs=["log"])))
        await bench.reopen()
        answer = await refused(bench, asked("Shop", remove("Log")))
        [reason] = answer.reasons
        assert "api Menu 1.0.0 in label 'Shop'" in reason
        assert "api Log 1.0.0" in reason
        assert set(await held(bench, "Shop")) == {"Log", "Menu"}
        await saved(bench, asked("Shop", remove("Log"), remove("Menu")))
        assert await held(bench, "Shop") == {}

    async def test_an_edit_may_not_give_up_what_another_needs(self, bench: Bench) -> None:
        both = [publish("Log", claims=["log"]), publish("Menu", needs=["log"])]
        await saved(bench, asked("Shop", *both))
        await refused(bench, asked("Shop", publish("Log", "2", claims=["journal"])))
        await saved(bench, asked("Shop", publish("Log", "2", claims=["log", "journal"])))
        await saved(bench, asked("Shop", publish("Menu", "2", needs=["journal"])))
        await saved(bench, asked("Shop", publish("Log", "3", claims=["journal"])))
        await refused(bench, asked("Shop", remove("Log")))

    async def test_another_owner_of_the_name_will_do(self, bench: Bench) -> None:
        both = [publish("Log", claims=["log"]), publish("Menu", needs=["log"])]
        await saved(bench, asked("Shop", *both))
        await saved(bench, asked("Shop", [remove("Log"), publish("Journal", claims=["log"])]))
        await refused(bench, asked("Shop", remove("Journal")))

    async def test_who_needs_nothing_any_more_stands_in_nobodys_way(self, bench: Bench) -> None:
        both = [publish("Log", claims=["log"]), publish("Menu", needs=["log"])]
        await saved(bench, asked("Shop", *both))
        await saved(bench, asked("Shop", publish("Menu", "2")))
        await saved(bench, asked("Shop", remove("Log")))

    async def test_who_was_removed_stands_in_nobodys_way(self, bench: Bench) -> None:
        both = [publish("Log", claims=["log"]), publish("Menu", needs=["log"])]
        await saved(bench, asked("Shop", *both))
        await saved(bench, asked("Shop", remove("Menu")))
        await saved(bench, asked("Shop", remove("Log")))

    async def test_needs_of_earlier_requests_of_a_batch_count(self, bench: Bench) -> None:
        await saved(bench, asked("Shop", publish("Log", claims=["log"])))
        batch = [asked("Shop", publish("Menu", needs=["log"])), asked("Shop", remove("Log"))]
        answers = await bench.store.save(batch)
        assert [type(answer) for answer in answers] == [SaveOutcome, Refused]

    async def test_by_force_a_reference_that_leads_nowhere_is_a_warning(self, bench: Bench) -> None:
        [outcome] = await saved(bench, asked("Shop", publish("Menu", needs=["log"]), force=True))
        [warning] = outcome.warnings
        assert warning.text.startswith("api Menu 1.0.0/api/a.xml:3: refers to sequence 'log'")
        assert warning.claim == publish("Log", claims=["log"]).claims[0].key
        await saved(bench, asked("Shop", publish("Log", claims=["log"])))
        [outcome] = await saved(bench, asked("Shop", remove("Log"), force=True))
        assert "api Menu 1.0.0" in outcome.warnings[0].text
        assert set(await held(bench, "Shop")) == {"Menu"}

    async def test_a_preview_answers_like_a_save_and_changes_nothing(self, bench: Bench) -> None:
        await saved(bench, asked("Shop", publish("A", "1", claims=["a"])))
        requests = [
            asked("Shop", publish("A", "2", claims=["a"])),
            asked("Shop", publish("B", claims=["a"])),
            asked(("Shop", "Cafe"), publish("C", claims=["c"], needs=["a"]), force=True),
            asked("Shop", remove("C")),
        ]
        previewed = await bench.store.preview(requests)
        assert await revision(bench, "Shop") == 1
        assert await revision(bench, "Cafe") == 0
        assert await held(bench, "Shop") == {"A": b"1"}
        assert previewed == await bench.store.save(requests)

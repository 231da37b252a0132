"""What the demo makes of what it sees: it must be able to say no."""

from collections.abc import Callable

import pytest

from demo.verdicts import Model, Tally, Verdict, judge, percentile

pytestmark = pytest.mark.fast

EXPECTED = {"a": "1" * 64, "b": "2" * 64, "c": "3" * 64}
GOOD = Verdict("gateway-1", 3, 3)


def finished(*verdicts: Verdict) -> Tally:
    """A tally at the end of a story in which everything else went well."""
    tally = Tally(gateways=len(verdicts))
    tally.take(verdicts)
    tally.publish_to_all_ms.append(12.0)
    tally.publish_to_answer_ms.append(13.0)
    tally.calls = 9
    tally.finished = True
    return tally


def test_a_gateway_that_holds_exactly_the_input_is_in_step() -> None:
    verdict = judge("gateway-1", EXPECTED, dict(EXPECTED))
    assert verdict.in_step
    assert verdict.lost == 0
    assert str(verdict) == "3 of 3"


def test_missing_and_different_artifacts_are_lost() -> None:
    verdict = judge("gateway-1", EXPECTED, {"a": "1" * 64, "b": "f" * 64})
    assert (verdict.missing, verdict.different) == (("c",), ("b",))
    assert not verdict.in_step
    assert verdict.lost == 2
    assert str(verdict) == "1 of 3 (1 missing, 1 different)"


def test_an_artifact_that_was_to_be_removed_is_not_lost_but_not_in_step() -> None:
    verdict = judge("gateway-1", EXPECTED, EXPECTED | {"d": "4" * 64})
    assert verdict.unexpected == ("d",)
    assert not verdict.in_step
    assert verdict.lost == 0


def test_a_gateway_that_does_not_answer_has_lost_everything() -> None:
    assert judge("gateway-1", EXPECTED, {}).lost == len(EXPECTED)


def test_the_model_knows_labels_apart() -> None:
    model = Model()
    model.publish(("one", "two"), EXPECTED)
    model.publish(("one",), {"a": "9" * 64})
    model.remove("two", "b")
    assert model.expected("one") == EXPECTED | {"a": "9" * 64}
    assert model.expected("two").keys() == {"a", "c"}
    assert model.expected("three") == {}
    assert model.artifacts == 3


def test_all_is_well_when_everyone_was_in_step_all_the_time() -> None:
    tally = finished(GOOD, Verdict("gateway-2", 3, 3))
    tally.artifacts = 3
    assert tally.ok
    assert tally.document() == {
        "ok": True,
        "artifacts": 3,
        "gateways": 2,
        "in_step": 2,
        "lost": 0,
        "calls": 9,
        "publish_to_all_ms": {"p50": 12.0, "p99": 12.0},
        "publish_to_answer_ms": {"p50": 13.0, "p99": 13.0},
    }


def test_what_was_lost_once_is_not_forgotten_when_it_comes_later() -> None:
    tally = Tally(gateways=1)
    tally.take([Verdict("gateway-1", 3, 2, missing=("c",))])
    tally.take([GOOD])
    tally.publish_to_all_ms.append(12.0)
    tally.publish_to_answer_ms.append(13.0)
    tally.calls = 9
    tally.finished = True
    assert tally.in_step == 1
    assert tally.lost == 1
    assert not tally.ok


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tally: tally.fail("two revisions"),
        lambda tally: tally.take([Verdict("gateway-1", 3, 4, unexpected=("d",))]),
        lambda tally: setattr(tally, "finished", False),
        lambda tally: setattr(tally, "gateways", 2),
        lambda tally: tally.publish_to_all_ms.clear(),
        lambda tally: tally.publish_to_answer_ms.clear(),
        lambda tally: setattr(tally, "calls", 0),
    ],
)
def test_one_thing_that_is_not_as_promised_spoils_it_all(spoil: Callable[[Tally], None]) -> None:
    tally = finished(GOOD)
    spoil(tally)
    assert tally.document()["ok"] is False


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert percentile(values, 50) == 50.0
    assert percentile(values, 99) == 99.0
    assert percentile(values, 100) == 100.0
    assert percentile([7.0], 99) == 7.0
    assert percentile([], 50) is None

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.config import ConfigError, WhenStale, load
from gatesync.gateway.staleness import NEVER, StalenessRule, is_stale, readiness_of

pytestmark = [pytest.mark.fast, pytest.mark.promise(11)]

AGES = st.none() | st.floats(0, 1e6)


@pytest.mark.parametrize("when_stale", WhenStale)
def test_a_node_that_has_not_started_is_not_ready_whatever_its_proofs(
    when_stale: WhenStale,
) -> None:
    for age in (None, 0.0, 1e6):
        found = readiness_of(False, {"L": age}, StalenessRule(60.0, when_stale))
        assert (found.ready, found.status) == (False, "starting")


@pytest.mark.parametrize(
    ("when_stale", "ready", "status"),
    [("serve", True, "stale"), ("degrade", True, "degraded"), ("drain", False, "draining")],
)
def test_one_stale_label_is_told_as_configured(when_stale: str, ready: bool, status: str) -> None:
    rule = StalenessRule(60.0, WhenStale(when_stale))
    found = readiness_of(True, {"new": 0.1, "old": 60.25}, rule)
    assert (found.ready, found.status) == (ready, status)
    assert "'old'" in found.why
    assert "60.2 s ago" in found.why
    assert "'new'" not in found.why
    assert readiness_of(True, {"new": 0.1, "old": 60.0}, rule).status == "ready"


@pytest.mark.promise(10)
@pytest.mark.parametrize("limit", [0.0, 60.0])
def test_without_a_proof_since_its_start_a_node_is_stale_from_the_start(limit: float) -> None:
    found = readiness_of(True, {"L": None}, StalenessRule(limit))
    assert found.status == "stale"
    assert NEVER in found.why


def test_without_a_limit_no_proof_is_too_old() -> None:
    rule = StalenessRule(0.0, WhenStale.DRAIN)
    assert readiness_of(True, {"L": 1e9}, rule).status == "ready"


@given(st.dictionaries(st.text(max_size=3), AGES), st.floats(0, 1e6), st.sampled_from(WhenStale))
def test_the_node_is_stale_when_a_label_is(
    ages: dict[str, float | None], limit: float, when_stale: WhenStale
) -> None:
    stale = [label for label, age in ages.items() if is_stale(age, limit)]
    found = readiness_of(True, ages, StalenessRule(limit, when_stale))
    assert (found.status == "ready") == (not stale)
    assert found.ready == (not stale or when_stale is not WhenStale.DRAIN)
    assert all(repr(label) in found.why for label in stale)


def settings(folder: Path, text: str) -> tuple[int, str]:
    path = folder / "deployment.toml"
    path.write_text(text)
    gateway = load(path).settings.gateway
    return gateway.max_staleness_ms, gateway.when_stale


def test_a_proof_may_be_twelve_heartbeats_old_unless_the_file_says_otherwise(
    tmp_path: Path,
) -> None:
    assert settings(tmp_path, "") == (60_000, "serve")
    assert settings(tmp_path, "[gatesync]\nheartbeat_interval = 200") == (2_400, "serve")
    text = '[gatesync.gateway]\nmax_staleness = "90000"\nwhen_stale = "drain"'
    assert settings(tmp_path, text) == (90_000, "drain")
    assert settings(tmp_path, "[gatesync.gateway]\nmax_staleness = 0")[0] == 0
    long = "[gatesync]\nheartbeat_interval = 86400000"
    assert settings(tmp_path, long)[0] == 86_400_000


def test_less_than_two_heartbeats_is_refused(tmp_path: Path) -> None:
    assert settings(tmp_path, "[gatesync.gateway]\nmax_staleness = 10000")[0] == 10_000
    with pytest.raises(ConfigError, match=r"max_staleness.*two heartbeats \(10000 ms\)"):
        settings(tmp_path, "[gatesync.gateway]\nmax_staleness = 9999")
    with pytest.raises(ConfigError, match='"serve", "degrade", "drain"'):
        settings(tmp_path, '[gatesync.gateway]\nwhen_stale = "panic"')

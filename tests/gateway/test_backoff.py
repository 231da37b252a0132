import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.gateway.backoff import Backoff

pytestmark = pytest.mark.fast


def test_waits_double_up_to_the_cap() -> None:
    backoff = Backoff(first=1.0, cap=10.0)
    assert [backoff.delay(n, 1.0) for n in range(1, 7)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_the_first_attempt_may_have_no_failure_before_it() -> None:
    assert Backoff(first=2.0).delay(0, 1.0) == 2.0


@given(
    failures=st.integers(0, 10**9),
    random=st.floats(0, 1, exclude_max=True),
    first=st.floats(0.001, 100),
    cap=st.floats(0.001, 1000),
)
def test_jitter_takes_away_at_most_half(
    failures: int, random: float, first: float, cap: float
) -> None:
    backoff = Backoff(first, cap)
    longest = backoff.delay(failures, 1.0)
    assert longest / 2 <= backoff.delay(failures, random) <= longest <= cap

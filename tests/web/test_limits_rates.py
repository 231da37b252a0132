"""How often a credential may ask: by a clock of the test's own, and through the guard."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.web.guard import Guard
from gatesync.web.rates import REQUESTS_PER_SECOND, Rates
from tests.servers.gatesync import ask, place

pytestmark = pytest.mark.promise(8)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.fast
def test_a_burst_is_answered_and_what_follows_waits_for_its_turn() -> None:
    clock = Clock()
    rates = Rates(2, burst=5, clock=clock)
    assert [rates.wait("a") for _ in range(11)] == [0] * 10 + [1]
    clock.now += 0.5
    assert [rates.wait("a") for _ in range(2)] == [0, 1]


@pytest.mark.fast
def test_one_credential_takes_nothing_from_another() -> None:
    rates = Rates(1, burst=1, clock=Clock())
    assert [rates.wait("a"), rates.wait("a"), rates.wait("b")] == [0, 1, 0]


@pytest.mark.fast
def test_no_limit_is_none() -> None:
    rates = Rates(0, clock=Clock())
    assert sum(rates.wait("a") for _ in range(100_000)) == 0


@pytest.mark.fast
@given(st.lists(st.floats(0, 3), max_size=200), st.integers(1, 10), st.integers(1, 5))
def test_whoever_waits_as_told_is_answered_and_nobody_gets_more(
    pauses: list[float], per_second: int, burst: int
) -> None:
    clock = Clock()
    rates = Rates(per_second, burst=burst, clock=clock)
    answered = 0
    for pause in pauses:
        clock.now += pause
        if (wait := rates.wait("a")) == 0:
            answered += 1
        else:
            before, clock.now = clock.now, clock.now + wait
            assert Rates.wait(rates, "a") == 0
            answered += 1
            assert clock.now - before == pytest.approx(wait)
        assert answered <= per_second * (burst + clock.now - 1_000) + 1e-3


@pytest.mark.fast
def test_a_thousand_nodes_that_are_busy_are_never_told_to_wait() -> None:
    clock = Clock()
    rates = Rates(clock=clock)
    for _ in range(20):  # ten reports a second each, and as many heads
        clock.now += 0.05
        assert not any(rates.wait(f"node-{n}") for n in range(1_000))
    # A start: every frame of 10,000 artifacts, eight at a time, as fast as they come.
    assert not any(rates.wait("node-1") for _ in range(2_000))
    assert REQUESTS_PER_SECOND >= 1_000


@pytest.mark.fast
def test_credentials_that_came_and_went_are_forgotten() -> None:
    clock = Clock()
    rates = Rates(10, clock=clock)
    for number in range(20_000):
        clock.now += 1
        rates.wait(number)
    assert len(rates._full_at) < 5_000


@pytest.mark.fast
async def test_the_guard_counts_credentials_and_leaves_health_to_everyone() -> None:
    answered: list[dict[str, Any]] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            answered.append(message)

    rates = Rates(1, burst=2, clock=Clock())
    guard = Guard(app, lambda token: token if token in "ab" else None, 1024, rates=rates)
    for token, path in (("a", "/v1"),) * 3 + (("b", "/v1"),) + (("x", "/health/live"),) * 5:
        headers = [(b"authorization", b"Bearer " + token.encode())]
        await guard({"type": "http", "path": path, "headers": headers}, receive, send)
    assert [each["status"] for each in answered] == [200, 200, 429] + [200] * 6
    assert (b"retry-after", b"1") in answered[2]["headers"]


def test_a_publisher_tells_who_asks_too_often_to_wait(tmp_path: Path) -> None:
    with place(tmp_path) as here:
        key = "[gatesync.publisher]\n"
        text = here.config.read_text().replace(key, key + "requests_per_second = 1\n")
        here.config.write_text(text + "[apim.event_hub]\nenable = false\n")
        here.role("publisher").start()
        reader = here.create_token("read", "dashboard")
        answers = [here.ask("/v1/cluster", token=reader) for _ in range(14)]
        assert [each.status for each in answers[:10]] == [200] * 10
        assert answers[-1].status == 429
        assert answers[-1].json()["code"] == "busy"
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 2
        assert here.ask("/v1/cluster").status == 200  # another credential
        assert ask(here.publisher, "/health/ready").status == 200

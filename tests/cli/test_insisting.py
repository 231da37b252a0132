"""How long the command line insists when no answer comes."""

from collections.abc import Iterator
from typing import Any

import pytest
import stamina

from gatesync.cli.sending import ATTEMPTS, send_change
from gatesync.publisher.requests import ChangeAnswer
from gatesync.web.client import UnreachableError

pytestmark = pytest.mark.fast

NOT_THERE = UnreachableError("connection refused")
FELL_SILENT = UnreachableError("disconnected without a response", unsure=True)
DONE = ChangeAnswer((), ())


class Publisher:
    """Answers with these, one after the other; the last one again and again."""

    def __init__(self, *answers: ChangeAnswer | UnreachableError) -> None:
        self.answers = list(answers)
        self.keys: list[str] = []

    async def post(self, *_: Any, headers: dict[str, str]) -> ChangeAnswer:
        self.keys.append(headers["Idempotency-Key"])
        answer = self.answers[min(len(self.keys), len(self.answers)) - 1]
        if isinstance(answer, UnreachableError):
            raise answer
        return answer


@pytest.fixture(autouse=True)
def _without_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=100):
        yield


@pytest.mark.promise(3)
async def test_a_publisher_that_fell_silent_is_asked_with_the_same_key_until_it_is_back() -> None:
    publisher = Publisher(FELL_SILENT, *[NOT_THERE] * (3 * ATTEMPTS), DONE)

    assert await send_change(publisher, {}) == DONE  # type: ignore[arg-type]

    assert len(publisher.keys) == 2 + 3 * ATTEMPTS
    assert len(set(publisher.keys)) == 1


async def test_a_publisher_that_was_never_there_is_soon_given_up() -> None:
    publisher = Publisher(NOT_THERE)

    with pytest.raises(UnreachableError, match="refused"):
        await send_change(publisher, {})  # type: ignore[arg-type]

    assert len(publisher.keys) == ATTEMPTS

"""Labels of any size in a store, without a client that publishes them one by one."""

import time
import uuid
from collections.abc import Sequence
from typing import Any

from gatesync.artifacts import canonical
from gatesync.artifacts.planning import Publish, SaveRequest
from gatesync.publisher.requests import entry_of
from gatesync.stores.store import SaveOutcome, Saver
from parts import artifact_of

__all__ = ["fill", "publish_of_bench", "save"]

SAVED_AT_ONCE = 2_000


def publish_of_bench(number: int, size: int = 4096, edit: int = 0) -> Publish:
    """What a publisher makes of `artifact_of`, without its checks, which take most of the time."""
    artifact = artifact_of(number, size, edit)
    content = canonical.encode(artifact)
    return Publish(entry_of(artifact, f"/bench/{number}", content), content, ())


async def fill(store: Saver, label: str, artifacts: int, size: int = 4096) -> None:
    """Put so many artifacts of `size` bytes into one label."""
    for start in range(0, artifacts, SAVED_AT_ONCE):
        numbers = range(start, min(start + SAVED_AT_ONCE, artifacts))
        await save(store, label, [publish_of_bench(number, size) for number in numbers])


async def save(store: Saver, label: str, items: Sequence[Publish]) -> SaveOutcome:
    """Save one change set."""
    now = int(time.time() * 1000)
    key = str(uuid.uuid4())
    request = SaveRequest((label,), (tuple(items),), key, key, now, publisher="bench")
    answer: Any
    [answer] = await store.save([request])
    assert isinstance(answer, SaveOutcome), answer
    return answer

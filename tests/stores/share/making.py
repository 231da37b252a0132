"""Shares for tests: made in a folder, opened as often as there are publishers."""

from collections.abc import Callable, Mapping
from pathlib import Path

from gatesync.artifacts.changes import Entry
from gatesync.stores.share_chain import first_manifest
from gatesync.stores.share_files import create_share
from gatesync.stores.share_source import ShareSource
from gatesync.stores.share_state import open_state
from gatesync.stores.share_store import ShareRetriever, ShareStore
from gatesync.stores.store import SaveOutcome, read_manifest
from tests.contracts.saves import asked, publish

LABEL = "Shop"


def made_share(folder: Path) -> ShareSource:
    folder.mkdir()
    create_share(folder, first_manifest)
    return ShareSource(path=folder)


def writer(source: ShareSource, step: Callable[[str], None] = lambda _: None) -> ShareStore:
    """A publisher that has nothing of its own on disk."""
    with open_state(source) as state:
        return ShareStore(source, state, step, chance=lambda: 0.0)


async def saved_one(store: ShareStore, name: str, content: str = "") -> SaveOutcome:
    content = content or name
    [answer] = await store.save([asked(LABEL, publish(name, content), key=f"{name} {content}")])
    assert isinstance(answer, SaveOutcome)
    return answer


async def shown(source: ShareSource) -> Mapping[str, bytes]:
    """What somebody reads who knows nothing yet, by name: the list adds up, contents are there."""
    reader = ShareRetriever(source)
    entries: dict[str, Entry]
    _, entries = await read_manifest(reader, LABEL)
    contents = await reader.contents([each.digest for each in entries.values()])
    return {each.name: contents[each.digest] for each in entries.values()}


class Interrupter:
    """Stops before the step with this number, counted from 0: raises, or calls something."""

    def __init__(self, at: int | None = None, then: Callable[[], None] | None = None) -> None:
        self.at = at
        self.steps: list[str] = []
        self._then = then

    def __call__(self, step: str) -> None:
        self.steps.append(step)
        if len(self.steps) - 1 == self.at:
            if self._then is None:
                raise KilledError
            self._then()


class KilledError(Exception):
    """The process ended here."""

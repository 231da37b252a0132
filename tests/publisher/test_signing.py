"""What a publisher signs, with which key, and what it does when its keys change under it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from gatesync.artifacts.changes import Head
from gatesync.artifacts.signatures import Signer, Trust
from gatesync.events.in_process import InProcessHub
from gatesync.events.messages import ChangeAnnounced, HeadsAnnounced, decode_announcement
from gatesync.publisher.key_files import KeyFileError, KeyFolder
from gatesync.publisher.service import Publisher
from gatesync.publisher.signing import HeadIssuer, SigningKeys
from gatesync.stores.memory import MemoryStore
from gatesync.stores.sql import open_sql_store
from gatesync.stores.sql_retriever import open_sql_retriever
from gatesync.stores.store import SaveOutcome
from tests.contracts.saves import asked, publish

pytestmark = [pytest.mark.fast, pytest.mark.promise(8)]

SIGNER = Signer(bytes(range(32)))
TRUST = Trust([SIGNER.key])


@asynccontextmanager
async def running(publisher: Publisher) -> AsyncIterator[None]:
    task = asyncio.create_task(publisher.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_what_is_saved_announced_and_confirmed_is_signed() -> None:
    hub, store = InProcessHub(), MemoryStore()
    publisher = Publisher(store, hub, "p", signer=lambda: SIGNER)
    async with hub.announcements(["L"]) as listener, running(publisher):
        outcome = await publisher.committer.submit(asked("L", publish("A"), publish("B")))
        assert isinstance(outcome, SaveOutcome)
        for each in outcome.change_sets:
            TRUST.verify_change_set(each)
        await publisher.confirm("L")
        told: list[ChangeAnnounced | HeadsAnnounced] = []
        while not (
            told
            and isinstance(told[-1], HeadsAnnounced)
            and told[-1].heads[0].confirmation is not None
        ):
            message = await asyncio.wait_for(listener.next(), 30)
            assert isinstance(message, bytes)
            told.append(decode_announcement(message))
    changes = [each.change_set for each in told if isinstance(each, ChangeAnnounced)]
    assert changes == list(outcome.change_sets)
    for announced in told:
        if isinstance(announced, HeadsAnnounced):
            for head in announced.heads:
                TRUST.verify_head(head)


async def test_without_a_key_nothing_is_signed() -> None:
    hub, store = InProcessHub(), MemoryStore()
    publisher = Publisher(store, hub, "p")
    async with hub.announcements(["L"]) as listener, running(publisher):
        outcome = await publisher.committer.submit(asked("L", publish("A")))
        assert isinstance(outcome, SaveOutcome)
        assert outcome.change_sets[0].signature is None
        assert (await publisher.confirm("L")).signature is None
        message = await asyncio.wait_for(listener.next(), 30)
        assert isinstance(message, bytes)
    assert await store.attestations("L") == ()


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_head_is_signed_anew_once_a_second_has_passed_or_it_moved() -> None:
    clock = Clock()
    issuer = HeadIssuer(lambda: SIGNER, clock)
    first = issuer.issue(Head("L", "e", 1))
    assert TRUST.verify_head(first) == 1_700_000_000_000
    clock.now += 0.9
    assert issuer.issue(Head("L", "e", 1)) is first
    moved = issuer.issue(Head("L", "e", 2))
    assert (moved.revision, TRUST.verify_head(moved)) == (2, 1_700_000_000_900)
    clock.now += 1
    assert TRUST.verify_head(issuer.issue(Head("L", "e", 2))) == 1_700_000_001_900
    clock.now -= 100  # somebody set the clock: it is not said that it is later than it is
    assert TRUST.verify_head(issuer.issue(Head("L", "e", 2))) == 1_699_999_901_900


def test_a_head_is_not_answered_with_the_signature_of_another_key() -> None:
    signers = [SIGNER, Signer(bytes(32))]
    issuer = HeadIssuer(lambda: signers[0], Clock())
    issuer.issue(Head("L", "e", 1))
    del signers[0]
    issued = issuer.issue(Head("L", "e", 1))
    assert issued.issue is not None
    assert issued.issue.signature.key_id == signers[0].key_id


@pytest.fixture
def folder(tmp_path: Path) -> KeyFolder:
    return KeyFolder(tmp_path / "keys")


def test_another_key_is_seen_without_a_restart(folder: KeyFolder) -> None:
    clock = Clock()
    keys = SigningKeys(folder, clock=clock)
    assert keys.signer() is None

    def name() -> str:
        clock.now += 1
        signer = keys.signer()
        return signer.key_id if signer is not None else "none"

    first = folder.create()
    assert name() == first.key_id
    second = folder.create()
    assert name() == first.key_id
    folder.use(second.key_id)
    assert name() == second.key_id
    assert [each.key_id for each in keys.known()] == [first.key_id, second.key_id]
    folder.retire(second.key_id)
    assert name() == first.key_id
    folder.retire(first.key_id)
    assert (name(), keys.own()) == ("none", None)


def _linked(path: Path) -> None:
    path.rename(path.with_suffix(".kept"))
    path.symlink_to(path.with_suffix(".kept"))


BREAKS: dict[str, Callable[[Path], object]] = {
    "others can read it": lambda path: path.chmod(0o644),
    "it is cut short": lambda path: path.write_bytes(path.read_bytes()[:50]),
    "it is a link": _linked,
}


@pytest.mark.parametrize("harm", BREAKS)
def test_a_running_publisher_goes_on_with_the_key_it_knew_and_none_starts(
    folder: KeyFolder, harm: str
) -> None:
    clock = Clock()
    key = folder.create()
    keys = SigningKeys(folder, clock=clock)
    BREAKS[harm](folder.path / f"{key.key_id}.json")
    clock.now += 1
    signer = keys.signer()
    assert signer is not None
    assert signer.key_id == key.key_id
    assert str(folder.path) in keys.trouble
    with pytest.raises(KeyFileError):
        SigningKeys(folder)


def test_a_pinned_key_that_is_gone_keeps_a_publisher_from_starting(folder: KeyFolder) -> None:
    key = folder.create()
    assert SigningKeys(folder, key.key_id).signer() is not None
    with pytest.raises(KeyFileError, match=r"\[gatesync.signing\] key"):
        SigningKeys(folder, "0" * 16)


def test_a_head_without_a_key_is_as_it_was() -> None:
    head = Head("L", "e", 1)
    assert HeadIssuer(lambda: None).issue(head) is head
    assert msgspec.json.encode(head) == msgspec.json.encode(HeadIssuer(lambda: None).issue(head))


async def test_gateways_that_read_the_database_get_signed_heads(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    async with open_sql_store(url) as store, open_sql_retriever(url) as retriever:
        publisher = Publisher(store, None, "p", heartbeat=0.05, signer=lambda: SIGNER)
        async with running(publisher):
            await publisher.committer.submit(asked("L", publish("A")))
            async with asyncio.timeout(30):
                head = Head("L", store.epoch)
                while head.issue is None:
                    head = (await retriever.heads(["L"]))["L"]
        TRUST.verify_head(head)
        assert head.revision == 1

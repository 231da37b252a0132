"""What the contract suite of the stores is written with: requests made short, and a bench."""

import hashlib
import uuid
from collections.abc import Sequence
from typing import Protocol, TypeAlias

from gatesync.artifacts.changes import ChangeSet, Cursor, Entry, Instruction
from gatesync.artifacts.digests import EMPTY_LABEL, LabelDigest, digest_of
from gatesync.artifacts.model import SUPER_TENANT, Identity
from gatesync.artifacts.planning import Claim, Item, Publish, Reference, Remove, SaveRequest
from gatesync.stores.store import Delta, Refused, SaveOutcome, Saver, Sign, read_manifest


class Bench(Protocol):
    """A store under test, with what only its own tests know how to do."""

    @property
    def store(self) -> Saver: ...

    async def catch_up(self) -> None:
        """Wait until readers see everything that was saved."""

    async def reopen(self) -> None:
        """Put another store on the same data into `store`, as a restart does."""


def id_of(name: str) -> str:
    return Identity(SUPER_TENANT, "api", name, "1.0.0").default_api_id()


def claim(text: str) -> Claim:
    return Claim(hashlib.sha256(text.encode()).hexdigest(), text)


def publish(
    name: str,
    content: bytes | str = b"<api/>",
    *,
    claims: Sequence[str] = (),
    needs: Sequence[str] = (),
    api_id: str | None = None,
) -> Publish:
    """The store never looks into contents: any bytes stand for a canonical form."""
    body = content.encode() if isinstance(content, str) else content
    entry = Entry(
        api_id=api_id or id_of(name),
        tenant=SUPER_TENANT,
        kind="api",
        name=name,
        version="1.0.0",
        context=f"/{name}",
        digest=digest_of(body),
        size=len(body),
    )
    references = (Reference(claim(text).key, text, "api/a.xml", 3) for text in needs)
    return Publish(entry, body, tuple(claim(text) for text in claims), tuple(references))


def remove(name: str) -> Remove:
    return Remove(id_of(name))


Items: TypeAlias = Sequence[Item]


def asked(
    labels: str | Sequence[str],
    *items: Item | Items,
    key: str = "",
    publisher: str = "p1",
    author: str = "",
    origin: str = "",
    published_at: int = 1_700_000_000_000,
    force: bool = False,
) -> SaveRequest:
    """A request: each item is a change set of one, each sequence of items a change set of all."""
    places = (labels,) if isinstance(labels, str) else tuple(labels)
    sets = tuple((each,) if isinstance(each, Item) else tuple(each) for each in items)
    return SaveRequest(
        labels=places,
        sets=sets,
        key=key or str(uuid.uuid4()),
        fingerprint=hashlib.sha256(repr((places, sets)).encode()).hexdigest(),
        published_at=published_at,
        publisher=publisher,
        author=author,
        origin=origin,
        force=force,
    )


async def saved(
    bench: Bench, *requests: SaveRequest, sign: Sign | None = None
) -> list[SaveOutcome]:
    """Save in one batch, expect that all goes well, and wait until it can be read."""
    outcomes = []
    for answer in await bench.store.save(requests, sign=sign):
        assert isinstance(answer, SaveOutcome), answer
        outcomes.append(answer)
    await bench.catch_up()
    return outcomes


async def refused(bench: Bench, request: SaveRequest) -> Refused:
    [answer] = await bench.store.save([request])
    assert isinstance(answer, Refused), answer
    await bench.catch_up()
    return answer


async def revision(bench: Bench, label: str) -> int:
    return (await bench.store.heads([label]))[label].revision


async def held(bench: Bench, label: str) -> dict[str, bytes]:
    """What a gateway would get for the label, by name: the whole list, and each content."""
    _, entries = await read_manifest(bench.store, label)
    contents = await bench.store.contents([entry.digest for entry in entries.values()])
    return {entry.name: contents[entry.digest] for entry in entries.values()}


async def held_at(store: Saver, label: str, at: Cursor, limit: int = 2) -> dict[str, Entry]:
    """The list at a revision, read in pages."""
    page = await store.manifest(label, at=at, limit=limit)
    assert page.head.cursor == at
    head, entries = page.head, {entry.api_id: entry for entry in page.entries}
    while page.after is not None:
        page = await store.manifest(label, at=at, after=page.after, limit=limit)
        assert page.head == head
        entries.update((entry.api_id, entry) for entry in page.entries)
    assert digest_over(entries) == head.digest
    return entries


def digest_over(entries: dict[str, Entry]) -> LabelDigest:
    digest = EMPTY_LABEL
    for entry in entries.values():
        digest = digest.add(entry.api_id, entry.digest)
    return digest


def applied(entries: dict[str, Entry], delta: Delta | ChangeSet) -> dict[str, Entry]:
    """What a reader holds after applying changes to what it held before."""
    after = dict(entries)
    for change in delta.changes:
        if change.instruction is Instruction.PUBLISH:
            after[change.entry.api_id] = change.entry
        else:
            assert after.pop(change.entry.api_id) == change.entry
    return after

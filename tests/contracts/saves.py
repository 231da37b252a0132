"""What the contract suite of the stores is written with: requests made short, and a bench."""

import hashlib
import uuid
from collections.abc import Iterable, Sequence
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

    # `dense = False`, where it has that: revisions rise in a label, and others lie between them.

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
    """How many revisions the label has had by its head, as `nth` counts them."""
    head = (await bench.store.heads([label]))[label]
    return head.revision if is_dense(bench) else (await _numbers(bench, label)).index(head.revision)


async def nth(bench: Bench, label: str, number: int) -> int:
    """The revision of a label's change set, counted from 1; one after the last is none yet."""
    if is_dense(bench):
        return number
    numbers = await _numbers(bench, label)
    return numbers[number] if number < len(numbers) else numbers[-1] + number - len(numbers) + 1


async def every(bench: Bench, label: str, numbers: Iterable[int]) -> list[int]:
    """`nth` of each."""
    return [await nth(bench, label, number) for number in numbers]


def is_dense(bench: Bench) -> bool:
    return getattr(bench, "dense", True)


async def _numbers(bench: Bench, label: str) -> list[int]:
    found = [0, *(each.revision for each in await bench.store.change_sets(label, 0, 10_000))]
    assert found == sorted(set(found))
    return found


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

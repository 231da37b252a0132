"""An artifact of a tree becomes what a label is asked to save: checked as a publish is."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from gatesync.artifacts import canonical
from gatesync.artifacts.changes import Entry
from gatesync.artifacts.description import describe
from gatesync.artifacts.entries import entry_of
from gatesync.artifacts.errors import FormatError, Problem, ProblemsError
from gatesync.artifacts.model import Artifact, Identity
from gatesync.artifacts.planning import Publish, Remove
from gatesync.mirroring.adopting import Adopted, Found
from gatesync.mirroring.source_tree import SourceTree

__all__ = ["Offer", "Offered", "offers_of"]


class Offer(NamedTuple):
    """What is to be saved, and what is remembered once it is; None: it was removed."""

    item: Publish | Remove
    identity: Identity
    main: str  # the file that leads it, or led it
    adopted: Adopted | None = None

    @classmethod
    def removal(cls, entry: Entry, adopted: Adopted) -> "Offer":
        """That an artifact goes."""
        return cls(Remove(entry.api_id), entry.identity, adopted.main)


class Offered(NamedTuple):
    """Artifacts to publish; those that the label holds just so; and what cannot be offered."""

    news: list[Offer]
    held: list[Adopted]
    problems: list[Problem]


def offers_of(
    tree: SourceTree,
    found: Mapping[Identity, Found],
    identities: Iterable[Identity],
    held: Mapping[Identity, Entry],
    contents: Mapping[str, bytes],
) -> Offered:
    """Read these artifacts of a tree. Blocks.

    Files do not say all that an artifact has: its id and its `extra` stay those of the one which
    the label holds, if the tree names no other.

    Args:
        tree: where they lie.
        found: its artifacts.
        identities: those that are wanted.
        held: what the label holds.
        contents: the canonical forms of what it holds of these, by digest.
    """
    offered = Offered([], [], [])
    for identity in identities:
        entry = held.get(identity)
        try:
            artifact = tree.artifact(found[identity].main)
            if entry is not None:
                artifact = _as_held(artifact, entry, contents.get(entry.digest))
            description = describe(artifact)
            content = canonical.encode(artifact)
        except ProblemsError as error:
            offered.problems.extend(error.problems)
        except Problem as problem:
            offered.problems.append(problem)
        except (FormatError, UnicodeEncodeError) as error:
            offered.problems.append(Problem(str(error), where=str(identity)))
        else:
            new = entry_of(artifact, description.context, content)
            adopted = _adopted(found[identity], new)
            if entry is not None and (entry.api_id, entry.digest) == (new.api_id, new.digest):
                offered.held.append(adopted)
                continue
            publish = Publish(new, content, description.claims, description.references)
            offered.news.append(Offer(publish, identity, adopted.main, adopted))
    return offered


def _as_held(artifact: Artifact, entry: Entry, content: bytes | None) -> Artifact:
    extra = artifact.extra
    if content is not None:
        extra = {**canonical.decode(content).extra, **extra}
    api_id = artifact.api_id
    if api_id == artifact.identity.default_api_id():
        api_id = entry.api_id
    return msgspec.structs.replace(artifact, api_id=api_id, extra=extra)


def _adopted(found: Found, entry: Entry) -> Adopted:
    return Adopted(
        tenant=entry.tenant,
        kind=entry.kind,
        name=entry.name,
        version=entry.version,
        main=found.main,
        files=found.files,
        digest=entry.digest,
    )

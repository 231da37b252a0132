"""NAME: which artifact a command is about."""

from collections.abc import Iterable

import msgspec

from gatesync.artifacts.changes import Entry
from gatesync.cli.running import EXIT_WRONG
from gatesync.cli.session import CommandError
from gatesync.publisher.answers import ArtifactsAnswer, Held
from gatesync.web.client import HttpClient

__all__ = ["NameFilter", "ambiguous", "find_named"]


class NameFilter(msgspec.Struct, frozen=True):
    """NAME, made exact by the options."""

    name: str
    version: str | None = None
    kind: str | None = None
    tenant: str | None = None

    def fits(self, entry: Entry) -> bool:
        """Whether it names this entry, by name or by api_id."""
        if self.name not in (entry.name, entry.api_id):
            return False
        pairs = (
            (self.version, entry.version),
            (self.kind, entry.kind),
            (self.tenant, entry.tenant),
        )
        return all(asked is None or asked == given for asked, given in pairs)


async def find_named(client: HttpClient, which: NameFilter) -> list[Held]:
    """The one artifact that is named, in each label that holds it.

    Raises `CommandError` where nothing has the name, or several artifacts have it.
    """
    answer = await client.get("/v1/artifacts", ArtifactsAnswer)
    held = [each for each in answer.artifacts if which.fits(each.entry)]
    if not held:
        raise CommandError(EXIT_WRONG, f"no label holds an artifact named {which.name!r}")
    candidates = {each.entry.api_id: each.entry.identity for each in held}
    if len(candidates) > 1:
        said = [f"{identity}  ({api_id})" for api_id, identity in sorted(candidates.items())]
        raise ambiguous(which, said)
    return held


def ambiguous(which: NameFilter, candidates: Iterable[str]) -> CommandError:
    """What to raise where several have the name."""
    first = f"{which.name!r} is ambiguous; add --version, --kind or --tenant, or give the api_id:"
    return CommandError(EXIT_WRONG, first, *(f"  {each}" for each in candidates))

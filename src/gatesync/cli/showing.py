"""show: one artifact, where it is, who put it there, and what it says of itself."""

from collections.abc import Iterator

import msgspec

from gatesync.artifacts.description import Description, Resource, describe
from gatesync.cli.naming import NameFilter, find_named
from gatesync.cli.output import Output
from gatesync.cli.remembering import fetch_content, said_when
from gatesync.cli.session import Target, call
from gatesync.publisher.answers import GatewaysAnswer, Held, HistoryAnswer, ReceiptsAnswer
from gatesync.publisher.receipts import Receipt
from gatesync.stores.store import LoggedChange
from gatesync.web.client import HttpClient

__all__ = ["show_artifact"]


class File(msgspec.Struct, frozen=True):
    """One file of an artifact; `size` in bytes."""

    role: str
    name: str
    path: str
    size: int


class ShownLabel(msgspec.Struct, frozen=True):
    """One label that holds an artifact: as what, since whose change, and on which gateways.

    `change` is None where the log no longer says who made it.
    """

    held: Held
    change: LoggedChange | None
    files: tuple[File, ...]
    description: Description
    gateways: tuple[Receipt, ...]


def show_artifact(target: Target, which: NameFilter, output: Output) -> int:
    """Show one artifact in each label that holds it."""

    async def work(client: HttpClient) -> list[ShownLabel]:
        found = await find_named(client, which)
        gateways = await client.get("/v1/gateways", GatewaysAnswer)
        epochs = {head.label: head.epoch for head in gateways.heads}
        named = [("name", found[0].entry.api_id)]
        logged = (await client.get("/v1/history", HistoryAnswer, named)).history.changes
        return [await _shown(client, held, epochs[held.label], logged) for held in found]

    shown = call(target, work)
    output.document(shown)
    entry = shown[0].held.entry
    output.line(str(entry.identity))
    output.line(f"  tenant     {entry.tenant}")
    output.line(f"  api_id     {entry.api_id}")
    told = ""
    for each in shown:
        for line in _about_label(each):
            output.line(line)
        if each.held.entry.digest != told:  # most often all labels hold the same
            for line in _about_artifact(each):
                output.line(f"  {line}")
        told = each.held.entry.digest
        for receipt in each.gateways:
            output.line(f"  {receipt.node}  {receipt.status.value}{_since(receipt)}")
        if not each.gateways:
            output.line("  no gateway of this label is known")
    return 0


def _since(receipt: Receipt) -> str:
    """Since when a gateway serves it, or why it does not."""
    if receipt.reason:
        return f": {receipt.reason}"
    if receipt.before:
        return f" since before {said_when(receipt.before)}"
    return f" since {said_when(receipt.at)}" if receipt.at else ""


async def _shown(
    client: HttpClient, held: Held, epoch: str, logged: tuple[LoggedChange, ...]
) -> ShownLabel:
    entry = held.entry
    params = [("label", held.label), ("epoch", epoch), ("revision", entry.revision)]
    receipts = await client.get("/v1/receipts", ReceiptsAnswer, params)
    artifact = await fetch_content(client, entry)
    return ShownLabel(
        held=held,
        change=next(
            (
                each
                for each in logged
                if (each.label, each.change.entry.revision) == (held.label, entry.revision)
                and each.change.entry.api_id == entry.api_id
            ),
            None,
        ),
        files=tuple(File(p.role, p.name, p.path, len(p.content)) for p in artifact.parts),
        description=describe(artifact),
        gateways=receipts.receipts,
    )


def _about_label(shown: ShownLabel) -> Iterator[str]:
    entry = shown.held.entry
    yield (
        f"label {shown.held.label}: revision {entry.revision}, {entry.size} bytes, "
        f"digest {entry.digest}"
    )
    if (change := shown.change) and change.published_at:
        who = f" by {change.author}" if change.author else ""
        where = f" from {change.origin}" if change.origin else ""
        yield f"  published {said_when(change.published_at)}{who}{where}"


def _about_artifact(shown: ShownLabel) -> Iterator[str]:
    description = shown.description
    if description.context:
        yield f"context    {description.context}"
    for file in shown.files:
        yield f"file       {file.path}, {file.size} bytes"
    for resource in description.resources:
        yield f"resource   {_resource(resource)}"
    for handler in description.handlers:
        yield f"handler    {handler}"
    for endpoint in description.endpoints:
        name = endpoint.name or "unnamed"
        yield f"endpoint   {name}, {endpoint.type} {' '.join(endpoint.urls)}".rstrip()
    for reference in description.references:
        yield f"needs      {reference.text}"


def _resource(resource: Resource) -> str:
    methods = " ".join(resource.methods) or "any method"
    return f"{methods} {resource.pattern or 'whatever no other resource serves'}"

"""The commands about artifacts, labels and gateways: what they are asked, and who does it."""

from pathlib import Path
from typing import Annotated

import typer

from gatesync.cli.options import (
    AllowUnauthenticatedOption,
    ContextOption,
    DryRunOption,
    EndpointOption,
    EngineOption,
    ExpectOption,
    ForceOption,
    JsonOption,
    KindFilter,
    LabelOption,
    NameArgument,
    NameOption,
    OneLabel,
    PublisherOption,
    SandboxEndpointOption,
    SkipInvalidOption,
    TenantFilter,
    TimeoutOption,
    VersionFilter,
    VersionOption,
    WaitOption,
    seconds,
)
from gatesync.cli.output import Output
from gatesync.cli.running import EXIT_WRONG
from gatesync.cli.session import CommandError, find_target

__all__ = ["commands"]

commands = typer.Typer()
labels_app = typer.Typer(help="List labels; confirm a label's history.")
commands.add_typer(labels_app, name="labels")


@commands.command()
def publish(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="artifacts, trees, XML, OpenAPI files")
    ],
    label: LabelOption = None,
    tenant: Annotated[str | None, typer.Option(help="for what does not name its own")] = None,
    atomic: Annotated[bool, typer.Option("--atomic", help="one change set of all")] = False,
    skip_invalid: SkipInvalidOption = False,
    dry_run: DryRunOption = False,
    engine: EngineOption = None,
    wait: WaitOption = None,
    expect: ExpectOption = None,
    timeout: TimeoutOption = "30s",
    endpoint: EndpointOption = "",
    sandbox_endpoint: SandboxEndpointOption = "",
    context: ContextOption = "",
    name: NameOption = "",
    version: VersionOption = "",
    allow_unauthenticated: AllowUnauthenticatedOption = False,
    publisher: PublisherOption = None,
    json: JsonOption = False,
) -> int:
    """Publish artifacts to one or several labels."""
    from gatesync.artifacts.openapi_options import OpenApiOptions
    from gatesync.cli import changing
    from gatesync.cli.sending import Waiting

    return changing.publish(
        find_target(publisher),
        paths,
        label or [],
        Output(json=json),
        tenant=tenant,
        openapi=OpenApiOptions(
            endpoint, sandbox_endpoint, context, name, version, allow_unauthenticated
        ),
        options=changing.PublishOptions(
            atomic, skip_invalid, dry_run, engine.value if engine else ""
        ),
        waiting=Waiting(wait, expect, seconds(timeout)),
    )


@commands.command()
def remove(
    name: NameArgument,
    label: LabelOption = None,
    version: VersionFilter = None,
    kind: KindFilter = None,
    tenant: TenantFilter = None,
    force: ForceOption = False,
    wait: WaitOption = None,
    expect: ExpectOption = None,
    timeout: TimeoutOption = "30s",
    publisher: PublisherOption = None,
    json: JsonOption = False,
) -> int:
    """Remove an artifact from the labels named, or from all that hold it."""
    from gatesync.cli import changing
    from gatesync.cli.naming import NameFilter
    from gatesync.cli.sending import Waiting

    return changing.remove(
        find_target(publisher),
        NameFilter(name, version, kind, tenant),
        label or [],
        Output(json=json),
        force=force,
        waiting=Waiting(wait, expect, seconds(timeout)),
    )


@commands.command()
def history(
    name: NameArgument,
    label: OneLabel = None,
    version: VersionFilter = None,
    kind: KindFilter = None,
    tenant: TenantFilter = None,
    publisher: PublisherOption = None,
    json: JsonOption = False,
) -> int:
    """Say who changed an artifact, when and from where."""
    from gatesync.cli import remembering
    from gatesync.cli.naming import NameFilter

    which = NameFilter(name, version, kind, tenant)
    return remembering.show_history(find_target(publisher), which, label, Output(json=json))


@commands.command()
def diff(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="name or api_id")] = None,
    label: OneLabel = None,
    since: Annotated[
        int | None, typer.Option("--from", metavar="REV", help="else the change before")
    ] = None,
    to: Annotated[int | None, typer.Option("--to", metavar="REV", help="else the newest")] = None,
    whitespace: Annotated[
        bool, typer.Option("--whitespace", help="compare the bytes, line by line")
    ] = False,
    against_git: Annotated[
        bool, typer.Option("--against-git", help="what the cluster serves against the branch")
    ] = False,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="whose [...git] names the repository")
    ] = None,
    version: VersionFilter = None,
    kind: KindFilter = None,
    tenant: TenantFilter = None,
    publisher: PublisherOption = None,
    json: JsonOption = False,
) -> int:
    """Show what a change did to an artifact, or what the cluster serves against a Git branch."""
    from gatesync.cli import remembering
    from gatesync.cli.naming import NameFilter

    which = NameFilter(name, version, kind, tenant) if name is not None else None
    output = Output(json=json)
    if against_git:
        from gatesync.cli.diffing_git import show_diff_against_git
        from gatesync.config import load

        if since is not None or to is not None:
            raise CommandError(EXIT_WRONG, "--from and --to are of one log; drop --against-git")
        settings = load(config).settings
        return show_diff_against_git(
            find_target(publisher), settings, which, label, output, whitespace=whitespace
        )
    if which is None:
        raise CommandError(EXIT_WRONG, "say which artifact: its NAME; or give --against-git")
    return remembering.show_diff(
        find_target(publisher), which, label, output, since=since, to=to, whitespace=whitespace
    )


@commands.command()
def rollback(
    name: NameArgument,
    label: OneLabel = None,
    to: Annotated[
        int | None, typer.Option("--to", metavar="REV", help="else what it was before")
    ] = None,
    version: VersionFilter = None,
    kind: KindFilter = None,
    tenant: TenantFilter = None,
    force: ForceOption = False,
    wait: WaitOption = None,
    expect: ExpectOption = None,
    timeout: TimeoutOption = "30s",
    publisher: PublisherOption = None,
    json: JsonOption = False,
) -> int:
    """Publish an artifact's earlier content anew, as a new revision."""
    from gatesync.cli import changing
    from gatesync.cli.naming import NameFilter
    from gatesync.cli.sending import Waiting

    return changing.roll_back(
        find_target(publisher),
        NameFilter(name, version, kind, tenant),
        label,
        to,
        Output(json=json),
        force=force,
        waiting=Waiting(wait, expect, seconds(timeout)),
    )


@commands.command("list")
def list_(
    label: Annotated[str | None, typer.Option("--label", "-l")] = None,
    publisher: PublisherOption = None,
    json: JsonOption = False,
) -> int:
    """List what labels hold."""
    from gatesync.cli import viewing

    return viewing.list_artifacts(find_target(publisher), label, Output(json=json))


@commands.command()
def show(
    name: NameArgument,
    version: VersionFilter = None,
    kind: KindFilter = None,
    tenant: TenantFilter = None,
    publisher: PublisherOption = None,
    json: JsonOption = False,
) -> int:
    """Show one artifact: in which labels, at which revision, on which gateways."""
    from gatesync.cli.naming import NameFilter
    from gatesync.cli.showing import show_artifact

    which = NameFilter(name, version, kind, tenant)
    return show_artifact(find_target(publisher), which, Output(json=json))


@commands.command()
def gateways(
    watch: Annotated[bool, typer.Option("--watch", help="keep the table up to date")] = False,
    publisher: PublisherOption = None,
    json: JsonOption = False,
) -> int:
    """Show who is in step, who is not, since when, and why."""
    from gatesync.cli.gateways import show_gateways

    return show_gateways(find_target(publisher), Output(json=json), watch=watch)


@commands.command()
def verify(
    timeout: TimeoutOption = "30s", publisher: PublisherOption = None, json: JsonOption = False
) -> int:
    """Compare what each gateway really holds, byte for byte, with the store."""
    from gatesync.cli import viewing

    return viewing.verify(find_target(publisher), Output(json=json), seconds(timeout))


@labels_app.callback(invoke_without_command=True)
def labels(
    context: typer.Context, publisher: PublisherOption = None, json: JsonOption = False
) -> int:
    """List labels, with the removals that wait for an operator."""
    from gatesync.cli.labels import show_labels

    if context.invoked_subcommand is not None:
        return 0
    return show_labels(find_target(publisher), Output(json=json))


@labels_app.command("confirm")
def labels_confirm(
    label: Annotated[str, typer.Argument(metavar="LABEL")],
    publisher: PublisherOption = None,
    json: JsonOption = False,
) -> int:
    """Confirm that a label's history, as the publisher has it now, is the right one."""
    from gatesync.cli.labels import confirm_label

    return confirm_label(find_target(publisher), label, Output(json=json))


@commands.command()
def export(
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="a folder that is not there yet")],
    label: LabelOption = None,
    gateway: Annotated[
        str | None, typer.Option("--gateway", metavar="URL", help="what this gateway serves")
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="folder; tree: a server's repository; wso2: JSON")
    ] = "folder",
    tenant: Annotated[
        str | None, typer.Option(help="whose deployment/server is, of a tree")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="the gateway's admin.token")
    ] = None,
    publisher: PublisherOption = None,
    json: JsonOption = False,
) -> int:
    """Write what labels hold, or what a running gateway serves, to a new folder."""
    from gatesync.cli import exporting

    made = exporting.make_form(form, tenant)
    output = Output(json=json)
    if gateway is None:
        return exporting.export_labels(find_target(publisher), label or [], to, made, output)
    if label:
        raise CommandError(EXIT_WRONG, "name labels or a gateway, not both")
    return exporting.export_gateway(gateway, token_file, to, made, output)


@commands.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="what export wrote, or a copy")],
    label: Annotated[
        str | None, typer.Option("--label", "-l", help="for all of it; else as the folders say")
    ] = None,
    skip_invalid: SkipInvalidOption = False,
    dry_run: DryRunOption = False,
    wait: WaitOption = None,
    expect: ExpectOption = None,
    timeout: TimeoutOption = "30s",
    publisher: PublisherOption = None,
    json: JsonOption = False,
) -> int:
    """Publish what was exported to the labels that it came from, or to another one."""
    from gatesync.cli import importing
    from gatesync.cli.changing import PublishOptions
    from gatesync.cli.sending import Waiting

    return importing.import_folder(
        find_target(publisher),
        folder,
        label,
        Output(json=json),
        options=PublishOptions(skip_invalid=skip_invalid, dry_run=dry_run),
        waiting=Waiting(wait, expect, seconds(timeout)),
    )

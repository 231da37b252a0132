"""gatesync, the command line. Each command is a thin shell around a module beside this one."""

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from gatesync import __version__
from gatesync.cli.output import Output
from gatesync.cli.running import EXIT_UNREACHABLE, EXIT_WRONG, run_role
from gatesync.cli.session import CommandError, find_target
from gatesync.config import (
    ConfigError,
    Loaded,
    as_toml,
    check,
    describe,
    load,
)

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Keeps every node of an API-gateway cluster serving the same artifacts.",
)
labels_app = typer.Typer(help="List labels; confirm a label's history.")
token_app = typer.Typer(no_args_is_help=True, help="Access tokens of a publisher's data folder.")
config_app = typer.Typer(no_args_is_help=True, help="Read a deployment.toml without starting.")
db_app = typer.Typer(no_args_is_help=True, help="The tables of a publisher's database.")
app.add_typer(labels_app, name="labels")
app.add_typer(token_app, name="token")
app.add_typer(config_app, name="config")
app.add_typer(db_app, name="db")

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="deployment.toml; defaults without it")
]
JsonOption = Annotated[bool, typer.Option("--json", help="one JSON document on standard output")]
PublisherOption = Annotated[
    str | None, typer.Option("--publisher", help="its URL; else GATESYNC_PUBLISHER")
]
LabelOption = Annotated[list[str] | None, typer.Option("--label", "-l", help="repeatable")]
WaitOption = Annotated[
    str | None, typer.Option("--wait", help="all, N or P%: until so many gateways have it")
]
ExpectOption = Annotated[
    int | None, typer.Option("--expect", min=0, help="gateways that there must be at least")
]
OneLabel = Annotated[str | None, typer.Option("--label", "-l", help="needed where several had it")]
ForceOption = Annotated[
    bool, typer.Option("--force", help="also where others refer to what goes away")
]
TimeoutOption = Annotated[str, typer.Option("--timeout", help="such as 30s, 500ms or 2m")]
VersionFilter = Annotated[str | None, typer.Option("--version", help="the artifact's version")]
KindFilter = Annotated[str | None, typer.Option("--kind", help="api, sequence, policy...")]
TenantFilter = Annotated[str | None, typer.Option("--tenant", help="the tenant domain")]


def main() -> NoReturn:
    """Run a command; the exit code says how it went (0, 1, 2 or 3)."""
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 - closed by the caller
    sys.stderr = sys.stderr or sys.stdout
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except CommandError as error:
        output = Output(json=False)
        for reason in error.reasons:
            output.problem(reason)
        code = error.code
    except ConfigError as error:
        print(error, file=sys.stderr)
        code = EXIT_WRONG
    except OSError as error:
        where = error.filename if error.filename is not None else "the answer cannot be written"
        print(f"gatesync: {where}: {error.strerror}", file=sys.stderr)
        _give_up_stdout()
        code = EXIT_UNREACHABLE
    except typer.Abort:
        code = 130
    except typer.Exit as error:
        code = error.exit_code
    except Exception as error:
        if not hasattr(error, "show"):
            raise
        error.show()  # click's own: a wrong option, a missing argument
        code = EXIT_WRONG
    sys.exit(code or 0)


def _give_up_stdout() -> None:
    """What is still in the buffer must not fail a second time when the process ends."""
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 1)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="print the version")] = False,
) -> None:
    """Print the version, if that was asked for."""
    if version:
        print(f"gatesync {__version__}")
        raise typer.Exit


@app.command()
def up(config: ConfigOption = None) -> int:
    """Run all roles in one process, with an embedded broker and SQLite."""
    from gatesync.cli.roles import REFUSALS, up_role

    loaded = _start(config)
    return run_role(up_role(loaded.settings), REFUSALS)


@app.command()
def publisher(config: ConfigOption = None) -> int:
    """Run a publisher."""
    from gatesync.cli.roles import REFUSALS, publisher_role

    loaded = _start(config)
    return run_role(publisher_role(loaded.settings), REFUSALS)


@app.command("traffic-manager")
def traffic_manager(config: ConfigOption = None) -> int:
    """Run the embedded broker."""
    from gatesync.cli.roles import REFUSALS, traffic_manager_role

    loaded = _start(config)
    return run_role(traffic_manager_role(loaded.settings), REFUSALS)


@app.command()
def gateway(config: ConfigOption = None) -> None:
    """Run a gateway, in a process that carries only what a gateway needs."""
    arguments = [] if config is None else [str(config)]
    os.execv(  # noqa: S606 - this same program, with fewer libraries in it
        sys.executable, [sys.executable, "-m", "gatesync.cli.gateway_process", *arguments]
    )


@app.command()
def publish(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="artifacts, trees, XML files")
    ],
    label: LabelOption = None,
    tenant: Annotated[str | None, typer.Option(help="for what does not name its own")] = None,
    atomic: Annotated[bool, typer.Option("--atomic", help="one change set of all")] = False,
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="leave out what is refused, tell, go on")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what would change and what is wrong; no more")
    ] = False,
    wait: WaitOption = None,
    expect: ExpectOption = None,
    timeout: TimeoutOption = "30s",
    publisher: PublisherOption = None,
    json: JsonOption = False,
) -> int:
    """Publish artifacts to one or several labels."""
    from gatesync.cli import changing
    from gatesync.cli.sending import Waiting

    return changing.publish(
        find_target(publisher),
        paths,
        label or [],
        Output(json=json),
        tenant=tenant,
        options=changing.PublishOptions(atomic, skip_invalid, dry_run),
        waiting=Waiting(wait, expect, _seconds(timeout)),
    )


@app.command()
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="its name, or its api_id")],
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
        waiting=Waiting(wait, expect, _seconds(timeout)),
    )


@app.command()
def history(
    name: Annotated[str, typer.Argument(metavar="NAME", help="its name, or its api_id")],
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


@app.command()
def diff(
    name: Annotated[str, typer.Argument(metavar="NAME", help="its name, or its api_id")],
    label: OneLabel = None,
    since: Annotated[
        int | None, typer.Option("--from", metavar="REV", help="else the change before")
    ] = None,
    to: Annotated[int | None, typer.Option("--to", metavar="REV", help="else the newest")] = None,
    whitespace: Annotated[
        bool, typer.Option("--whitespace", help="compare the bytes, line by line")
    ] = False,
    version: VersionFilter = None,
    kind: KindFilter = None,
    tenant: TenantFilter = None,
    publisher: PublisherOption = None,
    json: JsonOption = False,
) -> int:
    """Show what a change did to an artifact, or several changes together."""
    from gatesync.cli import remembering
    from gatesync.cli.naming import NameFilter

    return remembering.show_diff(
        find_target(publisher),
        NameFilter(name, version, kind, tenant),
        label,
        Output(json=json),
        since=since,
        to=to,
        whitespace=whitespace,
    )


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(metavar="NAME", help="its name, or its api_id")],
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
        waiting=Waiting(wait, expect, _seconds(timeout)),
    )


@app.command("list")
def list_(
    label: Annotated[str | None, typer.Option("--label", "-l")] = None,
    publisher: PublisherOption = None,
    json: JsonOption = False,
) -> int:
    """List what labels hold."""
    from gatesync.cli import viewing

    return viewing.list_artifacts(find_target(publisher), label, Output(json=json))


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="its name, or its api_id")],
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


@app.command()
def gateways(
    watch: Annotated[bool, typer.Option("--watch", help="keep the table up to date")] = False,
    publisher: PublisherOption = None,
    json: JsonOption = False,
) -> int:
    """Show who is in step, who is not, since when, and why."""
    from gatesync.cli import viewing

    return viewing.show_gateways(find_target(publisher), Output(json=json), watch=watch)


@app.command()
def verify(
    timeout: TimeoutOption = "30s", publisher: PublisherOption = None, json: JsonOption = False
) -> int:
    """Compare what each gateway really holds, byte for byte, with the store."""
    from gatesync.cli import viewing

    return viewing.verify(find_target(publisher), Output(json=json), _seconds(timeout))


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


@app.command()
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


@app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="what export wrote, or a copy")],
    label: Annotated[
        str | None, typer.Option("--label", "-l", help="for all of it; else as the folders say")
    ] = None,
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="leave out what is refused, tell, go on")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="say what would change and what is wrong; no more")
    ] = False,
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
        waiting=Waiting(wait, expect, _seconds(timeout)),
    )


@token_app.command("create")
def token_create(
    holder: Annotated[str, typer.Option("--id", help="who it is for; a node's own id")],
    role: Annotated[str, typer.Option("--role", help="publish, node or read")] = "node",
    label: LabelOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> int:
    """Create a token and print it, this once."""
    from gatesync.cli import tokens

    return tokens.create(load(config).settings, holder, role, label or [], Output(json=json))


@token_app.command("list")
def token_list(config: ConfigOption = None, json: JsonOption = False) -> int:
    """List the tokens; never their text."""
    from gatesync.cli import tokens

    return tokens.show(load(config).settings, Output(json=json))


@token_app.command("revoke")
def token_revoke(
    which: Annotated[str, typer.Argument(metavar="TOKEN", help="its id, or its holder")],
    config: ConfigOption = None,
    json: JsonOption = False,
) -> int:
    """Revoke a token, or all of one holder; publishers take it in at once."""
    from gatesync.cli import tokens

    return tokens.revoke(load(config).settings, which, Output(json=json))


@config_app.command("check")
def config_check(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]")] = None, json: JsonOption = False
) -> int:
    """Say everything that is wrong or doubtful in a deployment.toml."""
    output = Output(json=json)
    checked = check(file)
    problems = [problem.at(file) for problem in checked.problems]
    warnings = [warning.at(file) for warning in checked.warnings]
    output.document({"problems": problems, "warnings": warnings})
    for problem in problems:
        output.problem(problem)
    for warning in warnings:
        output.line(f"warning: {warning}")
    if checked.loaded is not None and checked.loaded.note:
        output.line(checked.loaded.note)
    if not problems:
        output.line("the configuration is good")
    return EXIT_WRONG if problems else 0


@config_app.command("show")
def config_show(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]")] = None, json: JsonOption = False
) -> int:
    """Print every effective setting and where it comes from; secrets are masked."""
    output = Output(json=json)
    described = describe(load(file))
    output.document(described)
    output.line(as_toml(described).rstrip())
    return 0


@db_app.command("script")
def db_script(
    dialect: Annotated[
        str, typer.Option(help="postgresql, mysql, mariadb, sqlite; untested: mssql, oracle")
    ],
) -> int:
    """Print the SQL that creates the tables, for an administrator."""
    from gatesync.cli import database

    return database.print_script(dialect, Output(json=False))


@db_app.command("create")
def db_create(config: ConfigOption = None, json: JsonOption = False) -> int:
    """Create the tables that are missing; a publisher does so, too, when it starts."""
    from gatesync.cli import database

    return database.create(load(config).settings.database, Output(json=json))


@db_app.command("check")
def db_check(config: ConfigOption = None, json: JsonOption = False) -> int:
    """Say what is missing or wrong in the database, and the statements that mend it."""
    from gatesync.cli import database

    return database.check(load(config).settings.database, Output(json=json))


@db_app.command("upgrade")
def db_upgrade(config: ConfigOption = None, json: JsonOption = False) -> int:
    """Take over the tables that WSO2 3.2 made, with all that is in them."""
    from gatesync.cli import database

    return database.upgrade(load(config).settings.database, Output(json=json))


def _start(config: Path | None) -> Loaded:
    """Load the configuration of a role and get ready to log."""
    from gatesync.cli.gateway_process import tell_warnings
    from gatesync.cli.logs import configure_logs

    loaded = load(config)
    configure_logs(loaded.settings.log_format, loaded.settings.log_level)
    tell_warnings(loaded)
    return loaded


def _seconds(text: str) -> float:
    """Read `30s`, `500ms`, `2m` or a number of seconds."""
    for unit, factor in (("ms", 0.001), ("s", 1.0), ("m", 60.0), ("", 1.0)):
        if text.endswith(unit):
            number = text.removesuffix(unit) if unit else text
            try:
                seconds = float(number) * factor
            except ValueError:
                break
            if 0 < seconds < 86_400:
                return seconds
            break
    raise CommandError(EXIT_WRONG, f"--timeout {text!r} is not understood; write 30s, 500ms or 2m")

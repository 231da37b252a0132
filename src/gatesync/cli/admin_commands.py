"""The commands for administrators: tokens, keys, configuration, the database."""

from pathlib import Path
from typing import Annotated

import typer

from gatesync.cli.options import (
    ConfigOption,
    JsonOption,
    KeyArgument,
    LabelOption,
    PublisherOption,
)
from gatesync.cli.output import Output
from gatesync.cli.running import EXIT_WRONG
from gatesync.cli.session import find_target
from gatesync.config import as_toml, check, describe, load

__all__ = ["commands"]

commands = typer.Typer()
token_app = typer.Typer(no_args_is_help=True, help="Access tokens of a publisher's data folder.")
keys_app = typer.Typer(no_args_is_help=True, help="What a publisher signs its changes with.")
config_app = typer.Typer(no_args_is_help=True, help="Read a deployment.toml without starting.")
share_app = typer.Typer(no_args_is_help=True, help="The shared file system of publishers.")
db_app = typer.Typer(no_args_is_help=True, help="The tables of a publisher's database.")
commands.add_typer(token_app, name="token")
commands.add_typer(keys_app, name="keys")
commands.add_typer(config_app, name="config")
commands.add_typer(db_app, name="db")
commands.add_typer(share_app, name="share")


@token_app.command("create")
def token_create(
    holder: Annotated[str, typer.Option("--id", help="who it is for; a node's own id")],
    role: Annotated[str, typer.Option("--role", help="publish, node or read")] = "node",
    label: LabelOption = None,
    tenant: Annotated[
        list[str] | None, typer.Option("--tenant", help="that it may publish for; all if none")
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> int:
    """Create a token and print it, this once.

    A node reads its labels; a publisher that is given some reads and changes no others.
    """
    from gatesync.cli import tokens

    output = Output(json=json)
    return tokens.create(load(config).settings, holder, role, label or [], tenant or [], output)


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


@keys_app.command("create")
def keys_create(config: ConfigOption = None, json: JsonOption = False) -> int:
    """Make a key and print its public half, which gateways are given to trust."""
    from gatesync.cli import keys

    return keys.create(load(config).settings, Output(json=json))


@keys_app.command("list")
def keys_list(config: ConfigOption = None, json: JsonOption = False) -> int:
    """List the keys, with their public halves."""
    from gatesync.cli import keys

    return keys.show(load(config).settings, Output(json=json))


@keys_app.command("use")
def keys_use(key_id: KeyArgument, config: ConfigOption = None, json: JsonOption = False) -> int:
    """Have a key sign from now on; publishers take it in within a second."""
    from gatesync.cli import keys

    return keys.use(load(config).settings, key_id, Output(json=json))


@keys_app.command("retire")
def keys_retire(
    key_id: KeyArgument,
    force: Annotated[
        bool, typer.Option("--force", help="also where it signs, or signed what still stands")
    ] = False,
    config: ConfigOption = None,
    publisher: PublisherOption = None,
    json: JsonOption = False,
) -> int:
    """Have a key sign nothing any more, once nothing that it signed stands in any label."""
    from gatesync.cli import keys

    settings, output = load(config).settings, Output(json=json)
    return keys.retire(settings, key_id, find_target(publisher), output, force=force)


@keys_app.command("sign")
def keys_sign(
    label: LabelOption = None,
    unsigned: Annotated[
        bool, typer.Option("--unsigned", help="also what cannot be proved: the store is right")
    ] = False,
    publisher: PublisherOption = None,
    json: JsonOption = False,
) -> int:
    """Sign anew what stands, by the key that signs now: before another one is retired."""
    from gatesync.cli import keys

    return keys.sign(find_target(publisher), label or [], Output(json=json), unsigned=unsigned)


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
    """Bring older tables to this version, or take over those that WSO2 3.2 made."""
    from gatesync.cli import database
    from gatesync.cli.auditing import recorded

    settings, output = load(config).settings, Output(json=json)
    source = str(settings.database.source)
    with recorded(settings, output, "take over database", source) as recording:
        code = database.upgrade(settings.database, output)
        if code:
            recording.tell(reasons=("some rows were left out; the command told which",))
    return code


@share_app.command("create")
def share_create(config: ConfigOption = None, json: JsonOption = False) -> int:
    """Make a new share of the mounted folder that the configuration names."""
    from gatesync.cli import share

    return share.create(load(config).settings, Output(json=json))


@commands.command()
def audit(
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="30m, 2h, 7d, or a date and time (UTC)")
    ] = None,
    who: Annotated[str, typer.Option(help="a token's holder or id, an account, an address")] = "",
    name: Annotated[str, typer.Option(help="of an artifact, or its api_id; a label")] = "",
    last: Annotated[int, typer.Option(min=1, max=1_000_000, help="entries at most")] = 100,
    verify: Annotated[bool, typer.Option("--verify", help="check the chain instead")] = False,
    head: Annotated[str, typer.Option(help="with --verify: SEQUENCE:HASH, kept elsewhere")] = "",
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="a publisher's data folder, read here")
    ] = None,
    config: ConfigOption = None,
    publisher: PublisherOption = None,
    json: JsonOption = False,
) -> int:
    """Say who changed what, when and from where; from a publisher, or from its folder."""
    from gatesync.cli import auditing

    folder = data or (load(config).settings.data if config is not None else None)
    where = folder or find_target(publisher)
    if verify:
        return auditing.verify_log(where, head, Output(json=json))
    begin = auditing.parse_since(since) if since else 0
    asked = auditing.Asked(begin, who, name, last)
    return auditing.show_audit(where, asked, Output(json=json))

"""gatesync db: the tables of the database that deployment.toml names.

These commands talk to the database itself, not to a publisher.
"""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

from gatesync.artifacts.changes import Instruction
from gatesync.cli.database_trouble import explain
from gatesync.cli.output import Output
from gatesync.cli.running import EXIT_NO, EXIT_UNREACHABLE, EXIT_WRONG
from gatesync.cli.session import CommandError
from gatesync.config import ConfigError, DatabaseSettings
from gatesync.publisher.taking_over import publish_of_row
from gatesync.stores.schema import SCHEMA_FORMAT
from gatesync.stores.sql import open_sql_store
from gatesync.stores.sql_check import Checked, check_database
from gatesync.stores.sql_opening import make_reading_engine, shown
from gatesync.stores.sql_running import Lane
from gatesync.stores.sql_scripts import creation_script
from gatesync.stores.sql_source import Dialect, SqlSource
from gatesync.stores.sql_takeover import TakenRow, Takeover, take_over
from gatesync.stores.sql_upgrade import upgrade_tables
from gatesync.stores.store import StoreError

__all__ = ["check", "create", "print_script", "upgrade"]

_DENIED: Final = ("permission denied", "command denied", "must be owner")

_T = TypeVar("_T")


def print_script(dialect: str, output: Output) -> int:
    """Print the script that creates the tables."""
    try:
        output.line(creation_script(dialect).rstrip())
    except StoreError as error:
        raise CommandError(EXIT_WRONG, str(error)) from None
    return 0


def create(database: DatabaseSettings, output: Output) -> int:
    """Create the tables that are missing. A publisher does the same when it starts."""
    source = _source(database)

    async def work() -> str:
        async with open_sql_store(source, database.options) as store:
            return store.epoch

    which = "mysql (or mariadb)" if source.dialect is Dialect.MYSQL else source.dialect
    script = f"gatesync db script --dialect {which}"
    epoch = _run(work, database, f"let an administrator run what this prints: {script}")
    output.document({"database": str(source), "epoch": epoch})
    output.line(f"{source} has its tables")
    return 0


def check(database: DatabaseSettings, output: Output) -> int:
    """Say what is missing or wrong in the database, and what mends it."""
    source = _source(database)
    if source.dialect is Dialect.SQLITE and not Path(source.database).exists():
        reason = f"{source} is not there; a publisher makes it, or: gatesync db create"
        raise CommandError(EXIT_NO, reason)

    async def work() -> Checked:
        engine = await asyncio.to_thread(make_reading_engine, source, database.options)
        deadline = database.options.deadline
        where = shown(engine.url)
        lane = Lane(engine, threads=1, name="check", where=where, deadline=deadline)
        try:
            return await lane.run(check_database)
        finally:
            await lane.close()

    reading = "this user may not read it; docs/databases.md lists what to grant"
    checked = _run(work, database, reading)
    output.document(checked)
    for finding in checked.findings:
        output.line(f"{finding.where}: {finding.what}")
    if checked.statements and checked.upgrade:
        output.line("\nThe takeover makes new tables. As long as WSO2 writes to these, run:")
    elif checked.statements:
        output.line("\nThis mends the tables. End the publishers first, and run as their owner:")
    for statement in checked.statements:
        output.line(f"{statement};")
    if not checked.findings:
        output.line(f"{source} is good")
    return EXIT_NO if checked.findings else 0


def upgrade(database: DatabaseSettings, output: Output) -> int:
    """Bring older tables of ours to this version, or take over those that WSO2's script made."""
    source = _source(database)

    async def work() -> tuple[int | None, Takeover | None]:
        if (older := await upgrade_tables(source, database.options)) is not None:
            return older, None
        with output.progress("rows", 1_000) as advance:
            told = 0

            def move(done: int, whole: int) -> None:
                nonlocal told
                thousandths = done * 1_000 // max(1, whole)
                advance(thousandths - told)
                told = thousandths

            done = await take_over(source, database.options, publish_of_row, progress=move)
            return None, done

    who = "the owner of the tables must do this; docs/databases.md lists what that user needs"
    older, done = _run(work, database, who)
    if done is None:
        output.document({"database": str(source), "taken_over": None, "upgraded_from": older})
        if older is not None:
            output.line(f"{source} is upgraded from format {older} to {SCHEMA_FORMAT}")
            return 0
        output.line(f"{source} has no tables of WSO2's: there is nothing to take over")
        return 0
    output.document({"database": str(source), "taken_over": done})
    return _tell(done, str(source), output)


def _tell(done: Takeover, database: str, output: Output) -> int:
    refused = [row for row in done.rows if not row.revision]
    published = [row for row in refused if row.instruction != Instruction.REMOVE]
    for row in done.rows:
        for note in row.notes:
            _tell_note(row, note, output)
    when = "had been taken over before; nothing changed" if done.before else "is taken over"
    output.line(f"{database} {when}")
    for label in sorted({row.label for row in done.rows}):
        mine = [row for row in done.rows if row.label == label]
        counts = [
            sum(bool(row.revision) and row.instruction == each for row in mine)
            for each in Instruction
        ]
        left = sum(not row.revision for row in mine)
        output.line(
            f"  label {label!r}: {counts[0]} published, {counts[1]} removed before, {left} left out"
        )
    output.line(
        "Every row is kept as it was in GS_WSO2_API_ARTIFACTS and GS_WSO2_API_DETAILS, passwords "
        "that stand in them too;\ndrop these two tables when nobody needs them any more"
    )
    if published:
        output.problem(
            f"{len(published)} left out that WSO2 served: publish these APIs again, else they are "
            "missing"
        )
    return EXIT_NO if published else 0


def _tell_note(row: TakenRow, note: str, output: Output) -> None:
    what = f"label {row.label!r}, API_ID {row.api_id}: {note}"
    if row.revision:
        output.warning(what)
    elif row.instruction == Instruction.REMOVE:
        output.warning(f"{what}. It was removed, and is not in the history")
    else:
        output.problem(f"left out: {what}")


def _source(database: DatabaseSettings) -> SqlSource:
    if database.refusal is not None:
        raise ConfigError([database.refusal])
    assert database.source is not None
    return database.source


def _run(
    work: Callable[[], Coroutine[Any, Any, _T]], database: DatabaseSettings, denied: str = ""
) -> _T:
    """Do it; `denied` is what to do where the user may not."""
    try:
        return asyncio.run(work())
    except StoreError as error:
        reason = str(error)
        if any(each in reason for each in _DENIED):
            raise CommandError(EXIT_WRONG, reason, denied) from None
        explained = explain(error, database)
        if isinstance(explained, ConfigError):
            raise explained from None
        raise CommandError(EXIT_UNREACHABLE, str(explained)) from None

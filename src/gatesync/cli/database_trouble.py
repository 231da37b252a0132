"""Why the database could not be opened, as one line that says what to do."""

import re
from typing import Final

from gatesync.config import ConfigError, DatabaseSettings
from gatesync.config.problems import ConfigProblem
from gatesync.stores.store import StoreError

__all__ = ["explain"]

# What the drivers say, the key to look at, and what to do. Servers speak other languages, too:
# what is not recognised is told as it is. MySQL's numbers are the same in every language.
_MISTAKES: Final = (
    (
        r"password authentication failed|no password supplied|\b1045\b",
        "password",
        "the user name or the password is not the right one; mend username and password",
    ),
    (
        r"role \S+ does not exist",
        "username",
        "there is no such user; create it, or mend username",
    ),
    (
        r"database \S+ does not exist|\b1049\b",
        "url",
        "there is no such database; create it, or mend the url",
    ),
    (
        r"no pg_hba\.conf entry|permission denied|\b1044\b|\b1130\b|\b1142\b",
        "username",
        "this user may not do that from here; grant it what docs/databases.md lists",
    ),
    (
        r"certificate|does not support SSL|SSL is required|\b2026\b|sslrootcert",
        "url",
        "TLS is not as the url asks for; mend sslMode and sslrootcert, or the server",
    ),
)
_UNREACHED: Final = (
    r"refused|resolve|translate host|not known|timeout|timed out|unreachable|no route"
    r"|closed the|\b2003\b|\b2013\b"
)


def explain(error: StoreError, database: DatabaseSettings) -> Exception:
    """What to raise in place of the store's error: it names the database and the next step.

    A mistake in the configuration (a wrong password, a database that is not there) becomes a
    `ConfigError`, all else a `StoreError`.
    """
    source = database.source
    if source is None or not source.hosts:
        return error
    reason = _reason(error)
    for pattern, key, advice in _MISTAKES:
        if re.search(pattern, reason, re.IGNORECASE):
            user = f" as {source.username}" if source.username else ""
            problem = f"{source}{user}: {reason}; {advice}"
            return ConfigError([ConfigProblem(problem, f"{database.key}.{key}")])
    if re.search(_UNREACHED, reason, re.IGNORECASE):
        reason += (
            f"; start the database, or mend host and port in {database.key}.url. gatesync does "
            "not wait for a database; let the service manager start it again"
        )
    if error.__cause__ is None:
        return error  # the store's own words, which name the database
    return StoreError(f"{source}: {reason}")


def _reason(error: StoreError) -> str:
    """The driver's own words, in one line."""
    cause = getattr(error.__cause__, "orig", None) or error.__cause__ or error
    arguments = cause.args
    if len(arguments) == 2 and isinstance(arguments[0], int):  # PyMySQL: a number and a text
        text = f"{arguments[1]} ({arguments[0]})"
    else:
        text = str(cause)
    lines = [line.strip().rstrip(".") for line in text.splitlines() if line.strip()]
    return lines[0].removeprefix("connection failed: ") if lines else type(cause).__name__

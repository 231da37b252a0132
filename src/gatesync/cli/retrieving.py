"""Where a gateway reads the log: the publisher, over HTTP, or what publishers store in."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from gatesync.config import ConfigError, Settings, load_adapter
from gatesync.config.adapters import WSO2_NAMES
from gatesync.config.problems import ConfigProblem
from gatesync.gateway.lag import LAG_SECONDS
from gatesync.stores.http import HttpRetriever
from gatesync.stores.store import Retriever
from gatesync.web.client import HttpClient

__all__ = ["lag_seconds", "open_retriever", "reads_from"]

KEY: Final = "apim.sync_runtime_artifacts.gateway.artifact_retriever"
# By name, so that a gateway which reads over HTTP carries no database library.
SQL: Final = "gatesync.stores.sql_retriever:open_sql_retriever"
GIT: Final = "gatesync.stores.git_retriever:open_git_retriever"
SHARE: Final = "gatesync.stores.share_store:open_share_retriever"


def reads_from(settings: Settings) -> str:
    """What a gateway with these settings reads from, without passwords.

    Raises `ConfigError` where a database is insisted on that cannot be opened.
    """
    name, database = _name(settings), settings.database
    if name == "http":
        return f"publisher {settings.event_hub.service_url}"
    if name == "git":
        return str(settings.git.source_of("gateway", KEY))
    if name == "share":
        return str(settings.share.source_of(KEY))
    if name != "sql":
        return name
    if database.source is None:
        reason = "there is no database that can be opened"
        raise ConfigError([database.refusal or ConfigProblem(reason, KEY)])
    return f"database {database.read_source or database.source}"


def lag_seconds(settings: Settings) -> float:
    """For how long that may show an older state: a replica, or what it was when last looked at.

    So do a clone, and a mounted file system: hosts cache what they have read of it.
    """
    name, git = _name(settings), settings.git.source
    if name == "git" and git is not None:
        return max(LAG_SECONDS, 2 * git.poll_seconds)
    replica = name == "sql" and settings.database.read_source is not None
    return LAG_SECONDS if replica or name == "share" else 0.0


@asynccontextmanager
async def open_retriever(settings: Settings, client: HttpClient) -> AsyncIterator[Retriever]:
    """Open what `reads_from` names.

    Raises:
        ConfigError: there is no such retriever, or what it needs is not installed.
    """
    name, database = _name(settings), settings.database
    if name == "http":
        yield HttpRetriever(client, settings.gateway.contents_url)
        return
    if name == "git":
        open_git = load_adapter("gatesync.stores", GIT, KEY)
        async with open_git(settings.git.source_of("gateway", KEY)) as retriever:
            yield retriever
        return
    if name == "share":
        open_share = load_adapter("gatesync.stores", SHARE, KEY)
        async with open_share(settings.share.source_of(KEY)) as retriever:
            yield retriever
        return
    opener = load_adapter("gatesync.stores", SQL if name == "sql" else name, KEY)
    async with opener(database.read_source or database.source, database.options) as retriever:
        yield retriever


def _name(settings: Settings) -> str:
    """WSO2's `DBRetriever` is the database where the file names one that can be opened."""
    name, database = settings.gateway.artifact_retriever, settings.database
    if name != "DBRetriever":
        return WSO2_NAMES.get(name, name)
    return "http" if database.url is None or database.source is None else "sql"

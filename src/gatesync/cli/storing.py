"""Where a publisher keeps artifacts: a database, Git, a share, or what an adapter brings."""

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from gatesync.cli.database_trouble import explain
from gatesync.config import ConfigError, Settings, load_adapter
from gatesync.config.adapters import WSO2_NAMES
from gatesync.stores.store import Saver, StoreError

__all__ = ["open_store"]

KEY: Final = "apim.sync_runtime_artifacts.publisher.artifact_saver"
GIT: Final = "gatesync.stores.git_store:open_git_store"
SHARE: Final = "gatesync.stores.share_opening:open_share_saver"


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[Saver]:
    """Open what `artifact_saver` names.

    Raises:
        ConfigError: there is no such adapter, or the configuration of what it opens is wrong.
        StoreError: it cannot be opened.
    """
    name = settings.publisher.artifact_saver
    name = WSO2_NAMES.get(name, name)
    if name == "git":
        open_git = load_adapter("gatesync.stores", GIT, KEY)
        async with open_git(settings.git.source_of("publisher", KEY)) as saver:
            yield saver
        return
    if name == "share":
        open_share = load_adapter("gatesync.stores", SHARE, KEY)
        async with open_share(settings.share.source_of(KEY)) as saver:
            yield saver
        return
    open_sql = load_adapter("gatesync.stores", name, KEY)
    database = settings.database
    if database.refusal is not None:
        raise ConfigError([database.refusal])
    async with contextlib.AsyncExitStack() as stack:
        try:
            saver = await stack.enter_async_context(open_sql(database.source, database.options))
        except StoreError as error:
            raise explain(error, database) from error
        yield saver

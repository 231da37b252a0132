"""`save_artifacts_locally`: a gateway's engine, with the files of its artifacts on disk."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import structlog

from gatesync.config import ConfigError, Settings
from gatesync.config.problems import ConfigProblem
from gatesync.config.settings import LocalDrift
from gatesync.engines.engine import Engine

__all__ = ["saved_locally"]

KEY = "apim.sync_runtime_artifacts.gateway.save_artifacts_locally"

_log = structlog.get_logger("gatesync.gateway")


@asynccontextmanager
async def saved_locally(engine: Engine, settings: Settings) -> AsyncIterator[Engine]:
    """The engine itself where `save_artifacts_locally` is false, else a `SavingEngine` over it.

    What people do to the saved files is looked for while the block runs.

    Raises:
        ConfigError: the tree cannot be written, or another process writes it.
    """
    gateway = settings.gateway
    if gateway.save_artifacts_locally is False:  # absent is the same as true
        yield engine
        return
    # Not at the top: a gateway that saves nothing starts without what writes trees.
    from gatesync.engines.saving import SavingEngine
    from gatesync.trees.errors import TreeError
    from gatesync.trees.opening import REPOSITORY_FOLDER, open_tree

    skip = {
        "api": gateway.skip_list.apis,
        "endpoints": gateway.skip_list.endpoints,
        "sequences": gateway.skip_list.sequences,
        "local-entries": gateway.skip_list.local_entries,
    }
    restore = gateway.local_drift is LocalDrift.RESTORE
    with ExitStack() as stack:
        try:
            opening = open_tree(gateway.home, settings.data, skip=skip, restore=restore)
            saving = SavingEngine(engine, stack.enter_context(opening))
        except TreeError as error:
            reason = f"{error}; a gateway that is to save no files has false here"
            raise ConfigError([ConfigProblem(reason, KEY)]) from error
        folder = str(gateway.home / REPOSITORY_FOLDER)
        _log.info("artifacts are saved locally", folder=folder, files=saving.saved_files)
        async with asyncio.TaskGroup() as tasks:
            seconds = gateway.local_drift_interval_ms / 1000
            watching = tasks.create_task(saving.watch(seconds), name="saved tree")
            yield saving
            watching.cancel()

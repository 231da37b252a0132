"""SIGHUP at a gateway: its labels, tenants and trusted keys are read anew, while it serves on."""

import asyncio
import signal
from collections.abc import Callable
from typing import TypeAlias

import msgspec
import structlog

from gatesync.artifacts.signatures import Trust
from gatesync.cli.notifying import reloading
from gatesync.config import ConfigError, Settings
from gatesync.gateway.agent import Agent
from gatesync.gateway.desired import Loads, loads_all
from gatesync.gateway.tenants import tenant_filter
from gatesync.web.client import HttpClient

__all__ = ["ReadAgain", "follow_configuration", "loads_of", "trust_of"]

ReadAgain: TypeAlias = Callable[[], tuple[Settings, str]]
"""Reads the configuration and this node's token anew. Raises `ConfigError` or `OSError`."""

_log = structlog.get_logger("gatesync.gateway")


def loads_of(settings: Settings) -> Loads:
    """Which tenants a gateway with these settings loads."""
    tenants = settings.gateway.tenant_loading
    return tenant_filter(tenants.tenants) if tenants.enable else loads_all


def trust_of(settings: Settings) -> Trust | None:
    """Whose signatures a gateway with these settings asks for; None for nobody's."""
    keys = settings.gateway.trusted_keys
    return Trust(keys) if keys else None


async def follow_configuration(
    read_again: ReadAgain, settings: Settings, agent: Agent, client: HttpClient
) -> None:
    """Act on each SIGHUP until cancelled; a configuration that is wrong changes nothing."""
    hung_up = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, hung_up.set)
    trusted = settings.gateway.trusted_keys
    try:
        while True:
            await hung_up.wait()
            hung_up.clear()
            with reloading():
                try:
                    # In a thread: a secret may come from a command, which may take seconds.
                    told, token = await asyncio.to_thread(read_again)
                except (ConfigError, OSError) as error:
                    _log.error("the configuration was not taken", reason=str(error))
                    continue
                client.renew(token)
                if told.gateway.trusted_keys != trusted:
                    trusted = told.gateway.trusted_keys
                    await agent.trust(trust_of(told))
                    _log.info("other keys are trusted now", keys=[key.key_id for key in trusted])
                await agent.follow(told.gateway.gateway_labels, loads_of(told))
                labels = told.gateway.gateway_labels
                if _rest(told) == _rest(settings):
                    _log.info("the configuration was read again", labels=labels)
                else:
                    _log.warning(
                        "of the configuration only labels, tenants, trusted keys and the token "
                        "were taken; the other changes need a restart",
                        labels=labels,
                    )
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def _rest(settings: Settings) -> Settings:
    """The settings without what is taken while a gateway runs."""
    gateway = msgspec.structs.replace(
        settings.gateway, gateway_labels=(), tenant_loading=None, token=None, trusted_keys=()
    )
    return msgspec.structs.replace(settings, gateway=gateway)

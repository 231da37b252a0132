"""traffic-manager --print-config: what a nats-server that gatesync does not run needs."""

from gatesync.config import Settings
from gatesync.events.nats_config import external_config
from gatesync.events.nats_credentials import credentials_path

__all__ = ["broker_config"]


def broker_config(settings: Settings) -> str:
    """The configuration, for the port that the embedded broker has in these settings."""
    listen = settings.traffic_manager.listen
    path = settings.event_hub.credentials_file or credentials_path(settings.data)
    known = str(path) if path.exists() else ""
    return external_config(f"{listen.host}:{listen.port or 4222}", credentials=known)

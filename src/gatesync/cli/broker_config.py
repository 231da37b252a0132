"""traffic-manager --print-config: what a nats-server that gatesync does not run needs."""

from gatesync.config import ConfigError, Settings
from gatesync.config.problems import ConfigProblem
from gatesync.events.nats_config import external_config
from gatesync.events.nats_credentials import credentials_path
from gatesync.publisher.broker_users import node_users
from gatesync.publisher.tokens import Role, TokenError, TokenFile

__all__ = ["broker_config"]


def broker_config(settings: Settings) -> str:
    """The configuration, for the port that the embedded broker has in these settings.

    It has the nodes of the publisher whose data folder this is. Raises `ConfigError` where its
    tokens cannot be read.
    """
    tokens = settings.data / "tokens.json"
    try:
        known = TokenFile(tokens).list()
    except TokenError as error:
        raise ConfigError([ConfigProblem(str(error), "gatesync.data")]) from None
    nodes = [token for token in known if token.role is Role.NODE and not token.revoked_at]
    listen = settings.traffic_manager.listen
    path = settings.event_hub.credentials_file or credentials_path(settings.data)
    return external_config(
        f"{listen.host}:{listen.port or 4222}",
        nodes=node_users(nodes),
        unknown=sorted({token.id for token in nodes if token.nkey is None}),
        source=str(tokens),
        credentials=str(path) if path.exists() else "",
    )

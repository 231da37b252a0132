"""The certificates of [gatesync.tls], checked once when a role starts."""

from gatesync.config import ConfigError, Settings
from gatesync.config.problems import ConfigProblem
from gatesync.web.tls import ClientContext, ClientTls, ServerContext, ServerTls, TlsFileError

__all__ = ["client_tls", "server_tls"]


def server_tls(settings: Settings) -> ServerTls | None:
    """What this node's servers show. Raises `ConfigError` where a file cannot be used."""
    files = settings.tls.server
    if files is not None:
        try:
            ServerContext(files)
        except TlsFileError as error:
            raise _problem(error) from None
    return files


def client_tls(settings: Settings) -> ClientTls | None:
    """Whom this node's clients trust. Raises `ConfigError` where a file cannot be used."""
    files = settings.tls.client
    if files is not None:
        try:
            ClientContext(files)
        except TlsFileError as error:
            raise _problem(error) from None
    return files


def _problem(error: TlsFileError) -> ConfigError:
    return ConfigError([ConfigProblem(str(error), f"gatesync.tls.{error.key}")])

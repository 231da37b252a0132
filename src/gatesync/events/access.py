"""How a client gets in at a broker, beside a user and a password: the values, not the files."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from gatesync.secret import Secret

__all__ = ["PING_SECONDS", "BrokerAccess"]

PING_SECONDS: Final = 5.0  # a heartbeat's default


class BrokerAccess(msgspec.Struct, frozen=True, kw_only=True):
    """A token or a key to log in with, the files of TLS, and how often to ask for a sign of life.

    Files are read at each attempt to connect, so that renewed ones count without a restart. At
    most one of `token`, `nkey_file`, `creds_file` and `node_token` is given; `tls_cert` and
    `tls_key` go together. With any `tls_` value nothing is sent before the connection is encrypted.

    `node_token` gives a node's access token as it is now, of which its key at the broker is made.

    `ping_seconds`: a connection that is silent for twice as long is given up.
    """

    token: Secret | None = None
    nkey_file: Path | None = None
    creds_file: Path | None = None
    node_token: Callable[[], str] | None = None
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_server_name: str | None = None
    ping_seconds: float = PING_SECONDS

    @property
    def logs_in(self) -> bool:
        """Whether there is something to log in with here, so that no user is needed."""
        known = (self.token, self.nkey_file, self.creds_file, self.node_token)
        return any(each is not None for each in known)

    @property
    def encrypts(self) -> bool:
        """Whether TLS is insisted on, whatever the endpoint's address says."""
        return not (self.tls_ca is None and self.tls_cert is None and self.tls_server_name is None)

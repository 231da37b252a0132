"""What a broker refuses or ends a connection for: its words, and nats-py's, by a name of ours.

Pure: texts in, texts out. The names are those of log lines; docs/traffic-manager.md lists them.
"""

import re
from typing import Final, NamedTuple

__all__ = ["Refusal", "Trouble", "refusal_of", "trouble_of"]


class Trouble(NamedTuple):
    """A log line's event, and the reason with what to do about it."""

    event: str
    reason: str

    @property
    def is_login(self) -> bool:
        """Whether the broker does not know us, so that there is no use in hurrying."""
        return self.event.startswith("broker.login")


_TRUST: Final = "name its authority with ca in [gatesync.tls], or tls_ca in [gatesync.event_hub]"
_SHOW: Final = "name a certificate that it accepts with client_certificate in [gatesync.tls]"

# The first that is found in what the broker said counts.
_NAMES: Final = (
    (
        "authentication expired",
        "broker.login_expired",
        "the user's time at the broker is over; put new credentials in place",
    ),
    (
        "authentication revoked",
        "broker.login_expired",
        "the user was revoked; put new credentials in place",
    ),
    (
        "authorization violation",
        "broker.login_refused",
        "the broker does not know this user, token or key",
    ),
    (
        "authentication timeout",
        "broker.login_refused",
        "the broker wants a login, and got none in time",
    ),
    ("slow consumer", "broker.slow_consumer", "this process read more slowly than news came"),
    (
        "maximum connections exceeded",
        "broker.full",
        "raise max_connections in the broker's configuration",
    ),
    (
        "active connections exceeded",
        "broker.full",
        "raise the account's limit of connections at the broker",
    ),
    (
        "maximum payload violation",
        "broker.message_refused",
        "the broker's max_payload became smaller than a message; it is sent in a smaller form next",
    ),
    ("lame duck", "broker.closing", ""),
    ("stale connection", "broker.silent", "no answer to two pings"),
    ("did not answer within", "broker.silent", ""),
    # OpenSSL's words for the broker's certificate, then TLS's for what the broker says of ours.
    (
        "mismatch",
        "broker.tls_failed",
        "write the name that it is for, or give it one for this host",
    ),
    ("certificate has expired", "broker.tls_failed", "renew it at the broker"),
    ("not yet valid", "broker.tls_failed", "compare the clocks of both machines"),
    ("self-signed", "broker.tls_failed", _TRUST),
    ("self signed", "broker.tls_failed", _TRUST),
    ("local issuer", "broker.tls_failed", _TRUST),
    ("certificate_required", "broker.tls_failed", f"it lets in only who has one; {_SHOW}"),
    ("unknown_ca", "broker.tls_failed", f"it does not trust the authority of ours; {_SHOW}"),
    ("certificate_expired", "broker.tls_failed", f"ours has expired; {_SHOW}"),
    ("bad_certificate", "broker.tls_failed", f"it does not accept ours; {_SHOW}"),
    ("certificate_unknown", "broker.tls_failed", f"it does not accept ours; {_SHOW}"),
    ("certificate", "broker.tls_failed", ""),
    ("tls", "broker.tls_failed", ""),
    ("ssl", "broker.tls_failed", ""),
    (
        "unexpected eof",
        "",
        "it ended, or it dropped a client that read too slowly: its log says which",
    ),
)


def trouble_of(reason: str, otherwise: str) -> Trouble:
    """The name of a connection's end, or of an attempt's failure; `otherwise` when it has none."""
    said = reason.lower()
    for words, event, advice in _NAMES:
        if words in said:
            return Trouble(event or otherwise, f"{reason}: {advice}" if advice else reason)
    return Trouble(otherwise, reason)


class Refusal(NamedTuple):
    """Something that the broker does not let this client do; the connection stays."""

    subject: str  # in lower case; empty where it is not about one
    subscribing: bool
    reason: str


_PERMISSION: Final = re.compile(r'permissions violation for (publish|subscription) to "([^"]+)"')


def refusal_of(said: str) -> Refusal | None:
    """What an error of the broker's refuses, or None when it is one that ends the connection."""
    said = said.strip("'").removeprefix("nats: ")
    found = _PERMISSION.search(said.lower())
    if found is not None:
        return Refusal(found[2], found[1] == "subscription", said)
    if "permissions violation" in said.lower():
        return Refusal("", False, said)
    if "maximum subscriptions exceeded" in said.lower():
        return Refusal(
            "", True, f"{said}: raise max_subscriptions in the broker's configuration"
        )  # fmt: skip
    return None

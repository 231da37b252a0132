"""Who may do what at a broker, as nats-server's configuration says it: ours, and one of one's own.

A user has the subjects that are named here and no others: no inbox, no `$SYS`, no JetStream.
"""

import json
from collections.abc import Collection, Iterable
from typing import Final

from gatesync.events.nats_users import LABEL_SUBJECT, REPORT_SUBJECT, NodeUser

__all__ = ["MAX_PAYLOAD", "external_config", "quoted", "users_config"]

MAX_PAYLOAD: Final = 8 * 1024 * 1024  # bytes of one message

_HEAD: Final = """\
# For a nats-server of your own, 2.10 or newer, or each member of a cluster of them; printed by
# `gatesync traffic-manager --print-config`. Check it with: nats-server -t -c FILE
#
# There is no secret in it. Publishers log in with a password, which is taken from nats-server's
# environment; what the variable holds is read as if it stood here, so quote it:
# GATESYNC_PUBLISHER_PASSWORD='"..."'. Or write a hash in its place: nats server passwd prints one
# ("$2a$11$...").
{where}#
# Each node logs in with a key that is made of its token; its public half stands below.
{nodes}
listen: "{listen}"

# One event carries up to 256 KiB of artifacts. What is larger than this limit is sent without
# contents, which gateways fetch from a publisher; so a lower limit works, too.
max_payload: {max_payload}

# A gateway that reads more slowly than this is dropped; it connects again and asks for heads.
max_pending: 64MB
write_deadline: "10s"

# Of a client that is gone without a word the server learns within two of these.
ping_interval: "20s"
ping_max: 2

authorization {{
  timeout: 5
  users: [
{users}
  ]
}}

# For TLS, which any network but one's own needs: uncomment, and write tls://HOST:PORT in
# event_listening_endpoints. verify asks clients for a certificate, too (tls_cert, tls_key).
# tls {{
#   cert_file: "/etc/nats/broker.pem"
#   key_file: "/etc/nats/broker.key"
#   ca_file: "/etc/nats/ca.pem"
#   verify: true
# }}

# For a cluster: the same name and routes at each member, and a server_name of its own.
# server_name: "broker-1"
# cluster {{
#   name: "gatesync"
#   listen: "0.0.0.0:6222"
#   routes: ["nats://broker-1:6222", "nats://broker-2:6222", "nats://broker-3:6222"]
# }}
"""

_GENERATED: Final = """\
#
# The password that gatesync made for its own broker is in {path};
# to go on with it, set the variable from that file, where nats-server is started.
"""

_NODES: Final = """\
# These are the nodes of {source} as it was when this was printed. Print it again when a
# token was created or revoked, and reload: nobody is disconnected but who was revoked.
"""
_NO_NODES: Final = """\
# There is none yet in {source}: create the tokens, and print this again.
"""

_UNKNOWN: Final = """\
# Missing, as their tokens are older than keys: {nodes}. A publisher learns the key of each
# when it asks for something; print this again then, or create new tokens.
"""

_USER: Final = """\
    {{
      {login}
      permissions: {{
        publish: {{ allow: [{publish}] }}
        subscribe: {{ allow: [{subscribe}] }}
      }}
    }}"""


def users_config(password: str, nodes: Iterable[NodeUser]) -> str:
    """The list of users: publishers, and each node with what is its own (promise 8).

    `password` is the publishers', as it shall stand there: quoted, or the name of a variable.
    """
    login = f'user: "publisher", password: {password}'
    users = [_user(login, LABEL_SUBJECT + ">", [REPORT_SUBJECT + ">"])]
    users += [_user(f'nkey: "{each.nkey}"', each.reports, each.hears) for each in nodes]
    return "\n".join(users)


def external_config(
    listen: str,
    *,
    nodes: Iterable[NodeUser] = (),
    unknown: Collection[str] = (),
    source: str = "",
    credentials: str = "",
) -> str:
    """The configuration of a nats-server that is not ours, without a secret in it.

    Args:
        listen: `HOST:PORT`.
        nodes: who may connect beside publishers.
        unknown: node ids whose keys nobody knows yet.
        source: the file that these are of, for people.
        credentials: the file of the embedded broker's password, where there is one.
    """
    nodes = tuple(nodes)
    about = (_NODES if nodes else _NO_NODES).format(source=source)
    if unknown:
        about += _UNKNOWN.format(nodes=", ".join(unknown))
    return _HEAD.format(
        listen=listen,
        where=_GENERATED.format(path=credentials) if credentials else "",
        nodes=about,
        users=users_config("$GATESYNC_PUBLISHER_PASSWORD", nodes),
        max_payload=MAX_PAYLOAD,
    )


def quoted(text: str) -> str:
    """As nats-server's configuration wants it."""
    return json.dumps(text, ensure_ascii=False)


def _user(login: str, publish: str, subscribe: Iterable[str]) -> str:
    listens = ", ".join(quoted(each) for each in subscribe)
    return _USER.format(login=login, publish=quoted(publish), subscribe=listens)

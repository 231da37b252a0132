"""What gatesync's users may do at a broker, and the configuration of a broker of one's own."""

from typing import Final

__all__ = ["MAX_PAYLOAD", "SUBJECTS", "external_config"]

MAX_PAYLOAD: Final = 8 * 1024 * 1024  # bytes of one message

# A user has these subjects and no others: no inbox, no `$SYS`, no JetStream.
LABELS: Final = "gatesync.label.>"
REPORTS: Final = "gatesync.report.>"
SUBJECTS: Final = {"publisher": (LABELS, REPORTS), "gateway": (REPORTS, LABELS)}
"""By user: what it publishes to, and what it subscribes to."""

_HEAD: Final = """\
# For a nats-server of your own, 2.10 or newer, or each member of a cluster of them; printed by
# `gatesync traffic-manager --print-config`. Check it with: nats-server -t -c FILE
#
# The passwords are not in it. The two variables below are taken from nats-server's environment;
# what they hold is read as if it stood here, so quote it: GATESYNC_GATEWAY_PASSWORD='"..."'.
# Or write a hash in place of each: nats server passwd prints one ("$2a$11$...").
{where}
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
# The passwords that gatesync made for its own broker are in {path};
# to go on with them, set the variables from that file, where nats-server is started.
"""

_USER: Final = """\
    {{
      user: "{user}", password: ${variable}
      permissions: {{
        publish: {{ allow: ["{publish}"] }}
        subscribe: {{ allow: ["{subscribe}"] }}
      }}
    }}"""


def external_config(listen: str, *, credentials: str = "") -> str:
    """The configuration of a nats-server that is not ours, without a secret in it.

    Args:
        listen: `HOST:PORT`.
        credentials: the file of the embedded broker's passwords, where there is one.
    """
    users = "\n".join(
        _USER.format(
            user=user,
            variable=f"GATESYNC_{user.upper()}_PASSWORD",
            publish=publish,
            subscribe=subscribe,
        )
        for user, (publish, subscribe) in SUBJECTS.items()
    )
    where = _GENERATED.format(path=credentials) if credentials else ""
    return _HEAD.format(listen=listen, where=where, users=users, max_payload=MAX_PAYLOAD)

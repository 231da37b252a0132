"""Who is in the cluster, where they listen, and each one's deployment.toml."""

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from demo.processes import free_ports
from gatesync.private_file import write_private_file

__all__ = ["GATEWAYS", "HEARTBEAT_SECONDS", "LABELS", "Layout"]

HEARTBEAT_SECONDS: Final = 2.0  # the default is 5; a demo should not be waited for
LABELS: Final = ("Production and Sandbox", "Label1")
GATEWAYS: Final = {"gateway-1": LABELS[0], "gateway-2": LABELS[0], "gateway-3": LABELS[1]}

_COMMON: Final = """\
[gatesync]
node_id = "{name}"
data = "data"
heartbeat_interval = {heartbeat_ms:.0f}

"""
_TRAFFIC_MANAGER: Final = """\
[gatesync.traffic_manager]
listen = "{broker}"
token_file = "token"

[apim.event_hub]
service_url = "http://{publisher}"
"""
_PUBLISHER: Final = """\
[gatesync.publisher]
listen = "{publisher}"

[apim.event_hub]
event_listening_endpoints = ["nats://{broker}"]

[gatesync.event_hub]
credentials_file = "../traffic-manager/data/broker-credentials.json"
adapter = "demo.faults:open_faulty_hub"  # NATS, and a way to make it fail
"""
# A gateway is told where a publisher is, and nothing of the broker.
_GATEWAY: Final = """\
[apim.sync_runtime_artifacts.gateway]
gateway_labels = ["{label}"]
artifact_retriever = "{retriever}"

[apim.event_hub]
service_url = "http://{publisher}"

[gatesync.gateway]
listen = "{listen}"
token_file = "token"
admin_token = "{admin_token}"
engine = "envoy"

[gatesync.envoy]
listen = "{envoy}"
threads = 1
drain = 1000
"""
_DATABASE: Final = "database.sync_runtime_artifacts_db"
_GIT: Final = "apim.sync_runtime_artifacts.git"
# These read the repository themselves; the others ask the publisher, which reads it, too.
_GIT_READERS: Final = ("gateway-3",)


class Layout(msgspec.Struct, frozen=True):
    """Addresses (`HOST:PORT`) and folders. `gateways`, `envoys` and `admin_tokens` are by node."""

    folder: Path
    broker: str
    publisher: str
    gateways: dict[str, str]
    envoys: dict[str, str]
    admin_tokens: dict[str, str]

    @classmethod
    def make(
        cls, folder: Path, database: Mapping[str, str], git: Mapping[str, str | int]
    ) -> "Layout":
        """Choose ports and secrets, and write the configurations into a new folder.

        Args:
            folder: must not exist, or be empty.
            database: the keys of the publisher's database section; none is SQLite.
            git: those of the Git section; none is the database.
        """
        addresses = [f"127.0.0.1:{port}" for port in free_ports(2 + 2 * len(GATEWAYS))]
        layout = cls(
            folder=folder,
            broker=addresses[0],
            publisher=addresses[1],
            gateways=dict(zip(GATEWAYS, addresses[2::2], strict=True)),
            envoys=dict(zip(GATEWAYS, addresses[3::2], strict=True)),
            admin_tokens={name: secrets.token_urlsafe(32) for name in GATEWAYS},
        )
        layout.faults.mkdir(parents=True)
        layout._write("traffic-manager", _TRAFFIC_MANAGER)
        saver = "apim.sync_runtime_artifacts.publisher"
        stored = _table(saver, {"artifact_saver": "GitSaver"}) + _table(_GIT, git)
        layout._write("publisher", _PUBLISHER, stored if git else _table(_DATABASE, database))
        for name in GATEWAYS:
            own = git if name in _GIT_READERS else {}
            layout._write(name, _GATEWAY, _table(_GIT, own), "GitRetriever" if own else "http")
        return layout

    @property
    def faults(self) -> Path:
        """Where files make things go wrong: see `demo.faults`."""
        return self.folder / "faults"

    @property
    def client_file(self) -> Path:
        """The token that the publisher leaves for whoever runs it."""
        return self.folder / "publisher" / "data" / "client.toml"

    def config(self, name: str) -> Path:
        """The deployment.toml of a process."""
        return self.folder / name / "deployment.toml"

    def log(self, name: str) -> Path:
        """What a process writes."""
        return self.folder / name / "log.txt"

    def keep_token(self, name: str, token: str) -> None:
        """Give a process its token."""
        write_private_file(self.folder / name / "token", token.encode() + b"\n")

    def _write(self, name: str, settings: str, more: str = "", retriever: str = "") -> None:
        text = (_COMMON + settings).format(
            name=name,
            heartbeat_ms=HEARTBEAT_SECONDS * 1000,
            broker=self.broker,
            publisher=self.publisher,
            label=GATEWAYS.get(name),
            retriever=retriever,
            listen=self.gateways.get(name),
            envoy=self.envoys.get(name),
            admin_token=self.admin_tokens.get(name),
        )
        self.config(name).parent.mkdir()
        write_private_file(self.config(name), (text + more).encode())


def _table(name: str, keys: Mapping[str, str | int]) -> str:
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
    return f"\n[{name}]\n{lines}" if keys else ""

"""The keys of [gatesync.envoy]: how Envoy is run, where it listens, whom it lets in."""

from enum import StrEnum
from pathlib import Path

import msgspec

from gatesync.config import kinds
from gatesync.config.addresses import Address
from gatesync.config.envoy_apis import EnvoyApiSettings, read_envoy_apis
from gatesync.config.reader import Reader

__all__ = ["EnvoySettings", "WhenStopped", "read_envoy"]

ENVOY_LISTEN = "127.0.0.1:8280"


class WhenStopped(StrEnum):
    """What becomes of Envoy when its gateway is stopped in order."""

    DRAIN = "drain"
    KEEP = "keep"


class EnvoySettings(msgspec.Struct, frozen=True, kw_only=True):
    """The engine `envoy`. `xds` is None for a Unix socket in the data folder.

    `external` says that others run Envoy; `binary` is one's own, `threads` 0 for one per core.
    """

    listen: Address
    binary: Path | None
    external: bool
    xds: Address | None
    admin: Address | None
    threads: int
    cluster_metrics: bool
    when_stopped: WhenStopped
    drain_ms: int
    answer_ms: int
    apis: EnvoyApiSettings


def read_envoy(reader: Reader, offset: int, folder: Path) -> EnvoySettings:
    """The section as a document gives it; faults are left in `reader.problems`."""
    ours = reader.section("gatesync.envoy")
    found = EnvoySettings(
        listen=ours.read("listen", kinds.listen(offset), ENVOY_LISTEN),
        binary=ours.optional("binary", kinds.path_in(folder)),
        external=ours.read("external", kinds.boolean, False),
        xds=ours.optional("xds", kinds.listen(offset)),
        admin=ours.optional("admin", kinds.listen(offset)),
        threads=ours.read("threads", kinds.whole(0, 1_024), 0),
        cluster_metrics=ours.read("cluster_metrics", kinds.boolean, False),
        when_stopped=ours.read("when_stopped", kinds.choice(WhenStopped), "drain"),
        drain_ms=ours.read("drain", kinds.milliseconds(0), 10_000),
        answer_ms=ours.read("answer", kinds.milliseconds(100), 30_000),
        apis=read_envoy_apis(ours, folder),
    )
    for key, address in (("xds", found.xds), ("admin", found.admin)):
        if address is not None and not (address.loopback and address.port):
            # Neither asks who is there: on a Unix socket the folder's mode does.
            ours.problem(key, "must be a port of this machine alone, such as 127.0.0.1:9644")
    return found

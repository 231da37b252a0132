"""Envoy's admin interface, as far as a gateway asks it.

It is private: whoever reaches it may stop Envoy.
"""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Final

import httpcore
import msgspec

from gatesync.engines.envoy.resources import CLUSTER, SCOPE

__all__ = ["Admin", "AdminError", "open_admin"]

SECONDS: Final = 10.0  # for one answer; a dump of 10,000 APIs takes less than one
WARM_LOOK_SECONDS: Final = 0.005
_ACTIVE: Final = "http.gatesync.downstream_rq_active"


class AdminError(Exception):
    """Envoy's admin interface did not answer, or not with yes."""


class _Name(msgspec.Struct, frozen=True):
    name: str = ""


class _Scope(msgspec.Struct, frozen=True):
    name: str = ""
    route_configuration: _Name = _Name()


class _Scopes(msgspec.Struct, frozen=True):
    scoped_route_configs: list[_Scope] = []


class _ScopeDump(msgspec.Struct, frozen=True):
    dynamic_scoped_route_configs: list[_Scopes] = []


class _Active(msgspec.Struct, frozen=True):
    version_info: str = ""
    cluster: _Name = _Name()


class _ClusterDump(msgspec.Struct, frozen=True):
    dynamic_active_clusters: list[_Active] = []
    dynamic_warming_clusters: list[_Active] = []


class _WarmingDump(msgspec.Struct, frozen=True):
    configs: list[_Active] = []


class _Dumps(msgspec.Struct, frozen=True):
    configs: list[msgspec.Raw]


class _Typed(msgspec.Struct, frozen=True):
    type: str = msgspec.field(name="@type")


class Admin:
    """Questions to one Envoy. Use `open_admin`. Each raises `AdminError`."""

    def __init__(self, pool: httpcore.AsyncConnectionPool, url: str) -> None:
        self._pool = pool
        self._url = url

    async def is_live(self) -> bool:
        """Whether it serves, with all that it was told first."""
        status, _ = await self._ask("GET", "/ready")
        return status == 200

    async def active_requests(self) -> int:
        """Requests that are being answered."""
        return await self._number(_ACTIVE)

    async def until_warmed(self, clusters: Collection[str]) -> None:
        """Return once none of these waits for its host's name to be resolved.

        Others may: with a name that nobody knows that takes a long time.
        """
        while True:
            body = await self._yes("GET", "/config_dump?resource=dynamic_warming_clusters")
            found = msgspec.json.decode(body, type=_WarmingDump).configs
            if not {each.cluster.name for each in found}.intersection(clusters):
                return
            await asyncio.sleep(WARM_LOOK_SECONDS)  # another process: nothing to await

    async def drain(self) -> None:
        """Have connections closed as their requests end."""
        await self._yes("POST", "/drain_listeners?graceful&skip_exit")

    async def metrics(self, pattern: str) -> str:
        """Counters whose names match a pattern, in Prometheus' form."""
        body = await self._yes("GET", f"/stats/prometheus?usedonly&filter={pattern}")
        return body.decode()

    async def held(self) -> dict[str, dict[str, str]]:
        """What it holds, as its `config_dump` says: by type URL and name.

        Of a cluster the version, of a scope the name of its routes.
        """
        dump = msgspec.json.decode(await self._yes("GET", "/config_dump"), type=_Dumps)
        found: dict[str, dict[str, str]] = {CLUSTER: {}, SCOPE: {}}
        for raw in dump.configs:
            match msgspec.json.decode(raw, type=_Typed).type.rpartition(".")[2]:
                case "ClustersConfigDump":
                    clusters = msgspec.json.decode(raw, type=_ClusterDump)
                    # One that warms is not served yet; where it is an update, the other is.
                    for each in (
                        *clusters.dynamic_active_clusters,
                        *clusters.dynamic_warming_clusters,
                    ):
                        found[CLUSTER][each.cluster.name] = each.version_info
                case "ScopedRoutesConfigDump":
                    for group in msgspec.json.decode(
                        raw, type=_ScopeDump
                    ).dynamic_scoped_route_configs:
                        for scope in group.scoped_route_configs:
                            found[SCOPE][scope.name] = scope.route_configuration.name
        return found

    async def _number(self, name: str) -> int:
        body = await self._yes("GET", f"/stats?filter=^{name}$")
        return int(body.rpartition(b":")[2] or 0)

    async def _yes(self, method: str, path: str) -> bytes:
        status, body = await self._ask(method, path)
        if status != 200:
            raise AdminError(f"Envoy's admin interface answered {path} with {status}")
        return body

    async def _ask(self, method: str, path: str) -> tuple[int, bytes]:
        try:
            async with asyncio.timeout(SECONDS):
                response = await self._pool.request(
                    method, self._url + path, headers=[("Host", "envoy")]
                )
        except TimeoutError as error:
            raise AdminError(f"no answer within {SECONDS:g} s") from error
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            raise AdminError(f"Envoy's admin interface cannot be reached: {error}") from error
        return response.status, response.content


@asynccontextmanager
async def open_admin(address: str) -> AsyncIterator[Admin]:
    """Ask at this address while the block runs: `unix:/path` or `host:port`."""
    uds = address.removeprefix("unix:") if address.startswith("unix:") else None
    url = "http://envoy" if uds else f"http://{address}"
    # Envoy may be another one by the next question: no connection is kept for it.
    async with httpcore.AsyncConnectionPool(uds=uds, max_keepalive_connections=0) as pool:
        yield Admin(pool, url)

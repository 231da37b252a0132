"""The gateway's own HTTP: what it holds, its bytes and digests, health. For its operator."""

from collections.abc import Callable
from typing import Any, Final

import msgspec
from litestar import Litestar, Request, Response, get
from litestar.datastructures import State
from litestar.params import FromQuery

from gatesync.engines.engine import Engine
from gatesync.gateway.informer import Informer
from gatesync.web.app import AppState, NotFoundError, make_app

__all__ = ["GatewayStatus", "HeldArtifact", "LabelStatus", "admin_app", "status_of"]

FORMAT: Final = "gatesync.admin/1"

_Ask = Request[Any, Any, State]


class LabelStatus(msgspec.Struct, frozen=True):
    """One label at this node. `proof_age_ms`: since it last knew that it was in step."""

    label: str
    epoch: str
    revision: int
    artifacts: int
    held_removals: int
    proof_age_ms: int | None


class GatewayStatus(msgspec.Struct, frozen=True):
    """What readiness is decided from."""

    node: str
    engine: str
    ready: bool
    connected: bool
    applied: int
    waiting: int
    failed: dict[str, str]
    skipped: dict[str, str]
    labels: tuple[LabelStatus, ...]
    store_error: str = ""
    format: str = FORMAT


class HeldArtifact(msgspec.Struct, frozen=True):
    """An artifact that the engine serves, hashed as it is now."""

    api_id: str
    digest: str
    size: int
    label: str = ""
    kind: str = ""
    name: str = ""
    version: str = ""
    tenant: str = ""


class HeldAnswer(msgspec.Struct, frozen=True):
    """Everything that the engine serves."""

    artifacts: tuple[HeldArtifact, ...]
    format: str = FORMAT


def status_of(
    node: str, engine: Engine, informer: Informer, clock: Callable[[], float]
) -> GatewayStatus:
    """The node's state, from the informer and its deployment."""
    deployment, now = informer.deployment, clock()
    labels = []
    for label, log in informer.logs.items():
        proof = informer.proofs.get(label)
        labels.append(
            LabelStatus(
                label=label,
                epoch=log.cursor.epoch if log.cursor else "",
                revision=log.cursor.revision if log.cursor else 0,
                artifacts=len(log.entries),
                held_removals=len(log.retained),
                proof_age_ms=None if proof is None else max(0, int((now - proof) * 1000)),
            )
        )
    return GatewayStatus(
        node=node,
        engine=engine.name,
        ready=informer.processed,
        connected=informer.hub is not None and informer.hub.connected,
        applied=len(deployment.applied),
        waiting=len(deployment.waiting),
        failed={api_id: each.reason for api_id, each in deployment.failed.items()},
        skipped={api_id: each.reason for api_id, each in deployment.skipped.items()},
        labels=tuple(labels),
        store_error=informer.pulse.store_error,
    )


def admin_app(
    informer: Informer, engine: Engine, status: Callable[[], GatewayStatus], state: AppState
) -> Litestar:
    """The admin application, to be put behind a `Guard`."""
    app = make_app("gatesync gateway", [get_status, get_held, get_content], state, _explain)
    app.state.informer = informer
    app.state.engine = engine
    app.state.status = status
    return app


@get("/v1/status", sync_to_thread=False)
def get_status(request: _Ask) -> GatewayStatus:
    """How far this node is with each of its labels."""
    status: GatewayStatus = request.app.state.status()
    return status


@get("/v1/held")
async def get_held(request: _Ask) -> HeldAnswer:
    """Everything that the engine serves, with digests recomputed from its bytes."""
    informer: Informer = request.app.state.informer
    engine: Engine = request.app.state.engine
    held = []
    for api_id, digest in sorted((await informer.deployment.inspect()).items()):
        wanted = informer.deployment.applied.get(api_id)
        size = len(engine.content(api_id) or b"")
        if wanted is None:
            held.append(HeldArtifact(api_id, digest, size))
            continue
        entry = wanted.entry
        held.append(
            HeldArtifact(
                api_id=api_id,
                digest=digest,
                size=size,
                label=wanted.label,
                kind=entry.kind,
                name=entry.name,
                version=entry.version,
                tenant=entry.tenant,
            )
        )
    return HeldAnswer(tuple(held))


@get("/v1/held/content")
async def get_content(request: _Ask, api_id: FromQuery[str]) -> Response[bytes]:
    """The canonical form that the engine serves under an api_id, byte for byte."""
    content = request.app.state.engine.content(api_id)
    if content is None:
        raise NotFoundError(f"this node serves nothing under api_id {api_id[:255]!r}")
    return Response(content, media_type="application/json")


def _explain(_error: Exception) -> None:
    return None

"""What every role's HTTP interface shares: health, metrics, an OpenAPI page, and how to say no."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec
import structlog
from litestar import Litestar, MediaType, Request, Response, get
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, SwaggerRenderPlugin
from litestar.types import ControllerRouterHandler
from prometheus_client import CollectorRegistry, generate_latest

from gatesync import __version__
from gatesync.web.guard import problem_body

__all__ = ["AppState", "BusyError", "ForbiddenError", "NotFoundError", "make_app"]

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_log = structlog.get_logger("gatesync.web")

Explain = Callable[[Exception], tuple[int, Any] | None]


class ForbiddenError(Exception):
    """The token is good, but not for this."""


class NotFoundError(Exception):
    """What was asked for is not here."""


class BusyError(Exception):
    """There is too much to do for this now; to be asked again after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class AppState(msgspec.Struct):
    """What health and metrics are answered from.

    `ready` answers with whether the role does its work, and a document that says why; `public` is
    what of that document anybody may see. `may_see_metrics`: whether they are for whoever asks.
    """

    ready: Callable[[], Awaitable[tuple[bool, Any]]]
    metrics: CollectorRegistry
    public: Callable[[Any], Any] = lambda document: document
    may_see_metrics: Callable[[Any], bool] = lambda _who: True


def make_app(
    title: str,
    handlers: Sequence[ControllerRouterHandler],
    state: AppState,
    explain: Explain,
) -> Litestar:
    """Put an application together.

    Args:
        title: what the OpenAPI page is headed with.
        handlers: the role's own.
        state: for health and metrics.
        explain: turns the role's exceptions into a status and a document.
    """

    @get("/health/live", sync_to_thread=False)
    def live() -> dict[str, str]:
        """Whether the process answers at all."""
        return {"status": "live"}

    @get("/health/ready")
    async def ready(request: Request[Any, Any, Any]) -> Response[Any]:
        """Whether the role does its work: 200 or 503, and why."""
        good, document = await state.ready()
        shown = state.public(document) if request.user is None else document
        return Response(shown, status_code=200 if good else 503)

    @get("/metrics", sync_to_thread=False, media_type=MediaType.TEXT)
    def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Everything that is counted, for Prometheus."""
        if not state.may_see_metrics(request.user):
            raise ForbiddenError("this token is for some labels only; what is counted is of all")
        return Response(generate_latest(state.metrics), media_type=METRICS_TYPE)

    def refuse(_request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
        status, body = _refusal(error, explain)
        headers = {"Cache-Control": "no-store"}  # some caches keep a 404 unless told not to
        if isinstance(error, BusyError):
            headers["Retry-After"] = str(error.retry_after)
        return Response(body, status_code=status, media_type="application/json", headers=headers)

    return Litestar(
        [live, ready, metrics, *handlers],
        exception_handlers={Exception: refuse},
        openapi_config=OpenAPIConfig(
            title=title,
            version=__version__,
            path="/openapi",
            render_plugins=[JsonRenderPlugin(), SwaggerRenderPlugin()],
        ),
        request_max_body_size=None,  # the guard has its own limit, before and after decompression
        logging_config=None,
    )


def _refusal(error: Exception, explain: Explain) -> tuple[int, bytes]:
    explained = explain(error)
    if explained is not None:
        return explained[0], msgspec.json.encode(explained[1])
    match error:
        case ForbiddenError():
            return 403, problem_body("forbidden", str(error))
        case NotFoundError():
            return 404, problem_body("not-found", str(error))
        case BusyError():
            return 429, problem_body("busy", str(error))
        case HTTPException():
            return error.status_code, problem_body("request", *_reasons(error))
        case RecursionError():  # of msgspec, whose nesting ends at Python's own limit
            return 400, problem_body("request", "the body is nested too deep")
        case _:
            _log.error("a request failed", exc_info=error)
            return 500, problem_body("internal", "the service failed; its log says how")


def _reasons(error: HTTPException) -> list[str]:
    extra = error.extra if isinstance(error.extra, list) else []
    said = [f"{each.get('key', '')}: {each.get('message', '')}" for each in extra]
    return [error.detail, *said]

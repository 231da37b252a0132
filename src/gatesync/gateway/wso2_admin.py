"""The gateway's admin HTTP under WSO2's names: `/api/am/gateway/v2`, for scripts that know them.

Paths, parameters, members of the answers and of errors are those of WSO2's own description,
`org.wso2.carbon.apimgt.rest.api.gateway/src/main/resources/gateway-api.yaml` in the repository
wso2/carbon-apimgt (API Manager 4.x). There, `api-artifact` answers with one text of XML and
`local-entry`, `sequence` and `end-points` with a list of such. Where it differs here:

- An API that is not here is a 404 for every path; WSO2 answers some of them with empty lists.
- The lists hold every part that the API owns, not only those with the names of WSO2's own rule.
- `server-startup-healthcheck` is open to anybody, as in API Manager 4.3 (wso2/api-manager#1996),
  and answers as readiness does: 200 or 500.
"""

from typing import Any, Final

import msgspec
from litestar import MediaType, Request, Response, get, post
from litestar.datastructures import State

from gatesync.artifacts.canonical import decode
from gatesync.artifacts.model import SUPER_TENANT, Artifact
from gatesync.gateway.open_paths import STARTUP_PATH, WSO2_BASE
from gatesync.gateway.operating import Operator, Outcome
from gatesync.gateway.selecting import Selection, SelectionError

__all__ = ["HANDLERS", "Wso2Error", "Wso2RefusedError", "wso2_answer"]

_Ask = Request[Any, Any, State]
_TITLES: Final = {400: "Bad Request", 404: "Not Found", 409: "Conflict", 500: "Internal Error"}


class DeployResponse(msgspec.Struct, frozen=True, rename="camel"):
    """What a redeploy or undeploy came to: DEPLOYED or UNDEPLOYED."""

    deploy_status: str
    json_payload: str


class ApiArtifact(msgspec.Struct, frozen=True):
    """The API's XML."""

    api: str


class LocalEntries(msgspec.Struct, frozen=True, rename="camel"):
    """The XML of the API's local entries."""

    local_entries: tuple[str, ...]


class Sequences(msgspec.Struct, frozen=True):
    """The XML of the API's sequences."""

    sequences: tuple[str, ...]


class Endpoints(msgspec.Struct, frozen=True):
    """The XML of the API's endpoints."""

    endpoints: tuple[str, ...]


class Wso2Error(msgspec.Struct, frozen=True, rename="camel"):
    """WSO2's answer that says no."""

    code: int
    message: str
    description: str
    more_info: str = ""
    error: tuple[str, ...] = ()


class Wso2RefusedError(Exception):
    """A request under WSO2's names that is answered with no, in WSO2's words."""

    def __init__(self, status: int, description: str) -> None:
        self.status = status
        super().__init__(description)


def wso2_answer(error: Wso2RefusedError) -> Wso2Error:
    """The body of such an answer."""
    return Wso2Error(error.status, _TITLES[error.status], str(error))


@post(f"{WSO2_BASE}/redeploy-api", status_code=200)
async def redeploy_api(request: _Ask) -> DeployResponse:
    """Deploy one API anew. Query: apiName, version, tenantDomain (carbon.super)."""
    operator, api_id, name = _asked(request)
    _refuse_failed(await operator.redeploy([api_id]))
    return DeployResponse("DEPLOYED", f"{name} was deployed anew")


@post(f"{WSO2_BASE}/undeploy-api", status_code=200)
async def undeploy_api(request: _Ask) -> DeployResponse:
    """Undeploy one API until its next change. Query: apiName, version, tenantDomain."""
    operator, api_id, name = _asked(request)
    _refuse_failed(await operator.undeploy([api_id]))
    return DeployResponse("UNDEPLOYED", f"{name} was undeployed until its next change")


@get(f"{WSO2_BASE}/api-artifact", sync_to_thread=False)
def get_api_artifact(request: _Ask) -> ApiArtifact:
    """The XML of one API as this node serves it. Query: apiName, version, tenantDomain."""
    artifact = _served(request)
    apis = [part for part in artifact.parts if part.role == "api"]
    # A default API, which has no version, may stand beside it: WSO2 calls the API NAME:vVERSION.
    apis.sort(key=lambda part: not part.name.endswith(f":v{artifact.identity.version}"))
    if not apis:
        raise Wso2RefusedError(404, f"{artifact.identity} has no XML of an API")
    return ApiArtifact(_text(apis[0].content))


@get(f"{WSO2_BASE}/local-entry", sync_to_thread=False)
def get_local_entries(request: _Ask) -> LocalEntries:
    """The XML of one API's local entries. Query: apiName, version, tenantDomain."""
    return LocalEntries(_texts(_served(request), "local-entry"))


@get(f"{WSO2_BASE}/sequence", sync_to_thread=False)
def get_sequences(request: _Ask) -> Sequences:
    """The XML of one API's sequences. Query: apiName, version, tenantDomain."""
    return Sequences(_texts(_served(request), "sequence"))


@get(f"{WSO2_BASE}/end-points", sync_to_thread=False)
def get_endpoints(request: _Ask) -> Endpoints:
    """The XML of one API's endpoints. Query: apiName, version, tenantDomain."""
    return Endpoints(_texts(_served(request), "endpoint"))


@get(STARTUP_PATH, sync_to_thread=False, media_type=MediaType.TEXT)
def get_startup(request: _Ask) -> Response[str]:
    """Whether the start is over and this node should be sent requests: 200 or 500."""
    health = _operator(request).view.health()
    return Response(
        "OK" if health.ready else health.status, status_code=200 if health.ready else 500
    )


HANDLERS: Final = [
    redeploy_api,
    undeploy_api,
    get_api_artifact,
    get_local_entries,
    get_sequences,
    get_endpoints,
    get_startup,
]


def _operator(request: _Ask) -> Operator:
    operator: Operator = request.app.state.operator
    return operator


def _asked(request: _Ask) -> tuple[Operator, str, str]:
    """The API that the query names: its api_id, and what messages call it."""
    query = request.query_params
    name, version = query.get("apiName", ""), query.get("version", "")
    if not name or not version:
        raise Wso2RefusedError(400, "the query must give apiName and version")
    tenant = query.get("tenantDomain") or SUPER_TENANT
    selection = Selection(name=name, version=version, kind="api", tenant=tenant)
    operator = _operator(request)
    try:
        return operator, operator.find(selection), f"{name} {version}"
    except SelectionError as error:
        raise Wso2RefusedError(error.status, str(error)) from None


def _served(request: _Ask) -> Artifact:
    operator, api_id, name = _asked(request)
    content = operator.content(api_id)
    if content is None:
        raise Wso2RefusedError(404, f"{name} is not deployed on this node now")
    return decode(content)


def _refuse_failed(outcome: Outcome) -> None:
    for reason in outcome.failed.values():
        raise Wso2RefusedError(500, reason)
    if outcome.waiting:
        raise Wso2RefusedError(500, "its contents could not be read in time; it is tried on")


def _texts(artifact: Artifact, role: str) -> tuple[str, ...]:
    return tuple(_text(part.content) for part in artifact.parts if part.role == role)


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")  # `/v1/held/content` has them byte for byte

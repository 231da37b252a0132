"""The listener: one for all APIs, made from the gateway's settings alone.

A request's scope is found by a key that an early mutation takes from its path, whatever the client
sent under that name. What a filter does is said route by route. All but the one for tokens are off
where a route does not turn them on, since each costs a request something.
"""

from collections.abc import Iterable
from typing import Final

from envoy.config.core.v3 import base_pb2, config_source_pb2
from envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.filters.http.cors.v3 import cors_pb2
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.filters.http.header_to_metadata.v3 import header_to_metadata_pb2
from envoy.extensions.filters.http.jwt_authn.v3 import config_pb2 as jwt_pb2
from envoy.extensions.filters.http.local_ratelimit.v3 import local_rate_limit_pb2
from envoy.extensions.filters.http.lua.v3 import lua_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from envoy.extensions.http.early_header_mutation.header_mutation.v3 import (
    header_mutation_pb2 as early_pb2,
)
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from google.protobuf.any_pb2 import Any as AnyMessage

from gatesync.engines.envoy.options import Issuer, Options
from gatesync.engines.envoy.resources import Message

__all__ = [
    "ANSWERED_HEADER",
    "CORS",
    "HEADER_MUTATION",
    "HEADER_TO_METADATA",
    "JWT",
    "JWT_REQUIRED",
    "LISTENER_NAME",
    "LUA",
    "LUA_SCRIPT",
    "PATH_HEADER",
    "RATE_LIMIT",
    "SCOPE_HEADER",
    "http_connection_manager",
    "listener",
    "packed",
    "static_listener",
    "turned_on",
]

LISTENER_NAME: Final = "gatesync"
CORS: Final = "envoy.filters.http.cors"
JWT: Final = "envoy.filters.http.jwt_authn"
RATE_LIMIT: Final = "envoy.filters.http.local_ratelimit"
HEADER_TO_METADATA: Final = "envoy.filters.http.header_to_metadata"
HEADER_MUTATION: Final = "envoy.filters.http.header_mutation"
LUA: Final = "envoy.filters.http.lua"
JWT_REQUIRED: Final = "token"
"""The requirement that a route names which needs a token."""

LUA_SCRIPT: Final = "gatesync"
SCOPE_HEADER: Final = "x-gatesync-scope"
_PROVIDER: Final = "issuer"
_CONNECTION_BUFFER: Final = 1024 * 1024  # bytes; a body that is answered or replaced fits in it

ANSWERED_HEADER: Final = "x-gatesync-answered"
"""In which Lua is told what went wrong, `-` where nothing did: what Envoy answers by itself, when
an upstream fails, is left as it is."""

PATH_HEADER: Final = "x-gatesync-path"
"""Where a route's header mutations leave the path that Lua is to put in place: Envoy's own
mutations may not touch `:path`, and Lua has no formatters."""

# What no filter of Envoy's own does. Each route says in its metadata which of it is to be done, so
# that this is compiled once, and not for each route.
_LUA_SOURCE: Final = """
local function set_body(handle, body, type)
  handle:body(true):setBytes(body)
  if type == "" then
    handle:headers():remove("content-type")
  else
    handle:headers():replace("content-type", type)
  end
end

-- What `metadata` returns is not to be used after a body was waited for: it is read before.
local function echo(handle, status, type)
  type = type or handle:headers():get("content-type")
  local buffer = handle:body()
  local body = buffer and buffer:getBytes(0, buffer:length()) or ""
  local headers = {[":status"] = status}
  if type and body ~= "" then headers["content-type"] = type end
  handle:respond(headers, body)
end

function envoy_on_request(handle)
  local wanted = handle:metadata()
  if wanted:get("echo") then return echo(handle, wanted:get("echo"), wanted:get("echo_type")) end
  local headers = handle:headers()
  if wanted:get("path") then
    headers:replace(":path", wanted:get("path"))
  elseif wanted:get("path_from_header") then
    headers:replace(":path", headers:get("x-gatesync-path"))
    headers:remove("x-gatesync-path")
  end
  if wanted:get("method") then headers:replace(":method", wanted:get("method")) end
  if wanted:get("body") then set_body(handle, wanted:get("body"), wanted:get("type")) end
end

-- Nothing but what the fault sequence says: the route may have added what is for answers.
local function answer_fault(handle, fault)
  local body = handle:body()  -- none where HEAD was asked
  local headers, names = handle:headers(), {}
  for name in pairs(headers) do
    if name:sub(1, 1) ~= ":" then names[#names + 1] = name end
  end
  for _, name in ipairs(names) do headers:remove(name) end
  if body then body:setBytes(fault.body) end
  headers:replace(":status", fault.status)
  for name, value in pairs(fault.headers) do headers:replace(name, value) end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local by_upstream = headers:get("x-gatesync-answered") == "-"
  headers:remove("x-gatesync-answered")
  local wanted = handle:metadata()
  if not by_upstream then
    local fault = wanted:get("fault")
    if fault and fault.on:find(headers:get(":status"), 1, true) then answer_fault(handle, fault) end
    return
  end
  if wanted:get("answer_status") then headers:replace(":status", wanted:get("answer_status")) end
  if wanted:get("answer_body") then
    set_body(handle, wanted:get("answer_body"), wanted:get("answer_type"))
  end
end
"""


def listener(options: Options) -> Message:
    """The listener resource, with its scopes over ADS."""
    manager = http_connection_manager(options)
    manager.scoped_routes.scoped_rds.CopyFrom(
        hcm_pb2.ScopedRds(
            scoped_rds_config_source=config_source_pb2.ConfigSource(
                ads=config_source_pb2.AggregatedConfigSource(),
                resource_api_version=config_source_pb2.V3,
            )
        )
    )
    return _listener(options, manager)


def static_listener(options: Options, scopes: Iterable[Message]) -> Message:
    """The same with these scopes written into it, for configuration that never changes."""
    manager = http_connection_manager(options)
    manager.scoped_routes.scoped_route_configurations_list.CopyFrom(
        hcm_pb2.ScopedRouteConfigurationsList(scoped_route_configurations=list(scopes))
    )
    return _listener(options, manager)


def packed(message: Message) -> AnyMessage:
    """A message as Envoy's extension points take it."""
    wrapped = AnyMessage()
    wrapped.Pack(message, deterministic=True)
    return wrapped


def turned_on(config: Message) -> AnyMessage:
    """What a route says of a filter that is off elsewhere."""
    return packed(route_components_pb2.FilterConfig(config=packed(config)))


def http_connection_manager(options: Options) -> Message:
    """What is done with each request before it finds its route; its scopes are still to be told."""
    manager = hcm_pb2.HttpConnectionManager(
        stat_prefix="gatesync",
        http_filters=_filters(options),
        early_header_mutation_extensions=[
            {"name": "scope", "typed_config": packed(_scope_from_path())}
        ],
        merge_slashes=True,
        # What is escaped in a path stays so: /a%2Fb is not /a/b to an upstream.
        path_with_escaped_slashes_action=hcm_pb2.HttpConnectionManager.KEEP_UNCHANGED,
        server_header_transformation=hcm_pb2.HttpConnectionManager.PASS_THROUGH,
    )
    manager.normalize_path.value = True
    manager.generate_request_id.value = False
    manager.scoped_routes.name = "apis"
    fragment = manager.scoped_routes.scope_key_builder.fragments.add()
    fragment.header_value_extractor.name = SCOPE_HEADER
    fragment.header_value_extractor.element_separator = "/"
    fragment.header_value_extractor.index = 1
    return manager


def _scope_from_path() -> Message:
    """Overwrites: whatever a client sends under this name, the path decides."""
    option = base_pb2.HeaderValueOption(
        header=base_pb2.HeaderValue(key=SCOPE_HEADER, value="%PATH(NQ)%"),
        append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )
    return early_pb2.HeaderMutation(mutations=[{"append": option}])


def _filters(options: Options) -> list[Message]:
    """In WSO2's order: CORS, who it is, how much, then what the sequences do."""
    lua = lua_pb2.Lua(source_codes={LUA_SCRIPT: {"inline_string": _LUA_SOURCE}})
    lua.clear_route_cache.value = False  # a path that was rewritten is the upstream's
    filters = [_filter(CORS, cors_pb2.Cors(), disabled=True)]
    if options.issuer:
        filters.append(_filter(JWT, _jwt(options.issuer)))
    return [
        *filters,
        _filter(
            RATE_LIMIT,
            local_rate_limit_pb2.LocalRateLimit(stat_prefix="gatesync"),
            disabled=True,
        ),
        _filter(HEADER_TO_METADATA, header_to_metadata_pb2.Config(), disabled=True),
        _filter(HEADER_MUTATION, header_mutation_pb2.HeaderMutation(), disabled=True),
        _filter(LUA, lua, disabled=True),
        _filter("envoy.filters.http.router", router_pb2.Router(suppress_envoy_headers=True)),
    ]


def _filter(name: str, config: Message, *, disabled: bool = False) -> Message:
    return hcm_pb2.HttpFilter(name=name, typed_config=packed(config), disabled=disabled)


def _jwt(issuer: Issuer) -> Message:
    provider = jwt_pb2.JwtProvider(
        issuer=issuer.issuer,
        audiences=issuer.audiences,
        local_jwks={"inline_string": issuer.jwks},
        from_headers=[{"name": issuer.header, "value_prefix": "Bearer "}],
        forward=issuer.forward,
    )
    return jwt_pb2.JwtAuthentication(
        providers={_PROVIDER: provider},
        requirement_map={JWT_REQUIRED: {"provider_name": _PROVIDER}},
        bypass_cors_preflight=True,
    )


def _listener(options: Options, manager: Message) -> Message:
    chain = listener_components_pb2.FilterChain(
        filters=[
            {
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": packed(manager),
            }
        ]
    )
    if options.tls:
        certificate = {
            "certificate_chain": {"filename": options.tls.certificate},
            "private_key": {"filename": options.tls.private_key},
        }
        chain.transport_socket.name = "envoy.transport_sockets.tls"
        tls = {"tls_certificates": [certificate], "alpn_protocols": ["h2", "http/1.1"]}
        context = tls_pb2.DownstreamTlsContext(common_tls_context=tls)
        chain.transport_socket.typed_config.CopyFrom(packed(context))
    result = listener_pb2.Listener(name=LISTENER_NAME, filter_chains=[chain])
    result.address.socket_address.address = options.host
    result.address.socket_address.port_value = options.port
    result.per_connection_buffer_limit_bytes.value = _CONNECTION_BUFFER
    return result

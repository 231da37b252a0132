"""Routes: what Envoy matches, and what it does then."""

import re
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Final

from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2 as route_pb2
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.filters.http.header_to_metadata.v3 import header_to_metadata_pb2
from envoy.extensions.filters.http.lua.v3 import lua_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from envoy.extensions.retry.priority.previous_priorities.v3 import previous_priorities_config_pb2

from gatesync.engines.envoy.faults import Cannot
from gatesync.engines.envoy.listener import (
    ANSWERED_HEADER,
    HEADER_MUTATION,
    HEADER_TO_METADATA,
    LUA,
    LUA_SCRIPT,
    PATH_HEADER,
    packed,
    turned_on,
)
from gatesync.engines.envoy.matches import Filters, matching_route
from gatesync.engines.envoy.patterns import Pattern, capture_regex
from gatesync.engines.envoy.resources import Message
from gatesync.engines.envoy.state import Branch, FaultAnswer, Outcome, Payload
from gatesync.engines.envoy.values import (
    METADATA,
    Answer,
    Header,
    Method,
    Piece,
    QueryParameter,
    Rest,
    Text,
    Value,
    as_formatter,
    capture_key,
    captures_of,
    constant,
    escaped,
    text,
)

__all__ = ["DIRECT_MAX_BYTES", "empty_answer", "not_found", "preflight", "route_of"]

DIRECT_MAX_BYTES: Final = 1024 * 1024  # of a body that Envoy answers by itself

_LONGEST_HEADER: Final = 16_384  # Envoy's own limit
_NOBODY: Final = "x-gatesync-nobody"


def route_of(pattern: Pattern, methods: Iterable[str], branch: Branch, filters: Filters) -> Message:
    """The route of the requests that take one way through a resource's sequences.

    Raises:
        Cannot: what is to be done has no form in Envoy.
    """
    route = matching_route(pattern, methods, branch.atoms, filters)
    outcome = branch.outcome
    work = _Work(route)
    if outcome.target is None:
        _answer(work, outcome)
    else:
        _pass_on(work, pattern, outcome)
    _answer_headers(work, outcome)
    _enable(work, pattern)
    return route


class _Work:
    """A route in the making: what its filters are to do is gathered first."""

    def __init__(self, route: Message) -> None:
        self.route = route
        self.lua: dict[str, object] = {}
        self.captures: set[Piece] = set()
        self.mutations = header_mutation_pb2.Mutations()


def empty_answer(
    pattern: Pattern, methods: Iterable[str], status: int, allow: str, filters: Filters
) -> Message:
    """A route that answers with a status, the methods that are allowed and nothing else."""
    route = matching_route(pattern, methods, (), filters)
    route.direct_response.status = status
    route.response_headers_to_add.append(_set("allow", allow))
    return route


def preflight(pattern: Pattern, filters: Filters) -> Message:
    """The route of what browsers ask before: the CORS filter answers, of whatever origin it is.

    That filter looks at no route that answers by itself; this one has an upstream that nobody is.
    """
    route = matching_route(pattern, ("OPTIONS",), (), filters)
    for name in ("origin", "access-control-request-method"):
        route.match.headers.add(name=name).present_match = True
    route.route.cluster_header = _NOBODY
    return route


def not_found(context: str, filters: Filters) -> Message:
    """The route of what no resource of an API serves: no other API's, as in Synapse."""
    route = route_pb2.Route()
    route.match.path_separated_prefix = context
    route.match.headers.extend(filters.matchers)
    route.direct_response.status = 404
    return route


# Answering ------------------------------------------------------------------------------------


def _answer(work: _Work, outcome: Outcome) -> None:
    route = work.route
    route.direct_response.status = outcome.status
    payload = outcome.answer_payload
    if payload is None:
        work.lua["echo"] = str(outcome.status)
        return
    _check_size(payload)
    if payload.body:
        route.direct_response.body.inline_string = payload.body
    if payload.type and "content-type" not in outcome.answer_headers:
        route.response_headers_to_add.append(_set("content-type", escaped(payload.type)))


def _check_size(payload: Payload) -> None:
    if len(payload.body.encode()) > DIRECT_MAX_BYTES:
        raise Cannot(f"a body of more than {DIRECT_MAX_BYTES} bytes", "an upstream that has it")


def _answer_headers(work: _Work, outcome: Outcome) -> None:
    route = work.route
    for name, value in sorted(outcome.answer_headers.items()):
        if value is None:
            if outcome.target is not None:
                route.response_headers_to_remove.append(name)
            continue
        for piece in value:
            if isinstance(piece, Header) and piece.name in outcome.headers:
                raise Cannot(
                    f"the answer's header {name} needs the request's header {piece.name}, which "
                    "was changed before it was sent",
                    "a header that is not changed",
                )
            if isinstance(piece, QueryParameter | Method) and outcome.target is not None:
                raise Cannot(
                    f"the answer's header {name} needs the request's URL or method, which is "
                    "the upstream's by then",
                    "a header of the request, or a constant",
                )
        work.captures |= captures_of([value])
        option = _set(name, as_formatter(value))
        if "echo" in work.lua:  # which answers before the router adds anything
            work.mutations.response_mutations.add().append.CopyFrom(option)
        else:
            if outcome.target is not None and _may_be_empty(value, Answer(name)):
                route.response_headers_to_remove.append(name)  # which Envoy does first
            route.response_headers_to_add.append(option)


# Passing on -----------------------------------------------------------------------------------


def _pass_on(work: _Work, pattern: Pattern, outcome: Outcome) -> None:
    route, lua, target = work.route, work.lua, outcome.target
    assert target is not None
    action = route.route
    action.cluster = target.cluster.name
    # As Synapse's: of silence, however long an answer then takes to come through.
    action.timeout.FromMilliseconds(0)
    action.idle_timeout.FromMilliseconds(target.timeout_ms)
    if outcome.host:
        action.host_rewrite_literal = outcome.host
    else:
        action.auto_host_rewrite.value = True
    if target.tries > 1:
        _retry(action.retry_policy, target.tries, by_priority=target.by_priority)
    _request_headers(work, outcome.headers)
    _path(work, pattern, outcome)
    if outcome.method:
        lua["method"] = outcome.method
    if outcome.payload is not None:
        lua["body"], lua["type"] = outcome.payload.body, outcome.payload.type
    if outcome.answer_payload is not None:
        explicit = outcome.answer_headers.get("content-type")
        lua["answer_body"] = outcome.answer_payload.body
        lua["answer_type"] = (constant(explicit) if explicit else None) or (
            outcome.answer_payload.type
        )
    if outcome.status:
        lua["answer_status"] = str(outcome.status)
    if outcome.fault is not None:
        lua["fault"] = _fault(outcome.fault, late=target.late_fails)
    if outcome.status or outcome.answer_payload is not None or outcome.fault is not None:
        route.response_headers_to_add.append(_set(ANSWERED_HEADER, "%RESPONSE_FLAGS%"))


def _fault(fault: FaultAnswer, *, late: bool) -> dict[str, object]:
    """For Lua, which answers so where Envoy would with one of these statuses by itself."""
    _check_size(fault.payload)
    headers: dict[str, str] = dict(fault.headers)
    if fault.payload.body:
        headers.setdefault("content-type", fault.payload.type)
    on = "502 503 504" if late else "502 503"
    return {
        "on": on,
        "status": str(fault.status),
        "body": fault.payload.body,
        "headers": headers,
    }


def _retry(policy: Message, tries: int, *, by_priority: bool) -> None:
    """Where nothing reached an upstream, the next one is tried."""
    policy.retry_on = "connect-failure,refused-stream,reset-before-request"
    policy.num_retries.value = tries - 1
    if by_priority:
        priorities = previous_priorities_config_pb2.PreviousPrioritiesConfig(update_frequency=1)
        policy.retry_priority.name = "envoy.retry_priorities.previous_priorities"
        policy.retry_priority.typed_config.CopyFrom(packed(priorities))
        return
    hosts = previous_hosts_pb2.PreviousHostsPredicate()
    policy.host_selection_retry_max_attempts = 5
    policy.retry_host_predicate.add(name="previous_hosts", typed_config=packed(hosts))


def _request_headers(work: _Work, headers: Mapping[str, Value | None]) -> None:
    """In an order in which each is computed before what it needs is changed."""
    needs = {
        name: {piece.name for piece in value or () if isinstance(piece, Header)} & set(headers)
        for name, value in headers.items()
    }
    # What is read goes after its readers: `before[x]` are those that read x.
    before = {
        name: sorted(other for other in headers if name in needs[other] and other != name)
        for name in sorted(headers)
    }
    try:
        order = list(TopologicalSorter(before).static_order())
    except CycleError:
        raise Cannot(
            "headers are set from each other in a circle",
            "another header in between, removed later",
        ) from None
    for name in order:
        value = headers[name]
        if value is None:
            work.mutations.request_mutations.add(remove=name)
        else:
            work.captures |= captures_of([value])
            if _may_be_empty(value, Header(name)):
                work.mutations.request_mutations.add(remove=name)
            option = _set(name, as_formatter(value))
            work.mutations.request_mutations.add().append.CopyFrom(option)


def _path(work: _Work, pattern: Pattern, outcome: Outcome) -> None:
    target = outcome.target
    assert target is not None
    base = constant(target.path)
    if outcome.keeps_rest and base is not None:
        _prefixed(work.route, pattern.context, base)
        return
    path = target.path
    if outcome.keeps_rest:
        path = _joined(path, (Rest(),))
    elif outcome.postfix:
        path = _joined(path, outcome.postfix)
    if target.query:
        path = (*(path or text("/")), Text("?"), *target.query)
    literal = constant(path)
    if literal is not None:
        work.lua["path"] = literal if literal.startswith("/") else f"/{literal}"
        return
    if not isinstance(path[0], Text) or not path[0].text.startswith("/"):
        path = (Text("/"), *path)
    work.captures |= captures_of([path], in_path=True)
    option = _set(PATH_HEADER, as_formatter(path, in_path=True))
    work.mutations.request_mutations.add().append.CopyFrom(option)
    work.lua["path_from_header"] = "1"


def _prefixed(route: Message, context: str, base: str) -> None:
    """The API's context becomes the upstream's path; one slash stands between it and the rest."""
    slash = "/?" if not base or base.endswith("/") else ""
    if not slash and route.match.path_separated_prefix == context:
        route.route.prefix_rewrite = base  # the same, at a lower price than an expression
        return
    rewrite = route.route.regex_rewrite
    rewrite.pattern.regex = f"^{re.escape(context)}{slash}(.*)$"
    rewrite.substitution = (base or "/").replace("\\", r"\\") + r"\1"


def _joined(path: Value, rest: Value) -> Value:
    """With one slash between them, where the rest does not begin with one or with a query."""
    first = rest[0]
    if path and isinstance(path[-1], Text) and path[-1].text.endswith("/"):
        path = (*path[:-1], *text(path[-1].text[:-1]))
    if isinstance(first, Rest) or (isinstance(first, Text) and first.text[:1] in {"/", "?"}):
        return (*path, *rest)
    return (*path, Text("/"), *rest)


# Filters --------------------------------------------------------------------------------------


def _enable(work: _Work, pattern: Pattern) -> None:
    if work.captures:
        config = header_to_metadata_pb2.Config()
        for piece in sorted(work.captures, key=capture_key):
            found = config.request_rules.add(header=":path").on_header_present
            found.metadata_namespace, found.key = METADATA, capture_key(piece)
            regex, substitution = capture_regex(pattern, piece)
            found.regex_value_rewrite.pattern.regex = regex
            found.regex_value_rewrite.substitution = substitution
        work.route.typed_per_filter_config[HEADER_TO_METADATA].CopyFrom(turned_on(config))
    if work.mutations.ByteSize():
        mutations = header_mutation_pb2.HeaderMutationPerRoute(mutations=work.mutations)
        work.route.typed_per_filter_config[HEADER_MUTATION].CopyFrom(turned_on(mutations))
    if work.lua:
        work.route.metadata.filter_metadata[LUA].update(work.lua)
        script = lua_pb2.LuaPerRoute(name=LUA_SCRIPT)
        work.route.typed_per_filter_config[LUA].CopyFrom(turned_on(script))


def _may_be_empty(value: Value, itself: Piece) -> bool:
    """Whether what was there would stay: Envoy sets no header to nothing.

    A client could say itself what the gateway is to say of it.
    """
    return not any(isinstance(piece, Text) or piece == itself for piece in value)


def _set(name: str, value: str) -> Message:
    if len(value) > _LONGEST_HEADER:
        raise Cannot(
            f"the value of {name} has {len(value)} letters", f"at most {_LONGEST_HEADER} of them"
        )
    return base_pb2.HeaderValueOption(
        header=base_pb2.HeaderValue(key=name, value=value),
        append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )

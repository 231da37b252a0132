"""What a route matches, and what stands before what it does."""

import re
from collections.abc import Iterable

import msgspec
from envoy.config.route.v3 import route_components_pb2 as route_pb2
from envoy.extensions.filters.http.jwt_authn.v3 import config_pb2 as jwt_pb2

from gatesync.engines.envoy.conditions import Atom
from gatesync.engines.envoy.listener import (
    CORS,
    JWT,
    JWT_REQUIRED,
    RATE_LIMIT,
    packed,
    turned_on,
)
from gatesync.engines.envoy.patterns import SEVERAL, STEP, Pattern
from gatesync.engines.envoy.resources import Message
from gatesync.engines.envoy.values import (
    Header,
    Method,
    PathVariable,
    QueryParameter,
    check_parameter,
)

__all__ = ["Filters", "matching_route"]


class Filters(msgspec.Struct, frozen=True):
    """What stands before the sequences of a resource."""

    cors: Message | None = None
    authenticated: bool = False
    limit: Message | None = None
    matchers: tuple[Message, ...] = ()  # of the API: its host


def matching_route(
    pattern: Pattern, methods: Iterable[str], atoms: Iterable[Atom], filters: Filters
) -> Message:
    """A route that does nothing yet, for the requests that all of this matches.

    Args:
        pattern: of the path.
        methods: any of these; any at all where there is none.
        atoms: all of these.
        filters: what stands before.
    """
    route = route_pb2.Route()
    if pattern.prefix:
        route.match.path_separated_prefix = pattern.prefix
    else:
        route.match.safe_regex.regex = pattern.regex
    route.match.headers.extend(filters.matchers)
    if allowed := sorted(methods):
        matcher = route.match.headers.add(name=":method")
        if len(allowed) == 1:
            matcher.string_match.exact = allowed[0]
        else:
            matcher.string_match.safe_regex.regex = "|".join(map(re.escape, allowed))
    for name, value in pattern.parameters:
        parameter = route.match.query_parameters.add(name=name)
        if value is None:
            parameter.present_match = True
        else:
            parameter.string_match.exact = value
    for atom in atoms:
        _match_atom(route, pattern, atom)
    if filters.cors is not None:
        route.typed_per_filter_config[CORS].CopyFrom(turned_on(filters.cors))
    if filters.authenticated:
        requirement = jwt_pb2.PerRouteConfig(requirement_name=JWT_REQUIRED)
        route.typed_per_filter_config[JWT].CopyFrom(packed(requirement))
    if filters.limit is not None:
        route.typed_per_filter_config[RATE_LIMIT].CopyFrom(turned_on(filters.limit))
    return route


def _match_atom(route: Message, pattern: Pattern, atom: Atom) -> None:
    match atom.piece:
        case QueryParameter(name):
            parameter = route.match.query_parameters.add(name=check_parameter(name))
            if atom.regex is None:
                parameter.present_match = True
            else:
                parameter.string_match.safe_regex.regex = atom.regex
        case PathVariable(name):
            if atom.regex is not None:  # a variable is always there
                matcher = route.match.headers.add(name=":path")
                matcher.string_match.safe_regex.regex = _with_variable(pattern, name, atom.regex)
        case Header(name):
            matcher = route.match.headers.add(name=name)
            if atom.regex is None:
                matcher.present_match = True
            else:
                matcher.string_match.safe_regex.regex = atom.regex
        case Method():
            matcher = route.match.headers.add(name=":method")
            matcher.string_match.safe_regex.regex = atom.regex or ".*"
        case _:
            raise AssertionError(atom)


def _with_variable(pattern: Pattern, name: str, regex: str) -> str:
    """The pattern of a path and query in which one variable has this pattern."""
    wanted = pattern.groups.index(name)
    at = -1
    parts: list[str] = []
    for piece in re.split(f"({re.escape(STEP)}|{re.escape(SEVERAL)})", pattern.regex):
        if piece in {STEP, SEVERAL}:
            at += 1
            piece = f"(?:{regex})" if at == wanted else piece
        parts.append(piece)
    return "".join(parts) + r"(?:\?.*)?"

"""Endpoints: where a request goes, as a cluster and what becomes of its path."""

import re
from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import urlsplit

import msgspec
from lxml import etree

from gatesync.engines.envoy.clusters import Address, cluster_of
from gatesync.engines.envoy.expressions import Reference
from gatesync.engines.envoy.faults import Cannot, tag_of
from gatesync.engines.envoy.options import Options
from gatesync.engines.envoy.patterns import METHODS, literal_path, literal_query
from gatesync.engines.envoy.resources import Message
from gatesync.engines.envoy.values import Piece, Text, Unknown, Value, text

__all__ = ["Target", "target_of"]

_NEVER: Final = "-1"  # an error code that no error has: WSO2's way to say "never"


class Target(msgspec.Struct, frozen=True):
    """Where a request goes.

    Args:
        cluster: with its name.
        path: of the upstream, without a query.
        query: of the upstream, where the request's own is not passed on.
        appended: whether what follows the API's context comes after the path, with the query.
        method: instead of the request's; empty: the request's.
        host: what the upstream is called; empty: each member by its own name.
        timeout_ms: how long it may take to answer.
        tries: how many members a request may be tried on, where nothing was sent to those before.
        by_priority: whether they are tried in their order.
        late_fails: whether no answer in time is a failure, for which a fault sequence runs.
    """

    cluster: Message
    path: Value
    query: Value
    appended: bool
    method: str
    host: str
    timeout_ms: int
    tries: int
    by_priority: bool = False
    late_fails: bool = True


Read = Callable[[Reference], Value | Unknown]
Resolve = Callable[[str], etree._Element]


def target_of(
    endpoint: etree._Element, read: Read, resolve: Resolve, to: Value | None, options: Options
) -> Target:
    """What an `<endpoint>` element means.

    Args:
        endpoint: as it stands in a sequence.
        read: what its variables are here.
        resolve: the `<endpoint>` of a key; raises `Cannot` where there is none.
        to: the address that the sequence has set, for a default endpoint.
        options: the gateway's.

    Raises:
        Cannot: Envoy cannot do the same.
    """
    endpoint = _resolved(endpoint, resolve)
    kind, inner = _kind(endpoint)
    if kind in {"loadbalance", "failover"}:
        return _several(kind, inner, read, resolve, options)
    address = _address(kind, inner, read, to, options)
    cluster = cluster_of(((address,),), options)
    return Target(
        cluster=cluster,
        path=address.path,
        query=address.query,
        appended=not address.method,  # as Synapse does: a method of its own, a path of its own
        method=address.method,
        host=address.name,
        timeout_ms=address.timeout_ms,
        tries=1,
        late_fails=not address.discards,
    )


def _resolved(endpoint: etree._Element, resolve: Resolve) -> etree._Element:
    seen: set[str] = set()
    while key := endpoint.get("key"):
        if key in seen:
            raise Cannot(
                f"the endpoint {key!r} refers to itself", "an endpoint that is written out"
            )
        seen.add(key)
        endpoint = resolve(key)
    if endpoint.get("key-expression"):
        raise Cannot("the endpoint is computed for each request", "key", endpoint)
    if endpoint.get("template"):
        raise Cannot(
            "the endpoint is made from a template", "the endpoint written out, without it", endpoint
        )
    return endpoint


_KINDS: Final = {
    "http": "",
    "address": "",
    "default": "",
    "loadbalance": "",
    "failover": "",
    "wsdl": "an address endpoint with the service's URL",
    "recipientlist": "a mediation engine: a request goes to one endpoint here",
    "dynamicLoadbalance": "loadbalance with its members written out",
    "class": "http, address, loadbalance or failover",
    "session": "loadbalance without a session",
}


def _kind(endpoint: etree._Element) -> tuple[str, etree._Element]:
    for child in endpoint.iterchildren(etree.Element):
        tag = tag_of(child)
        if tag in _KINDS:
            if _KINDS[tag]:
                raise Cannot(f"a {tag} endpoint", _KINDS[tag], child)
            return tag, child
    raise Cannot("the endpoint says not where it is", "http, address, loadbalance...", endpoint)


# One address ----------------------------------------------------------------------------------


def _address(
    kind: str, element: etree._Element, read: Read, to: Value | None, options: Options
) -> Address:
    _check_children(element)
    if element.get("format", "rest").lower() not in {"rest", "leave-as-is"}:
        raise Cannot(
            f"format {element.get('format')!r} has each message rewritten",
            "no format: the body as it comes; to convert it needs a mediation engine",
            element,
        )
    if element.get("optimize") or element.get("encoding"):
        raise Cannot("optimize and encoding have each message rewritten", "neither", element)
    method = element.get("method", "").upper() if kind == "http" else ""
    if method and method not in METHODS:
        raise Cannot(f"the method {element.get('method')!r}", ", ".join(METHODS), element)
    url = _url(kind, element, read, to)
    tls, host, port, path, query = _split(url, element)
    return Address(
        tls=tls,
        host=host,
        port=port,
        path=path,
        query=query,
        method=method,
        timeout_ms=_timeout(element, options),
        discards=element.findtext("{*}timeout/{*}responseAction", "").strip() == "discard",
        suspension=_suspension(element),
    )


_UNDERSTOOD: Final = frozenset(
    ["timeout", "suspendOnFailure", "markForSuspension", "retryConfig", "description"]
)


def _check_children(element: etree._Element) -> None:
    for child in element.iterchildren(etree.Element):
        tag = tag_of(child)
        if tag == "authentication":
            raise Cannot(
                "the endpoint logs in by itself",
                'the header set in the sequence, <property name="Authorization" '
                'scope="transport" .../>',
                child,
            )
        if tag not in _UNDERSTOOD:
            raise Cannot(f"an endpoint's <{tag}>", "the endpoint without it", child)


def _url(kind: str, element: etree._Element, read: Read, to: Value | None) -> Value:
    if kind == "default":
        if not to:
            raise Cannot(
                "a default endpoint sends to where the message says, which nothing here has set",
                '<header name="To" value="http://..."/> before, or an address endpoint',
                element,
            )
        return to
    written = element.get("uri-template" if kind == "http" else "uri", "")
    if kind == "address":
        if "{" in written:
            raise Cannot(f"the address {written!r} has variables", "an http endpoint", element)
        return text(written)
    if written.startswith("legacy-encoding:"):
        raise Cannot("legacy-encoding: decides how a URL is encoded", "the URL alone", element)
    return _expanded(written, element, read)


_HOLE: Final = re.compile(r"\{\+?([^{}]*)\}")


def _expanded(template: str, element: etree._Element, read: Read) -> Value:
    value: Value = ()
    at = 0
    for hole in _HOLE.finditer(template):
        name = hole[1]
        if not name.startswith(("uri.var.", "query.param.")):
            raise Cannot(
                f"the variable {name!r} is none that Synapse fills in",
                "uri.var.name or query.param.name",
                element,
            )
        found = read(Reference("default", name))
        if isinstance(found, Unknown):
            raise Cannot(found.reason, found.instead, element)
        value += (*text(template[at : hole.start()]), *found)
        at = hole.end()
    return (*value, *text(template[at:]))


def _split(url: Value, element: etree._Element) -> tuple[bool, str, int, Value, Value]:
    """Whether TLS, host, port, path and query of a URL whose host is known beforehand."""
    merged = _merged(url)
    first = merged[0].text if merged and isinstance(merged[0], Text) else ""
    start = re.match(r"(?i)https?://[^/?#]+(?=[/?]|$)", first)
    if start is None or (start.end() == len(first) and len(merged) > 1):
        if re.match(r"(?i)(?!https?:)[a-z][a-z0-9+.-]*:", first):
            scheme = first.partition(":")[0]
            raise Cannot(f"the transport {scheme!r}", "http:// or https://", element)
        raise Cannot(
            "the endpoint's host is not known beforehand", "a host that is written out", element
        )
    try:
        parts = urlsplit(start[0])
        port = parts.port
    except ValueError:
        raise Cannot("the address is no URL", "http://host:port/path", element) from None
    if parts.username or parts.password or not parts.hostname or port == 0:
        raise Cannot("the address has a login, or no host", "http://host:port/path", element)
    tls = parts.scheme.lower() == "https"
    rest = (*text(first[start.end() :]), *merged[1:])
    path, query = _at_question_mark(rest, element)
    return tls, parts.hostname, port or (443 if tls else 80), path, query


def _merged(value: Value) -> Value:
    """With neighbouring texts in one."""
    merged: list[Piece] = []
    for piece in value:
        last = merged[-1] if merged else None
        if isinstance(piece, Text) and isinstance(last, Text):
            merged[-1] = Text(last.text + piece.text)
        else:
            merged.append(piece)
    return tuple(merged)


def _at_question_mark(value: Value, element: etree._Element) -> tuple[Value, Value]:
    path: list[Piece] = []
    for at, piece in enumerate(value):
        if isinstance(piece, Text):
            if "#" in piece.text:
                raise Cannot("the address has a fragment", "it without '#...'", element)
            before, mark, after = piece.text.partition("?")
            path.extend(text(literal_path(before)))
            if mark:
                query = (*text(literal_query(after)), *value[at + 1 :])
                return tuple(path), query
        else:
            path.append(piece)
    return tuple(path), ()


def _timeout(element: etree._Element, options: Options) -> int:
    timeout = element.find("{*}timeout")
    if timeout is None:
        return options.request_timeout_ms
    duration = timeout.findtext("{*}duration", "").strip()
    if not duration:
        return options.request_timeout_ms
    milliseconds = _whole(duration, timeout, "duration")
    return milliseconds or options.request_timeout_ms


def _suspension(element: etree._Element) -> tuple[int, int, int] | None:
    """After how many failures in a row, and for how long, a member is left out; None: never.

    Without <suspendOnFailure> it never is: one failure of an only upstream would make half a
    minute of failures of it.
    """
    suspend = element.find("{*}suspendOnFailure")
    if suspend is None:
        return None
    first = _whole(suspend.findtext("{*}initialDuration", "30000"), suspend, "initialDuration")
    longest = _whole(suspend.findtext("{*}maximumDuration", "0"), suspend, "maximumDuration")
    if suspend.findtext("{*}errorCodes", "").strip() == _NEVER or first <= 0:
        return None
    mark = element.find("{*}markForSuspension")
    retries = 0
    if mark is not None:
        written = mark.findtext("{*}retriesBeforeSuspension", "0")
        retries = max(0, _whole(written, mark, "retriesBeforeSuspension"))
    return retries + 1, first, max(first, longest)


def _whole(written: str, element: etree._Element, what: str) -> int:
    try:
        return min(int(written.strip() or "0"), 86_400_000)
    except ValueError:
        raise Cannot(
            f"{what} {written.strip()!r} is computed for each request", "a number of ms", element
        ) from None


# Several --------------------------------------------------------------------------------------


def _several(
    kind: str, element: etree._Element, read: Read, resolve: Resolve, options: Options
) -> Target:
    addresses = [_member(each, element, read, resolve, options) for each in _members(element)]
    if not addresses:
        raise Cannot(f"a {kind} endpoint without members", "<endpoint> in it", element)
    first = addresses[0]
    for other in addresses[1:]:
        same = ("path", "query", "method", "tls")
        differing = [each for each in same if getattr(other, each) != getattr(first, each)]
        if differing:
            raise Cannot(
                f"the members of a {kind} endpoint differ in their {differing[0]}",
                "members that differ in host and port alone",
                element,
            )
    weights = tuple(_weight(each) for each in _members(element))
    failing_over = kind == "failover" or element.get("failover", "true") == "true"
    groups = tuple((each,) for each in addresses) if kind == "failover" else (tuple(addresses),)
    return Target(
        cluster=cluster_of(groups, options, weights if kind == "loadbalance" else ()),
        path=first.path,
        query=first.query,
        appended=not first.method,
        method=first.method,
        host="",
        timeout_ms=max(each.timeout_ms for each in addresses),
        tries=len(addresses) if failing_over else 1,
        by_priority=kind == "failover",
        late_fails=not any(each.discards for each in addresses),
    )


def _members(element: etree._Element) -> Iterator[etree._Element]:
    for child in element.iterchildren(etree.Element):
        tag = tag_of(child)
        if tag == "endpoint":
            yield child
        elif tag == "member":
            raise Cannot("members by host and port", "<endpoint> for each", child)
        elif tag not in {"property", "description"}:
            raise Cannot(f"<{tag}> in a group of endpoints", "the group without it", child)
    algorithm = element.get("algorithm") or element.get("policy") or "roundRobin"
    names = {"roundRobin", "org.apache.synapse.endpoints.algorithms.RoundRobin"}
    names.add("org.apache.synapse.endpoints.algorithms.WeightedRoundRobin")
    if algorithm not in names:
        raise Cannot(f"the algorithm {algorithm!r}", "roundRobin", element)


def _member(
    endpoint: etree._Element,
    group: etree._Element,
    read: Read,
    resolve: Resolve,
    options: Options,
) -> Address:
    endpoint = _resolved(endpoint, resolve)
    kind, inner = _kind(endpoint)
    if kind in {"loadbalance", "failover", "default"}:
        raise Cannot(f"a {kind} endpoint within another", "http and address endpoints in it", group)
    return _address(kind, inner, read, None, options)


def _weight(endpoint: etree._Element) -> int:
    for child in endpoint.iterchildren("{*}property"):
        if child.get("name") == "loadbalance.weight":
            return max(1, min(128, _whole(child.get("value", "1"), child, "loadbalance.weight")))
    return 1

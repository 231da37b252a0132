"""An API: where it is served, what stands before it, and its resources in order."""

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec
from envoy.config.route.v3 import route_components_pb2 as route_pb2
from lxml import etree

from gatesync.artifacts.model import SUPER_TENANT
from gatesync.engines.envoy.faults import Cannot, Fault, line_of, tag_of
from gatesync.engines.envoy.handlers import (
    AUTHENTICATION_HANDLER,
    CORS_HANDLER,
    EXTENSION_HANDLER,
    HARMLESS_HANDLERS,
    THROTTLE_HANDLERS,
    api_level_policy,
    cors_policy,
    handlers_in,
    limit_of,
    tiers,
)
from gatesync.engines.envoy.matches import Filters
from gatesync.engines.envoy.options import Options
from gatesync.engines.envoy.patterns import METHODS, Pattern, literal_path, pattern_of
from gatesync.engines.envoy.pending import Mediators, OnFault, guarded, written_out
from gatesync.engines.envoy.resources import Message
from gatesync.engines.envoy.routes import empty_answer, not_found, preflight, route_of
from gatesync.engines.envoy.sequences import Walk
from gatesync.engines.envoy.sources import Need, Sources
from gatesync.engines.envoy.state import Branch
from gatesync.engines.envoy.values import Value, text

__all__ = ["Api"]

_T = TypeVar("_T")


class Api:
    """One `<api>` element in the course of being translated.

    `faults` and `clusters` are gathered while `routes` makes the routes.

    Args:
        root: the element.
        uuid: the one that WSO2 gave the API, by which its definition is found; empty if none.
        tenant: whose it is.
        sources: where it finds the files that it names.
        options: the gateway's.
    """

    def __init__(
        self, root: etree._Element, uuid: str, tenant: str, sources: Sources, options: Options
    ) -> None:
        self.faults: list[Fault] = []
        self.clusters: dict[str, Message] = {}
        self._root = root
        self._tenant = tenant
        self._sources = sources
        self._options = options
        self._resource = ""
        self._tiers = tiers(sources, uuid)
        self._handlers = handlers_in(root)
        self.context = self._try(root, self._context) or "/-"

    # Faults -----------------------------------------------------------------------------------

    def _report(self, element: etree._Element, cannot: Cannot) -> None:
        at = element if cannot.element is None else cannot.element
        path = self._sources.path_of(at)
        if not path:  # an element that stands in no file: a default endpoint
            at, path = self._root, self._sources.path_of(self._root)
        self.faults.append(
            Fault(
                path,
                line_of(at),
                tag_of(at),
                self._resource,
                cannot.reason,
                cannot.instead,
                cannot.by_settings,
            )
        )

    def _try(
        self, element: etree._Element, work: Callable[..., _T], *arguments: object
    ) -> _T | None:
        """What the work answers; None, and noted, where Envoy cannot do it."""
        try:
            return work(*arguments)
        except Cannot as cannot:
            self._report(element, cannot)
            return None

    # The API as a whole -----------------------------------------------------------------------

    def _context(self) -> str:
        """Where the API is served: with its tenant, and its version where that is in the URL."""
        root = self._root
        version = root.get("version", "")
        context = root.get("context", "").rstrip("/").replace("{version}", version)
        if root.get("version-type", "").strip() == "url" and version:
            context = f"{context}/{version}"
        tenant = self._tenant
        start = f"/t/{tenant}"
        if tenant != SUPER_TENANT and not f"{context}/".startswith(f"{start}/"):
            context = f"{start}{context}"
        context = literal_path(context)
        if not context.startswith("/") or "//" in context or not context.strip("/"):
            raise Cannot(
                f"the context {root.get('context')!r} has no first step, by which Envoy finds APIs",
                'context="/name"',
            )
        return context

    def _matchers(self) -> tuple[Message, ...]:
        """Of the request's host, where the API has one of its own."""
        host, port = self._root.get("hostname", ""), self._root.get("port", "")
        if not (host or port):
            return ()
        matcher = route_pb2.HeaderMatcher(name=":authority")
        wanted_host = re.escape(host) if host else ".*"
        wanted_port = (
            f":{re.escape(port)}" if port not in {"", "80", "443", "-1"} else "(?::[0-9]+)?"
        )
        matcher.string_match.safe_regex.regex = wanted_host + wanted_port
        return (matcher,)

    def _check_transport(self, element: etree._Element) -> None:
        wanted = (element.get("transports") or element.get("protocol") or "").lower().split(",")
        words = {word.strip() for each in wanted for word in each.split()} - {""}
        mine = "https" if self._options.tls else "http"
        if words and mine not in words:
            raise Cannot(
                f"it is for {' and '.join(sorted(words))} alone, and this gateway's Envoy "
                f"listens for {mine}",
                "a certificate in [gatesync.envoy], or an API for both",
                element,
                by_settings=True,
            )

    def routes(self) -> list[Message]:
        """All routes of the API, and what answers where none of its resources does."""
        self._try(self._root, self._check_transport, self._root)
        for name, handler in self._handlers:
            self._try(handler, self._check_handler, name, handler)
        matchers = self._matchers()
        resources = list(self._root.iterchildren("{*}resource"))
        if not resources:
            self._report(self._root, Cannot("the API has no resource", "a <resource>"))
        found: list[_Resource] = []
        for element in resources:
            self._resource = _called(element)
            resource = self._try(element, self._served, element, matchers)
            if resource is not None:
                found.append(resource)
        self._resource = ""
        return [*_in_order(found), not_found(self.context, Filters(matchers=matchers))]

    # Handlers ---------------------------------------------------------------------------------

    def _check_handler(self, name: str, handler: etree._Element) -> None:
        if name in HARMLESS_HANDLERS or name in THROTTLE_HANDLERS:
            return
        if name in {CORS_HANDLER, EXTENSION_HANDLER}:
            return
        if name != AUTHENTICATION_HANDLER:
            raise Cannot(
                f"the handler {handler.get('class', '')!r} is code of its own",
                "the stock handlers, or a mediation engine for this API",
            )
        if not (self._options.issuer or self._options.allow_unauthenticated):
            raise Cannot(
                "who calls it is to be authenticated, and no issuer of tokens is configured",
                "[gatesync.envoy] issuer and jwks, or allow_unauthenticated = true",
                by_settings=True,
            )

    def _cors(self) -> Message | None:
        found = [handler for name, handler in self._handlers if name == CORS_HANDLER]
        return cors_policy(found[0]) if found else None

    def _filters(
        self, methods: frozenset[str], pattern: Pattern, matchers: tuple[Message, ...]
    ) -> Filters:
        names = {name for name, _ in self._handlers}
        limit = None
        for name, handler in self._handlers:
            if name in THROTTLE_HANDLERS:
                tier = self._tier(pattern, methods)
                limit = limit_of(handler, tier, self._sources, self._tenant, self._options)
        return Filters(
            cors=self._cors(),
            authenticated=AUTHENTICATION_HANDLER in names and self._options.issuer is not None,
            limit=limit.config() if limit else None,
            matchers=matchers,
        )

    def _tier(self, pattern: Pattern, methods: frozenset[str]) -> str:
        """The tier of a resource; the API's own, which its authentication hands on, goes first."""
        for name, handler in self._handlers:
            if name == AUTHENTICATION_HANDLER and (level := api_level_policy(handler)):
                return level
        found = {tier for each in methods if (tier := self._tiers.get((pattern.text, each)))}
        if len(found) > 1:
            raise Cannot(
                f"the methods of one resource have the tiers {', '.join(sorted(found))}",
                "a resource for each tier",
            )
        return found.pop() if found else self._tiers.get(("", ""), "")

    # Resources --------------------------------------------------------------------------------

    def _served(self, element: etree._Element, matchers: tuple[Message, ...]) -> "_Resource":
        self._check_transport(element)
        methods = frozenset(element.get("methods", "").split()) or frozenset(METHODS)
        if unknown := sorted(methods - set(METHODS)):
            raise Cannot(f"the method {unknown[0]!r}", f"one of {', '.join(METHODS)}")
        for attribute in ("content-type", "user-agent"):
            if element.get(attribute):
                raise Cannot(f"{attribute} chooses the resource", "a filter on the header")
        style = next((each for each in ("uri-template", "url-mapping") if element.get(each)), "")
        pattern = pattern_of(style, element.get(style, "") if style else "", self.context)
        filters = self._filters(methods, pattern, matchers)
        matched = () if len(methods) == len(METHODS) else methods
        routes = [
            route
            for branch in self._branches(element, pattern)
            if (route := self._route(element, pattern, matched, branch, filters)) is not None
        ]
        return _Resource(pattern, methods, filters, tuple(routes))

    def _branches(self, element: etree._Element, pattern: Pattern) -> list[Branch]:
        walk = Walk(self._sources, self._options, self._known(pattern), self._report)
        into = self._mediators(element, "inSequence", "In")
        out = self._mediators(element, "outSequence", "Out")
        return self._try(element, walk.branches, element, into, out) or []

    def _route(
        self,
        element: etree._Element,
        pattern: Pattern,
        methods: Iterable[str],
        branch: Branch,
        filters: Filters,
    ) -> Message | None:
        target = branch.outcome.target
        if target is not None:
            self.clusters[target.cluster.name] = target.cluster
        return self._try(element, route_of, pattern, methods, branch, filters)

    def _mediators(self, element: etree._Element, which: str, suffix: str) -> Mediators | None:
        """Those of the resource's sequence, after those that WSO2's extension handler runs."""
        handler = self._fault_sequence(element)
        inline = element.find(f"{{*}}{which}")
        key = element.get(which)
        found: Mediators | None = None
        if inline is not None:
            found = self._try(inline, written_out, self._sources, inline, handler) or []
        elif key:
            found = self._try(element, guarded, self._sources, key, handler) or []
        extensions = [
            mediator
            for name in self._extensions(suffix)
            for mediator in self._try(element, guarded, self._sources, name, handler) or ()
        ]
        if extensions and found is None and which == "outSequence":
            found = [etree.Element("respond")]
        elif not extensions and found is None:
            return None
        return [OnFault(handler), *extensions, *(found or ())]

    def _fault_sequence(self, element: etree._Element) -> tuple[etree._Element, ...]:
        """What runs when an upstream fails; nothing where Envoy is to answer by itself."""
        inline, key = element.find("{*}faultSequence"), element.get("faultSequence")
        if inline is not None:
            return tuple(inline.iterchildren(etree.Element))
        return (self._try(element, self._sources.fault_sequence, key) or ()) if key else ()

    def _extensions(self, suffix: str) -> list[str]:
        if EXTENSION_HANDLER not in {name for name, _ in self._handlers}:
            return []
        name = self._root.get("name", "")
        names = [f"WSO2AM--Ext--{suffix}", f"{name}:v{self._root.get('version', '')}--{suffix}"]
        return [each for each in names if self._sources.has(Need("sequence", each))]

    def _known(self, pattern: Pattern) -> dict[str, Value]:
        """Properties that have a value before the first mediator."""
        root = self._root
        known = {
            "AM_KEY_TYPE": "SANDBOX" if self._options.type == "sandbox" else "PRODUCTION",
            "REST_API_CONTEXT": root.get("context", ""),
            "SYNAPSE_REST_API": root.get("name", ""),
            "SYNAPSE_REST_API_VERSION": root.get("version", ""),
            "REST_URL_PATTERN": pattern.text,
        }
        variables = {f"uri.var.{name}": value for name, value in pattern.variables.items()}
        return {name: text(value) for name, value in known.items()} | variables


def _called(element: etree._Element) -> str:
    """A resource, for messages."""
    methods = " ".join(element.get("methods", "").split()) or "any method"
    pattern = element.get("uri-template") or element.get("url-mapping") or "/*"
    return f"{methods} {pattern}"


class _Resource(msgspec.Struct, frozen=True):
    """A resource with its routes."""

    pattern: Pattern
    methods: frozenset[str]
    filters: Filters
    routes: tuple[Message, ...]


def _in_order(resources: list[_Resource]) -> list[Message]:
    """The routes of all resources as Synapse would choose them.

    First those that have the request's method, the exact before the others. OPTIONS is always
    welcome, and told what is allowed, where no resource takes it itself. A path that is served,
    but not with this method, is answered with 405.
    """
    alike: dict[tuple[str, object], list[_Resource]] = {}
    for each in resources:
        alike.setdefault((each.pattern.regex, each.pattern.parameters), []).append(each)
    groups = sorted(alike.values(), key=lambda group: group[0].pattern.rank)
    routes: list[Message] = []
    refusing: list[Message] = []
    for group in groups:
        methods = frozenset().union(*(each.methods for each in group))
        allow = ", ".join(each for each in METHODS if each in methods)
        pattern, filters = group[0].pattern, group[0].filters
        asked = msgspec.structs.replace(filters, authenticated=False, limit=None)
        if filters.cors is not None:
            routes.append(preflight(pattern, asked))
        routes += [route for each in group for route in each.routes]
        if "OPTIONS" not in methods:
            routes.append(empty_answer(pattern, ("OPTIONS",), 200, allow, asked))
        if len(methods) < len(METHODS):
            refusing.append(empty_answer(pattern, (), 405, allow, asked))
    return routes + refusing

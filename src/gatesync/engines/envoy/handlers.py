"""WSO2's handlers: what stands before an API's sequences, as filters of Envoy."""

import json
import re
from typing import Final

import msgspec
from envoy.extensions.filters.http.cors.v3 import cors_pb2
from envoy.extensions.filters.http.local_ratelimit.v3 import local_rate_limit_pb2
from lxml import etree

from gatesync.artifacts.errors import Problem
from gatesync.artifacts.model import Part
from gatesync.artifacts.xml import parse
from gatesync.engines.envoy.faults import Cannot
from gatesync.engines.envoy.options import Options
from gatesync.engines.envoy.resources import Message
from gatesync.engines.envoy.sources import Sources

__all__ = [
    "HARMLESS_HANDLERS",
    "Limit",
    "Tiers",
    "api_level_policy",
    "cors_policy",
    "handlers_in",
    "limit_of",
    "tiers",
]

CORS_HANDLER: Final = "CORSRequestHandler"
AUTHENTICATION_HANDLER: Final = "APIAuthenticationHandler"
THROTTLE_HANDLERS: Final = frozenset({"ThrottleHandler", "APIThrottleHandler"})
EXTENSION_HANDLER: Final = "APIManagerExtensionHandler"
HARMLESS_HANDLERS: Final = {
    "APIMgtUsageHandler": "counts for WSO2's analytics",
    "APIMgtLatencyStatsHandler": "measures for WSO2's analytics",
    "LatencyStatsHandler": "measures for WSO2's analytics",
    "APIMgtGoogleAnalyticsTrackingHandler": "tells Google Analytics",
    "APIManagerCacheExtensionHandler": "keeps WSO2's own caches",
    "APILogMessageHandler": "writes a log",
    "LogsHandler": "writes a log",
    "APIStatusHandler": "tells blocked APIs, which are not published",
    "SynapsePropertiesHandler": "sets ports and host names for WSO2's own services",
    "APIMgtLatencySynapseHandler": "measures for WSO2's analytics",
}
"""Handlers that are passed over, with what they do: no client and no upstream sees it."""


def handlers_in(api: etree._Element) -> list[tuple[str, etree._Element]]:
    """The handlers of an API in their order, by the last part of their class."""
    return [
        (handler.get("class", "").rpartition(".")[2], handler)
        for handler in api.iterfind("{*}handlers/{*}handler")
    ]


def _properties(handler: etree._Element) -> dict[str, str]:
    return {each.get("name", ""): each.get("value", "") for each in handler.iterfind("{*}property")}


def api_level_policy(handler: etree._Element) -> str:
    """The tier of a whole API, as its authentication handler is told; empty where it has none."""
    return _properties(handler).get("APILevelPolicy", "").strip()


# CORS -----------------------------------------------------------------------------------------

_DEFAULTS: Final = {
    "origins": "*",
    "methods": "GET,PUT,POST,DELETE,PATCH,OPTIONS",
    "headers": "authorization,Access-Control-Allow-Origin,Content-Type,SOAPAction,apikey",
    "credentials": "false",
}


def cors_policy(handler: etree._Element) -> Message:
    """What a CORS handler's properties say; WSO2's own defaults where they say nothing."""
    given = {name.lower(): value for name, value in _properties(handler).items()}
    values = {
        what: given.get(f"allow{what}") or given.get(f"allowed{what}") or default
        for what, default in _DEFAULTS.items()
    }
    policy = cors_pb2.CorsPolicy(
        allow_methods=_joined(values["methods"]), allow_headers=_joined(values["headers"])
    )
    for origin in values["origins"].split(","):
        if origin.strip():
            policy.allow_origin_string_match.add(exact=origin.strip())
    policy.forward_not_matching_preflights.value = False
    policy.allow_credentials.value = values["credentials"].strip().lower() == "true"
    return policy


def _joined(words: str) -> str:
    return ",".join(word.strip() for word in words.split(",") if word.strip())


# Throttling -----------------------------------------------------------------------------------


class Limit(msgspec.Struct, frozen=True):
    """So many requests in so many milliseconds."""

    count: int
    per_ms: int

    def config(self) -> Message:
        """As Envoy's local rate limit: each node counts for itself."""
        limit = local_rate_limit_pb2.LocalRateLimit(stat_prefix="throttled")
        limit.token_bucket.max_tokens = self.count
        limit.token_bucket.tokens_per_fill.value = self.count
        limit.token_bucket.fill_interval.FromMilliseconds(self.per_ms)
        for enabled in (limit.filter_enabled, limit.filter_enforced):
            enabled.default_value.numerator = 100
        return limit


Tiers = dict[tuple[str, str], str]
"""The tier of each operation, by path and method; ("", "") is that of the API."""

_UNLIMITED: Final = frozenset({"", "unlimited"})
_UNITS: Final = {
    "sec": 1_000,
    "second": 1_000,
    "min": 60_000,
    "minute": 60_000,
    "hour": 3_600_000,
    "day": 86_400_000,
    "week": 604_800_000,
}
_COUNT: Final = re.compile(r"count\s*\(\s*\w+\s*\)\s*>=\s*(\d+)")
_WINDOW: Final = re.compile(r"timeBatch\s*\(\s*(\d+)\s*([a-z]+?)s?\s*[,)]", re.I)
_LEVELS: Final = ("resource", "api")
_TIER_KEYS: Final = ("x-throttling-tier", "x-wso2-throttling-tier")


def tiers(sources: Sources, uuid: str) -> Tiers:
    """What an API's definition, its local entry, says of tiers; empty where there is none."""
    part = sources.own("local-entry", uuid) if uuid else None
    try:
        document = json.loads(_text_of(part)) if part else {}
    except (ValueError, Problem, RecursionError):
        return {}
    found: Tiers = {}
    if isinstance(document, dict):
        _collect(document, ("", ""), found)
        paths = document.get("paths")
        for path, operations in paths.items() if isinstance(paths, dict) else ():
            for method, each in operations.items() if isinstance(operations, dict) else ():
                if isinstance(each, dict):
                    _collect(each, (path, method.upper()), found)
    return found


def _text_of(part: Part) -> str:
    return "".join(str(each) for each in parse(part.content, part.path).itertext())


def _collect(of: dict[str, object], key: tuple[str, str], found: Tiers) -> None:
    for name in _TIER_KEYS:
        if isinstance(tier := of.get(name), str):
            found[key] = tier


def limit_of(
    handler: etree._Element, tier: str, sources: Sources, tenant: str, options: Options
) -> Limit | None:
    """The limit of requests that a throttle handler keeps for a resource of this tier.

    Raises:
        Cannot: the tier's policy is not on this node, or counts something else than requests.
    """
    properties = _properties(handler)
    kind = "sandbox" if options.type == "sandbox" else "production"
    limits: list[Limit] = []
    if count := properties.get(f"{kind}MaxCount", "").strip():
        per = properties.get(f"{kind}UnitTime") or properties.get(f"{kind}TimeUnit") or "1000"
        if not (count.isdecimal() and per.strip().isdecimal()):
            raise Cannot(f"{kind}MaxCount and its unit are no numbers", "numbers", handler)
        limits.append(_limit(int(count), int(per)))
    tier = properties.get("apiLevelPolicy") or properties.get("policy") or tier
    if tier.lower() not in _UNLIMITED:
        limits.append(_of_tier(tier, handler, sources, tenant))
    return min(limits, key=lambda each: each.count / each.per_ms, default=None)


def _of_tier(tier: str, handler: etree._Element, sources: Sources, tenant: str) -> Limit:
    names = [
        f"{start}{level}_{tier}{end}"
        for level in _LEVELS
        for start in ("", f"{tenant}_")
        for end in ("_default", "")
    ]
    part = sources.policy(names)
    if part is None:
        raise Cannot(
            f"its tier {tier!r} has no policy on this node",
            f"publish the policy {names[0]}, or give the API the tier Unlimited",
            handler,
        )
    plan = part.content.decode("utf-8", "replace")
    count, window = _COUNT.search(plan), _WINDOW.search(plan)
    unit = _UNITS.get(window[2].lower()) if window else None
    if count is None or window is None or unit is None:
        raise Cannot(
            f"the policy {part.name!r} counts something else than requests in a time",
            "a policy with count(messageID) >= n over timeBatch(n unit)",
            handler,
        )
    return _limit(int(count[1]), int(window[1]) * unit)


def _limit(count: int, per_ms: int) -> Limit:
    return Limit(min(max(1, count), 2**32 - 1), max(50, per_ms))  # Envoy fills every 50 ms at most

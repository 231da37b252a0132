"""What the translation supports, as a page for people: made from the tables that it works by."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from gatesync.artifacts.model import Artifact
from gatesync.engines.envoy.faults import Fault, Refusal
from gatesync.engines.envoy.handlers import HARMLESS_HANDLERS
from gatesync.engines.envoy.mediators import (
    AXIS2,
    AXIS2_IGNORED,
    HARMLESS,
    HARMLESS_CLASSES,
    INSTEAD_OF,
)
from gatesync.engines.envoy.options import Options
from gatesync.engines.envoy.patterns import METHODS
from gatesync.engines.envoy.sources import names_of
from gatesync.engines.envoy.translation import REFUSED_KINDS, translate

__all__ = ["Counts", "count", "page"]


class Counts(msgspec.Struct, frozen=True):
    """Of the APIs of one tree: how many there are, which are served, and why others are not."""

    tree: str
    served: tuple[str, ...]
    refused: Mapping[str, tuple[Fault, ...]]


def count(tree: str, artifacts: Iterable[Artifact], options: Options) -> Counts:
    """Translate all APIs of a tree, each among all of the tree's other artifacts."""
    every = list(artifacts)
    names = {need: part for each in every for part in each.parts for need in names_of(part)}
    served: list[str] = []
    refused: dict[str, tuple[Fault, ...]] = {}
    for artifact in every:
        if artifact.identity.kind == "api":
            found, _ = translate(artifact, names.get, options)
            if isinstance(found, Refusal):
                refused[str(artifact.identity)] = found.faults
            else:
                served.append(str(artifact.identity))
    return Counts(tree, tuple(served), refused)


_INTRODUCTION: Final = """\
# What the engine `envoy` serves

Made from the code by `scripts/envoy_support_page.py`; do not edit it by hand.

An API is served by Envoy when all of it can be. Otherwise the gateway refuses it, with the file,
the line, the element and what would work instead, and goes on serving what it served before.
`gatesync publish --dry-run --engine envoy` says the same beforehand.
"""

_SUPPORTED: Final = (
    (
        "`<api>`",
        "`context`, `version` with `version-type` url or context, `hostname`, `port`, `transports`",
        "A context needs a first step: `/` alone is refused. Tenants' APIs stand under "
        "`/t/<tenant>`; all of these share one scope. Of contexts that begin alike the longest is "
        "asked, and no other",
    ),
    (
        "`<resource>`",
        f"`methods` ({', '.join(METHODS)}), `uri-template` (`{{x}}`, `{{+x}}`, `*` at the end, "
        "`?name={x}`), `url-mapping` (a path, `/path/*`, `*.ext`)",
        "Exact paths come before templates, templates before wildcards. OPTIONS is answered with "
        "`Allow` where no resource takes it; a path without the method with 405. Variables are "
        "compared and passed on as the URL has them, not decoded",
    ),
    (
        "`inSequence`, `outSequence`, `<sequence key>`",
        "inline, by key, shared; WSO2's extensions (`WSO2AM--Ext--In`, `Name:vVersion--In`)",
        "A request that nothing answers gets 202, as in Synapse",
    ),
    (
        "`faultSequence`, `onError`",
        "inline, by key, shared; the innermost `onError` around the `send` or `call`. "
        "`payloadFactory` or `NO_ENTITY_BODY`, `HTTP_SC` and headers with constants, then "
        "`<respond/>`; `filter` and `switch` on the request",
        "Where the upstream cannot be reached, hangs up before it answers, is suspended or late; "
        "what it answers itself, 503 too, passes untouched. Nothing of the request or of what was "
        "set on it comes back. Where no fault sequence answers (none, the pack's own, one that "
        "only logs or ends in `<drop/>`), Envoy does: 503, or 504 where it is late. `ERROR_CODE`, "
        "`ERROR_MESSAGE` and another `<send>` are refused",
    ),
    (
        "`<send>`, `<call>`",
        "one upstream for each way through a sequence; `receive`",
        "An answer that is never sent back, or a second upstream after it, is refused",
    ),
    (
        "`<respond>`, `<loopback>`, `<drop>`",
        "with a body that `payloadFactory` made, or the request's own (1 MiB at most)",
        "Of the request's headers, the Content-Type alone comes back with its body",
    ),
    (
        "`<payloadFactory>`",
        "media-type json, xml, text with constants, for requests and answers",
        "What depends on the request or on a body is refused",
    ),
    (
        "`<property>`, `<header>`",
        "scope default, and transport: set, removed, in requests and answers; `To`",
        "Constants, `$trp:X`, `$ctx:x`, `$url:x`, `get-property(...)`, `uri.var.x`, "
        "`query.param.x`, the method, `fn:concat(...)` of these. An empty value sets no header",
    ),
    (
        "`<filter>`, `<switch>`",
        "`source` and `regex`, or `xpath` with `=`, `!=`, `and`, `or`, `not()`, `boolean()`",
        "On the method, headers, query parameters and URI variables (as the URL has them, not "
        "decoded), and on constants. Patterns that RE2 and Java read alike",
    ),
    (
        "`<endpoint>`",
        "`http`, `address`, `default` with a constant `To`, `loadbalance` (round robin, weights), "
        "`failover`; by key or inline",
        "Members of a group differ in host and port alone. An `http` endpoint with a method has "
        "its own path; others get the rest of the request's URL",
    ),
    (
        "timeouts, suspension",
        "`timeout/duration`; `suspendOnFailure` with `markForSuspension`",
        "Where an answer is late the fault sequence runs, but with `responseAction` discard: then "
        "comes 504, as without one. Suspension is by "
        "failures to connect and resets; its time grows by addition up to `maximumDuration`. "
        "Without `<suspendOnFailure>` nothing is suspended. Of a group, the next member is tried "
        "where nothing was sent",
    ),
    (
        "https endpoints",
        "the host's certificate is checked against `upstream_ca`",
        "Also where Synapse would trust anyone",
    ),
    (
        "`AM_KEY_TYPE`",
        "SANDBOX on a gateway of type sandbox, PRODUCTION on others",
        "The key type of a token is not looked at",
    ),
    (
        "`CORSRequestHandler`",
        "origins, methods, headers, credentials",
        "Answers that Envoy makes by itself, without an upstream, bear no CORS headers",
    ),
    (
        "`APIAuthenticationHandler`",
        "JWTs of `[gatesync.envoy] issuer`, for every resource",
        "Without an issuer the API is refused, unless `allow_unauthenticated = true`. "
        "Subscriptions and scopes are not looked at",
    ),
    (
        "`ThrottleHandler`, `APIThrottleHandler`",
        "`productionMaxCount`, `sandboxMaxCount`; the API's tier, or those of its definition, "
        "whose policy (`resource_<tier>`) counts requests",
        "Each node, and each route, counts for itself. Tiers of applications and subscriptions are "
        "not looked at",
    ),
)


def page(counts: Iterable[Counts]) -> str:
    """The page, as Markdown."""
    return "\n".join(
        [
            _INTRODUCTION,
            *_table(("construct", "what is served", "to know"), _SUPPORTED),
            "\n## Properties of scope `axis2`\n",
            *_table(("property", "what it does"), ((f"`{name}`", AXIS2[name]) for name in AXIS2)),
            f"\nPassed over: {_listed(AXIS2_IGNORED)}. Others are refused.",
            "\n## Passed over\n",
            "What these do, neither a client nor an upstream sees.\n",
            *_table(
                ("element or handler", "what it does"),
                [
                    *((f"`<{name}>`", "is for whoever reads logs") for name in sorted(HARMLESS)),
                    *(
                        (f'`<class name="...{name}"/>`', "counts for WSO2's analytics")
                        for name in sorted(HARMLESS_CLASSES)
                    ),
                    *((f"`{name}`", what) for name, what in HARMLESS_HANDLERS.items()),
                ],
            ),
            "\n## Refused\n",
            "Other handlers and connectors need a mediation engine, and so do these:\n",
            *_table(
                ("element or kind", "what would work instead"),
                [
                    *((f"`<{name}>`", INSTEAD_OF[name]) for name in sorted(INSTEAD_OF)),
                    *((name, instead) for name, instead in REFUSED_KINDS.items()),
                ],
            ),
            *_counted(list(counts)),
        ]
    )


def _counted(counts: list[Counts]) -> list[str]:
    served = sum(len(each.served) for each in counts)
    whole = served + sum(len(each.refused) for each in counts)
    reasons = Counter(
        fault.element
        for each in counts
        for faults in each.refused.values()
        for fault in {fault.element: fault for fault in faults}.values()
    )
    lines = [
        "\n## What real APIs come to\n",
        "The APIs of three suites of tests of WSO2's Micro Integrator, which try out mediation, "
        "and so ask for much that a gateway does not do:\n",
        *_table(
            ("suite", "APIs", "served", "refused"),
            [
                (each.tree, str(len(each.served) + len(each.refused)), *_pair(each))
                for each in counts
            ],
        ),
        f"\n{served} of {whole} are served. What the others are refused for, by how many:\n",
        *_table(
            ("element", "APIs"),
            [
                (f"`<{name}>`", str(number))
                for name, number in sorted(reasons.items(), key=lambda each: (-each[1], each[0]))
            ],
        ),
        "",
    ]
    return lines if counts else [""]


def _pair(counts: Counts) -> tuple[str, str]:
    return str(len(counts.served)), str(len(counts.refused))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return [f"| {' | '.join(each.replace('|', '/') for each in row)} |" for row in lines]

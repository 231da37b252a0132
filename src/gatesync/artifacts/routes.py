"""Where requests come in and where they go: an API's resources and handlers, and endpoints."""

from collections.abc import Iterator
from typing import Final

import msgspec
from lxml import etree

__all__ = ["Endpoint", "Resource", "endpoints_of", "handlers_of", "resources_of"]


class Resource(msgspec.Struct, frozen=True):
    """One resource of an API.

    `methods` is empty where any is served. `style` says what `pattern` is: `uri-template`,
    `url-mapping`, or empty where the resource serves all that no other does. The sequences are
    keys; what stands in the resource itself has none.
    """

    methods: tuple[str, ...]
    pattern: str
    style: str
    in_sequence: str = ""
    out_sequence: str = ""
    fault_sequence: str = ""


class Endpoint(msgspec.Struct, frozen=True):
    """An endpoint that is written out; `name` is empty where it needs none.

    `type` is the element that makes it (`http`, `address`, `wsdl`, `default`, `loadbalance`,
    `failover`...), or `template`. `urls` are as they are written, those of its members included:
    with placeholders, and with whatever secrets people put into them.
    """

    name: str
    type: str
    urls: tuple[str, ...]


def resources_of(api: etree._Element) -> tuple[Resource, ...]:
    """The resources of a parsed API, in the order in which they are tried."""
    return tuple(_resource(element) for element in api.iterchildren("{*}resource"))


def handlers_of(api: etree._Element) -> tuple[str, ...]:
    """The class names of a parsed API's handlers, in the order in which they are called."""
    return tuple(
        handler.get("class", "")
        for handlers in api.iterchildren("{*}handlers")
        for handler in handlers.iterchildren("{*}handler")
    )


def endpoints_of(root: etree._Element) -> tuple[Endpoint, ...]:
    """The endpoints that a parsed file holds; those within another count as part of that."""
    namespace = str(root.tag).rpartition("}")[0]
    tag = f"{namespace}}}endpoint" if namespace else "endpoint"
    return tuple(
        Endpoint(endpoint.get("name", ""), _type(endpoint), tuple(_urls(endpoint)))
        for endpoint in root.iter(tag)
        if not _REFERENCES.intersection(endpoint.keys())
        and next(endpoint.iterancestors(tag), None) is None
    )


_STYLES: Final = ("uri-template", "url-mapping")
_REFERENCES: Final = frozenset({"key", "key-expression"})
_TYPES: Final = frozenset(
    {
        "http",
        "address",
        "wsdl",
        "default",
        "loadbalance",
        "dynamicLoadbalance",
        "failover",
        "recipientlist",
        "class",
    }
)


def _resource(element: etree._Element) -> Resource:
    style = next((style for style in _STYLES if element.get(style) is not None), "")
    return Resource(
        methods=tuple(element.get("methods", "").split()),
        pattern=element.get(style, "") if style else "",
        style=style,
        in_sequence=element.get("inSequence", ""),
        out_sequence=element.get("outSequence", ""),
        fault_sequence=element.get("faultSequence", ""),
    )


def _type(endpoint: etree._Element) -> str:
    if endpoint.get("template"):
        return "template"
    tags = (str(child.tag).rpartition("}")[2] for child in endpoint.iterchildren(etree.Element))
    return next((tag for tag in tags if tag in _TYPES), "")


def _urls(endpoint: etree._Element) -> Iterator[str]:
    for element in endpoint.iter(etree.Element):
        is_parameter = element.get("name") == "uri" and str(element.tag).endswith("parameter")
        url = element.get("uri-template") or element.get("value" if is_parameter else "uri")
        if url:
            yield url

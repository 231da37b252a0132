"""The XML that WSO2's publisher makes of an API: the API, its endpoints, its definition."""

import re
from collections.abc import Iterable, Sequence
from typing import Final, cast

import msgspec
from lxml import etree

from gatesync.artifacts.errors import Problem
from gatesync.artifacts.openapi_operations import Operation
from gatesync.artifacts.synapse import SYNAPSE_NAMESPACE

__all__ = ["ApiXml", "endpoint_xml", "local_entry_xml"]

_HANDLERS: Final = "org.wso2.carbon.apimgt.gateway.handlers"
_TIMEOUT_MS: Final = "30000"  # what WSO2's portal gives an endpoint
_NOT_IN_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class ApiXml(msgspec.Struct, frozen=True):
    """What stands in an API's XML.

    `name` is with the provider; `sandbox` is empty where there is no sandbox endpoint. Without
    `authenticated` nobody asks a client who it is.
    """

    name: str
    context: str
    version: str
    uuid: str
    production: str
    sandbox: str
    authenticated: bool

    def written(self, operations: Iterable[Operation]) -> str:
        """The XML of the API with these resources."""
        api = etree.Element(
            _tag("api"),
            {
                "name": self.name,
                "context": self.context,
                "version": self.version,
                "version-type": "context",
            },
            nsmap=_NSMAP,
        )
        for operation in operations:
            self._resource(api, operation)
        self._handlers(api)
        return _text(api)

    def _resource(self, api: etree._Element, operation: Operation) -> None:
        attributes = {
            "methods": operation.method,
            operation.style: operation.pattern,
            "faultSequence": "fault",
        }
        resource = _child(api, "resource", attributes)
        into = _child(resource, "inSequence")
        time = {"name": "api.ut.backendRequestTime", "expression": "get-property('SYSTEM_TIME')"}
        _child(into, "property", time)
        if self.authenticated:
            then, otherwise = _filter(into, "PRODUCTION")
            _send(then, self.production)
            if self.sandbox:
                _send(otherwise, self.sandbox)
            else:
                _child(otherwise, "sequence", {"key": "_sandbox_key_error_"})
        elif self.sandbox:  # nobody has a key: what is not known to be for it is for production
            then, otherwise = _filter(into, "SANDBOX")
            _send(then, self.sandbox)
            _send(otherwise, self.production)
        else:
            _send(into, self.production)
        _child(_child(resource, "outSequence"), "send")

    def _handlers(self, api: etree._Element) -> None:
        handlers = _child(api, "handlers")
        uuid = {"apiUUID": self.uuid}  # by which a tree knows that the definition is the API's
        _handler(handlers, "common.APIMgtLatencyStatsHandler", uuid)
        _handler(handlers, "security.CORSRequestHandler", {"apiImplementationType": "ENDPOINT"})
        if self.authenticated:
            properties = {
                "RemoveOAuthHeadersFromOutMessage": "true",
                "APILevelPolicy": "",
                "CertificateInformation": "{}",
                "APISecurity": "oauth2,oauth_basic_auth_api_key_mandatory",
            }
            _handler(handlers, "security.APIAuthenticationHandler", properties | uuid)
            # Whom it counts for, it knows from the one before it.
            _handler(handlers, "throttling.ThrottleHandler", {})
        _handler(handlers, "ext.APIManagerExtensionHandler", {})


def endpoint_xml(name: str, url: str) -> str:
    """An endpoint that is never suspended, as WSO2's portal makes it."""
    endpoint = etree.Element(_tag("endpoint"), {"name": name}, nsmap=_NSMAP)
    http = _child(endpoint, "http", {"uri-template": url})
    timeout = _child(http, "timeout")
    _leaves(timeout, (("duration", _TIMEOUT_MS), ("responseAction", "fault")))
    never = ("errorCodes", "-1")
    times = (("initialDuration", "0"), ("progressionFactor", "1.0"), ("maximumDuration", "0"))
    _leaves(_child(http, "suspendOnFailure"), (never, *times))
    _leaves(_child(http, "markForSuspension"), (never,))
    return _text(endpoint)


def local_entry_xml(key: str, definition: str) -> str:
    """The local entry whose text is the definition, character for character.

    Raises:
        Problem: it has a character that XML cannot hold, however it is written.
    """
    if found := _NOT_IN_XML.search(definition):
        line = definition.count("\n", 0, found.start()) + 1
        reason = f"has the character U+{ord(found[0]):04X}, which no XML can hold; take it out"
        raise Problem(reason, line=line)
    entry = etree.Element(_tag("localEntry"), {"key": key}, nsmap=_NSMAP)
    entry.text = definition
    return _text(entry)


# The stubs of lxml do not know the namespace without a prefix.
_NSMAP: Final = cast("dict[str, str]", {None: SYNAPSE_NAMESPACE})


def _tag(name: str) -> str:
    return f"{{{SYNAPSE_NAMESPACE}}}{name}"


def _child(
    parent: etree._Element, name: str, attributes: dict[str, str] | None = None
) -> etree._Element:
    return etree.SubElement(parent, _tag(name), attributes or {})


def _leaves(parent: etree._Element, texts: Sequence[tuple[str, str]]) -> None:
    for name, text in texts:
        _child(parent, name).text = text


def _filter(parent: etree._Element, key_type: str) -> tuple[etree._Element, etree._Element]:
    found = _child(parent, "filter", {"source": "$ctx:AM_KEY_TYPE", "regex": key_type})
    return _child(found, "then"), _child(found, "else")


def _send(parent: etree._Element, endpoint: str) -> None:
    _child(_child(parent, "send"), "endpoint", {"key": endpoint})


def _handler(parent: etree._Element, name: str, properties: dict[str, str]) -> None:
    handler = _child(parent, "handler", {"class": f"{_HANDLERS}.{name}"})
    for each, value in properties.items():
        _child(handler, "property", {"name": each, "value": value})


def _text(root: etree._Element) -> str:
    etree.indent(root, "   ")
    text = etree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'

"""What a Synapse file refers to: the sequences, endpoints and entries that it needs.

Synapse looks a key up among what is deployed, then in its registry, and fails the message when it
is in neither. gatesync sees only what is deployed. So a key is taken for the name of an artifact
where it cannot well be anything else; of every other key `why_unchecked` says what it may be.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple, cast

from lxml import etree

from gatesync.artifacts.synapse import SYNAPSE_NAMESPACE

__all__ = ["Key", "also_serves_as", "keys_of", "why_unchecked"]


class Key(NamedTuple):
    """What one element refers to: a role, the text it stands as, and the element's line."""

    role: str
    text: str
    line: int


def keys_of(root: etree._Element) -> Iterator[Key]:
    """Every key in a parsed file, as often as it is there; `{...}` around what is computed."""
    namespace, tag = _split(root)
    if tag == "localEntry" and not _inline_role(root):
        return  # a stylesheet, a policy, a WSDL: their elements are not Synapse's
    rules = _RULES.get(namespace, {})
    for element in root.iter(etree.Element):
        for attribute, role in rules.get(element.tag, _CONNECTOR):
            text = element.get(attribute)
            if text and _is_reference(element, attribute, namespace):
                yield Key(role, _as_key(text, attribute), _line(element))
    for parameter in root.iterchildren(f"{namespace}parameter"):
        if role := _PARAMETERS.get((tag, parameter.get("name", "")), ""):
            yield Key(role, (parameter.text or "").strip(), _line(parameter))


def also_serves_as(root: etree._Element) -> tuple[str, ...]:
    """The other roles in which this file's name is found: a local entry may hold a sequence.

    Synapse keeps sequences, endpoints, templates and local entries in one table. What a local
    entry fetches from its `src` when a server starts, nobody knows here; it is taken for any of
    them. Were it none, a server tree that works would be refused for a sequence that it has.
    The name is refused to others thereby, as Synapse refuses it: one table, one owner.
    """
    if _split(root)[1] != "localEntry":
        return ()
    if root.get("src") is not None:  # Synapse looks at no content then
        return _IN_ONE_TABLE
    role = _inline_role(root)
    return (role,) if role else ()


def why_unchecked(key: Key) -> str:
    """Why this key need not be the name of an artifact, as a sentence; empty if it must be."""
    what = f"{key.role} {_SECRETS.sub('...', key.text)!r}"
    prefix = _PREFIX.match(key.text)
    if "{" in key.text or key.text.startswith("$"):
        return f"{what} is known only at run time; gatesync does not check it"
    if prefix and prefix[0].lower() not in _REGISTRY_PREFIXES:
        return f"{what} is an address and no name; gatesync does not check it"
    if prefix or "/" in key.text:
        return f"{what} is in the registry, which gatesync does not see"
    # A plain name is a local entry's, or a mistake: in a registry files lie in folders, and those
    # that lie at the root have an extension (so have some local entries).
    if _FILE.search(key.text):
        return f"{what} may be a file in the registry, which gatesync does not see"
    if key.role == "template" and _LIBRARY.search(key.text):
        return f"{what} may be in a library that a server imports; gatesync does not see it"
    return ""


# The rules ------------------------------------------------------------------------------------

_IN_ONE_TABLE: Final = ("sequence", "endpoint", "template")

_ATTRIBUTES: Final = {
    # Where messages go on.
    "sequence": {"key": "sequence", "onError": "sequence"},
    "template": {"onError": "sequence"},
    "endpoint": {"key": "endpoint", "key-expression": "endpoint", "template": "template"},
    "call-template": {"target": "template"},
    "resource": {
        "inSequence": "sequence",
        "outSequence": "sequence",
        "faultSequence": "sequence",
        "endpoint": "endpoint",
        "key": "local-entry",  # another <resource>: what a schema or a WSDL includes
    },
    "target": {
        "inSequence": "sequence",
        "outSequence": "sequence",
        "faultSequence": "sequence",
        "sequence": "sequence",
        "endpoint": "endpoint",
    },
    "inSequence": {"onError": "sequence"},
    "outSequence": {"onError": "sequence"},
    "faultSequence": {"onError": "sequence"},
    "send": {"receive": "sequence"},
    "callout": {"endpointKey": "endpoint"},
    "then": {"sequence": "sequence"},
    "else": {"sequence": "sequence"},
    "foreach": {"sequence": "sequence"},
    "onComplete": {"sequence": "sequence"},
    "onCacheHit": {"sequence": "sequence"},
    "enqueue": {"sequence": "sequence"},
    "throttle": {"onAccept": "sequence", "onReject": "sequence"},
    "entitlementService": {
        "onAccept": "sequence",
        "onReject": "sequence",
        "obligations": "sequence",
        "advice": "sequence",
    },
    "inboundEndpoint": {"sequence": "sequence", "onError": "sequence"},
    "store": {"messageStore": "message-store", "sequence": "sequence"},
    "messageProcessor": {"messageStore": "message-store", "targetEndpoint": "endpoint"},
    # What mediators and services read.
    "publishWSDL": {"key": "local-entry", "endpoint": "endpoint"},
    "policy": {"key": "local-entry"},
    "enableSec": {
        "policy": "local-entry",
        "inboundPolicy": "local-entry",
        "outboundPolicy": "local-entry",
    },
    "enableRM": {"policy": "local-entry"},
    "xslt": {"key": "local-entry"},
    "fastXSLT": {"key": "local-entry"},
    "xquery": {"key": "local-entry"},
    "variable": {"key": "local-entry"},
    "script": {"key": "local-entry"},
    "include": {"key": "local-entry"},
    "schema": {"key": "local-entry"},
    "format": {"key": "local-entry"},
    "source": {"key": "local-entry"},
    "smooks": {"config-key": "local-entry"},
    "datamapper": {
        "config": "local-entry",
        "inputSchema": "local-entry",
        "outputSchema": "local-entry",
        "xsltStyleSheet": "local-entry",
    },
    "jsontransform": {"schema": "local-entry"},
}
"""By element and attribute, the role of what is meant."""

# Connectors bring elements of their own, `<http.get configKey="...">`.
_CONNECTOR: Final = (("configKey", "local-entry"),)

_RULES: Final = {
    namespace: {
        f"{namespace}{tag}": tuple(attributes.items()) for tag, attributes in _ATTRIBUTES.items()
    }
    for namespace in ("", f"{{{SYNAPSE_NAMESPACE}}}")
}

_PARAMETERS: Final = {
    ("messageProcessor", "message.processor.reply.sequence"): "sequence",
    ("messageProcessor", "message.processor.fault.sequence"): "sequence",
    ("messageProcessor", "message.processor.deactivate.sequence"): "sequence",
    ("messageProcessor", "sequence"): "sequence",  # a sampling processor's
    ("messageStore", "store.failover.message.store.name"): "message-store",
    ("inboundEndpoint", "ws.outflow.dispatch.sequence"): "sequence",
    ("inboundEndpoint", "ws.outflow.dispatch.fault.sequence"): "sequence",
}
"""By root element and parameter, the role of what the parameter's text means."""

# What stands in these is a message or a part of one, even in Synapse's namespace.
_MESSAGES: Final = frozenset(
    f"{namespace}{tag}"
    for namespace in _RULES
    for tag in ("format", "source", "property", "detail", "message")
)

_PREFIX: Final = re.compile(r"[A-Za-z]\w*:")
_REGISTRY_PREFIXES: Final = frozenset({"conf:", "gov:", "local:", "resources:"})
_SECRETS: Final = re.compile(r"(?<=://)[^/@]*@|(?<=[\w/])\?.*", re.S)  # of an address
_FILE: Final = re.compile(
    r"\.(?:xml|xslt?|xsd|wsdl|xq|xquery|js|rb|py|groovy|json|dmc|txt|csv|html?|properties)$", re.I
)
_LIBRARY: Final = re.compile(r"\.[A-Za-z_]")


def _is_reference(element: etree._Element, attribute: str, namespace: str) -> bool:
    """Whether an element with such an attribute is what the rules mean by it."""
    if element.find(f"{namespace}{attribute}") is not None:
        return False  # <target sequence="anon"><sequence>...: what stands inside is used
    if element.tag == f"{namespace}source":  # a callout's has a key too, of a property
        parent = element.getparent()
        return parent is not None and parent.tag == f"{namespace}enrich"
    if attribute == "configKey":  # no element of Synapse's own has a dot
        start, tag = _split(element)
        return start == namespace and "." in tag
    return all(above.tag not in _MESSAGES for above in element.iterancestors())


def _as_key(text: str, attribute: str) -> str:
    return f"{{{text}}}" if attribute == "key-expression" else text.strip()


def _inline_role(entry: etree._Element) -> str:
    """The role of what a local entry holds; empty if that is none that a name may mean."""
    for child in entry.iterchildren(etree.Element):
        _, tag = _split(child)
        if tag != "description":
            return tag if tag in _IN_ONE_TABLE and child.tag in _OF_SYNAPSE else ""
    return ""


_OF_SYNAPSE: Final = frozenset(f"{namespace}{tag}" for namespace in _RULES for tag in _IN_ONE_TABLE)


def _split(element: etree._Element) -> tuple[str, str]:
    """`{namespace}`, or nothing, and the local name."""
    namespace, brace, tag = str(element.tag).rpartition("}")
    return namespace + brace, tag


def _line(element: etree._Element) -> int:
    return cast("int", element.sourceline)

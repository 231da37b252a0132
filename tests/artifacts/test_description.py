import hashlib
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.artifacts.description import Description, Endpoint, Resource, describe
from gatesync.artifacts.errors import ProblemsError
from gatesync.artifacts.model import ARTIFACT_MAX_BYTES, KINDS, Artifact, Identity, Part
from gatesync.artifacts.planning import Reference, claim_key

pytestmark = pytest.mark.fast


def _api_part(
    name: str = "admin--Menu", version: str = "1.0.0", context: str = "/menu/1.0.0"
) -> Part:
    attribute = f' version="{version}"' if version else ""
    document = f'<api name="{name}" context="{context}"{attribute}/>'
    return Part("api", name, f"api/{name}_v{version}.xml", document.encode())


def _part(tag: str, role: str, name: str) -> Part:
    attribute = "key" if tag == "localEntry" else "name"
    return Part(role, name, f"{role}/{name}.xml", f'<{tag} {attribute}="{name}"/>'.encode())


def _artifact(
    *parts: Part, kind: str = "api", name: str = "Menu", version: str = "1.0.0", tenant: str = "t"
) -> Artifact:
    return Artifact(Identity(tenant, kind, name, version), "id", parts)


MENU = _artifact(
    _api_part(), _part("endpoint", "endpoint", "Menu--v1"), _part("localEntry", "local-entry", "u")
)


def _keys(description: Description) -> set[str]:
    return {claim.key for claim in description.claims}


def _texts(description: Description) -> set[str]:
    return {claim.text for claim in description.claims}


def _faults(artifact: Artifact) -> list[str]:
    with pytest.raises(ProblemsError) as refused:
        describe(artifact)
    return [str(problem) for problem in refused.value.problems]


def test_an_api_claims_its_identity_its_parts_and_its_context() -> None:
    description = describe(MENU)
    assert description.context == "/menu/1.0.0"
    assert _texts(description) == {
        "the identity api Menu 1.0.0 (t)",
        "the name api 'admin--Menu' version 1.0.0",
        "the context '/menu/1.0.0' version 1.0.0",
        "the name endpoint 'Menu--v1'",
        "the name local-entry 'u'",
    }
    assert len(_keys(description)) == len(description.claims)


def test_a_claims_key_is_a_hash_over_length_prefixed_fields() -> None:
    (endpoint,) = (c for c in describe(MENU).claims if c.text == "the name endpoint 'Menu--v1'")
    fields = [b"t", b"endpoint", b"Menu--v1"]
    framed = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    assert endpoint.key == hashlib.sha256(framed).hexdigest()


def _common(one: Artifact, other: Artifact) -> Iterable[str]:
    shared = _keys(describe(one)) & _keys(describe(other))
    return sorted(claim.text for claim in describe(one).claims if claim.key in shared)


def test_a_shared_sequence_and_an_apis_own_claim_the_same_name() -> None:
    sequence = _part("sequence", "sequence", "s")
    shared = _artifact(sequence, kind="sequence", name="s", version="")
    assert _common(_artifact(_api_part(), sequence), shared) == ["the name sequence 's'"]


def test_names_of_other_roles_and_tenants_do_not_meet() -> None:
    sequence = _artifact(_part("sequence", "sequence", "s"), kind="sequence", name="s", version="")
    endpoint = _artifact(_part("endpoint", "endpoint", "s"), kind="endpoint", name="s", version="")
    assert _common(sequence, endpoint) == []
    elsewhere = _artifact(*sequence.parts, kind="sequence", name="s", version="", tenant="u")
    assert _common(sequence, elsewhere) == []


def test_two_versions_of_an_api_live_together() -> None:
    newer = _artifact(_api_part(version="2.0.0", context="/menu/2.0.0"), version="2.0.0")
    assert _common(MENU, newer) == []


def test_two_apis_of_one_context_and_version_meet_in_it() -> None:
    other = _artifact(_api_part("admin--Other"), name="Other")
    assert _common(MENU, other) == ["the context '/menu/1.0.0' version 1.0.0"]


def test_contexts_are_compared_literally() -> None:
    other = _artifact(_api_part("admin--Other", context="/menu/1.0.0/"), name="Other")
    assert _common(MENU, other) == []


def test_an_api_and_its_default_api_are_one_artifact() -> None:
    default = _api_part(version="", context="/menu")
    for parts in ((_api_part(), default), (default, _api_part())):
        description = describe(_artifact(*parts))
        assert description.context == "/menu/1.0.0"
        assert {
            "the name api 'admin--Menu' version 1.0.0",
            "the context '/menu/1.0.0' version 1.0.0",
            "the name api 'admin--Menu'",
            "the context '/menu'",
        } < _texts(description)


def test_two_parts_may_not_claim_the_same() -> None:
    twin = msgspec.structs.replace(_api_part(context="/other"), path="api/twin.xml")
    assert _faults(_artifact(_api_part(), twin)) == [
        "api Menu 1.0.0 (t): two parts claim the name api 'admin--Menu' version 1.0.0"
    ]


def test_an_api_without_a_version_in_its_xml_may_be_published_under_one() -> None:
    description = describe(_artifact(_api_part(version="")))
    assert description.context == "/menu/1.0.0"


def test_an_api_of_another_version_is_refused() -> None:
    assert _faults(_artifact(_api_part(version="2"))) == [
        "api Menu 1.0.0 (t): no API part has the version attribute '1.0.0' of the artifact"
    ]


@pytest.mark.parametrize("context", ["", "menu", "  /menu"])
def test_an_api_without_a_sound_context_is_refused(context: str) -> None:
    (fault,) = _faults(_artifact(_api_part(context=context)))
    assert fault == (
        "api Menu 1.0.0 (t)/api/admin--Menu_v1.0.0.xml:1: "
        f"attribute 'context' must begin with '/'; it is {context!r}"
    )


def test_a_missing_context_is_refused() -> None:
    part = Part("api", "Menu", "api/m.xml", b'<api name="Menu"/>')
    assert "attribute 'context' must begin with '/'" in _faults(_artifact(part, version=""))[0]


@pytest.mark.parametrize("context", ["/a/../b", "/" + "x" * 255])
def test_a_context_is_held_to_the_rules_of_names(context: str) -> None:
    (fault,) = _faults(_artifact(_api_part(context=context)))
    assert "context" in fault


def test_a_policy_is_any_bytes() -> None:
    part = Part("policy", "gold", "executionplans/gold.siddhi", b"\xff\0<!DOCTYPE")
    description = describe(_artifact(part, kind="policy", name="gold", version=""))
    assert description.context == ""
    assert _texts(description) == {"the identity policy gold (t)", "the name policy 'gold'"}


def test_an_artifact_must_hold_a_part_of_its_kind() -> None:
    sequence = _part("sequence", "sequence", "s")
    assert _faults(_artifact(sequence)) == [
        "api Menu 1.0.0 (t): it holds no part of its kind, 'api'"
    ]


def test_every_fault_is_told_with_artifact_file_and_line() -> None:
    faults = _faults(
        _artifact(
            _api_part(),
            Part("sequence", "s", "sequences/s.xml", b"\n<sequence name='s'>"),
            Part("endpoint", "e", "endpoints/e.xml", b"\n\n<sequence name='e'/>"),
            Part("template", "t", "templates/t.xml", b"<template name='u'/>"),
            Part("task", "t", "../t.xml", b"<!DOCTYPE a><task name='t'/>"),
        )
    )
    place = "api Menu 1.0.0 (t)"
    assert faults[0].startswith(f"{place}: path '../t.xml' must be relative")
    assert faults[1].startswith(f"{place}/sequences/s.xml:2: not well-formed XML")
    assert faults[2] == (
        f"{place}/endpoints/e.xml:3: its root element makes it a sequence; "
        "the part's role is 'endpoint'"
    )
    assert faults[3] == (
        f"{place}/templates/t.xml:1: its root element names it 'u'; the part is named 't'"
    )
    assert faults[4].startswith(f"{place}/../t.xml:1: a DOCTYPE is not accepted")
    assert len(faults) == 5


def test_an_artifact_that_is_too_large_is_refused() -> None:
    half = b"x" * (ARTIFACT_MAX_BYTES // 2 + 1)
    parts = (
        _api_part(),
        Part("policy", "a", "executionplans/a", half),
        Part("policy", "b", "executionplans/b", half),
    )
    (fault,) = _faults(_artifact(*parts))
    assert fault.endswith(f"an artifact has at most {ARTIFACT_MAX_BYTES}")


def test_text_that_no_terminal_takes_is_made_visible() -> None:
    part = _part("sequence", "sequence", "s")
    (fault,) = _faults(_artifact(part, kind="sequence", name="\x1b[2J\udcff", version=""))
    assert fault.encode()
    assert fault.isprintable()
    assert r"\x1b[2J\udcff" in fault


# What it serves, goes to and needs -----------------------------------------------------------

CAFE = b"""<api xmlns="http://ws.apache.org/ns/synapse" name="Menu" version="1" context="/menu/1">
  <resource methods="GET  POST" uri-template="/dish/{id}" faultSequence="audit">
    <inSequence>
      <sequence key="_auth_failure_handler_"/>
      <sequence key="Menu--v1--In"/>
      <sequence key="audit"/>
      <sequence key="{$ctx:next}"/>
      <send><endpoint key="kitchen"/></send>
    </inSequence>
  </resource>
  <resource url-mapping="/*" inSequence="conf:/in"/>
  <resource><inSequence><call><endpoint><http uri-template="https://two"/></endpoint></call>
  </inSequence></resource>
  <handlers>
    <handler class="org.example.Cors"/>
    <handler class="org.example.Throttle"><property name="apiUUID" value="u"/></handler>
  </handlers>
</api>"""
OWN = b"""<sequence name="Menu--v1--In">
  <send><endpoint><address uri="http://one"/></endpoint></send>
  <sequence key="audit"/>
  <sequence key="conf:/in"/>
</sequence>"""
DEFAULT = b"""<api name="Menu" context="/menu"><resource methods="GET"/></api>"""
CAFE_ARTIFACT = _artifact(
    Part("api", "Menu", "api/Menu_v1.xml", CAFE),
    Part("sequence", "Menu--v1--In", "sequences/in.xml", OWN),
    Part("api", "Menu", "api/Menu.xml", DEFAULT),
    version="1",
)


def _one(role: str, name: str, document: str) -> Description:
    part = Part(role, name, f"{KINDS[role]}/{name}.xml", document.encode())
    return describe(_artifact(part, kind=role, name=name, version=""))


def test_an_api_says_what_it_serves() -> None:
    description = describe(CAFE_ARTIFACT)
    assert (description.context, description.version) == ("/menu/1", "1")
    assert description.resources == (
        Resource(("GET", "POST"), "/dish/{id}", "uri-template", fault_sequence="audit"),
        Resource((), "/*", "url-mapping", in_sequence="conf:/in"),
        Resource((), "", ""),
    )
    assert description.handlers == ("org.example.Cors", "org.example.Throttle")


def test_the_endpoints_of_all_parts_are_told() -> None:
    assert describe(CAFE_ARTIFACT).endpoints == (
        Endpoint("", "http", ("https://two",)),
        Endpoint("", "address", ("http://one",)),
    )


def test_a_reference_has_the_key_of_the_claim_that_meets_it() -> None:
    audit = describe(
        _artifact(_part("sequence", "sequence", "audit"), kind="sequence", name="audit", version="")
    )
    first = describe(CAFE_ARTIFACT).references[0]
    assert first == Reference(
        claim_key("t", "sequence", "audit"), "sequence 'audit'", "api/Menu_v1.xml", 2
    )
    assert first.key in _keys(audit)


def test_what_an_artifact_needs_is_told_once_and_not_what_it_or_every_server_has() -> None:
    references = describe(CAFE_ARTIFACT).references
    assert [(each.text, each.where, each.line) for each in references] == [
        ("sequence 'audit'", "api/Menu_v1.xml", 2),
        ("endpoint 'kitchen'", "api/Menu_v1.xml", 8),
    ]


def test_keys_that_are_not_checked_are_warnings_with_file_and_line() -> None:
    assert [str(warning) for warning in describe(CAFE_ARTIFACT).warnings] == [
        "api/Menu_v1.xml:7: sequence '{$ctx:next}' is known only at run time; "
        "gatesync does not check it",
        "api/Menu_v1.xml:11: sequence 'conf:/in' is in the registry, which gatesync does not see",
    ]


def test_a_key_that_the_artifact_holds_is_no_warning_whatever_it_looks_like() -> None:
    parts = (
        Part(
            "sequence",
            "s",
            "sequences/s.xml",
            b'<sequence name="s"><xslt key="a.xslt"/></sequence>',
        ),
        _part("localEntry", "local-entry", "a.xslt"),
    )
    description = describe(_artifact(*parts, kind="sequence", name="s", version=""))
    assert description.references == description.warnings == ()
    (alone,) = describe(_artifact(parts[0], kind="sequence", name="s", version="")).warnings
    assert "may be a file" in str(alone)


@pytest.mark.parametrize("name", ["main", "fault", "_threat_fault_"])
@pytest.mark.parametrize("tenant", ["carbon.super", "t"])
def test_what_every_server_brings_along_is_never_needed(name: str, tenant: str) -> None:
    content = f'<sequence name="s"><sequence key="{name}"/><endpoint key="{name}"/></sequence>'
    part = Part("sequence", "s", "sequences/s.xml", content.encode())
    identity = _artifact(part, kind="sequence", name="s", version="", tenant=tenant)
    assert [each.text for each in describe(identity).references] == [f"endpoint {name!r}"]


def test_entries_that_synapse_makes_itself_are_never_needed() -> None:
    description = _one("sequence", "s", '<sequence name="s"><xslt key="SERVER_IP"/></sequence>')
    assert description.references == ()


def test_a_local_entry_that_holds_a_sequence_meets_references_to_it() -> None:
    entry = _one("local-entry", "x", '<localEntry key="x"><sequence name="y"/></localEntry>')
    caller = _one("sequence", "s", '<sequence name="s"><sequence key="x"/></sequence>')
    assert {reference.key for reference in caller.references} <= _keys(entry)
    assert "the name sequence 'x'" in _texts(entry)
    owner = _one("sequence", "x", '<sequence name="x"/>')
    assert _keys(entry) & _keys(owner)


def test_kinds_without_an_api_have_no_context_version_or_resources() -> None:
    content = '<proxy name="p"><target><inSequence/></target><resource methods="GET"/></proxy>'
    description = _one("proxy-service", "p", content)
    assert (description.context, description.version) == ("", "")
    assert description.resources == description.handlers == ()


# Any XML at all ------------------------------------------------------------------------------

_TAG_NAMES = """
    api sequence endpoint localEntry template proxy target resource xslt inSequence format http
    parameter handlers handler loadbalance http.get
"""
_ATTRIBUTE_NAMES = """
    name key sequence inSequence onError endpoint template target version context src methods
    uri-template uri class configKey key-expression
"""
_TAGS = st.sampled_from(_TAG_NAMES.split())
_NAMES = st.sampled_from(_ATTRIBUTE_NAMES.split())
_VALUES = st.sampled_from(["s", "t", " ", "", "main", "conf:/x", "{y}", "/c", "1", "x.xslt", "a:b"])
_ATTRIBUTES = st.dictionaries(_NAMES, _VALUES, max_size=3)


def _element(tag: str, attributes: dict[str, str], content: str) -> str:
    written = "".join(f' {name}="{value}"' for name, value in attributes.items())
    return f"<{tag}{written}>\n{content}</{tag}>"


_CONTENTS = st.recursive(
    st.sampled_from(["", "t", "<!-- a -->", "<?a b?>", "<![CDATA[<x]]>"]),
    lambda inner: st.builds(_element, _TAGS, _ATTRIBUTES, st.lists(inner, max_size=3).map("".join)),
    max_leaves=8,
)
_ROOTS = st.sampled_from(["api", "sequence", "endpoint", "localEntry", "template", "proxy"])
_ROLES = {"localEntry": "local-entry", "proxy": "proxy-service"}
_XMLNS = st.sampled_from([{}, {"xmlns": "http://ws.apache.org/ns/synapse"}, {"xmlns": "urn:x"}])


@given(tag=_ROOTS, xmlns=_XMLNS, attributes=_ATTRIBUTES, content=_CONTENTS)
def test_any_xml_is_described_or_refused(
    tag: str, xmlns: dict[str, str], attributes: dict[str, str], content: str
) -> None:
    role = _ROLES.get(tag, tag)
    named = {"name": "s", "key": "s", "context": "/c"} | attributes | xmlns
    document = _element(tag, named, content)
    part = Part(role, named["key" if tag == "localEntry" else "name"], "a.xml", document.encode())
    try:
        description = describe(_artifact(part, kind=role, name="s", version=""))
    except ProblemsError:
        return
    claimed = _keys(description)
    told = [each.key for each in description.references]
    assert claimed.isdisjoint(told)
    assert len(set(told)) == len(told)
    lines = [each.line for each in (*description.references, *description.warnings)]
    assert all(1 <= line <= document.count("\n") + 1 for line in lines)

"""What Hypothesis makes artifacts of: names, paths and contents that `check` accepts."""

from typing import Any
from xml.sax.saxutils import quoteattr

from hypothesis import assume
from hypothesis import strategies as st

from gatesync.artifacts.errors import Problem
from gatesync.artifacts.model import KINDS, Artifact, Identity, Part
from gatesync.artifacts.names import check_name, check_path


def _accepted(check: Any, *arguments: str) -> bool:
    try:
        check(*arguments)
    except Problem:
        return False
    return True


# Any Unicode but surrogates and controls, with the characters that formats stumble over often.
_letters = st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\"'\\/ .~=#[]\u2028é")
names = st.text(_letters, min_size=1, max_size=30).filter(
    lambda n: _accepted(check_name, n, "name")
)
versions = st.just("") | names

_file_names = names | st.sampled_from(["a.xml", ".hidden", "b.xml~", "Thumbs.db", "artifact.toml"])
paths = st.builds(
    lambda folder, name: f"{folder}/{name}" if folder else name,
    st.sampled_from(["", *KINDS.values(), "api/deeper", "elsewhere", ".git"]),
    _file_names,
).filter(lambda path: _accepted(check_path, path))

_xml_letters = st.characters(min_codepoint=0x20, max_codepoint=0xD7FF, exclude_categories=["Cc"])
_tags = ["api", "sequence", "endpoint", "localEntry", "proxy", "template", "task", "definitions"]


@st.composite
def xml_documents(draw: st.DrawFn) -> bytes:
    tag = draw(st.sampled_from(_tags))
    attribute = "key" if tag == "localEntry" else "name"
    name = quoteattr(draw(st.text(_xml_letters, min_size=1, max_size=10)))
    return f'<{tag} {attribute}={name} context="/c"/>'.encode()


contents = st.binary(max_size=60) | st.text(max_size=60).map(
    lambda text: text.encode("utf-8", "replace")
)

# What is called so is a password, which is not to come back from WSO2's JSON.
_members = st.text(st.characters(exclude_categories=["Cs"])).filter(
    lambda member: member.lower() != "password"
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_members, inner, max_size=4),
    max_leaves=10,
)
extras = st.just({}) | st.dictionaries(_members, json_values, max_size=4)


def _make(identity: Identity, api_id: str, parts: list[Part], extra: dict[str, Any]) -> Artifact:
    return Artifact(
        identity,
        api_id or identity.default_api_id(),
        tuple(sorted(parts, key=lambda part: (part.role, part.path))),
        extra,
    )


artifacts = st.builds(
    _make,
    st.builds(
        Identity, st.just("carbon.super") | names, st.sampled_from(list(KINDS)), names, versions
    ),
    st.just("") | names,
    st.lists(
        st.builds(Part, st.sampled_from(list(KINDS)), names, paths, contents | xml_documents()),
        min_size=1,
        max_size=5,
        unique_by=(lambda part: part.path, lambda part: (part.role, part.name)),
    ),
    extras,
).filter(lambda artifact: _is_sound(artifact))


def _is_sound(artifact: Artifact) -> bool:
    try:
        artifact.check()
    except ValueError:
        return False
    return True


# Artifacts that WSO2's JSON can say: of kind api, with a definition, all of it text.
_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40).map(str.encode)
_wso2_names = names | st.sampled_from(["Menu--v1.0--In", "Menu--v1.0--in", "a:b", "con", "a%3ab"])
_wso2_paths = st.builds(
    "{}/{}.xml".format, st.sampled_from(["api", "sequences", "endpoints"]), _wso2_names
).filter(lambda path: _accepted(check_path, path))


@st.composite
def api_documents(draw: st.DrawFn, versions: st.SearchStrategy[str] = versions) -> bytes:
    name = quoteattr(draw(st.text(_xml_letters, min_size=1, max_size=10)))
    version = quoteattr(draw(versions))
    return f'<api name={name} context="/c" version={version}/>'.encode()


def _api_parts(draw: st.DrawFn, identity: Identity) -> list[Part]:
    parts = []
    for version in draw(st.sampled_from([[""], ["v", ""], ["v", "v", ""]])):
        provider = draw(st.just("") | names)
        stem = f"{provider}--{identity.name}" if provider else identity.name
        path = f"api/{stem}_v{identity.version}.xml" if version else f"api/{stem}.xml"
        content = draw(api_documents(st.just(identity.version if version else "")))
        parts.append(
            Part(
                "api",
                draw(names),
                draw(st.just(path) | paths | _wso2_paths),
                draw(st.just(content) | _texts.filter(bool)),
            )
        )
    return parts


@st.composite
def apis(draw: st.DrawFn) -> Artifact:
    identity = Identity(draw(names), "api", draw(names), draw(versions))
    parts = _api_parts(draw, identity)
    for role in draw(st.lists(st.sampled_from(["sequence", "endpoint", *KINDS]), max_size=4)):
        name = draw(_wso2_names)
        path = draw(st.just(f"{KINDS[role]}/{name}.xml") | paths | _wso2_paths)
        parts.append(Part(role, name, path, draw(_texts | api_documents())))
    extra = dict(draw(extras))
    if draw(st.booleans()):
        extra["wso2"] = draw(json_values | wso2_leftovers(draw(st.just(parts))))
    made = _make(identity, draw(st.just("") | names), parts, extra)
    assume(_is_sound(made))
    return made


def wso2_leftovers(parts: list[Part]) -> st.SearchStrategy[dict[str, Any]]:
    """What reading such a document would leave, or nearly."""
    beside = st.sampled_from([part.name for part in parts]).map(lambda n: {"name": n, "type": "x"})
    return st.fixed_dictionaries(
        {},
        optional={
            "provider": names,
            "override": st.booleans(),
            "sequencesToBeRemove": st.lists(names, max_size=3),
            "sequenceToBeAdd": st.lists(beside, max_size=2),
            "endpointEntriesToBeAdd": st.lists(beside, max_size=2),
            "anythingToBeAdd": st.lists(json_values, max_size=3),
            "anything": json_values,
            "gatesync": json_values,
        },
    )


# WSO2's documents, as they may come. Entries of one list have different names.
_entries = st.lists(
    st.fixed_dictionaries(
        {"name": _wso2_names, "content": st.text(_xml_letters, max_size=20)},
        optional={"type": json_values},
    ),
    max_size=4,
    unique_by=lambda entry: str(entry["name"]),
)
_credentials = st.lists(
    st.fixed_dictionaries({"alias": st.sampled_from("abc"), "password": names}),
    max_size=3,
    unique_by=lambda entry: str(entry["alias"]),
)
wso2_documents = st.fixed_dictionaries(
    {"name": names, "apiDefinition": api_documents().map(bytes.decode)},
    optional={
        "version": versions,
        "provider": names,
        "tenantDomain": names,
        "apiId": names,
        "defaultAPIDefinition": api_documents(st.just("")).map(bytes.decode),
        "override": st.booleans(),
        "sequenceToBeAdd": _entries,
        "localEntriesToBeAdd": _entries,
        "endpointEntriesToBeAdd": _entries,
        "clientCertificatesToBeAdd": _entries,
        "credentialsToBeAdd": _credentials,
        "sequencesToBeRemove": st.lists(names, max_size=4),
        "thingsToBeAdd": st.lists(json_values, max_size=4),
        "things": st.lists(json_values, max_size=4),
    },
)

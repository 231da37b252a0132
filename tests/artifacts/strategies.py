"""What Hypothesis makes artifacts of: names, paths and contents that `check` accepts."""

from typing import Any
from xml.sax.saxutils import quoteattr

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

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=10,
)
extras = st.just({}) | st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"])), json_values, max_size=4
)


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

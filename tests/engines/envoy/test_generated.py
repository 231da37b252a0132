"""Generated APIs never crash the translation, and Envoy takes all that is made of them."""

import os
from pathlib import Path
from xml.sax.saxutils import quoteattr

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatesync.artifacts.model import Artifact
from gatesync.engines.envoy.faults import Refusal
from gatesync.engines.envoy.node import Node
from gatesync.engines.envoy.options import Issuer, Options
from gatesync.engines.envoy.resources import SCOPE
from gatesync.engines.envoy.translation import Translated, translate
from tests.engines.envoy.grammar import api_like, apis, attribute
from tests.engines.envoy.serving import api, bootstrap_of, resource, validate

BUDGET = float(os.environ.get("GATESYNC_TEST_BUDGET", "1"))
ISSUER = Issuer("https://i", '{"keys": [{"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}]}')
OPTIONS = Options(issuer=ISSUER)
EXAMPLES = 10 + int(100 * BUDGET)
FEW = 10 + int(40 * BUDGET)
BATCH = 20  # a start of Envoy takes longer than to look at so many


def test_envoy_takes_what_is_made_of_generated_apis(tmp_path: Path) -> None:
    served: list[Artifact] = []
    kinds = set()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(apis())
    def collect(artifact: Artifact) -> None:
        found, _ = translate(artifact, {}.get, OPTIONS)
        kinds.add(type(found))
        if isinstance(found, Refusal):
            assert all(fault.line and fault.reason and fault.instead for fault in found.faults)
        else:
            served.append(artifact)

    collect()
    assert kinds == {Refusal, Translated}
    for start in range(0, len(served), BATCH):
        _validated(served[start : start + BATCH], tmp_path)


def _validated(artifacts: list[Artifact], folder: Path) -> None:
    """All at once; where Envoy says no, the one that it says no to."""
    said = _said(artifacts, folder)
    if said and len(artifacts) > 1:
        for each in artifacts:
            _validated([each], folder)
    assert said == "", artifacts[0].parts[0].content.decode()


def _said(artifacts: list[Artifact], folder: Path) -> str:
    node = Node(OPTIONS)
    named = [Artifact(each.identity, f"id{at}", each.parts) for at, each in enumerate(artifacts)]
    node.apply(named, ())
    assert node.resources().of(SCOPE)
    return validate(folder, bootstrap_of(node))


@settings(max_examples=FEW, deadline=None)
@given(st.data())
def test_what_is_cut_up_or_put_together_anyhow_is_served_or_refused(data: st.DataObject) -> None:
    whole = data.draw(apis())
    content = whole.parts[0].content.decode()
    at = data.draw(st.integers(0, len(content)))
    length = data.draw(st.integers(0, 30))
    junk = data.draw(st.text(st.sampled_from("<>/{}\"'%$*?=() azAZ09ü\n"), max_size=8))
    broken = api_like(whole, content[:at] + junk + content[at + length :])
    found, _ = translate(broken, {}.get, OPTIONS)
    assert isinstance(found, Translated | Refusal)


TAGS = """
    filter switch case then else default send call respond drop loopback property header log
    payloadFactory format args arg sequence endpoint http address failover loadbalance timeout
    script inSequence outSequence resource handlers handler
"""
NAMES = "name value expression scope action source regex xpath key uri uri-template"
ELEMENTS, ATTRIBUTES = st.sampled_from(TAGS.split()), st.sampled_from(NAMES.split())
VALUES = st.one_of(
    st.sampled_from(["", "$ctx:", "transport", "To", "axis2", "a(", "http://", "/{", "remove"]),
    st.text(st.sampled_from("$:()'=,{}/*?ax1 "), max_size=10),
)


def _element(children: "st.SearchStrategy[str]") -> "st.SearchStrategy[str]":
    return st.tuples(
        ELEMENTS,
        st.dictionaries(ATTRIBUTES, VALUES, max_size=3),
        st.lists(children, max_size=3).map("".join),
    ).map(
        lambda it: (
            f"<{it[0]}{''.join(f' {name}={quoteattr(value)}' for name, value in it[1].items())}>"
            f"{it[2]}</{it[0]}>"
        )
    )


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.recursive(_element(st.just("")), _element, max_leaves=8))
def test_elements_in_any_place_are_served_or_refused(inner: str) -> None:
    whole = f"<resource><inSequence>{inner}</inSequence></resource>{inner}"
    found, _ = translate(api("/a", whole), {}.get, OPTIONS)
    assert isinstance(found, Translated | Refusal)


HTTP = '<send><endpoint><http uri-template="http://10.0.0.1/"/></endpoint></send>'
LONG = "/" + "/".join(["a-long-step-of-a-context"] * 9)


def _filtered(pattern: str) -> str:
    return f'<filter source="$trp:X"{attribute("regex", pattern)}><then/></filter>{HTTP}'


def test_where_envoy_has_limits_it_takes_what_is_made_or_the_api_is_refused(
    tmp_path: Path,
) -> None:
    words = "|".join(f"word{n}" for n in range(500))
    big = "x" * 100_000
    made = f"<payloadFactory><format><a>{big}</a></format></payloadFactory>"
    ages = "<timeout><duration>9999999999999</duration></timeout>"
    taken = [
        api(LONG, resource(HTTP)),
        api(f"{LONG}/two", resource(HTTP, None, f'uri-template="{LONG}/{{x}}" methods="GET"')),
        api("/words", resource(_filtered(words))),
        api("/often", resource(_filtered("[a-z]{1,1000}"))),
        api("/body", resource(f"{made}<respond/>")),
        api("/sent", resource(f"{made}{HTTP}")),
        api("/ever", resource(HTTP.replace("/></end", f">{ages}</http></end"))),
    ]
    assert _said(taken, tmp_path) == ""
    for into in (
        _filtered("|".join(f"word{n}" for n in range(5_000))),
        _filtered("(a{1,500}){3}"),
        f'<property name="X" scope="transport" value="{big}"/>{HTTP}',
        f'<property name="{big}" scope="transport" value="x"/>{HTTP}',
    ):
        found, _ = translate(api("/a", resource(into)), {}.get, OPTIONS)
        assert isinstance(found, Refusal)

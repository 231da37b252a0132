"""A node's resources, change by change: what is touched, what is refused, what goes away."""

import pytest

from gatesync.artifacts.model import Artifact, Part
from gatesync.engines.envoy.node import Node
from gatesync.engines.envoy.options import Options
from gatesync.engines.envoy.resources import CLUSTER, LISTENER, SCOPE, Applied
from tests.engines.envoy.serving import api, resource, send, shared

pytestmark = pytest.mark.fast


def to(host: str) -> str:
    return resource(send(f'<http uri-template="http://{host}/"/>'))


def names(applied: Applied, type_url: str) -> set[str]:
    return set(applied.changed.of(type_url))


@pytest.fixture
def node() -> Node:
    return Node(Options())


def test_a_change_costs_its_own_scope_and_no_other(node: Node) -> None:
    first = node.apply([api(f"/api{n}/1.0", to("up")) for n in range(50)], ())
    assert len(names(first, SCOPE)) == 50
    assert len(names(first, CLUSTER)) == 1  # all go to one place

    second = node.apply([api("/api7/1.0", to("other"))], ())
    assert names(second, SCOPE) == {"api7"}
    assert len(names(second, CLUSTER)) == 1
    assert not second.removed[CLUSTER]
    assert second.owners[SCOPE, "api7"] == {api("/api7/1.0", "").api_id}


def test_the_same_again_changes_nothing(node: Node) -> None:
    artifacts = [api("/a", to("up")), shared('<sequence name="s"><log/></sequence>')]
    node.apply(artifacts, ())
    before = node.resources()
    again = node.apply(artifacts, ())
    assert len(again.changed) == 0
    assert not any(again.removed.values())
    assert node.resources() == before


def test_an_order_or_a_history_makes_no_difference() -> None:
    artifacts = [api("/a/1", to("x")), api("/a/2", to("y")), api("/b", to("z"))]
    one, other = Node(Options()), Node(Options())
    one.apply(artifacts, ())
    other.apply([api("/b", to("gone"))], ())
    for each in reversed(artifacts):
        other.apply([each], ())
    assert one.resources() == other.resources()


def test_an_endpoint_that_changes_is_another_cluster(node: Node) -> None:
    """Nothing is edited under a route that uses it; what nobody uses any more goes."""
    node.apply([api("/a", to("up")), api("/b", to("up"))], ())
    (before,) = node.resources().of(CLUSTER)
    slow = send('<http uri-template="http://up/"><timeout><duration>7</duration></timeout></http>')
    assert not names(node.apply([api("/a", resource(slow))], ()), CLUSTER)  # a route's own affair

    applied = node.apply([api("/a", to("up:81"))], ())
    assert len(names(applied, CLUSTER)) == 1
    assert before in node.resources().of(CLUSTER)
    applied = node.apply([api("/b", to("up:81"))], ())
    assert applied.removed[CLUSTER] == {before}
    assert before not in node.resources().of(CLUSTER)


def test_a_configuration_with_other_contents_has_another_name(node: Node) -> None:
    def name() -> str:
        return str(node.resources().of(SCOPE)["a"].route_configuration.name)

    node.apply([api("/a", to("up"))], ())
    before = name()
    node.apply([api("/a", to("other"))], ())
    assert name() != before
    node.apply([api("/a", to("up"))], ())
    assert name() == before


def test_apis_share_a_scope_until_the_last_one_goes(node: Node) -> None:
    one, two = api("/a/1", to("up")), api("/a/1/2", to("up"))
    node.apply([one, two], ())
    (scope,) = node.resources().of(SCOPE).values()
    assert [fragment.string_key for fragment in scope.key.fragments] == ["a"]
    routes = scope.route_configuration.virtual_hosts[0].routes
    assert routes[0].match.path_separated_prefix == "/a/1/2"

    assert names(node.apply([], [two.api_id]), SCOPE) == {"a"}
    applied = node.apply([], [one.api_id, "unknown"])
    assert applied.removed[SCOPE] == {"a"}
    assert len(applied.removed[CLUSTER]) == 1
    assert set(node.resources().by_type[LISTENER]) == {"gatesync"}


def test_an_api_under_another_context_leaves_its_old_scope(node: Node) -> None:
    artifact = api("/a", to("up"))
    node.apply([artifact], ())
    (part,) = artifact.parts
    moved = Part(part.role, part.name, part.path, part.content.replace(b'"/a"', b'"/b"'))
    applied = node.apply([Artifact(artifact.identity, artifact.api_id, (moved,))], ())
    assert (names(applied, SCOPE), applied.removed[SCOPE]) == ({"b"}, {"a"})


def test_one_that_is_refused_leaves_what_was_served(node: Node) -> None:
    good, bad = api("/a", to("up")), api("/a", resource("<script/>"))
    node.apply([good], ())
    before = node.resources()
    applied = node.apply([bad, api("/b", to("up"))], ())
    assert set(applied.refused) == {good.api_id}
    assert "<script> in GET POST /*" in applied.refused[good.api_id]
    assert names(applied, SCOPE) == {"b"}
    assert node.resources().of(SCOPE)["a"] == before.of(SCOPE)["a"]


CALLING = resource('<sequence key="s"/>')
SEQUENCE = '<sequence name="s"><send><endpoint key="e"/></send></sequence>'
ENDPOINT = '<endpoint name="e"><address uri="http://up/"/></endpoint>'


def test_what_an_api_needs_may_come_with_it_in_any_order(node: Node) -> None:
    applied = node.apply([api("/a", CALLING), shared(SEQUENCE), shared(ENDPOINT)], ())
    assert applied.refused == {}
    assert names(applied, SCOPE) == {"a"}


def test_what_is_not_there_yet_is_named(node: Node) -> None:
    artifact = api("/a", CALLING)
    assert "no sequence 's'" in node.apply([artifact], ()).refused[artifact.api_id]
    node.apply([shared(SEQUENCE), shared(ENDPOINT)], ())
    assert node.apply([artifact], ()).refused == {}


def test_a_shared_endpoint_that_changes_changes_those_that_use_it(node: Node) -> None:
    node.apply([api("/a", CALLING), api("/b", to("x")), shared(SEQUENCE), shared(ENDPOINT)], ())
    applied = node.apply([shared(ENDPOINT.replace("http://up/", "http://other/"))], ())
    assert names(applied, SCOPE) == {"a"}
    assert len(applied.removed[CLUSTER]) == 1


def test_a_shared_sequence_that_would_take_an_api_away_is_refused(node: Node) -> None:
    node.apply([api("/a", CALLING), shared(SEQUENCE), shared(ENDPOINT)], ())
    before = node.resources()
    broken = shared('<sequence name="s"><script/></sequence>')
    applied = node.apply([broken], ())
    reason = applied.refused[broken.api_id]
    assert reason.startswith("api a, which uses it, would no longer be served:\n")
    assert "shared.xml:1: <script> in GET POST /*" in reason
    assert node.resources() == before
    assert node.apply([shared(ENDPOINT.replace("up", "other"))], ()).refused == {}


def test_a_sequence_that_nobody_uses_may_hold_anything(node: Node) -> None:
    applied = node.apply([shared('<sequence name="s"><script/></sequence>')], ())
    assert applied.refused == {}
    assert len(applied.changed) == 0


def test_what_is_taken_away_from_under_an_api_leaves_it_as_it_was(node: Node) -> None:
    """Only with --force; the API goes on until it is deployed anew."""
    sequence = shared(SEQUENCE)
    node.apply([api("/a", CALLING), sequence, shared(ENDPOINT)], ())
    before = node.resources()
    node.apply([], [sequence.api_id])
    assert node.resources() == before


def test_each_tenant_has_its_own_names(node: Node) -> None:
    node.apply([shared(SEQUENCE), shared(ENDPOINT)], ())
    foreign = api("/a", CALLING, tenant="acme.com")
    assert "no sequence 's'" in node.apply([foreign], ()).refused[foreign.api_id]

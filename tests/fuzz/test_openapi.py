"""Every operation of both OpenAPI pages, with what schemathesis makes of them: never a 5xx.

Half of the requests are as the page describes them, half are not.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode

from tests.servers.gatesync import LABEL, Place, ask, document, place, publishing, until
from tests.stores.budget import BUDGET

pytestmark = pytest.mark.promise(8)

EXAMPLES: Final = max(2, round(4 * BUDGET))  # of each operation and mode
UNHURRIED: Final = settings(
    max_examples=EXAMPLES,
    derandomize=BUDGET <= 1,  # a build fails for what changed in it
    database=None,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """`gatesync up` with something in it, for requests that do whatever they like to it."""
    with place(tmp_path_factory.mktemp("openapi"), labels=[LABEL]) as made:
        made.role("up").start()
        body = publishing(document("a"), document("b"))
        assert made.ask("/v1/changes", method="POST", body=body).status == 200
        until(lambda: set(made.held()) == {"a", "b"}, "the gateway serves them")
        yield made


class Service(NamedTuple):
    """Where requests go, and the token that they carry."""

    url: str
    token: str


def service(cluster: Place, name: str) -> Service:
    if name == "publisher":
        return Service(cluster.publisher, cluster.operator)
    if name == "publisher, as a node":
        return Service(cluster.publisher, cluster.node_token())
    if name == "gateway":
        return Service(cluster.gateway, cluster.admin_token())
    return Service(cluster.gateway, (cluster.data / "push.token").read_text().strip())


@pytest.mark.timeout(120 + 60 * BUDGET)
@pytest.mark.parametrize(
    "name", ["publisher", "publisher, as a node", "gateway", "gateway, as a publisher"]
)
def test_no_request_makes_the_service_fail(cluster: Place, name: str) -> None:
    asked = service(cluster, name)
    described = cluster.operator if asked.url == cluster.publisher else cluster.admin_token()
    page = ask(asked.url, "/openapi/openapi.json", token=described).json()
    statuses: dict[str, set[int]] = {}
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {asked.token}"
        for operation in schemathesis.openapi.from_dict(page).get_all_operations():
            found = operation.ok()
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                seen = statuses.setdefault(found.label, set())
                _exercise(found.as_strategy(generation_mode=mode), asked.url, session, seen)
    print(statuses)
    assert len(statuses) >= 10
    everything = set().union(*statuses.values())
    assert {200, 400} <= everything or "as a" in name
    assert not [status for status in everything if status >= 500], statuses
    for role in cluster.started:
        assert role.alive
        assert "Traceback" not in role.said()
        assert "a request failed" not in role.said()


def _exercise(strategy: Any, url: str, session: requests.Session, seen: set[int]) -> None:
    @UNHURRIED
    @given(strategy)
    def send(case: Case) -> None:
        query = dict(case.query or {})
        if "wait" in query:  # a long poll would take as long as it may
            case.query = query | {"wait": 0.01}
        try:
            response = case.call(base_url=url, session=session, timeout=30)
        except requests.exceptions.InvalidHeader:
            return  # nothing that a client of HTTP would send
        assert response.status_code < 500, (case.as_curl_command(), response.text[:1000])
        seen.add(response.status_code)

    with contextlib.suppress(Unsatisfiable):  # what takes nothing cannot be asked wrongly
        send()

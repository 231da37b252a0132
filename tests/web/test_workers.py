"""Rsync's workers over HTTP: who may report them, and who sees them."""

import itertools
from typing import Any

import pytest

from tests.servers.gatesync import LABEL, Answer, Place

_numbers = itertools.count()


@pytest.fixture
def runner() -> str:
    return f"runner{next(_numbers)}"


def told(cluster: Place, runner: str, token: str, **changes: Any) -> Answer:
    body = {
        "format": "gatesync.workers/1",
        "runner": runner,
        "source": "/srv/repository",
        "revision": 3,
        "workers": [{"worker": f"{runner}-w:/srv/a b", "state": "in step", "revision": 3}],
    }
    return cluster.ask("/v1/workers", method="POST", body=body | changes, token=token)


def seen(cluster: Place, token: str) -> dict[str, Any]:
    workers = cluster.ask("/v1/gateways", token=token).json()["workers"]
    return {each["status"]["worker"]: each for each in workers}


def test_a_node_reports_the_workers_of_its_own_host(cluster: Place, runner: str) -> None:
    token = cluster.create_token("node", runner, LABEL)
    assert told(cluster, runner, token).status == 200
    row = seen(cluster, cluster.operator)[f"{runner}-w:/srv/a b"]
    assert (row["runner"], row["lost"], row["status"]["state"]) == (runner, False, "in step")


def test_nobody_reports_for_another_host(cluster: Place, runner: str) -> None:
    token = cluster.create_token("node", runner, LABEL)
    answer = told(cluster, "other", token)
    assert (answer.status, answer.json()["code"]) == (403, "forbidden")
    assert "may not report for runner 'other'" in answer.reasons
    assert told(cluster, runner, cluster.create_token("read", f"{runner}r")).status == 403
    assert told(cluster, runner, "nobody's").status == 401


def test_an_operator_reports_for_any_host(cluster: Place, runner: str) -> None:
    assert told(cluster, runner, cluster.operator).status == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"format": "gatesync.workers/9"},
        {"workers": [{"worker": "w", "state": "splendid"}]},
        {"workers": [{"worker": "", "state": "in step"}]},
        {"revision": -1},
        {"source": ""},
    ],
)
def test_what_is_no_report_is_refused(cluster: Place, runner: str, wrong: dict[str, Any]) -> None:
    assert told(cluster, runner, cluster.operator, **wrong).status == 400
    assert not any(each.startswith(f"{runner}-") for each in seen(cluster, cluster.operator))


def test_who_may_read_some_labels_only_is_told_of_no_worker(cluster: Place, runner: str) -> None:
    assert told(cluster, runner, cluster.operator).status == 200
    limited = cluster.create_token("publish", f"{runner}p", LABEL)
    assert seen(cluster, limited) == {}

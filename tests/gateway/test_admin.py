"""The admin HTTP of a real gateway process."""

import json
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.servers.gatesync import LABEL, Answer, Place, ask, document, place, publishing, until


def post(here: Place, path: str, asked: Any, **more: Any) -> Answer:
    return ask(
        here.gateway,
        path,
        **({"method": "POST", "token": here.admin_token(), "body": asked} | more),
    )


def publish(here: Place, *names: str, text: str = "hello", **more: Any) -> None:
    """Publish and wait until the gateway serves what was published."""
    documents = [document(name, **more) for name in names]
    for each in documents:
        each["parts"][0]["text"] = each["parts"][0]["text"].replace("hello", text)
    answer = here.ask("/v1/changes", method="POST", body=publishing(*documents))
    assert answer.status == 200, answer.body
    digests = {
        change["entry"]["name"]: change["entry"]["digest"]
        for change_set in answer.json()["change_sets"]
        for change in change_set["changes"]
    }
    until(lambda: digests.items() <= here.held().items(), f"{names} are served")


def refused(answer: Answer, status: int, code: str) -> str:
    assert answer.status == status, answer.body
    assert answer.json()["code"] == code
    return answer.reasons


def status_of(here: Place) -> Any:
    return ask(here.gateway, "/v1/status", token=here.admin_token()).json()


def test_one_is_deployed_anew_by_name_and_by_id(here: Place) -> None:
    publish(here, "redeployed")
    (held,) = (
        each
        for each in ask(here.gateway, "/v1/held", token=here.admin_token()).json()["artifacts"]
        if each["name"] == "redeployed"
    )
    for asked in (
        {"name": "redeployed"},
        {"name": "redeployed", "version": "", "kind": "sequence", "tenant": "carbon.super"},
        {"api_id": held["api_id"]},
    ):
        answer = post(here, "/v1/redeploy", asked)
        assert answer.status == 200, answer.body
        assert answer.json()["artifacts"] == 1
    assert here.held()["redeployed"] == held["digest"]


@pytest.mark.promise(5)
def test_everything_is_deployed_anew_and_served_all_the_while(here: Place) -> None:
    publish(here, "one", "two")
    before = here.held()
    answer = post(here, "/v1/redeploy", {"all": True})
    assert answer.status == 200, answer.body
    assert answer.json()["artifacts"] == len(before)
    assert here.held() == before


def test_what_is_undeployed_stays_away_until_its_next_change_or_its_redeployment(
    here: Place,
) -> None:
    publish(here, "away", "other")
    answer = post(here, "/v1/undeploy", {"name": "away"})
    assert (answer.status, answer.json()["artifacts"]) == (200, 1), answer.body
    assert "away" not in here.held()
    assert "other" in here.held()
    (reason,) = status_of(here)["skipped"].values()
    assert "until its next change" in reason
    assert post(here, "/v1/undeploy", {"name": "away"}).status == 200, "once more is no fault"

    publish(here, "other", text="goodbye")
    assert "away" not in here.held(), "another's change is not its own"
    publish(here, "away", text="goodbye")
    assert status_of(here)["skipped"] == {}

    assert post(here, "/v1/undeploy", {"name": "away"}).status == 200
    answer = post(here, "/v1/redeploy", {"name": "away"})
    assert (answer.status, answer.json()["artifacts"]) == (200, 1), answer.body
    assert "away" in here.held()


@pytest.mark.parametrize("path", ["/v1/redeploy", "/v1/undeploy"])
def test_what_is_not_here_or_not_said_is_refused(here: Place, path: str) -> None:
    publish(here, "twice")
    publish(here, "twice", tenant="a.example", kind="sequence")
    before = here.held()
    assert "'nobody'" in refused(post(here, path, {"name": "nobody"}), 404, "not-found")
    assert "'nobody'" in refused(post(here, path, {"api_id": "nobody"}), 404, "not-found")
    assert "(a.example)" in refused(post(here, path, {"name": "twice"}), 409, "ambiguous")
    refused(post(here, path, {}), 400, "invalid")
    refused(post(here, path, {"name": "twice", "api_id": "x"}), 400, "invalid")
    assert "vresion" in refused(post(here, path, {"name": "twice", "vresion": "1"}), 400, "request")
    refused(post(here, path, b"not JSON"), 400, "request")
    refused(post(here, path, b""), 400, "request")
    refused(post(here, path, {"name": "twice"}, token="wrong"), 401, "unauthorized")
    refused(post(here, path, {"name": "twice"}, token=here.operator), 401, "unauthorized")
    assert post(here, path, None, method="GET").status == 405
    assert here.held() == before


def test_everything_is_not_undeployed_at_once(here: Place) -> None:
    assert "one artifact at a time" in refused(
        post(here, "/v1/undeploy", {"all": True}), 400, "invalid"
    )


@pytest.mark.promise(11)
def test_readiness_says_how_far_each_label_is_and_names_no_artifact(here: Place) -> None:
    publish(here, "not named in readiness")
    until(lambda: status_of(here)["labels"][0]["applied_revision"] > 0, "it was tried")
    until(lambda: here.health().json()["cache"]["writes"] > 0, "its disk has it a moment later")
    answer = here.health()
    assert answer.status == 200
    found = answer.json()
    assert (found["node"], found["ready"], found["status"]) == (here.node, True, "ready")
    assert found["mode"] == "sync"
    assert found["cache"]["error"] == ""
    (label,) = found["labels"]
    assert label["label"] == LABEL
    assert label["revision"] == label["applied_revision"] > 0
    assert label["desired"] == label["applied"] + label["failed"] + label["skipped"]
    assert 0 <= label["proof_age_ms"] < 5_000
    assert not label["stale"]
    assert "not named" not in answer.body.decode()
    assert ask(here.gateway, "/health/live").json() == {"status": "live"}


@pytest.mark.promise(8)
def test_a_stranger_is_told_whether_it_is_ready_and_not_what_it_serves(here: Place) -> None:
    publish(here, "unnamed")
    known = here.health().json()
    for token in (None, "wrong", here.operator, here.node_token()):
        answer = ask(here.gateway, "/health/ready", token=token)
        assert answer.status == 200
        told = answer.json()
        assert set(told) == {"ready", "status", "mode", "connected", "uptime_ms", "format"}
        assert (told["ready"], told["status"]) == (True, known["status"])


@pytest.mark.promise(11)
@pytest.mark.parametrize(
    ("when_stale", "code", "word"), [("serve", 200, "stale"), ("drain", 503, "draining")]
)
def test_without_its_publisher_a_node_says_that_it_is_stale(
    tmp_path: Path, when_stale: str, code: int, word: str
) -> None:
    with place(tmp_path / "one") as one, place(tmp_path / "two", publisher=one.publisher) as two:
        text = two.config.read_text()
        extra = f'max_staleness = 600\nwhen_stale = "{when_stale}"\n'
        two.config.write_text(text.replace("[gatesync.gateway]\n", f"[gatesync.gateway]\n{extra}"))
        up = one.role("up").start()
        one.give_token(two, LABEL)
        two.role("gateway").start()
        assert up.stop() == 0

        health = two.health
        until(lambda: health().json()["status"] == word, f"it is {word}")
        assert health().status == code
        assert "max_staleness is 0.6 s" in health().json()["why"]
        startup = ask(two.gateway, "/api/am/gateway/v2/server-startup-healthcheck")
        assert startup.status == (200 if code == 200 else 500)
        up.start()
        until(lambda: health().json()["status"] == "ready", "it is in step again")
        assert health().status == 200


def test_a_real_node_times_the_way_from_publish_to_applied(here: Place) -> None:
    publish(here, "timed")

    def samples() -> dict[str, float]:
        text = ask(here.gateway, "/metrics", token=here.admin_token()).body.decode()
        return {
            sample.name: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    name = "gatesync_gateway_publish_to_applied_seconds"
    until(lambda: samples()[f"{name}_count"] > 0, "an event was timed")
    found = samples()
    assert 0 < found[f"{name}_sum"] / found[f"{name}_count"] < 10


def test_a_change_has_one_name_in_the_logs_of_publisher_and_gateway(here: Place) -> None:
    publish(here, "logged")
    (role,) = here.started
    head = next(each for each in here.heads() if each["label"] == LABEL)
    name = f"{LABEL}@{head['revision']}.{head['epoch'][:8]}"

    def lines() -> list[str]:
        return [line for line in role.said().splitlines() if json.dumps(name)[1:-1] in line]

    until(lambda: any("committed" in each for each in lines()), "the publisher said it")
    until(lambda: any("applied" in each for each in lines()), "the gateway said it")

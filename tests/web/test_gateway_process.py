"""A gateway as a process of its own: what it carries, and how it starts without a publisher."""

import json
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.servers.gatesync import (
    EXAMPLES,
    LABEL,
    Answer,
    Place,
    ask,
    document,
    place,
    publishing,
    until,
)

DUMP = """
import atexit, json, os, sys
def dump():
    if sys.argv[1:2] == ["gateway"]:
        with open(os.environ["DUMP_MODULES_TO"], "w") as file:
            json.dump(sorted(sys.modules), file)
atexit.register(dump)
"""


def health(node: Place) -> Answer | None:
    try:
        return node.health()
    except OSError:
        return None


def test_it_imports_no_database_terminal_or_xml_library(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(DUMP)
    dumped = tmp_path / "modules.json"
    with (
        place(tmp_path / "one") as one,
        place(tmp_path / "two", node="gw2", publisher=one.publisher) as two,
    ):
        one.role("up").start()
        one.give_token(two, LABEL)
        # Not measured for coverage, which would bring libraries of its own into the process.
        env = {"COVERAGE_PROCESS_CONFIG": "", "COVERAGE_PROCESS_START": ""}
        env |= {"PYTHONPATH": str(tmp_path / "site"), "DUMP_MODULES_TO": str(dumped)}
        gateway = two.role("gateway", **env).start()
        done = one.run("publish", EXAMPLES / "pizzashack", "-l", LABEL, "--wait", "2")
        assert done.code == 0, done.out + done.err
        assert set(two.held()) == {"PizzaShackAPI"}
        assert gateway.stop() == 0

    modules = set(json.loads(dumped.read_text()))
    assert {"gatesync.gateway.informer", "nats", "litestar", "httpcore"} <= modules
    heavy = {"sqlalchemy", "typer", "rich", "lxml", "rfc8785", "stamina"}
    assert heavy & modules == set()
    assert not [name for name in modules if name.startswith("gatesync.publisher")]


@pytest.mark.promise(1)
def test_it_starts_before_its_publisher_and_gets_in_step(tmp_path: Path) -> None:
    with place(tmp_path / "one") as one:
        up = one.role("up").start()
        body = publishing(document("early"))
        assert one.ask("/v1/changes", method="POST", body=body).status == 200
        with place(tmp_path / "two", node="gw2", publisher=one.publisher) as two:
            one.give_token(two, LABEL)
            assert up.stop() == 0
            gateway = two.role("gateway").start(wait=False)
            answer = gateway.wait_for(lambda: health(two), "it answers")
            assert answer.status == 503
            said = gateway.wait_for(
                lambda: health(two).json()["store_error"], "it says what is missing"
            )
            assert one.publisher in said
            assert two.held() == {}

            up.start()
            gateway.wait_for(lambda: set(two.held()) == {"early"}, "it is in step")
            gateway.wait_for(lambda: health(two).status == 200, "it is ready")
            assert "Traceback" not in gateway.said()
            assert gateway.stop() == 0


def test_a_wrong_token_is_told_in_the_log_and_in_readiness(tmp_path: Path) -> None:
    with (
        place(tmp_path / "one") as one,
        place(tmp_path / "two", node="gw2", publisher=one.publisher) as two,
    ):
        one.role("up").start()
        one.give_token(two, LABEL)
        token = two.data / "gateway.token"
        good = token.read_text()
        token.write_text("gst_wrong")
        gateway = two.role("gateway").start(wait=False)
        gateway.wait_for(lambda: health(two), "it answers")
        said = gateway.wait_for(lambda: health(two).json()["store_error"], "it says what is wrong")
        assert "a valid token is needed" in said
        assert health(two).status == 503
        gateway.wait_for(lambda: "a valid token is needed" in gateway.said(), "the log says it")
        assert "gst_wrong" not in gateway.said()
        assert gateway.stop() == 0

        token.write_text(good)
        gateway.start()
        assert health(two).status == 200


def test_a_label_that_its_token_may_not_read_is_told(tmp_path: Path) -> None:
    with (
        place(tmp_path / "one") as one,
        place(tmp_path / "two", node="gw2", publisher=one.publisher, labels=["Second"]) as two,
    ):
        one.role("up").start()
        one.give_token(two, LABEL)
        gateway = two.role("gateway").start(wait=False)
        gateway.wait_for(lambda: health(two), "it answers")
        said = gateway.wait_for(lambda: health(two).json()["store_error"], "it says what is wrong")
        assert "this token may not read label 'Second'" in said


@pytest.mark.promise(9)
def test_separate_processes_and_each_label_reaches_its_own_gateway(tmp_path: Path) -> None:
    with (
        place(tmp_path / "one") as one,
        place(tmp_path / "two", node="a", publisher=one.publisher) as first,
        place(tmp_path / "three", node="b", publisher=one.publisher, labels=["Label1"]) as second,
    ):
        manager = one.role("traffic-manager").start()
        publisher = one.role("publisher").start()
        for gateway, label in ((first, LABEL), (second, "Label1")):
            one.give_token(gateway, label)
            gateway.role("gateway").start()

        done = one.run("publish", EXAMPLES / "menu", "-l", "Label1", "--wait", "all", "--json")
        assert done.code == 0, done.err
        (awaited,) = done.json()["waited"]
        assert [(r["node"], r["status"]) for r in awaited["receipts"]] == [("b", "applied")]
        assert set(second.held()) == {"MenuAPI"}
        assert first.held() == {}

        done = one.run("publish", EXAMPLES / "menu", "-l", LABEL, "--wait", "all")
        assert done.code == 0, done.err
        assert first.held() == second.held()
        listed = one.ask(f"/v1/artifacts?label={quote(LABEL)}").json()["artifacts"]
        assert {h["entry"]["name"]: h["entry"]["digest"] for h in listed} == first.held()

        done = one.run("remove", "MenuAPI", "-l", LABEL, "--wait", "all")
        assert done.code == 0, done.err
        assert first.held() == {}
        assert set(second.held()) == {"MenuAPI"}
        assert one.run("verify").code == 0
        assert publisher.stop() == 0
        assert manager.stop() == 0


def test_its_admin_http_shows_the_bytes_that_it_serves(cluster: Place) -> None:
    body = publishing(document("admin", api_id="ids/may/be/paths"))
    answer = cluster.ask("/v1/changes", method="POST", body=body).json()
    entry = answer["change_sets"][0]["changes"][0]["entry"]
    until(lambda: cluster.held().get("admin") == entry["digest"], "it is served")
    token = cluster.admin_token()
    served = ask(cluster.gateway, f"/v1/held/content?api_id={entry['api_id']}", token=token)
    assert served.status == 200
    assert served.body == cluster.ask(f"/v1/contents/{entry['digest']}").body
    for api_id in ("nobody", "..%2f..", "%00", "%ff", "x" * 1000):
        missing = ask(cluster.gateway, f"/v1/held/content?api_id={api_id}", token=token)
        assert missing.status == 404, missing.body
        assert missing.json()["reasons"]

"""Direct push between real processes: no broker, two gateways behind one URL, one that is down."""

import base64
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gatesync.artifacts.compression import compress
from gatesync.cli.roles import environments_of
from gatesync.config import load
from gatesync.events.pushed import EVENT_MAX_BYTES
from tests.servers.gatesync import (
    LABEL,
    Answer,
    Place,
    ask,
    document,
    free_ports,
    publishing,
    until,
)
from tests.servers.round_robin import RoundRobin, round_robin

HEARTBEAT_MS = 1_000
TWO_HEARTBEATS = 2 * HEARTBEAT_MS / 1000 + 0.5  # and the transfer, on a machine that is busy
PAGE = Path(__file__).parents[2] / "docs" / "direct-push.md"
NAMES = ("Balanced ", "Down ", "Sandbox ")
PUSH_TOKEN = "push-token-of-the-tests"
NO_BROKER = "[apim.event_hub]\nenable = false\n"
SANDBOX_ONLY = "it has no sandbox endpoint, and this gateway is of type sandbox"


class Pushed(NamedTuple):
    """A publisher that pushes, what it pushes to, and the balancer in front of two of them."""

    publisher: Place
    behind: list[Place]
    sandbox: Place
    balancer: RoundRobin


def environment(name: str, url: str, **more: str) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in more.items()]
    return "\n".join(
        [
            "[[apim.gateway.environment]]",
            f'name = "{name}"',
            f'labels = ["{LABEL}"]',
            f'service_url = "{url}/services/"',
            *lines,
            "",
        ]
    )


def gateway(folder: Path, publisher: Place, kind: str = "hybrid") -> Place:
    node = Place(folder, node=folder.name, publisher=publisher.publisher, heartbeat_ms=HEARTBEAT_MS)
    text = node.config.read_text().replace("[apim.event_hub]\n", NO_BROKER)
    ours = f'[gatesync.gateway]\npush_token = "{PUSH_TOKEN}"\ntype = "{kind}"\n'
    node.config.write_text(text.replace("[gatesync.gateway]\n", ours))
    publisher.give_token(node, LABEL)
    return node


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushed]:
    folder = tmp_path_factory.mktemp("push")
    with ExitStack() as stack:
        publisher = Place(folder / "publisher", heartbeat_ms=HEARTBEAT_MS)
        stack.callback(publisher.end)
        behind = [gateway(folder / name, publisher) for name in ("gw1", "gw2")]
        sandbox = gateway(folder / "gw3", publisher, "sandbox")
        balancer = stack.enter_context(round_robin(*(each.gateway for each in behind)))
        (nobody,) = free_ports(1)
        with publisher.config.open("a") as config:
            config.write(NO_BROKER)
            config.write(
                environment("Balanced", balancer.url, username="admin", password=PUSH_TOKEN)
            )
            config.write(environment("Down", f"http://127.0.0.1:{nobody}"))
            config.write(
                environment("Sandbox", sandbox.gateway, type="sandbox", password=PUSH_TOKEN)
            )
        publisher.role("publisher").start()
        for each in (*behind, sandbox):
            stack.callback(each.end)
            each.role("gateway").start(wait=False)
        for each in (*behind, sandbox):
            each.started[0].wait_for(lambda each=each: is_ready(each), f"{each.node} is ready")
        yield Pushed(publisher, behind, sandbox, balancer)


def is_ready(node: Place) -> bool:
    try:
        return ask(node.gateway, "/health/ready").status == 200
    except OSError:
        return False


def publish(pushed: Pushed, *documents: dict[str, Any]) -> float:
    """Publish at once; answers with the seconds that took."""
    began = time.monotonic()
    answer = pushed.publisher.ask("/v1/changes", method="POST", body=publishing(*documents))
    assert answer.status == 200, answer.body
    return time.monotonic() - began


def status_of(node: Place) -> Any:
    return ask(node.gateway, "/v1/status", token=node.admin_token()).json()


def environments(pushed: Pushed) -> dict[str, Any]:
    found = pushed.publisher.ask("/v1/gateways").json()["environments"]
    return {each["name"]: each for each in found}


@pytest.mark.promise(1)
def test_gateways_behind_one_url_are_in_step_whichever_was_hit_and_one_that_is_down_delays_nobody(
    pushed: Pushed,
) -> None:
    took = publish(pushed, document("pushed0"))
    until(
        lambda: all("pushed0" in each.held() for each in (*pushed.behind, pushed.sandbox)),
        "every gateway has it",
        TWO_HEARTBEATS,
    )
    assert took < 1.0
    assert min(pushed.balancer.passed.values()) > 0
    for number in range(1, 6):
        publish(pushed, document(f"pushed{number}"))
    names = {f"pushed{number}" for number in range(6)}
    until(
        lambda: all(names <= each.held().keys() for each in (*pushed.behind, pushed.sandbox)),
        "every gateway has all",
        TWO_HEARTBEATS,
    )
    assert pushed.publisher.run("verify").code == 0


def test_the_outcome_of_each_environment_is_shown(pushed: Pushed) -> None:
    publish(pushed, document("shown"))
    (head,) = pushed.publisher.heads()
    newest = {LABEL: head["revision"]}
    until(
        lambda: (
            environments(pushed)["Balanced"]["revisions"] == newest
            and environments(pushed)["Sandbox"]["revisions"] == newest
        ),
        "both were told of the head",
    )
    found = environments(pushed)
    assert found["Sandbox"]["node"] == "gw3"
    assert found["Balanced"]["node"] in {"gw1", "gw2"}
    assert (found["Balanced"]["failures"], found["Down"]["answered_at"]) == (0, 0)
    assert "cannot be reached" in found["Down"]["reason"]
    ready = ask(pushed.publisher.publisher, "/health/ready")
    assert (ready.status, ready.json()["environments"]) == (200, "2 of 3 answer")
    metrics = pushed.publisher.ask("/metrics").body.decode()
    assert 'gatesync_publisher_environment_answers{environment="Down"} 0.0' in metrics
    assert 'gatesync_publisher_environment_answers{environment="Sandbox"} 1.0' in metrics
    out = pushed.publisher.run("gateways", COLUMNS="200").out
    assert states(out) == states(PAGE.read_text())
    (down,) = (line for line in out.splitlines() if line.startswith("Down"))
    assert "failing" in down
    assert "cannot be reached" in down
    (sandbox,) = (line for line in out.splitlines() if line.startswith("Sandbox"))
    assert "answers" in sandbox
    assert PUSH_TOKEN not in json.dumps(found) + out + metrics


def test_an_api_without_a_sandbox_endpoint_is_skipped_at_the_sandbox_gateway_and_in_step(
    pushed: Pushed,
) -> None:
    publish(pushed, api("Both", "production", "sandbox"), api("Live", "production"))
    everywhere = {"Both", "Live"}
    until(
        lambda: all(everywhere <= each.held().keys() for each in pushed.behind),
        "hybrid gateways serve both",
    )
    until(lambda: "Both" in pushed.sandbox.held(), "the sandbox gateway serves one")
    assert "Live" not in pushed.sandbox.held()
    assert list(status_of(pushed.sandbox)["skipped"].values()) == [SANDBOX_ONLY]
    assert pushed.publisher.run("verify").code == 0


def api(name: str, *types: str) -> dict[str, Any]:
    """An API with endpoints of these types, named as WSO2 names them."""
    namespace = "http://ws.apache.org/ns/synapse"
    parts = [
        {
            "role": "api",
            "name": f"admin--{name}",
            "path": f"api/admin--{name}_v1.xml",
            "text": f'<api xmlns="{namespace}" name="admin--{name}" context="/{name}/1" '
            'version="1"/>',
        }
    ]
    for kind in types:
        endpoint = f"{name}--v1_API{kind}Endpoint"
        xml = f'<endpoint xmlns="{namespace}" name="{endpoint}"><default/></endpoint>'
        path = f"endpoints/{endpoint}.xml"
        parts.append({"role": "endpoint", "name": endpoint, "path": path, "text": xml})
    return document(name, kind="api", version="1", parts=parts)


def states(text: str) -> dict[str, list[str]]:
    """The columns of the table of environments, and label and state of each."""
    lines = [line.strip() for line in text.splitlines()]
    rows = {line.split()[0]: line for line in lines if line.startswith(NAMES)}
    label_and_state = {name: row.split()[1:5] for name, row in rows.items()}
    (columns,) = (line.split() for line in lines if line.startswith("ENVIRONMENT"))
    return {**label_and_state, "columns": columns}


@pytest.mark.promise(1)
def test_a_gateway_that_was_away_while_it_was_pushed_to_is_healed(pushed: Pushed) -> None:
    (role,) = pushed.sandbox.started
    role.stop()
    publish(pushed, document("missed"))
    until(lambda: environments(pushed)["Sandbox"]["failures"], "the push fails")
    role.start()
    until(lambda: "missed" in pushed.sandbox.held(), "it has what it missed", TWO_HEARTBEATS)
    until(lambda: not environments(pushed)["Sandbox"]["failures"], "it answers again")


def push(pushed: Pushed, token: str | None, body: bytes = b"garbage", **headers: str) -> Answer:
    node = pushed.behind[0]
    return ask(node.gateway, "/v1/events", method="POST", token=token, body=body, headers=headers)


def test_nobody_pushes_without_the_push_token(pushed: Pushed) -> None:
    node = pushed.behind[0]
    for token in (None, "", PUSH_TOKEN[:-1], node.admin_token(), node.node_token()):
        assert push(pushed, token).status == 401
    refused = push(pushed, PUSH_TOKEN)
    assert (refused.status, refused.json()["code"]) == (400, "invalid")
    pair = base64.b64encode(f"admin:{PUSH_TOKEN}".encode()).decode()
    assert push(pushed, None, Authorization=f"Basic {pair}").status == 400
    # The operator's guard lets the operator as far as the handler, by another spelling of the path.
    spelled = ask(
        node.gateway, "/v1/events/", method="POST", token=node.admin_token(), body=b"garbage"
    )
    assert spelled.status == 403


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/status"),
        ("GET", "/v1/held"),
        ("POST", "/v1/redeploy"),
        ("POST", "/v1/undeploy"),
        ("GET", "/metrics"),
        ("GET", "/api/am/gateway/v2/api-artifact?apiName=Both&version=1"),
        ("POST", "/v1/events/"),
        ("POST", "/v1/events/../redeploy"),
        ("POST", "//v1/events"),
    ],
)
def test_the_push_token_opens_nothing_else(pushed: Pushed, method: str, path: str) -> None:
    node = pushed.behind[0]
    body = {"all": True} if method == "POST" else None
    assert ask(node.gateway, path, method=method, token=PUSH_TOKEN, body=body).status == 401


def test_what_is_pushed_has_a_largest_size_packed_or_not(pushed: Pushed) -> None:
    large = bytes(EVENT_MAX_BYTES + 1)
    packed = push(pushed, PUSH_TOKEN, compress(large), **{"Content-Encoding": "zstd"})
    assert (packed.status, packed.json()["code"]) == (400, "encoding")
    whole = push(pushed, PUSH_TOKEN, b"", **{"Content-Length": str(len(large))})
    assert (whole.status, whole.json()["code"]) == (413, "too-large")


@pytest.mark.fast
def test_events_only_pushes_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "deployment.toml"
    its = environment("E", "https://e") + '[[apim.gateway.environment]]\nname = "Without a URL"\n'
    key = "[apim.sync_runtime_artifacts.publisher]\npublish_directly_to_gateway = "
    for value, pushes in (('"true"', ["E"]), ('"false"', []), ("false", [])):
        path.write_text(f"{key}{value}\n{its}")
        assert [each.name for each in environments_of(load(path).settings)] == pushes
    path.write_text(its)
    assert [each.labels for each in environments_of(load(path).settings)] == [(LABEL,)]

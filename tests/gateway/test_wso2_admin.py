"""WSO2's names of the gateway's admin HTTP, against a real gateway process."""

import base64
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.servers.gatesync import EXAMPLES, LABEL, Answer, Place, ask, until

BASE = "/api/am/gateway/v2"
PIZZA = {"apiName": "PizzaShackAPI", "version": "1.0.0", "tenantDomain": "carbon.super"}


@pytest.fixture
def pizza(here: Place) -> Place:
    """A gateway that serves the pizza shack, whatever the test before did."""
    if "PizzaShackAPI" not in here.held():
        done = here.run("publish", EXAMPLES / "pizzashack", "--label", LABEL, "--wait", "all")
        assert done.code == 0, done.err
        asked(here, "redeploy-api", PIZZA, method="POST")
        until(lambda: "PizzaShackAPI" in here.held(), "it is served")
    return here


def asked(here: Place, name: str, query: dict[str, str], **more: Any) -> Answer:
    path = f"{BASE}/{name}?{urlencode(query)}"
    return ask(here.gateway, path, **({"token": here.admin_token()} | more))


def error_of(answer: Answer, status: int) -> str:
    """WSO2's Error: code and message are required, the others optional."""
    assert answer.status == status, answer.body
    found = answer.json()
    assert set(found) == {"code", "message", "description", "moreInfo", "error"}
    assert found["code"] == status
    assert found["message"]
    return str(found["description"])


def test_an_api_and_what_it_owns_are_shown_as_xml(pizza: Place) -> None:
    answer = asked(pizza, "api-artifact", PIZZA)
    assert answer.status == 200, answer.body
    assert set(answer.json()) == {"api"}
    files = {path.name: path.read_text() for path in (EXAMPLES / "pizzashack").rglob("*.xml")}
    assert answer.json()["api"] == files["admin--PizzaShackAPI_v1.0.0.xml"]
    for name, member, folder in (
        ("local-entry", "localEntries", "local-entries"),
        ("sequence", "sequences", "sequences"),
        ("end-points", "endpoints", "endpoints"),
    ):
        answer = asked(pizza, name, PIZZA)
        assert answer.status == 200, answer.body
        expected = {
            path.read_text()
            for path in (EXAMPLES / "pizzashack").rglob("*.xml")
            if path.parent.name == folder
        }
        assert set(answer.json()) == {member}
        assert set(answer.json()[member]) == expected


def test_the_first_tenant_is_meant_where_none_is_named(pizza: Place) -> None:
    query = {key: value for key, value in PIZZA.items() if key != "tenantDomain"}
    assert asked(pizza, "api-artifact", query).json() == asked(pizza, "api-artifact", PIZZA).json()
    error_of(asked(pizza, "api-artifact", PIZZA | {"tenantDomain": "a.example"}), 404)


def test_an_api_is_undeployed_and_deployed_again(pizza: Place) -> None:
    answer = asked(pizza, "undeploy-api", PIZZA, method="POST")
    assert answer.status == 200, answer.body
    assert answer.json()["deployStatus"] == "UNDEPLOYED"
    assert "PizzaShackAPI" not in pizza.held()
    assert "not deployed" in error_of(asked(pizza, "api-artifact", PIZZA), 404)

    answer = asked(pizza, "redeploy-api", PIZZA, method="POST")
    assert answer.status == 200, answer.body
    assert answer.json()["deployStatus"] == "DEPLOYED"
    assert "PizzaShackAPI" in answer.json()["jsonPayload"]
    assert "PizzaShackAPI" in pizza.held()
    assert asked(pizza, "redeploy-api", PIZZA, method="POST").status == 200


@pytest.mark.parametrize(
    ("name", "method"),
    [("redeploy-api", "POST"), ("undeploy-api", "POST"), ("api-artifact", "GET"),
     ("local-entry", "GET"), ("sequence", "GET"), ("end-points", "GET")],
)  # fmt: skip
def test_what_is_not_here_or_not_said_is_refused_in_wso2s_words(
    pizza: Place, name: str, method: str
) -> None:
    said = error_of(asked(pizza, name, PIZZA | {"version": "9"}, method=method), 404)
    assert "'PizzaShackAPI'" in said
    for query in ({"apiName": "PizzaShackAPI"}, {"version": "1.0.0"}, {}):
        assert "apiName" in error_of(asked(pizza, name, query, method=method), 400)
    assert asked(pizza, name, PIZZA, method=method, token="wrong").status == 401
    other = "GET" if method == "POST" else "POST"
    assert asked(pizza, name, PIZZA, method=other).status == 405
    assert "PizzaShackAPI" in pizza.held()


def test_anybody_may_ask_whether_the_start_is_over(pizza: Place) -> None:
    answer = ask(pizza.gateway, f"{BASE}/server-startup-healthcheck")
    assert (answer.status, answer.body) == (200, b"OK")
    assert ask(pizza.publisher, f"{BASE}/server-startup-healthcheck").status == 401


@pytest.mark.parametrize("user", ["admin", "", "somebody@a.example"])
def test_the_admin_token_may_come_as_a_password(pizza: Place, user: str) -> None:
    def basic(password: str) -> int:
        sent = base64.b64encode(f"{user}:{password}".encode()).decode()
        headers = {"Authorization": f"Basic {sent}"}
        return asked(pizza, "api-artifact", PIZZA, token=None, headers=headers).status

    assert basic(pizza.admin_token()) == 200
    assert basic("") == 401
    assert basic("wrong") == 401
    assert basic(pizza.admin_token() + "x") == 401
    assert basic(pizza.operator) == 401


@pytest.mark.parametrize(
    "header", ["Basic", "Basic ", "Basic !", "Basic \xff", "Basic YQ==", "Basic /////w=="]
)
def test_what_is_no_password_is_refused(pizza: Place, header: str) -> None:
    answer = asked(pizza, "api-artifact", PIZZA, token=None, headers={"Authorization": header})
    assert answer.status == 401


def test_a_publisher_takes_no_passwords(pizza: Place) -> None:
    sent = base64.b64encode(f"admin:{pizza.operator}".encode()).decode()
    headers = {"Authorization": f"Basic {sent}"}
    assert ask(pizza.publisher, "/v1/labels", headers=headers).status == 401

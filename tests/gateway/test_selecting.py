from typing import Any

import msgspec
import pytest

from gatesync.artifacts.changes import Entry
from gatesync.engines.memory import MemoryEngine
from gatesync.gateway.backoff import Backoff
from gatesync.gateway.deployment import Deployment, Failure
from gatesync.gateway.desired import Desired, Skipped, Wanted
from gatesync.gateway.selecting import Selection, SelectionError, select
from tests.gateway.makers import entry

pytestmark = pytest.mark.fast


def deployment() -> Deployment:
    return Deployment(Desired(["L", "M"]), MemoryEngine(), Backoff().delay)


def of_tenant(name: str, tenant: str) -> Entry:
    return msgspec.structs.replace(entry(name), tenant=tenant, api_id=f"{name} of {tenant}")


def refusal(selection: Selection, where: Deployment) -> SelectionError:
    with pytest.raises(SelectionError) as raised:
        select(selection, where)
    return raised.value


def test_what_is_served_waits_or_failed_is_found_by_id_and_by_name() -> None:
    here = deployment()
    menu, pizza, cola = entry("menu"), entry("pizza"), entry("cola")
    here.applied[menu.api_id] = Wanted("L", menu)
    here.waiting[pizza.api_id] = Wanted("L", pizza)
    here.failed[cola.api_id] = Failure(Wanted("M", cola), "no", 1, 0.0)
    for each in (menu, pizza, cola):
        assert select(Selection(api_id=each.api_id), here) == each.api_id
        assert select(Selection(name=each.name), here) == each.api_id
        exact = Selection(name=each.name, version="1.0.0", kind="api", tenant="carbon.super")
        assert select(exact, here) == each.api_id


@pytest.mark.parametrize(
    "wrong", [{"version": "2"}, {"kind": "sequence"}, {"tenant": "t"}, {"version": ""}]
)
def test_a_name_with_something_that_does_not_fit_is_not_here(wrong: dict[str, Any]) -> None:
    here = deployment()
    here.applied["a"] = Wanted("L", entry("menu"))
    error = refusal(Selection(name="menu", **wrong), here)
    assert (error.status, error.code) == (404, "not-found")
    assert "'menu'" in str(error)
    assert refusal(Selection(api_id="b"), here).status == 404


def test_a_name_of_several_lists_them() -> None:
    here = deployment()
    for tenant in ("a.example", "b.example"):
        each = of_tenant("menu", tenant)
        here.applied[each.api_id] = Wanted("L", each)
    error = refusal(Selection(name="menu"), here)
    assert (error.status, error.code) == (409, "ambiguous")
    assert "api menu 1.0.0 (a.example)" in str(error)
    assert "api menu 1.0.0 (b.example)" in str(error)
    assert select(Selection(name="menu", tenant="b.example"), here) == "menu of b.example"


def test_what_is_not_to_be_served_here_says_why() -> None:
    here = deployment()
    menu = entry("menu")
    here.skipped[menu.api_id] = Skipped("M", menu, "another label is preferred")
    error = refusal(Selection(name="menu"), here)
    assert (error.status, error.code) == (409, "skipped")
    assert "another label is preferred" in str(error)


def test_what_the_operator_undeployed_can_be_named() -> None:
    here = deployment()
    menu = entry("menu")
    here.skipped[menu.api_id] = Skipped("L", menu, "undeployed")
    here.withheld[menu.api_id] = menu
    assert select(Selection(name="menu"), here) == menu.api_id


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"api_id": "a", "name": "menu"},
        {"all": True, "name": "menu"},
        {"all": True, "api_id": "a"},
        {"all": True, "kind": "api"},
        {"api_id": "a", "version": "1"},
        {"tenant": "t"},
    ],
)
def test_it_must_be_said_in_exactly_one_way(asked: dict[str, Any]) -> None:
    error = refusal(Selection(**asked), deployment())
    assert (error.status, error.code) == (400, "invalid")


def test_a_misspelled_member_does_not_widen_what_is_meant() -> None:
    with pytest.raises(msgspec.ValidationError, match="versoin"):
        msgspec.json.decode(b'{"name": "menu", "versoin": "1"}', type=Selection)

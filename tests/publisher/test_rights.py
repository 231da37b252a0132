"""What a token may change, and what it is told: its labels, its tenants."""

from typing import Any

import msgspec
import pytest

from gatesync.artifacts.digests import EMPTY_LABEL
from gatesync.artifacts.errors import Problem
from gatesync.artifacts.planning import Publish, Remove, SaveRequest
from gatesync.events.messages import Inventory, LabelInventory, LabelReport, NodeReport
from gatesync.publisher.fleet import Fleet
from gatesync.publisher.pushing import EnvironmentStatus
from gatesync.publisher.rights import (
    check_confirming,
    check_publishing,
    check_reading,
    check_tenants,
)
from gatesync.publisher.tokens import Principal, Role
from gatesync.publisher.views import environments_for, history_for, nodes_for, report_for
from gatesync.stores.memory import MemoryStore
from gatesync.stores.store import Refused, SaveOutcome
from gatesync.web.app import ForbiddenError
from tests.contracts.saves import asked, publish, remove

pytestmark = pytest.mark.fast

LIMITED = Principal("ci", Role.PUBLISH, ("A", "B"), tenants=("example.com", "example.org"))
OPERATOR = Principal("op", Role.PUBLISH)
NODE = Principal("n1", Role.NODE, ("A",))


def of(tenant: str, item: Publish) -> Publish:
    entry = msgspec.structs.replace(item.entry, tenant=tenant, api_id=f"{tenant}/{item.entry.name}")
    return msgspec.structs.replace(item, entry=entry)


def test_a_request_that_names_one_label_outside_is_refused_with_its_name() -> None:
    check_publishing(LIMITED, ["A", "B"])
    check_publishing(OPERATOR, ["A", "C"])
    with pytest.raises(ForbiddenError, match=r"to labels 'C', 'D'; it may to labels 'A', 'B'$"):
        check_publishing(LIMITED, ["A", "C", "B", "D"])
    with pytest.raises(ForbiddenError, match="and 95 more"):
        check_publishing(LIMITED, [f"other {n}" for n in range(100)])
    for who in (NODE, Principal("ro", Role.READ)):
        with pytest.raises(ForbiddenError, match="role 'publish'"):
            check_publishing(who, ["A"])


def test_what_is_no_label_is_left_to_those_who_say_what_is_wrong_with_it() -> None:
    check_publishing(LIMITED, ["A", "", "x" * 256])


def test_to_confirm_is_to_speak_for_all_tenants_of_a_label() -> None:
    check_confirming(Principal("ci", Role.PUBLISH, ("A",)), "A")
    check_confirming(OPERATOR, "C")
    with pytest.raises(ForbiddenError, match="not publish to label 'C'"):
        check_confirming(LIMITED, "C")
    with pytest.raises(ForbiddenError, match=r"for tenants 'example\.com', 'example\.org' only"):
        check_confirming(LIMITED, "A")


def test_a_label_that_is_no_label_is_told_so_before_who_may_read_it() -> None:
    with pytest.raises(Problem):
        check_reading(NODE, "")
    with pytest.raises(ForbiddenError, match="'B'"):
        check_reading(NODE, "B")
    check_reading(NODE, "A")


async def test_another_tenants_artifact_is_neither_published_nor_removed() -> None:
    store = MemoryStore()
    mine, other = of("example.com", publish("mine")), of("other.com", publish("theirs"))
    await store.save([asked("A", mine, other)])
    tenants = ("example.com",)

    async def refused(*items: Publish | Remove, labels: list[str] | str = "A") -> str:
        with pytest.raises(ForbiddenError) as caught:
            await check_tenants([asked(labels, *items)], store, tenants)
        return str(caught.value)

    expected = "this token may not publish for tenant 'other.com'; it may for tenant 'example.com'"
    await check_tenants([asked("A", mine, Remove(mine.entry.api_id))], store, tenants)
    await check_tenants([asked("A", mine, other)], store, ())
    assert await refused(other) == expected
    assert await refused(mine, other) == expected
    taking = Remove(other.entry.api_id)
    assert await refused(taking) == expected
    # Whatever else stands against the request, that one is told.
    assert await refused(remove("nothing"), taking) == expected
    assert await refused(taking, labels=["B", "A"]) == expected
    new = of("example.com", publish("new"))
    assert await refused(new, Remove(new.entry.api_id), taking) == expected


async def test_what_came_between_the_look_and_the_save_is_refused_by_the_plan() -> None:
    store = MemoryStore()
    other = of("other.com", publish("theirs"))
    taking = msgspec.structs.replace(
        asked("A", Remove(other.entry.api_id), force=True), tenants=("example.com",)
    )
    await check_tenants([taking], store, taking.tenants)  # nobody has it yet
    await store.save([asked("A", other)])
    (answer,) = await store.save([taking])
    assert isinstance(answer, Refused)
    assert "may not publish for tenant 'other.com'" in "; ".join(answer.reasons)
    assert (await store.heads(["A"]))["A"].digest.count == 1


@pytest.mark.parametrize("tenants", [(), ("other.com",), ("example.com", "other.com")])
async def test_the_plan_lets_through_what_is_allowed(tenants: tuple[str, ...]) -> None:
    store = MemoryStore()
    other = of("other.com", publish("theirs"))
    requests: list[SaveRequest] = [asked("A", other), asked("A", Remove(other.entry.api_id))]
    for each in requests:
        (answer,) = await store.save([msgspec.structs.replace(each, tenants=tenants)])
        assert isinstance(answer, SaveOutcome)


def report(node: str, *labels: str) -> NodeReport:
    found = tuple(LabelReport(each, "e", 1, 1, EMPTY_LABEL, 0) for each in labels)
    verified = Inventory("v", tuple(LabelInventory(each, 0, "0") for each in labels))
    return NodeReport(
        node, "i", 1, "0", "memory", "http://127.0.0.1:1", 1, found, verification=verified
    )


def labels_of(anything: Any) -> list[str]:
    return [each.label for each in anything.labels]


def test_a_node_has_no_say_in_how_far_another_label_is() -> None:
    heard = report_for(NODE, report("n1", "A", "B"))
    assert labels_of(heard) == ["A"]
    assert heard.verification is not None
    assert labels_of(heard.verification) == ["A"]
    whole = report("n1", "A", "B")
    assert report_for(Principal("n1", Role.NODE, ("*",)), whole) == whole


def test_gateways_and_environments_are_shown_to_who_may_read_their_labels() -> None:
    fleet = Fleet()
    for node, labels in (("a", "A"), ("both", "AC"), ("c", "C")):
        fleet.receive(report(node, *labels))
    shown = {node.node: labels_of(node) for node in nodes_for(LIMITED, fleet.nodes())}
    assert shown == {"a": ["A"], "both": ["A"]}
    assert len(nodes_for(OPERATOR, fleet.nodes())) == 3
    environments = [
        EnvironmentStatus(name=name, type="hybrid", url="http://x", labels=labels)
        for name, labels in (("a", ("A",)), ("both", ("A", "C")), ("c", ("C",)))
    ]
    assert [each.name for each in environments_for(LIMITED, environments)] == ["a"]
    assert len(environments_for(OPERATOR, environments)) == 3


async def test_history_tells_of_the_labels_that_one_may_read() -> None:
    store = MemoryStore()
    await store.save([asked(["A", "C"], publish("menu"))])
    whole = await store.history("menu")
    mine = history_for(LIMITED, whole)
    assert [each.label for each in mine.changes] == ["A"]
    assert list(mine.floors) == ["A"]
    assert history_for(OPERATOR, whole) == whole

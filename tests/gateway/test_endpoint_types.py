"""Production, sandbox or hybrid: which APIs a gateway skips, and says why."""

import itertools

import msgspec
import pytest

from gatesync.artifacts import canonical
from gatesync.artifacts.changes import Entry
from gatesync.artifacts.digests import digest_of
from gatesync.artifacts.model import Artifact, Identity, Part
from gatesync.gateway.backoff import Backoff
from gatesync.gateway.deployment import Deployment
from gatesync.gateway.desired import Desired
from gatesync.gateway.endpoint_types import EndpointRule, endpoint_types
from gatesync.gateway.health import counts_of
from tests.gateway.cluster import WatchedEngine

pytestmark = pytest.mark.fast

PRODUCTION, SANDBOX = "Menu--v1_APIproductionEndpoint", "Menu--v1_APIsandboxEndpoint"
SKIPPED = "it has no sandbox endpoint, and this gateway is of type sandbox"


def api(*endpoints: str, text: str = "") -> tuple[Entry, bytes]:
    """An API with these endpoints of its own, as a label names it, and its canonical form."""
    identity = Identity("carbon.super", "api", "Menu", "1")
    named = [("endpoint", name) for name in endpoints]
    parts = tuple(
        Part(role, name, f"{role}/{name}.xml", f"<{role}>{text}</{role}>".encode())
        for role, name in [("api", "Menu"), *named]
    )
    content = canonical.encode(Artifact(identity, identity.default_api_id(), parts))
    return entry_of(identity, content), content


def entry_of(identity: Identity, content: bytes) -> Entry:
    return Entry(
        api_id=identity.default_api_id(),
        tenant=identity.tenant,
        kind=identity.kind,
        name=identity.name,
        version=identity.version,
        context="/menu",
        digest=digest_of(content),
        size=len(content),
        revision=1,
    )


class Bench:
    def __init__(self, kind: str) -> None:
        self.engine = WatchedEngine()
        self.deployment = Deployment(
            Desired(["L"]), self.engine, Backoff(1.0, 8.0).delay, EndpointRule(kind)
        )

    async def tell(self, made: tuple[Entry, bytes] | None, *, at_hand: bool = True) -> None:
        """The label has this version of the API, or none; its contents come along, or later."""
        entry, content = made or (api()[0], b"")
        self.deployment.put("L", entry.api_id, entry if made else None, None)
        await self.settle({entry.digest: content} if made and at_hand else {})

    async def settle(self, contents: dict[str, bytes]) -> None:
        await self.deployment.settle(contents, 100.0, itertools.repeat(1.0))

    @property
    def served(self) -> list[bytes]:
        return list(self.engine.snapshot().values())

    @property
    def reasons(self) -> list[str]:
        return [each.reason for each in self.deployment.skipped.values()]


@pytest.mark.parametrize(
    ("names", "types"),
    [
        ([PRODUCTION], {"production"}),
        ([SANDBOX], {"sandbox"}),
        ([PRODUCTION, SANDBOX], {"production", "sandbox"}),
        ([f"{SANDBOX}_1", "Menu--v1_other"], {"sandbox"}),
        (["MyAPIsandboxEndpoints", f"{SANDBOX}Old", "sandbox"], set()),
        ([], set()),
    ],
)
def test_the_types_are_told_from_wso2s_names(names: list[str], types: set[str]) -> None:
    assert endpoint_types(api(*names)[1]) == types


@pytest.mark.parametrize(
    ("kind", "endpoints", "serves"),
    [
        ("hybrid", [PRODUCTION], True),
        ("production", [PRODUCTION], True),
        ("production", [SANDBOX], False),
        ("sandbox", [SANDBOX], True),
        ("sandbox", [PRODUCTION], False),
        ("sandbox", [PRODUCTION, SANDBOX], True),
        ("sandbox", ["Menu--v1_other"], True),
        ("production", [], True),
    ],
)
@pytest.mark.parametrize("at_hand", [True, False])
async def test_an_api_without_an_endpoint_of_that_type_is_skipped_and_in_step(
    kind: str, endpoints: list[str], serves: bool, at_hand: bool
) -> None:
    bench, made = Bench(kind), api(*endpoints)
    await bench.tell(made, at_hand=at_hand)
    if not at_hand:
        assert [each.digest for each in bench.deployment.missing()] == [made[0].digest]
        assert bench.deployment.processed("L", 1) == 0
        await bench.settle({made[0].digest: made[1]})
    assert bench.served == ([made[1]] if serves else [])
    reason = f"it has no {kind} endpoint, and this gateway is of type {kind}"
    assert bench.reasons == ([] if serves else [reason])
    assert not bench.deployment.waiting
    assert not bench.deployment.failed
    assert bench.deployment.processed("L", 1) == 1
    counts = counts_of("L", {made[0].api_id: made[0]}, bench.deployment)
    assert (counts.applied, counts.skipped) == (int(serves), int(not serves))


async def test_an_api_comes_and_goes_with_its_endpoint() -> None:
    bench = Bench("sandbox")
    await bench.tell(api(SANDBOX))
    assert len(bench.served) == 1
    await bench.tell(api(PRODUCTION))
    assert (bench.served, bench.reasons) == ([], [SKIPPED])
    both = api(PRODUCTION, SANDBOX)
    await bench.tell(both)
    assert (bench.served, bench.reasons) == ([both[1]], [])
    await bench.tell(api(PRODUCTION))
    await bench.tell(None)
    assert (bench.served, bench.reasons) == ([], [])


async def test_what_was_served_is_served_until_the_contents_show_that_it_is_to_be_skipped() -> None:
    bench, before, after = Bench("sandbox"), api(SANDBOX), api(PRODUCTION)
    await bench.tell(before)
    await bench.tell(after, at_hand=False)
    assert bench.served == [before[1]]
    await bench.settle({after[0].digest: after[1]})
    assert (bench.served, bench.reasons) == ([], [SKIPPED])


async def test_what_is_skipped_is_read_once() -> None:
    bench, made = Bench("sandbox"), api(PRODUCTION)
    await bench.tell(made)
    moved = msgspec.structs.replace(made[0], revision=9)
    bench.deployment.put("L", moved.api_id, moved, None)
    await bench.settle({})
    assert bench.deployment.missing() == []
    assert bench.reasons == [SKIPPED]


async def test_a_restart_as_another_type_serves_no_moment_what_it_is_to_skip() -> None:
    before, made = Bench("hybrid"), api(PRODUCTION)
    await before.tell(made)
    wanted = before.deployment.applied[made[0].api_id]
    bench = Bench("sandbox")
    await bench.deployment.resume([wanted], {made[0].digest: made[1]}, 1.0, itertools.repeat(1.0))
    assert bench.served == []
    bench.deployment.put("L", made[0].api_id, made[0], None)
    await bench.settle({})
    assert bench.reasons == [SKIPPED]


async def test_files_of_an_earlier_process_that_is_another_type_are_strays() -> None:
    bench, made = Bench("sandbox"), api(PRODUCTION)
    bench.engine.corrupt(made[0].api_id, made[1])  # its tree has it still
    await bench.tell(made)
    assert bench.deployment.strays() == {made[0].api_id}


async def test_what_is_no_artifact_is_left_for_the_engine_to_judge() -> None:
    entry, _ = api()
    assert EndpointRule("sandbox").why_not(entry, b"not json") == ""
    assert EndpointRule("sandbox").why_not(entry, b'{"parts": [{"role": "\xff"}]}') == ""

"""What is done to a worker, decided without one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.mirroring.rsync import Comparison
from gatesync.mirroring.source_manifest import SourceFile, SourceManifest, digest_of_files
from gatesync.mirroring.worker_manifest import Part, WorkerManifest, part_of
from gatesync.mirroring.worker_plan import Plan, Standing, in_order, in_the_way, plan

pytestmark = pytest.mark.fast

EPOCH, ELSE = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
NOTHING: frozenset[str] = frozenset()


def file(path: str, content: str = "0") -> SourceFile:
    return SourceFile(path, 1, content * 64, 0o644)


def part(*paths: str, epoch: str = EPOCH, revision: int = 5, content: str = "0") -> Part:
    files = {path: file(path, content) for path in sorted(paths)}
    digest = digest_of_files(files.values())
    return Part("deployment/server", epoch, revision, digest, files, NOTHING)


def has(*paths: str, epoch: str = EPOCH, revision: int = 4, **more: tuple[str, ...]) -> Standing:
    manifest = WorkerManifest(epoch, revision, tuple(file(path) for path in paths), **more)
    return Standing({path: file(path) for path in paths}, (manifest,))


def planned(
    wanted: Part,
    standing: Standing,
    comparison: Comparison | None = None,
    *,
    mirror: bool = False,
    confirmed: bool = False,
) -> Plan:
    return plan(wanted, standing, comparison, mirror=mirror, confirmed=confirmed)


def test_only_what_differs_is_offered() -> None:
    wanted = part("a", "b", "c")
    wanted.files["b"] = file("b", "1")  # type: ignore[index]
    assert planned(wanted, has("a", "b")).offered == {"b", "c"}


def test_a_comparison_is_believed_more_than_a_manifest() -> None:
    found = planned(part("a", "b", "c"), has("a", "b"), Comparison(frozenset({"a"}), ()))
    assert (found.offered, found.repaired) == ({"b", "c"}, {"b"})


@pytest.mark.promise(6)
def test_what_the_source_has_no_longer_goes_and_nothing_else() -> None:
    found = planned(part("a", "b"), has("a", "b", "c"), Comparison(frozenset(), ("c", "theirs")))
    assert (found.removed, found.held) == ({"c"}, NOTHING)


@pytest.mark.promise(6)
@pytest.mark.parametrize(
    ("wanted", "standing"),
    [
        (part(), has("a", "b", "c")),
        (part("a"), has("a", "b", "c")),
        (part("a", "b", epoch=ELSE), has("a", "b", "c")),
        (part("a", "b", revision=3), has("a", "b", "c")),
    ],
    ids=["empty", "more than half", "another epoch", "an older revision"],
)
def test_what_is_not_proved_waits_until_it_is_confirmed(wanted: Part, standing: Standing) -> None:
    unwanted = {"a", "b", "c"} - set(wanted.files)
    found = planned(wanted, standing)
    assert (found.removed, found.held) == (NOTHING, unwanted)
    found = planned(wanted, standing, confirmed=True)
    assert (found.removed, found.held) == (unwanted, NOTHING)


@pytest.mark.promise(6)
def test_what_waits_goes_on_waiting_in_the_history_that_follows() -> None:
    found = planned(part("a", "b"), has("a", "b", "x", held=("c",)))
    assert (found.removed, found.held) == ({"x"}, {"c"})
    assert planned(part("a", "b", "c"), has("a", "b", held=("c",))).held == NOTHING


@pytest.mark.promise(6)
def test_an_interrupted_pass_of_another_history_proves_nothing() -> None:
    before = WorkerManifest(ELSE, 4, (file("a"), file("b"), file("c")))
    under_way = WorkerManifest(EPOCH, 5, (file("a"), file("b"), file("d")), held=("c",))
    standing = Standing(None, (before, under_way))
    found = planned(part("a", "b", revision=6), standing, Comparison(NOTHING, ("c", "d")))
    assert (found.removed, found.held) == ({"d"}, {"c"})


def test_unfinished_files_of_killed_rsyncs_go_and_files_that_look_alike_stay() -> None:
    extra = ("api/.menu.xml.Xq3dR7", "api/.other.xml.Xq3dR7", ".profile.backup", "api/.menu.xml")
    found = planned(part("api/menu.xml"), has("api/menu.xml"), Comparison(NOTHING, extra))
    assert found.removed == {"api/.menu.xml.Xq3dR7"}


def test_a_mirror_has_nothing_else_but_not_without_proof() -> None:
    wanted, standing = part("a", "b/c"), has("a", "b/c")
    extra = ("theirs/x", "theirs/", "b/", "b/y")
    found = planned(wanted, standing, Comparison(NOTHING, extra), mirror=True)
    assert (found.removed, found.foreign) == (NOTHING, {"theirs/x", "theirs/", "b/y"})
    found = planned(wanted, standing, Comparison(NOTHING, extra), mirror=True, confirmed=True)
    assert (found.removed, found.foreign) == ({"theirs/", "b/y"}, NOTHING)
    found = planned(wanted, standing, Comparison(NOTHING, ("b/y",)), mirror=True)
    assert found.removed == {"b/y"}
    found = planned(part(), Standing({}, ()), Comparison(NOTHING, ("b/y",)), mirror=True)
    assert found.foreign == {"b/y"}


def test_what_others_need_is_brought_first_and_removed_last() -> None:
    below = "synapse-configs/default"
    paths = [
        f"{below}/api/a.xml",
        f"{below}/sequences/s.xml",
        f"{below}/endpoints/e.xml",
        "executionplans/p.siddhiql",
        "webapps/w.war",
    ]
    order = [paths[2], paths[1], paths[3], paths[0], paths[4]]
    assert in_order(paths, part()) == [[path] for path in order]
    assert in_order(paths, part(), removing=True) == [[path] for path in reversed(order)]
    whole = part_of(SourceManifest(EPOCH, 1, "", ()), "")
    tenants = [f"tenants/1/{path}" for path in order]
    assert in_order(tenants[::-1], whole) == [[path] for path in tenants]


def test_what_stands_where_something_else_is_to_be_goes_first() -> None:
    offered = {"was/folder", "was-file/now/x"}
    removed = {"was/folder/x", "was-file", "other", "was/other"}
    assert in_the_way(removed, offered) == {"was/folder/x", "was-file"}


def test_a_part_is_what_lies_below_its_folder_without_what_is_gatesyncs_own() -> None:
    files = [file(f"tenants/{path}") for path in (".gatesync/head", "1/x")]
    files = [file("deployment/server/y"), *files, file("tenants-old/z")]
    found = part_of(SourceManifest(EPOCH, 3, "", tuple(files), ("tenants/1/x",)), "tenants")
    assert (set(found.files), found.withheld) == ({"1/x"}, {"1/x"})


PATHS = st.frozensets(st.sampled_from([f"{folder}/{name}" for folder in "ab" for name in "xyz"]))


@pytest.mark.promise(6)
@given(PATHS, PATHS, PATHS, st.booleans(), st.booleans())
def test_only_what_is_gatesyncs_is_ever_removed_or_held(
    wanted: frozenset[str], had: frozenset[str], extra: frozenset[str], ours: bool, sure: bool
) -> None:
    comparison = Comparison(wanted & had, tuple(extra - wanted))
    target = part(*wanted, epoch=EPOCH if ours else ELSE)
    found = planned(target, has(*had), comparison, confirmed=sure)
    assert found.removed | found.held == had - wanted
    assert not found.removed & found.held
    assert not found.removed or sure or (ours and wanted and 2 * len(found.removed) <= len(had))

"""What the writer of a tree does with files: whole, in order, and only its own."""

import os
from pathlib import Path

import pytest

from gatesync.artifacts.model import Artifact, Part
from tests.trees.making import (
    CONFIGS,
    Killer,
    artifact,
    files_in,
    files_wanted,
    menu,
    opened,
    part,
    saved,
)

pytestmark = pytest.mark.fast


def repository(folder: Path) -> Path:
    return folder / "repository"


def write(folder: Path, path: str, content: bytes = b"foreign") -> Path:
    file = repository(folder) / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def stats(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_ino)
        for path in repository(folder).rglob("*")
        if path.is_file()
    }


def steps_of(killer: Killer, *words: str) -> list[str]:
    return [each for each in killer.steps if each.split()[0] in words]


# What is written ------------------------------------------------------------------------------


def test_files_stand_where_a_server_looks_for_them_byte_for_byte(tmp_path: Path) -> None:
    odd = b"\xef\xbb\xbf<sequence>\r\n\xff\0</sequence>"
    everything = [
        menu(),
        artifact("odd", part("sequences/na me \u00e9:v1.xml", odd), kind="sequence"),
        artifact("deep", part("sequences/a/b/deep.xml"), kind="sequence"),
        artifact(
            "gold",
            Part("policy", "gold", "executionplans/gold.siddhi", b"plan"),
            kind="policy",
        ),
        artifact("fault", part("sequences/fault.xml"), tenant="example.com", kind="sequence"),
        artifact(
            "plan",
            Part("policy", "p", "executionplans/p.siddhiql", b"plan"),
            tenant="example.com",
            kind="policy",
        ),
    ]
    with opened(tmp_path) as tree:
        assert saved(tree, *everything) == {}
        assert tree.files == 9
    found = files_in(repository(tmp_path))
    assert found == files_wanted(*everything)
    assert f"{CONFIGS}/api/admin--Menu_v1.0.0.xml" in found
    assert "deployment/server/executionplans/gold.siddhi" in found
    assert "tenants/example.com/synapse-configs/default/sequences/fault.xml" in found
    assert "tenants/example.com/executionplans/p.siddhiql" in found


def test_only_a_file_that_differs_is_written_again(tmp_path: Path) -> None:
    with opened(tmp_path) as tree:
        saved(tree, menu("1"))
        before = stats(tmp_path)
        saved(tree, menu("1"))
        assert stats(tmp_path) == before
        saved(tree, menu("2"))
    after = stats(tmp_path)
    same = [path for path in before if after[path] == before[path]]
    assert [Path(path).name for path in same] == ["Menu.xml"]  # the local entry
    with opened(tmp_path) as tree:  # as after a restart
        saved(tree, menu("2"))
    assert stats(tmp_path) == after


def test_what_others_need_appears_first_and_vanishes_last(tmp_path: Path) -> None:
    killer = Killer()
    shared = artifact("shared", part("sequences/a-shared.xml"), kind="sequence")
    with opened(tmp_path, killer) as tree:
        saved(tree, menu(), menu(name="Other"), shared)
        put = [each.split("/")[-2] for each in steps_of(killer, "put")]
        assert put == [*["local-entries"] * 2, *["endpoints"] * 2, *["sequences"] * 3, "api", "api"]
        killer.steps.clear()
        saved(tree, removed=(menu().api_id, menu(name="Other").api_id, shared.api_id))
    gone = [each.split("/")[-2] for each in steps_of(killer, "remove")]
    assert gone == put[::-1]
    assert files_in(repository(tmp_path)) == {}


def test_a_part_that_is_no_more_vanishes_after_the_api_was_replaced(tmp_path: Path) -> None:
    killer = Killer()
    api, sequence = "api/admin--Menu_v1.0.0.xml", "sequences/Menu--v1.0.0--In.xml"
    with opened(tmp_path, killer) as tree:
        saved(tree, artifact("Menu", part(api, "1"), part(sequence)))
        killer.steps.clear()
        saved(tree, artifact("Menu", part(api, "2")))
    assert steps_of(killer, "replace", "remove") == [
        f"replace {CONFIGS}/{api}",
        f"remove {CONFIGS}/{sequence}",
    ]


@pytest.mark.parametrize("removed", [True, False])
def test_a_file_that_moves_is_never_there_twice_nor_missing(tmp_path: Path, removed: bool) -> None:
    killer = Killer()
    old = artifact("a", part("sequences/old.xml", "1", "same name"), kind="sequence")
    new = artifact("b" if removed else "a", part("sequences/x/new.xml", "2", "same name"))
    if not removed:
        new = Artifact(old.identity, old.api_id, new.parts)
    with opened(tmp_path, killer) as tree:
        saved(tree, old)
        killer.steps.clear()
        saved(tree, new, removed=(old.api_id,) if removed else ())
    moved = f"move {CONFIGS}/sequences/old.xml to {CONFIGS}/sequences/x/new.xml"
    assert steps_of(killer, "move", "replace", "put", "remove") == [
        moved,
        f"replace {CONFIGS}/sequences/x/new.xml",
    ]
    assert files_in(repository(tmp_path)) == files_wanted(new)


def test_a_path_passes_from_an_artifact_that_is_removed(tmp_path: Path) -> None:
    shared = artifact("s", part("sequences/s.xml", "1"), kind="sequence")
    api = artifact("Menu", part("api/m.xml"), part("sequences/s.xml", "2"))
    with opened(tmp_path) as tree:
        saved(tree, shared)
        staged = tree.stage([api], (), lambda _: True)
        assert f"is a file of artifact {shared.api_id} too" in staged.refused[api.api_id]
        assert tree.commit(staged) == {}
        assert files_in(repository(tmp_path)) == files_wanted(shared)
        assert saved(tree, api, removed=(shared.api_id,)) == {}
        assert files_in(repository(tmp_path)) == files_wanted(api)
        saved(tree, removed=(api.api_id,))
    assert files_in(repository(tmp_path)) == {}


def test_a_path_passes_from_what_an_earlier_process_saved_and_nobody_serves(
    tmp_path: Path,
) -> None:
    one = artifact("one", part("sequences/s.xml", "1"), part("sequences/t.xml"), kind="sequence")
    two = artifact("two", part("sequences/s.xml", "2"), kind="sequence")
    with opened(tmp_path) as tree:
        saved(tree, one)
    with opened(tmp_path) as tree:
        assert saved(tree, two) == {}
        assert tree.api_ids() == {one.api_id, two.api_id}
        saved(tree, removed=(one.api_id,))
    assert files_in(repository(tmp_path)) == files_wanted(two)


def test_two_artifacts_of_one_batch_on_one_path_are_not_both_taken(tmp_path: Path) -> None:
    one = artifact("one", part("sequences/s.xml", "1"), kind="sequence")
    two = artifact("two", part("sequences/s.xml", "2"), kind="sequence")
    with opened(tmp_path) as tree:
        assert list(saved(tree, one, two)) == [two.api_id]
        assert files_in(repository(tmp_path)) == files_wanted(one)
        assert list(saved(tree, one, two)) == [two.api_id]  # also where nothing is written


# What is refused ------------------------------------------------------------------------------


def test_a_foreign_file_is_left_alone_and_named(tmp_path: Path) -> None:
    path = f"{CONFIGS}/sequences/Menu--v1.0.0--In.xml"
    foreign = write(tmp_path, path)
    other = menu(name="Other")
    with opened(tmp_path) as tree:
        refused = saved(tree, menu(), other)
        assert list(refused) == [menu().api_id]
        assert f"{foreign}: gatesync did not write this file" in refused[menu().api_id]
        assert "move it away" in refused[menu().api_id]
        assert files_in(repository(tmp_path)) == {path: b"foreign"} | files_wanted(other)
        foreign.unlink()
        assert saved(tree, menu()) == {}
    assert files_in(repository(tmp_path)) == files_wanted(menu(), other)


def test_a_foreign_file_of_the_same_content_is_foreign(tmp_path: Path) -> None:
    foreign = write(tmp_path, f"{CONFIGS}/sequences/a.xml", b"1")
    made = artifact("a", part("sequences/a.xml", "1"), kind="sequence")
    with opened(tmp_path) as tree:
        assert saved(tree, made)
        saved(tree, removed=(made.api_id,))
    assert foreign.read_bytes() == b"1"


@pytest.mark.parametrize(
    ("path", "tenant", "reason"),
    [
        ("sequences/fault.xml", "carbon.super", "belongs to a server's installation"),
        ("registry.xml", "example.com", "belongs to a server's installation"),
        ("sequences/../../x.xml", "carbon.super", "'..'"),
        ("sequences/x.xml", "../../../etc", "has no place"),
        ("sequences/x.xml", "..", "'..'"),
        ("sequences/.gatesync-0.new", "carbon.super", "unfinished files"),
        ("sequences/mine.xml", "carbon.super", "skip_list"),
        ("sequences/below/mine.xml", "example.com", "skip_list"),
    ],
)
def test_a_place_that_is_not_allowed_is_refused(
    tmp_path: Path, path: str, tenant: str, reason: str
) -> None:
    bad = artifact("bad", Part("sequence", "bad", path, b"1"), tenant=tenant, kind="sequence")
    good = artifact("good", part("api/mine.xml"))
    with opened(tmp_path, skip={"sequences": ("mine.xml",)}) as tree:
        refused = saved(tree, bad, good)
    assert reason in refused[bad.api_id]
    assert files_in(tmp_path).keys() - {"files.db"} == {
        f"repository/{each}" for each in files_wanted(good)
    }


def test_a_file_that_came_into_the_skip_list_is_not_even_removed(tmp_path: Path) -> None:
    made = artifact("a", part("sequences/a.xml"), part("sequences/b.xml"), kind="sequence")
    with opened(tmp_path) as tree:
        saved(tree, made)
    with opened(tmp_path, skip={"sequences": ("a.xml",)}) as tree:
        saved(tree, removed=(made.api_id,))
        assert tree.api_ids() == set()
    assert list(files_in(repository(tmp_path))) == [f"{CONFIGS}/sequences/a.xml"]


@pytest.mark.parametrize("link", ["deployment", f"{CONFIGS}/sequences", "the file", "dangling"])
def test_nothing_is_written_through_a_link(tmp_path: Path, link: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    target = outside
    place = repository(tmp_path) / link
    if link in {"the file", "dangling"}:
        place = repository(tmp_path) / CONFIGS / "sequences/a.xml"
        target = outside / ("a.xml" if link == "the file" else "nothing")
        (outside / "a.xml").write_bytes(b"1")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)
    before = files_in(outside)
    made = artifact("a", part("sequences/a.xml", "1"), kind="sequence")
    with opened(tmp_path) as tree:
        (reason,) = saved(tree, made).values()
        assert "link" in reason
        assert "move it away" in reason
        assert place.is_symlink()
        assert files_in(outside) == before
        place.unlink()
        assert saved(tree, made) == {}
    assert files_in(outside) == before


def test_a_file_where_a_folder_is_needed_is_a_reason_and_not_an_end(tmp_path: Path) -> None:
    file = artifact("file", part("sequences/a"), kind="sequence")
    below = artifact("below", part("sequences/a/b.xml"), kind="sequence")
    with opened(tmp_path) as tree:
        assert saved(tree, file) == {}
        (reason,) = saved(tree, below).values()
        assert "sequences/a is a symbolic link or a file where a folder belongs" in reason
        saved(tree, removed=(file.api_id,))
        assert saved(tree, below) == {}
        (reason,) = saved(tree, file).values()
        assert "no regular file" in reason


def test_what_the_engine_refuses_leaves_nothing_behind(tmp_path: Path) -> None:
    with opened(tmp_path) as tree:
        saved(tree, menu("1"))
        staged = tree.stage([menu("2"), menu(name="Other")])
        assert tree.commit(staged, [menu().api_id]) == {}
        staged = tree.stage([menu("3")])
        tree.unstage(staged)
        assert files_in(repository(tmp_path)) == files_wanted(menu("1"), menu(name="Other"))
    with opened(tmp_path) as tree:
        assert tree.files == 8


# What people and others do --------------------------------------------------------------------


def test_drift_is_what_was_edited_removed_or_replaced_and_nothing_else(tmp_path: Path) -> None:
    api, endpoint, entry, sequence = sorted(files_wanted(menu()))
    with opened(tmp_path) as tree:
        saved(tree, menu())
        assert tree.drift() == ([], "")
        root = repository(tmp_path)
        os.utime(root / api)  # touched, and the same
        (root / endpoint).write_bytes(b"mine")
        (root / entry).unlink()
        (root / sequence).unlink()
        (root / sequence).mkdir()
        found, _ = tree.drift()
    assert [(each.path, each.what) for each in found] == [
        (endpoint, "edited"),
        (entry, "missing"),
        (sequence, "replaced"),
    ]
    assert {each.api_id for each in found} == {menu().api_id}


def test_an_edit_that_keeps_the_size_is_found_and_an_editors_new_file_too(tmp_path: Path) -> None:
    path = repository(tmp_path) / CONFIGS / "api/admin--Menu_v1.0.0.xml"
    with opened(tmp_path) as tree:
        saved(tree, menu("1"))
        before = path.stat()
        new = path.with_name("new")
        new.write_bytes(path.read_bytes().replace(b"1", b"2"))
        os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
        new.replace(path)
        assert [each.what for each in tree.drift()[0]] == ["edited"]


def test_an_edited_file_is_restored_or_stays_until_a_new_revision(tmp_path: Path) -> None:
    path = repository(tmp_path) / CONFIGS / "api/admin--Menu_v1.0.0.xml"
    with opened(tmp_path, restore=False) as tree:
        saved(tree, menu("1"))
        path.write_bytes(b"mine")
        saved(tree, menu("1"))
        assert path.read_bytes() == b"mine"
        saved(tree, menu("2"))
        assert path.read_bytes() == b"<api>2</api>"
        path.unlink()
        saved(tree, menu("2"))
        assert not path.exists()
    with opened(tmp_path, restore=True) as tree:
        saved(tree, menu("2"))
        assert path.read_bytes() == b"<api>2</api>"
        path.write_bytes(b"mine")
        saved(tree, menu("2"))
    assert files_in(repository(tmp_path)) == files_wanted(menu("2"))


def test_a_file_that_somebody_puts_there_at_the_last_moment_is_not_overwritten(
    tmp_path: Path,
) -> None:
    with opened(tmp_path) as tree:
        staged = tree.stage([menu()])
        foreign = write(tmp_path, f"{CONFIGS}/sequences/Menu--v1.0.0--In.xml")
        failed = tree.commit(staged)
        assert (
            "sequences/Menu--v1.0.0--In.xml was changed by somebody else" in failed[menu().api_id]
        )
        assert foreign.read_bytes() == b"foreign"
        assert not (repository(tmp_path) / CONFIGS / "api/admin--Menu_v1.0.0.xml").exists()
        foreign.unlink()
        assert saved(tree, menu()) == {}
    assert files_in(repository(tmp_path)) == files_wanted(menu())


def test_a_link_in_the_place_of_a_file_that_is_removed_stays(tmp_path: Path) -> None:
    made = artifact("a", part("sequences/a.xml"), kind="sequence")
    path = repository(tmp_path) / CONFIGS / "sequences/a.xml"
    with opened(tmp_path) as tree:
        saved(tree, made)
        path.unlink()
        path.symlink_to(tmp_path / "elsewhere")
        saved(tree, removed=(made.api_id,))
        assert tree.api_ids() == set()
    assert path.is_symlink()


def test_in_another_place_only_what_is_the_same_is_ours(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    with opened(old) as tree:
        saved(tree, menu())
    api = write(new, f"{CONFIGS}/api/admin--Menu_v1.0.0.xml", b"of another installation")
    for path, content in files_wanted(menu()).items():
        if "/api/" not in path:
            write(new, path, content)
    (old / "files.db").replace(new / "files.db")
    with opened(new) as tree:
        assert tree.files == 3
        assert list(saved(tree, menu())) == [menu().api_id]
        saved(tree, removed=(menu().api_id,))
    assert files_in(repository(new)) == {
        f"{CONFIGS}/api/admin--Menu_v1.0.0.xml": b"of another installation"
    }
    assert api.exists()
    assert files_in(repository(old)) == files_wanted(menu())

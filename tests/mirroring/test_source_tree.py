import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gatesync.artifacts.errors import FormatError
from gatesync.artifacts.tree import Tree
from gatesync.mirroring import checking, scanning, source_tree
from gatesync.mirroring.scanning import SourceGoneError
from gatesync.mirroring.source_manifest import SourceManifest
from tests.mirroring.trees import (
    CONFIGS,
    MOMENT,
    Watched,
    api,
    api_file,
    endpoint,
    endpoint_file,
    sequence,
    sequence_file,
)

pytestmark = pytest.mark.fast

MENU, MENU_END = api_file("Menu"), endpoint_file("Menu--v1.0.0_APIproductionEndpoint")
AUDIT = sequence_file("audit")


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    """An API with its endpoint, and a sequence, taken."""
    watched = Watched(tmp_path)
    watched.write(MENU, api("Menu"))
    watched.write(MENU_END, endpoint("Menu--v1.0.0_APIproductionEndpoint"))
    watched.write(AUDIT, sequence("audit"))
    watched.settle()
    return watched


def manifest(watched: Watched) -> SourceManifest:
    found = watched.settle().manifest
    assert found is not None
    return found


def said(watched: Watched) -> list[str]:
    return [str(problem) for problem in watched.settle().problems]


def test_a_tree_that_is_quiet_is_in_the_manifest(watched: Watched) -> None:
    found = manifest(watched)
    assert found.revision == 1
    assert [file.path for file in found.files] == [MENU, MENU_END, AUDIT]
    assert sorted(group.paths for group in watched.tree.groups.values()) == [
        (MENU, MENU_END),
        (AUDIT,),
    ]


def test_files_that_are_no_artifacts_are_in_it_as_they_are(watched: Watched) -> None:
    war, base = "deployment/server/webapps/x.war", f"{CONFIGS}/sequences/main.xml"
    watched.write(war, "PK")
    watched.write(base, "<not even xml")
    assert {war, base} < set(watched.paths())
    assert said(watched) == []


def test_only_what_was_touched_is_looked_at_until_it_rests(watched: Watched) -> None:
    watched.write(AUDIT, sequence("audit", "<drop/>"))
    watched.write(MENU, api("Menu", inside="<drop/>"))
    assert watched.look(touched=[AUDIT]).restless == {AUDIT}
    settled = watched.look(touched=[])
    assert settled.manifest is not None
    assert (settled.manifest.revision, settled.restless) == (2, frozenset())
    assert watched.look().restless == {MENU}


def test_what_nobody_told_of_comes_to_rest_with_all_that_is_found_meanwhile(
    watched: Watched,
) -> None:
    new = sequence_file("new/one")  # who tells of a new folder may not have seen what is in it
    watched.write(new, sequence("one"))
    assert watched.look(touched=[new.rpartition("/")[0]]).restless == {new}
    watched.write(AUDIT, sequence("audit", "<drop/>"))
    assert watched.look(touched=[]).restless == {new, AUDIT}
    settled = watched.look(touched=[])
    assert settled.manifest is not None
    assert (settled.manifest.revision, settled.restless) == (2, frozenset())


def test_a_half_written_file_is_never_in_it(watched: Watched) -> None:
    whole = sequence("audit", "<log/>" * 10)
    before = manifest(watched)
    for end in range(len("<sequence"), len(whole), 7):
        watched.write(AUDIT, whole[:end])
        settled = watched.look()
        assert settled.manifest is not None
        assert settled.manifest.files == before.files
        assert settled.manifest.withheld == (AUDIT,)  # it is not to be copied now
    watched.write(AUDIT, whole)
    assert manifest(watched).revision == 2


def test_what_is_refused_is_told_with_its_line_and_stays_as_it_was(watched: Watched) -> None:
    before = manifest(watched)
    watched.write(AUDIT, "<sequence name='audit'>\n<log>\n</sequence>")
    watched.write(sequence_file("other"), sequence("other"))
    after = manifest(watched)
    assert said(watched)[0].startswith(f"{AUDIT}:3: not well-formed XML")
    assert after.by_path()[AUDIT] == before.by_path()[AUDIT]
    assert after.withheld == (AUDIT,)
    assert sequence_file("other") in after.by_path()
    watched.write(AUDIT, sequence("audit", "<log/>"))
    mended = manifest(watched)
    assert mended.withheld == ()
    assert mended.by_path()[AUDIT] != before.by_path()[AUDIT]
    assert said(watched) == []


def test_an_api_that_is_refused_stays_with_everything_that_it_had(watched: Watched) -> None:
    before = manifest(watched)
    watched.write(MENU, api("Menu")[:-3])
    (watched.root / MENU_END).unlink()
    after = manifest(watched)
    assert (after.digest, after.revision) == (before.digest, before.revision)
    assert set(after.withheld) == {MENU, MENU_END}


def test_what_is_new_and_refused_is_left_out(watched: Watched) -> None:
    bad = sequence_file("bad")
    watched.write(bad, "<sequence/>")
    assert bad not in manifest(watched).by_path()
    assert said(watched) == [f"{bad}:1: <sequence> has no attribute 'name'"]


def test_a_name_that_is_taken_is_refused_to_who_comes_later(watched: Watched) -> None:
    copy = sequence_file("aaa")
    watched.write(copy, sequence("audit"))
    assert copy not in manifest(watched).by_path()
    assert AUDIT in said(watched)[0]
    (watched.root / AUDIT).unlink()
    assert copy in manifest(watched).by_path()
    assert said(watched) == []


def test_an_endpoint_that_comes_later_becomes_its_apis(watched: Watched) -> None:
    path = endpoint_file("Menu--v1.0.0_APIsandboxEndpoint")
    watched.write(path, endpoint("Menu--v1.0.0_APIsandboxEndpoint"))
    watched.settle()
    assert path in watched.tree.groups[MENU].paths


def test_an_api_that_comes_later_takes_what_is_named_for_it(watched: Watched) -> None:
    early = sequence_file("Late--v1--In")
    watched.write(early, sequence("Late--v1--In"))
    watched.settle()
    assert early in watched.tree.groups
    watched.write(api_file("Late", "1"), api("Late", "1"))
    watched.settle()
    assert early in watched.tree.groups[api_file("Late", "1")].paths
    (watched.root / api_file("Late", "1")).unlink()
    watched.settle()
    assert early in watched.tree.groups


def test_only_what_has_to_do_with_a_change_is_checked_again(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10):
        watched.write(sequence_file(f"s{number}"), sequence(f"s{number}"))
    watched.settle()
    checked: list[set[str]] = []
    artifacts_of = checking.artifacts_of

    def counted(files: Mapping[str, bytes], **more: Any) -> Tree:
        checked.append(set(files))
        return artifacts_of(files, **more)

    monkeypatch.setattr(checking, "artifacts_of", counted)
    watched.write(MENU_END, endpoint("Menu--v1.0.0_APIproductionEndpoint") + " ")
    watched.settle()
    watched.settle()
    assert checked == [{MENU, MENU_END}]


# What is gone -----------------------------------------------------------------------------------


def test_a_removed_file_goes(watched: Watched) -> None:
    (watched.root / AUDIT).unlink()
    assert watched.paths() == [MENU, MENU_END]
    assert manifest(watched).revision == 2


@pytest.mark.promise(6)
def test_a_tree_that_vanished_removes_nothing(watched: Watched, tmp_path: Path) -> None:
    before = manifest(watched)
    watched.root.rename(tmp_path / "away")
    with pytest.raises(SourceGoneError, match="nothing removed"):
        watched.look()
    (tmp_path / "away").rename(watched.root)
    assert manifest(watched) == before


@pytest.mark.promise(6)
def test_an_empty_folder_in_its_place_removes_nothing(watched: Watched, tmp_path: Path) -> None:
    before = manifest(watched)
    watched.root.rename(tmp_path / "away")
    watched.root.mkdir()
    settled = watched.settle()
    assert settled.manifest is not None
    assert settled.manifest.files == before.files
    assert set(settled.manifest.withheld) == set(watched.tree.good)
    assert settled.gone == 3
    assert "in another folder, or on another file system" in settled.waiting
    watched.root.rmdir()
    (tmp_path / "away").rename(watched.root)
    settled = watched.settle()
    assert (settled.manifest, settled.waiting) == (before, "")


@pytest.mark.promise(6)
def test_another_folder_adds_and_changes_at_once_and_removes_later(
    watched: Watched, tmp_path: Path
) -> None:
    before = manifest(watched)
    watched.root.rename(tmp_path / "away")
    watched.write(MENU, api("Menu", inside="<log/>"))
    watched.write(MENU_END, endpoint("Menu--v1.0.0_APIproductionEndpoint"))
    watched.write(sequence_file("new"), sequence("new"))
    settled = watched.settle()
    assert settled.manifest is not None
    files = settled.manifest.by_path()
    assert files[MENU] != before.by_path()[MENU]
    assert {sequence_file("new"), AUDIT} < files.keys()
    assert settled.gone == 1
    watched.tree.confirm_removals()
    settled = watched.settle()
    assert (settled.waiting, AUDIT in watched.paths()) == ("", False)
    (watched.root / sequence_file("new")).unlink()
    assert sequence_file("new") not in watched.paths()  # the folder is known by now


@pytest.mark.promise(6)
def test_more_than_half_that_is_gone_waits_for_a_word(watched: Watched) -> None:
    (watched.root / MENU).unlink()
    (watched.root / MENU_END).unlink()
    settled = watched.settle()
    assert settled.waiting.startswith("2 of 3 files are gone from the tree")
    assert watched.paths() == [MENU, MENU_END, AUDIT]
    watched.write(AUDIT, sequence("audit", "<log/>"))  # the rest goes on
    assert manifest(watched).revision == 2
    watched.opened()  # and it waits in the next process, too
    assert watched.settle().gone == 2
    watched.tree.confirm_removals()
    assert watched.paths() == [AUDIT]


def test_a_file_that_is_renamed_is_no_removal(watched: Watched) -> None:
    for old, new in ((MENU, f"{CONFIGS}/api/sub/m.xml"), (AUDIT, sequence_file("a2"))):
        (watched.root / new).parent.mkdir(exist_ok=True)
        (watched.root / old).rename(watched.root / new)
    settled = watched.settle()
    assert settled.waiting == ""
    assert watched.paths() == [f"{CONFIGS}/api/sub/m.xml", MENU_END, sequence_file("a2")]


@pytest.mark.promise(6)
def test_a_file_that_became_a_link_or_a_folder_is_not_removed(
    watched: Watched, tmp_path: Path
) -> None:
    (watched.root / AUDIT).rename(tmp_path / "target.xml")
    (watched.root / AUDIT).symlink_to(tmp_path / "target.xml")
    assert manifest(watched).withheld == (AUDIT,)
    assert said(watched) == [
        f"{AUDIT}: symbolic links are not followed; put a file or folder in its place"
    ]


@pytest.mark.promise(6)
def test_an_empty_tree_is_no_beginning(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    with pytest.raises(SourceGoneError, match="holds no files; is it the right folder"):
        watched.look()


# One process and the next -----------------------------------------------------------------------


def test_the_next_process_goes_on_with_the_revision(watched: Watched) -> None:
    before = manifest(watched)
    watched.write(AUDIT, sequence("audit", "<log/>"))
    seen = watched.opened().look().manifest
    assert seen is not None
    assert seen.revision == 1  # one scan proves nothing yet
    after = manifest(watched)
    assert (after.epoch, after.revision) == (before.epoch, 2)


def test_the_next_process_needs_one_look_and_no_reading_where_nothing_changed(
    watched: Watched,
) -> None:
    watched.clock.now += 2
    before = manifest(watched)
    watched.tree.save()
    written = watched.record.stat().st_ino
    tree = watched.opened()
    settled = tree.look()
    assert (settled.manifest, settled.restless) == (before, set())
    assert tree.scanner.read_files == 0
    assert watched.record.stat().st_ino == written


def test_the_next_process_knows_what_was_refused(watched: Watched) -> None:
    watched.write(AUDIT, "<")
    watched.settle()
    watched.opened()
    assert said(watched)[0].startswith(f"{AUDIT}:1: not well-formed")
    assert AUDIT in watched.paths()


def test_what_cannot_be_recorded_is_not_told_until_it_can(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a crash would give one revision to two different trees."""

    def full(_path: Path, _content: bytes) -> None:
        raise OSError(28, "No space left on device")

    watched.write(AUDIT, sequence("audit", "<log/>"))
    with monkeypatch.context() as patch:
        patch.setattr(source_tree, "write_private_file", full)
        watched.look()
        for _ in range(2):
            with pytest.raises(OSError, match="No space left"):
                watched.look()
    assert manifest(watched).revision == 2
    watched.opened()
    assert manifest(watched).revision == 2


def test_a_record_that_is_damaged_is_refused_by_name(watched: Watched) -> None:
    watched.record.write_bytes(watched.record.read_bytes()[:-9])
    with pytest.raises(FormatError, match=r"record\.json is no record.*move it away"):
        watched.opened()


def test_a_file_that_never_rests_holds_up_the_others_no_longer_than_patience(
    tmp_path: Path,
) -> None:
    watched = Watched(tmp_path, patience=5 * MOMENT)
    watched.write(AUDIT, sequence("audit"))
    watched.write("deployment/server/x.log", "")
    watched.settle()
    watched.write(AUDIT, sequence("audit", "<log/>"))
    for number in range(10):
        watched.write("deployment/server/x.log", "x" * number)
        settled = watched.look()
    assert settled.manifest is not None
    assert settled.manifest.revision == 2
    assert settled.manifest.withheld == ("deployment/server/x.log",)


def test_what_is_new_of_an_artifact_that_never_rests_waits_for_it(tmp_path: Path) -> None:
    watched = Watched(tmp_path, patience=5 * MOMENT)
    watched.write(MENU, api("Menu"))
    watched.write(AUDIT, sequence("audit"))
    watched.settle()
    watched.write(MENU_END, endpoint("Menu--v1.0.0_APIproductionEndpoint"))
    for number in range(10):
        watched.write(MENU, api("Menu", inside="<log/>" * number))
        watched.look()
        assert MENU_END not in watched.tree.good
    watched.settle()
    assert watched.tree.groups[MENU].paths == (MENU, MENU_END)


def test_an_edit_that_the_facts_hide_is_found_when_its_artifact_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a file system without ctime; the next scan reads it and all goes on."""
    exact = scanning._facts
    monkeypatch.setattr(
        scanning, "_facts", lambda found: exact(found)._replace(mtime_ns=1, ctime_ns=1)
    )
    watched = Watched(tmp_path)
    watched.write(MENU, api("Menu"))
    watched.write(MENU_END, endpoint("Menu--v1.0.0_APIproductionEndpoint"))
    watched.settle()
    watched.clock.now += 3
    watched.settle()
    watched.write(MENU, api("Menu").replace("GET", "PUT"))
    assert manifest(watched).revision == 1
    watched.write(MENU_END, endpoint("Menu--v1.0.0_APIproductionEndpoint") + " ")
    watched.settle()
    assert {**manifest(watched).by_path()}[MENU].sha256 == sha256(watched.root / MENU)
    assert said(watched) == []


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()

"""history, diff, rollback and show: what the log remembers, as its user sees it."""

from pathlib import Path

import pytest

from tests.servers.gatesync import Place, sequence_xml


class Editor:
    """Publishes one sequence to one label, with one text after the other."""

    def __init__(self, cluster: Place, folder: Path, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.label = f"{name} label"
        self._path = folder / f"{name}.xml"

    def publish(self, *texts: str) -> None:
        for text in texts:
            self._path.write_bytes(sequence_xml(self.name, text))
            done = self.cluster.run("publish", self._path, "-l", self.label)
            assert done.code == 0, done.err

    def remove(self) -> None:
        assert self.cluster.run("remove", self.name).code == 0

    def steps(self) -> list[tuple[int, str]]:
        """Revision and what happened, the newest first."""
        [history] = self.cluster.run("history", self.name, "--json").json()
        return [
            (each["change"]["entry"]["revision"], each["change"]["instruction"])
            for each in history["changes"]
        ]

    def text(self) -> str:
        """What the label holds now, without the rest of the XML."""
        done = self.cluster.run("diff", self.name, "--from", "0", "--whitespace")
        [line] = [line for line in done.out.splitlines() if line.startswith("+<sequence")]
        return line.partition('value="')[2].partition('"')[0]


@pytest.fixture
def editor(cluster: Place, tmp_path: Path, name: str) -> Editor:
    return Editor(cluster, tmp_path, name)


def test_history_says_what_when_who_and_from_where(editor: Editor) -> None:
    editor.publish("one", "two", "one")
    editor.remove()
    done = editor.cluster.run("history", editor.name)
    assert done.code == 0, done.err
    title, columns, *rows = done.out.splitlines()
    assert title == f"sequence {editor.name}"
    assert columns.split() == ["LABEL", "REVISION", "WHEN", "WHAT", "WHO", "FROM", "DIGEST"]
    said = ["removed", "published as at 1", "changed", "published"]
    for row, what in zip(rows, said, strict=True):
        assert f"  {what}  " in row
        assert row.startswith(editor.label)
        assert " UTC " in row
        assert " operator " in row
        assert " 127.0.0.1 (" in row
        assert "@" in row
    assert editor.steps() == [(4, "Remove"), (3, "Publish"), (2, "Publish"), (1, "Publish")]


def test_show_says_who_published_what_is_held(editor: Editor) -> None:
    editor.publish("one", "two")
    shown = editor.cluster.run("show", editor.name)
    assert shown.code == 0, shown.err
    assert "revision 2" in shown.out
    assert "published 20" in shown.out
    assert " UTC by operator from 127.0.0.1 (" in shown.out


def test_diff_shows_the_last_change_or_those_between_two_revisions(editor: Editor) -> None:
    editor.publish("one", "two", "three")
    last = editor.cluster.run("diff", editor.name).out
    assert 'value="two"' in last
    assert 'value="three"' in last
    assert last.index("-    <property") < last.index("+    <property")
    assert f"{editor.label}, revision 2" in last
    assert f"{editor.label}, revision 3" in last

    whole = editor.cluster.run("diff", editor.name, "--from", "1").out
    assert 'value="one"' in whole
    assert 'value="two"' not in whole

    first = editor.cluster.run("diff", editor.name, "--from", "1", "--to", "2").out
    assert 'value="one"' in first
    assert 'value="two"' in first

    back = editor.cluster.run("diff", editor.name, "--from", "3", "--to", "1").out
    assert back.index('-    <property name="p" value="three"') < back.index('value="one"')

    same = editor.cluster.run("diff", editor.name, "--from", "3", "--to", "3")
    assert (same.code, same.err) == (0, "")
    assert same.out.startswith("no difference between")


def test_white_space_between_elements_is_no_change_unless_asked(editor: Editor) -> None:
    editor.publish("one")
    path = editor._path
    path.write_bytes(path.read_bytes().replace(b"><log>", b">\n\n   <log >"))
    assert editor.cluster.run("publish", path, "-l", editor.label).code == 0
    done = editor.cluster.run("diff", editor.name)
    assert "--whitespace" in done.out
    assert "\n-" not in done.out
    assert "\n-<sequence" in editor.cluster.run("diff", editor.name, "--whitespace").out


def test_a_rollback_is_a_new_revision_with_the_old_content(editor: Editor) -> None:
    editor.publish("one", "two", "three")
    done = editor.cluster.run("rollback", editor.name, "--label", editor.label, "--to", "1")
    assert done.code == 0, done.err
    assert f"published sequence {editor.name} ({editor.label}, revision 4)" in done.out
    assert editor.text() == "one"

    assert editor.cluster.run("rollback", editor.name).code == 0  # to what was before
    assert editor.text() == "three"
    assert [revision for revision, _ in editor.steps()] == [5, 4, 3, 2, 1]

    again = editor.cluster.run("rollback", editor.name, "--to", "5")
    assert again.code == 0
    assert "nothing changed" in again.out


def test_a_rollback_reaches_across_removal_and_publication(editor: Editor) -> None:
    editor.publish("one", "two")
    editor.remove()
    assert editor.cluster.run("rollback", editor.name).code == 0
    assert editor.text() == "two"
    editor.remove()
    editor.publish("three")
    assert editor.cluster.run("rollback", editor.name, "--to", "1").code == 0
    assert editor.text() == "one"
    refused = editor.cluster.run("rollback", editor.name, "--to", "3")
    assert refused.code == 2
    assert f"label '{editor.label}' did not hold it at revision 3" in refused.err
    assert "gatesync history" in refused.err


def test_a_rollback_to_another_api_id_takes_the_names_back(
    cluster: Place, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / name
    (folder / "sequences").mkdir(parents=True)
    (folder / f"sequences/{name}.xml").write_bytes(sequence_xml(name, "one"))
    toml = folder / "artifact.toml"
    about = f'format = "gatesync.folder/1"\nkind = "sequence"\nname = "{name}"\n'
    toml.write_text(f'{about}api_id = "{name}-first"\n')
    label = f"{name} label"
    assert cluster.run("publish", folder, "-l", label).code == 0
    assert cluster.run("remove", name).code == 0
    toml.write_text(f'{about}api_id = "{name}-second"\n')
    assert cluster.run("publish", folder, "-l", label).code == 0

    done = cluster.run("rollback", name, "--to", "1")

    assert done.code == 0, done.err
    held = cluster.run("list", "-l", label, "--json").json()["artifacts"]
    assert [each["entry"]["api_id"] for each in held] == [f"{name}-first"]


def test_of_several_labels_one_must_be_named(editor: Editor, sequence: Path) -> None:
    editor.publish("one")
    assert editor.cluster.run("publish", sequence, "-l", f"{editor.name} other").code == 0
    for command in ("diff", "rollback"):
        refused = editor.cluster.run(command, editor.name)
        assert refused.code == 2
        assert f"'{editor.label}', '{editor.name} other'" in refused.err
        assert "--label" in refused.err
    listed = editor.cluster.run("history", editor.name)
    assert listed.code == 0
    assert {line.split()[0] for line in listed.out.splitlines()[2:]} == {editor.name}


@pytest.mark.parametrize("command", ["history", "diff", "rollback"])
def test_who_never_was_has_no_history(editor: Editor, command: str) -> None:
    refused = editor.cluster.run(command, "no such thing")
    assert refused.code == 2
    assert "no label holds or held an artifact named 'no such thing'" in refused.err
    editor.publish("one")
    refused = editor.cluster.run(command, editor.name, "--label", "elsewhere")
    assert refused.code == 2
    assert f"{editor.name} never was in label 'elsewhere'" in refused.err


def test_a_name_that_several_have_must_be_made_exact(
    cluster: Place, tmp_path: Path, name: str
) -> None:
    for tenant in ("one.example", "two.example"):
        path = tmp_path / f"{name}.xml"
        path.write_bytes(sequence_xml(name))
        done = cluster.run("publish", path, "-l", f"{name} label", "--tenant", tenant)
        assert done.code == 0, done.err
    refused = cluster.run("history", name)
    assert refused.code == 2
    assert "(one.example)" in refused.err
    assert "(two.example)" in refused.err
    assert cluster.run("history", name, "--tenant", "one.example").code == 0

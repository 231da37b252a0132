"""publish, list, show, remove, labels, gateways and verify, as their user sees them."""

import json
from pathlib import Path

import pytest

from gatesync import __version__
from tests.servers.gatesync import EXAMPLES, LABEL, Place, place, run, sequence_xml


def test_in_an_empty_folder_up_and_publish_are_enough(tmp_path: Path) -> None:
    with place(tmp_path / "empty") as here:
        role = here.role("up").start()
        assert f'gatesync publish examples/pizzashack --label "{LABEL}" --wait all' in role.said()

        done = here.run("publish", EXAMPLES / "pizzashack", "--label", LABEL, "--wait", "all")

        assert done.code == 0, done.err
        assert "1 of 1 gateways have revision 1" in done.out
        assert "gw1  applied after" in done.out
        assert done.err == ""
        assert set(here.held()) == {"PizzaShackAPI"}
        assert role.stop() == 0


def test_it_is_published_once_and_then_unchanged(cluster: Place, sequence: Path, name: str) -> None:
    first = cluster.run("publish", sequence, "-l", LABEL, "--wait", "all")
    assert first.code == 0, first.err
    assert f"published sequence {name}" in first.out
    heads = cluster.heads()

    again = cluster.run("publish", sequence, "-l", LABEL, "--wait", "all")

    assert again.code == 0, again.err
    assert "nothing changed: the labels hold exactly this already" in again.out
    assert "1 of 1 gateways" in again.out
    assert cluster.heads() == heads


def test_what_was_published_is_listed_shown_and_removed(
    cluster: Place, sequence: Path, name: str
) -> None:
    assert cluster.run("publish", sequence, "-l", LABEL, "-l", "Second").code == 0

    (row,) = (r for r in cluster.run("list", "-l", LABEL).out.splitlines() if name in r.split())
    assert row.startswith(LABEL)
    shown = cluster.run("show", name).out
    assert f"label {LABEL}: revision" in shown
    assert "label Second: revision" in shown

    one = cluster.run("remove", name, "--label", LABEL, "--wait", "all")
    assert one.code == 0, one.err
    held = cluster.run("list", "--json").json()["artifacts"]
    assert [h["label"] for h in held if h["entry"]["name"] == name] == ["Second"]
    assert name in cluster.held()

    assert cluster.run("remove", name, "--wait", "all").code == 0
    assert name not in cluster.run("list").out.split()
    assert name not in cluster.held()


def test_several_artifacts_are_a_change_set_each_or_one_of_all(
    cluster: Place, tmp_path: Path, name: str
) -> None:
    paths = []
    for letter in "abc":
        path = tmp_path / f"{name}{letter}.xml"
        path.write_bytes(sequence_xml(f"{name}{letter}"))
        paths.append(path)
    each = cluster.run("publish", *paths, "-l", f"{name} each", "--json").json()
    assert [len(one["changes"]) for one in each["change_sets"]] == [1, 1, 1]

    all_ = cluster.run("publish", *paths, "-l", f"{name} all", "--atomic", "--json").json()
    assert [len(one["changes"]) for one in all_["change_sets"]] == [3]


def test_what_is_invalid_is_left_out_only_when_asked(
    cluster: Place, tmp_path: Path, sequence: Path, name: str
) -> None:
    broken = tmp_path / "broken.xml"
    broken.write_text("<sequence")

    refused = cluster.run("publish", sequence, broken, "-l", name)
    assert refused.code == 2
    assert f"{broken}:1: not well-formed XML" in refused.err
    assert name not in {head["label"] for head in cluster.heads()}

    done = cluster.run("publish", sequence, broken, "-l", name, "--skip-invalid", "--json")
    assert done.code == 0
    assert "left out" in done.err
    assert [str(broken) in reason for reason in done.json()["refused"]] == [True]
    assert len(done.json()["change_sets"]) == 1


def test_labels_are_taken_literally(cluster: Place, sequence: Path, name: str) -> None:
    labels = ["A B", "é", "e\u0301", "\U0001f355 pizza", 'it\'s "so"', " both ends ", "[bold]b[/]"]
    labels += ["--label", "a/b%2Fc?d=e&f#g+h", "*", "\u200b", "x" * 255]
    options = [f"--label={label}" for label in labels]
    published = cluster.run("publish", sequence, *options)
    assert published.code == 0, published.err
    assert all(f"({label}, revision 1)" in published.out for label in labels)

    held = cluster.run("list", "--json").json()["artifacts"]
    assert {h["label"] for h in held if h["entry"]["name"] == name} == set(labels)
    one = cluster.run("list", "--label=é", "--json").json()["artifacts"]
    assert [(h["label"], h["entry"]["name"]) for h in one] == [("é", name)]
    assert all(label in cluster.run("labels").out for label in ("[bold]b[/]", " both ends  "))
    gone = cluster.run("remove", name, *options)
    assert (gone.code, gone.err) == (0, "")
    assert all(f"({label}, revision 2)" in gone.out for label in labels)


def test_a_name_that_several_have_lists_them_and_changes_nothing(
    cluster: Place, tmp_path: Path, name: str
) -> None:
    for tenant in ("one.example", "two.example"):
        path = tmp_path / f"{tenant}.xml"
        path.write_bytes(sequence_xml(name))
        assert cluster.run("publish", path, "-l", name, "--tenant", tenant).code == 0
    heads = cluster.heads()

    for command in ("show", "remove"):
        done = cluster.run(command, name)
        assert (done.code, done.out) == (2, "")
        assert f"'{name}' is ambiguous; add --version, --kind or --tenant" in done.err
        assert "one.example" in done.err
        assert "two.example" in done.err
    assert cluster.heads() == heads
    assert cluster.run("remove", name, "--tenant", "two.example").code == 0


@pytest.mark.parametrize("command", ["show", "remove"])
def test_a_name_that_nothing_has(cluster: Place, command: str) -> None:
    done = cluster.run(command, "NobodyAPI")
    assert (done.code, done.out) == (2, "")
    assert done.err == "gatesync: no label holds an artifact named 'NobodyAPI'\n"


def test_a_label_that_does_not_hold_what_is_to_be_removed(
    cluster: Place, sequence: Path, name: str
) -> None:
    assert cluster.run("publish", sequence, "-l", name).code == 0
    done = cluster.run("remove", name, "-l", "elsewhere")
    assert done.code == 2
    assert f"{name} is not in label 'elsewhere'; it is in '{name}'" in done.err


def test_gateways_and_verify_say_who_is_in_step(cluster: Place, sequence: Path) -> None:
    assert cluster.run("publish", sequence, "-l", LABEL, "--wait", "all").code == 0

    rows = [row.split("  ") for row in cluster.run("gateways").out.splitlines()]
    assert [row[0] for row in rows] == ["GATEWAY", "gw1", "gw1"]
    assert all("in step" in [cell.strip() for cell in row] for row in rows[1:])

    done = cluster.run("verify")
    assert done.code == 0, done.out
    assert f"gw1  {LABEL}  in step" in done.out
    verdicts = cluster.run("verify", "--json").json()["verdicts"]
    assert {each["status"] for each in verdicts} == {"in step"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("list",),
        ("labels",),
        ("gateways",),
        ("verify",),
        ("token", "list"),
        ("config", "show"),
        ("config", "check"),
        ("labels", "confirm", LABEL),
    ],
    ids=" ".join,
)
def test_json_is_one_document_and_nothing_else(cluster: Place, arguments: tuple[str, ...]) -> None:
    done = cluster.run(*arguments, "--json")
    assert (done.code, done.err) == (0, "")
    assert isinstance(done.json(), dict | list)


def test_a_label_that_nobody_uses_is_not_confirmed(cluster: Place, name: str) -> None:
    done = cluster.run("labels", "confirm", name)
    assert (done.code, done.out) == (2, "")
    assert f"label {name!r}" in done.err
    assert repr(LABEL) in done.err
    assert name not in cluster.run("labels").out


def test_the_version_is_printed(tmp_path: Path) -> None:
    assert run(tmp_path, "--version") == (0, f"gatesync {__version__}\n", "")


def test_a_token_is_made_listed_and_revoked(cluster: Place, name: str) -> None:
    made = cluster.run("token", "create", "--id", name, "--role", "read", "--json").json()
    assert cluster.run("list", GATESYNC_TOKEN=made["token"]).code == 0
    listed = cluster.run("token", "list", "--json").out
    assert name in {each["id"] for each in json.loads(listed)}
    assert made["token"] not in listed

    assert cluster.run("token", "revoke", name).code == 0
    done = cluster.run("list", GATESYNC_TOKEN=made["token"])
    assert done.code == 2
    assert "a valid token is needed" in done.err
    assert made["token"] not in done.err


def test_a_token_that_may_only_read_may_not_publish(
    cluster: Place, sequence: Path, name: str
) -> None:
    token = cluster.create_token("read", name)
    done = cluster.run("publish", sequence, "-l", name, GATESYNC_TOKEN=token)
    assert done.code == 2
    assert "this token may not publish" in done.err
    assert name not in {head["label"] for head in cluster.heads()}

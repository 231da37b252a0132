"""publish --dry-run, and references that lead nowhere, as their user meets them."""

from pathlib import Path
from typing import Any

import pytest

from tests.servers.gatesync import LABEL, Answer, Place, ask, sequence_xml


def _calling(name: str, *called: str) -> bytes:
    """A sequence that calls others, each on a line of its own."""
    lines = [f'<sequence xmlns="http://ws.apache.org/ns/synapse" name="{name}">']
    lines += [f'  <sequence key="{each}"/>' for each in called]
    return "\n".join([*lines, "</sequence>"]).encode()


@pytest.fixture
def label(name: str) -> str:
    return f"{name} label"


def test_it_says_what_would_change_on_which_label_and_gateways_and_changes_nothing(
    cluster: Place, tmp_path: Path, name: str
) -> None:
    paths = [tmp_path / f"{name}{letter}.xml" for letter in "abc"]
    for path in paths:
        path.write_bytes(sequence_xml(path.stem))
    assert cluster.run("publish", *paths[:2], "-l", LABEL, "--wait", "all").code == 0
    paths[1].write_bytes(sequence_xml(paths[1].stem, "other"))
    heads = cluster.heads()

    done = cluster.run("publish", *paths, "-l", LABEL, "-l", f"{name} new", "--dry-run")

    assert done.code == 0, done.err
    assert cluster.heads() == heads
    first, second = done.out.split(f"{name} new, at revision 0, on no known gateway:")
    assert first.startswith(f"{LABEL}, at revision ")
    assert ", on gw1:" in first
    assert f"  new      sequence {name}c\n  changed  sequence {name}b\n  1 as they are" in first
    assert second.count("  new      sequence") == 3
    assert second.endswith("nothing was published: this was a dry run\n")


def test_all_faults_are_told_those_of_files_and_those_of_the_label(
    cluster: Place, tmp_path: Path, name: str, label: str
) -> None:
    taken = tmp_path / "taken.xml"
    taken.write_bytes(
        f'<api xmlns="http://ws.apache.org/ns/synapse" name="{name}t" context="/{name}"/>'.encode()
    )
    assert cluster.run("publish", taken, "-l", label).code == 0
    heads = cluster.heads()
    (tmp_path / "broken.xml").write_bytes(b"<sequence>\n<log></sequence>")
    (tmp_path / "missing.xml").write_bytes(_calling(f"{name}m", f"{name}nowhere"))
    (tmp_path / "second.xml").write_bytes(taken.read_bytes().replace(b't"', b'u"', 1))
    (tmp_path / "good.xml").write_bytes(sequence_xml(f"{name}g"))
    names = ("broken", "missing", "second", "good")
    paths = [tmp_path / f"{each}.xml" for each in names]

    done = cluster.run("publish", *paths, "-l", label, "--dry-run")

    assert done.code == 2
    assert done.err.count("gatesync: ") == 3
    assert "broken.xml:2: not well-formed XML" in done.err
    assert f"missing.xml:2: refers to sequence '{name}nowhere'" in done.err
    assert f"the context '/{name}'" in done.err
    assert f"belongs to api {name}t" in done.err
    assert f"new      sequence {name}g" in done.out
    assert "nothing would be published: 3 faults must be mended" in done.out
    document = cluster.run("publish", *paths, "-l", label, "--dry-run", "--json").json()
    assert (document["ok"], document["dry_run"], len(document["problems"])) == (False, True, 3)
    assert cluster.run("publish", *paths, "-l", label).code == 2
    assert cluster.heads() == heads

    skipping = cluster.run("publish", *paths, "-l", label, "--dry-run", "--skip-invalid", "--json")
    assert skipping.code == 0, skipping.err
    document = skipping.json()
    assert document["ok"] is True
    assert len(document["problems"]) == 2
    [warning] = document["warnings"]
    assert "missing.xml:2" in warning
    assert cluster.heads() == heads


def test_without_a_publisher_what_is_wrong_with_the_files_is_told_all_the_same(
    cluster: Place, tmp_path: Path
) -> None:
    (tmp_path / "broken.xml").write_bytes(b"<sequence>")
    (tmp_path / "good.xml").write_bytes(sequence_xml("good"))
    paths = sorted(tmp_path.glob("*.xml"))
    url = "http://127.0.0.1:9"
    done = cluster.run("publish", *paths, "-l", LABEL, "--dry-run", "--publisher", url)
    assert done.code == 3
    assert "broken.xml:1: not well-formed XML" in done.err
    assert "cannot be reached" in done.err


def test_a_reference_that_leads_nowhere_is_refused_or_skipped(
    cluster: Place, tmp_path: Path, name: str, label: str
) -> None:
    path = tmp_path / f"{name}.xml"
    path.write_bytes(_calling(name, f"{name}b", "conf:/elsewhere", "fault"))
    refused = cluster.run("publish", path, "-l", label)
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert f"gatesync: {path}:2: refers to sequence '{name}b'" in refused.err

    done = cluster.run("publish", path, "-l", label, "--skip-invalid", "--json")
    assert done.code == 0
    assert "refers to sequence" in done.json()["warnings"][0]
    said = cluster.run("publish", path, "-l", f"{label} 2", "--skip-invalid")
    assert f"published sequence {name}" in said.out
    assert "gatesync: warning: " in said.err


def test_artifacts_published_together_may_refer_to_each_other(
    cluster: Place, tmp_path: Path, name: str, label: str
) -> None:
    for letter, other in ("ab", "ba"):
        path = tmp_path / f"{name}{letter}.xml"
        path.write_bytes(_calling(f"{name}{letter}", f"{name}{other}"))
    paths = sorted(tmp_path.glob("*.xml"))
    for options in ((), ("--skip-invalid",), ("--atomic",), ("--dry-run",)):
        done = cluster.run("publish", *paths, "-l", f"{label} {options}", *options)
        assert (done.code, done.err) == (0, "")


def test_what_others_refer_to_is_removed_by_force_only(
    cluster: Place, tmp_path: Path, name: str, label: str
) -> None:
    paths = [tmp_path / f"{name}{letter}.xml" for letter in "ab"]
    paths[0].write_bytes(_calling(f"{name}a", f"{name}b"))
    paths[1].write_bytes(sequence_xml(f"{name}b"))
    assert cluster.run("publish", *paths, "-l", label).code == 0

    refused = cluster.run("remove", f"{name}b")
    assert refused.code == 2
    assert f"sequence {name}a in label '{label}' refers to" in refused.err
    assert "force" in refused.err

    done = cluster.run("remove", f"{name}b", "--force")
    assert done.code == 0
    assert f"removed sequence {name}b" in done.out
    assert f"sequence {name}a" in done.err


def test_a_publish_of_many_requests_is_planned_as_a_whole(
    cluster: Place, tmp_path: Path, name: str, label: str
) -> None:
    names = [f"{name}-{number}" for number in range(1_200)]
    for each, other in zip(names, names[1:] + names[:1], strict=True):
        (tmp_path / f"{each}.xml").write_bytes(_calling(each, other))
    paths = sorted(tmp_path.glob("*.xml"))
    good = cluster.run("publish", *paths, "-l", label, "--json")
    assert good.code == 0, good.err[:500]
    assert good.json()["warnings"] == []
    assert len(good.json()["change_sets"]) == 1_200

    paths[-1].write_bytes(_calling(paths[-1].stem, f"{name}-nowhere"))
    refused = cluster.run("publish", *paths, "-l", f"{label} 2")
    assert refused.code == 2
    assert f"refers to sequence '{name}-nowhere'" in refused.err
    assert f"{label} 2" not in {head["label"] for head in cluster.heads()}

    skipping = cluster.run("publish", *paths, "-l", f"{label} 3", "--skip-invalid", "--json")
    assert skipping.code == 0
    [warning] = skipping.json()["warnings"]
    assert f"{name}-nowhere" in warning


def test_a_plan_is_for_publishers_and_history_for_operators(cluster: Place) -> None:
    reader = cluster.create_token("read", "reader")
    node = cluster.create_token("node", "some-node", LABEL)

    def plan(token: str, **body: Any) -> Answer:
        return ask(cluster.publisher, "/v1/plans", method="POST", token=token, body=body)

    def history(token: str) -> int:
        return ask(cluster.publisher, "/v1/history?name=x", token=token).status

    assert (history(reader), history(node)) == (200, 403)
    assert plan(reader, labels=[LABEL], remove=["x"]).status == 403
    answer = plan(cluster.operator, labels=[LABEL], remove=["x"])
    assert answer.status == 200
    assert "does not hold x" in answer.json()["refused"][0]
    assert plan(cluster.operator, labels=[], remove=["x"]).status == 400


def test_it_says_what_gateways_with_envoy_would_refuse(
    cluster: Place, tmp_path: Path, name: str, label: str
) -> None:
    scripted = _calling(f"{name}s").replace(b"</sequence>", b"  <script>x</script>\n</sequence>")
    (tmp_path / "sequence.xml").write_bytes(scripted)
    assert cluster.run("publish", tmp_path / "sequence.xml", "-l", label).code == 0
    handler = "org.wso2.carbon.apimgt.gateway.handlers.security.APIAuthenticationHandler"
    (tmp_path / "api.xml").write_text(
        f'<api xmlns="http://ws.apache.org/ns/synapse" name="{name}e" context="/{name}e">\n'
        f'<resource methods="GET"><inSequence>\n<sequence key="{name}s"/><iterate/><respond/>\n'
        f'</inSequence></resource><handlers>\n<handler class="{handler}"/></handlers></api>'
    )
    asked = ("publish", tmp_path / "api.xml", "-l", label, "--dry-run")
    assert cluster.run(*asked).code == 0

    done = cluster.run(*asked, "--engine", "envoy")

    assert done.code == 1
    assert f"{tmp_path}/api.xml:3: <iterate> in GET /*: Envoy cannot run" in done.err
    assert (
        "sequence.xml:2: <script> in GET /*: Envoy cannot run this mediator; instead: " in done.err
    )
    assert f"warning: {tmp_path}/api.xml:5: <handler>: who calls it is to be" in done.err
    assert done.out.endswith("nothing was published: this was a dry run\n")
    document = cluster.run(*asked, "--engine", "envoy", "--json").json()
    assert (document["ok"], document["engine"], len(document["refused"])) == (True, "envoy", 2)
    assert cluster.run("publish", tmp_path / "api.xml", "-l", label, "--engine", "envoy").code == 2

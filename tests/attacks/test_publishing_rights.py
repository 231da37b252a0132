"""A publisher that was given some labels and tenants tries to change others, in every way."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.two_labels import ALPHA, BETA, NOWHERE, TwoLabels, two_labels
from tests.servers.gatesync import Answer, Done, document, publishing, sequence_xml
from tests.servers.in_process import runner

pytestmark = pytest.mark.promise(8)

MINE, THEIRS = "mine.example", "theirs.example"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoLabels]:
    with two_labels(tmp_path_factory.mktemp("publishing")) as running:
        for tenant in (MINE, THEIRS):
            item = document("of", tenant=tenant, api_id=f"of-{tenant}")
            assert running.change(**publishing(item, label=ALPHA)).status == 200
        yield running


@pytest.fixture(scope="module")
def alpha(cluster: TwoLabels) -> str:
    """The token of one who may publish to Alpha."""
    return cluster.token("publish", "ci-alpha", [ALPHA])


@pytest.fixture(scope="module")
def mine(cluster: TwoLabels) -> str:
    """The token of one who may publish for one tenant, in any label."""
    return cluster.token("publish", "ci-mine", tenants=[MINE])


def forbidden(answer: Answer, *said: str) -> None:
    assert (answer.status, answer.json()["code"]) == (403, "forbidden"), answer.body
    for each in said:
        assert each in answer.reasons


@pytest.mark.parametrize("more", [{}, {"force": True}, {"skip_invalid": True}, {"atomic": True}])
@pytest.mark.parametrize("labels", [[BETA], [ALPHA, BETA], [NOWHERE], [ALPHA.lower()], ["*"]])
def test_another_label_is_not_changed(
    cluster: TwoLabels, alpha: str, labels: list[str], more: dict[str, Any]
) -> None:
    before = cluster.heads()
    name = f"this token may not publish to label {labels[-1]!r}; it may to label 'Alpha'"
    for body in (
        publishing(document("intruder")),
        publishing(document("intruder"), rolls_back=True),
        {"remove": [cluster.artifacts["shared"].api_id]},
        {"publish": [{"artifact": {"format": "none"}}]},  # who may not is told no more than that
    ):
        forbidden(cluster.change(alpha, **(body | {"labels": labels} | more)), name)
    plan = {"labels": labels, "remove": [cluster.artifacts["shared"].api_id]} | more
    forbidden(cluster.ask("/v1/plans", alpha, method="POST", body=plan), name)
    confirm = {"label": labels[-1]}
    forbidden(cluster.ask("/v1/labels/confirm", alpha, method="POST", body=confirm), name)
    assert cluster.heads() == before


def test_what_it_may_it_can(cluster: TwoLabels, alpha: str, mine: str) -> None:
    item = document("welcome")
    published = cluster.change(alpha, **publishing(item, label=ALPHA))
    assert published.status == 200
    api_id = published.json()["change_sets"][0]["changes"][0]["entry"]["api_id"]
    plan = {"labels": [ALPHA], "remove": [api_id]}
    assert cluster.ask("/v1/plans", alpha, method="POST", body=plan).status == 200
    assert cluster.change(alpha, labels=[ALPHA], remove=[api_id], force=True).status == 200
    confirm = {"label": ALPHA}
    assert cluster.ask("/v1/labels/confirm", alpha, method="POST", body=confirm).status == 200
    own = document("welcome", tenant=MINE, api_id="welcome-mine")
    for label in (ALPHA, BETA):
        assert cluster.change(mine, **publishing(own, label=label)).status == 200
    removed = cluster.change(mine, labels=[ALPHA, BETA], remove=["welcome-mine"])
    assert removed.status == 200


@pytest.mark.parametrize("more", [{}, {"force": True}, {"skip_invalid": True}, {"atomic": True}])
def test_another_tenants_artifacts_are_not_changed(
    cluster: TwoLabels, mine: str, more: dict[str, Any]
) -> None:
    before = cluster.heads()
    own = document("own", tenant=MINE)
    theirs = document("of", sequence_xml("of", "evil"), tenant=THEIRS, api_id=f"of-{THEIRS}")
    odd = document("of", tenant=f"{MINE} ")
    for body, whose in (
        (publishing(own, theirs), THEIRS),
        (publishing(theirs), THEIRS),
        (publishing(odd), f"{MINE} "),
        (publishing(document("of")), "carbon.super"),
        ({"remove": [f"of-{THEIRS}"]}, THEIRS),
        (publishing(own) | {"remove": [f"of-{THEIRS}"]}, THEIRS),
        ({"remove": [f"of-{MINE}", f"of-{THEIRS}", "nothing"]}, THEIRS),
    ):
        said = f"this token may not publish for tenant {whose!r}; it may for tenant {MINE!r}"
        forbidden(cluster.change(mine, **(body | {"labels": [ALPHA]} | more)), said)
    plan = {"labels": [ALPHA], "remove": [f"of-{THEIRS}"]} | more
    forbidden(cluster.ask("/v1/plans", mine, method="POST", body=plan), THEIRS)
    # Another tenant's artifact under an api_id of one's own is a conflict, whoever asks.
    stolen = document("taken", tenant=MINE, api_id=f"of-{THEIRS}")
    answer = cluster.change(mine, **publishing(stolen, label=ALPHA))
    assert answer.status == 409
    confirm = cluster.ask("/v1/labels/confirm", mine, method="POST", body={"label": ALPHA})
    forbidden(confirm, "of all its tenants")
    assert cluster.heads() == before


def test_a_conflict_names_nothing_of_a_label_that_one_may_not_read(
    cluster: TwoLabels, alpha: str
) -> None:
    """api_ids are one's own everywhere, so that one is taken cannot be hidden; by whom can."""
    item = document("intruder", api_id=cluster.artifacts["beta"].api_id)
    answer = cluster.change(alpha, **publishing(item, label=ALPHA))
    assert answer.status == 409
    assert "beta" not in answer.reasons.replace(cluster.artifacts["beta"].api_id, "")
    operator = cluster.change(**publishing(item, label=BETA))
    assert "sequence beta" in operator.reasons


def test_a_key_of_somebody_else_opens_nothing(cluster: TwoLabels, alpha: str) -> None:
    key = {"Idempotency-Key": str(uuid.uuid4())}
    body = publishing(document("keyed"), label=BETA)
    first = cluster.place.ask("/v1/changes", method="POST", body=body, headers=key)
    assert first.status == 200
    again = cluster.ask("/v1/changes", alpha, method="POST", body=body, headers=key)
    forbidden(again, "'Beta'")
    assert b"change_sets" not in again.body


def test_it_reads_its_own_labels_and_is_told_of_no_other(cluster: TwoLabels, alpha: str) -> None:
    told = [
        cluster.ask(path, alpha)
        for path in (
            "/v1/labels",
            "/v1/artifacts",
            f"/v1/artifacts?label={ALPHA}",
            f"/v1/artifacts?api_id={cluster.artifacts['shared'].api_id}",
            "/v1/history?name=shared",
            "/v1/gateways",
            f"/v1/manifest?label={ALPHA}",
        )
    ]
    for answer in told:
        assert answer.status == 200
        assert BETA.encode() not in answer.body
    assert [head["label"] for head in told[0].json()["labels"]] == [ALPHA]
    assert b"alpha" in told[1].body
    history = cluster.ask("/v1/history?name=beta", alpha).json()["history"]
    assert history == {"changes": [], "floors": {}}
    for path in (
        f"/v1/artifacts?label={BETA}",
        f"/v1/manifest?label={BETA}",
        f"/v1/receipts?label={BETA}&epoch=e&revision=1",
        "/v1/audit",
        "/v1/audit/verification",
        "/v1/verifications/x",
        "/metrics",
    ):
        forbidden(cluster.ask(path, alpha))
    assert cluster.ask(f"/v1/contents/{cluster.artifacts['beta'].digest}", alpha).status == 404
    assert cluster.ask(f"/v1/contents/{cluster.artifacts['alpha'].digest}", alpha).status == 200


def test_the_audit_log_has_who_tried_what_and_why_not(
    cluster: TwoLabels, alpha: str, mine: str
) -> None:
    forbidden(cluster.change(alpha, **publishing(document("tried"), label=BETA)))
    forbidden(cluster.change(mine, labels=[ALPHA], remove=[f"of-{THEIRS}"]))
    first, second = cluster.place.ask("/v1/audit").json()["entries"][-2:]
    assert (first["who"]["id"], first["verb"], first["outcome"]) == (
        "ci-alpha",
        "publish",
        "refused",
    )
    assert first["labels"] == [BETA]
    assert "may not publish to label 'Beta'" in first["reasons"][0]
    assert (second["who"]["id"], second["verb"], second["outcome"]) == (
        "ci-mine",
        "remove",
        "refused",
    )
    assert THEIRS in second["reasons"][0]


def test_the_command_line_says_what_was_not_allowed(
    cluster: TwoLabels,
    alpha: str,
    mine: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "cli.xml"
    file.write_bytes(sequence_xml("cli"))
    before = cluster.heads()
    run_here = runner(cluster.place.folder, monkeypatch, capsys)

    def run(*arguments: str | Path, token: str = alpha) -> Done:
        return run_here(arguments, token)

    tree = tmp_path / "tree"
    operator = cluster.place.operator
    assert run("export", "--label", BETA, "--to", tree, token=operator).code == 0
    publishing_to = f"this token may not publish to label '{BETA}'; it may to label '{ALPHA}'"
    for done in (
        run("publish", file, "--label", BETA),
        run("publish", file, "--label", BETA, "--dry-run"),
        run("publish", file, "--label", ALPHA, "--label", BETA, "--skip-invalid"),
        run("import", tree),
    ):
        assert done.code == 2, done
        assert publishing_to in done.err
    for done in (
        run("labels", "confirm", BETA),
        run("remove", "beta", "--label", BETA, "--force"),
        run("rollback", "beta", "--label", BETA),
        run("export", "--label", BETA, "--to", tmp_path / "stolen"),
    ):
        assert done.code == 2, done
        assert f"'{BETA}'" in done.err or "no label holds" in done.err, done
    for done in (
        run("publish", file, "--label", ALPHA, "--tenant", THEIRS, token=mine),
        run("remove", "of", "--tenant", THEIRS, "--label", ALPHA, token=mine),
    ):
        assert done.code == 2, done
        assert f"may not publish for tenant '{THEIRS}'; it may for tenant '{MINE}'" in done.err
    assert cluster.heads() == before
    listed = run("list")
    assert "alpha" in listed.out
    assert "beta" not in listed.out.lower()


def test_a_revoked_token_changes_nothing_from_that_moment_on(cluster: TwoLabels) -> None:
    token = cluster.token("publish", "ci-leaving", [ALPHA])
    body = publishing(document("leaving"), label=ALPHA)
    assert cluster.change(token, **body).status == 200
    assert cluster.place.run("token", "revoke", "ci-leaving", "-c", cluster.place.config).code == 0
    before = cluster.heads()
    newer = publishing(document("leaving", sequence_xml("leaving", "again")), label=ALPHA)
    assert cluster.change(token, **newer).status == 401
    assert cluster.heads() == before


def test_the_command_that_makes_such_a_token_and_the_list_of_them(
    cluster: TwoLabels, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runner(cluster.place.folder, monkeypatch, capsys)
    of_both = ("--label", ALPHA, "--tenant", MINE, "--tenant", THEIRS)
    made = run(["token", "create", "--id", "ci-cli", "--role", "publish", "--json", *of_both])
    assert (made.json()["labels"], made.json()["tenants"]) == ([ALPHA], [MINE, THEIRS])
    token = made.json()["token"]
    forbidden(cluster.change(token, **publishing(document("x"), label=BETA)), "'Beta'")
    forbidden(cluster.change(token, **publishing(document("x"), label=ALPHA)), "carbon.super")
    listed = run(["token", "list", "--json"]).json()
    (known,) = (each for each in listed if each["id"] == "ci-cli")
    assert (known["labels"], known["tenants"]) == ([ALPHA], [MINE, THEIRS])
    wrong = run(["token", "create", "--id", "n", "--label", ALPHA, "--tenant", MINE])
    assert wrong.code == 2
    assert "a token of role node publishes nothing" in wrong.err

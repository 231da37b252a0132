import tracemalloc
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.artifacts.errors import Problem, ProblemsError
from gatesync.artifacts.model import ARTIFACT_MAX_BYTES, KINDS, Artifact, Identity, Part

from .strategies import artifacts

pytestmark = pytest.mark.fast

PART = Part("sequence", "s", "sequences/s.xml", b"<sequence/>")


def _artifact(*parts: Part, **changes: str) -> Artifact:
    fields = {"tenant": "t", "kind": "sequence", "name": "s", "version": "", **changes}
    api_id = fields.pop("api_id", "id")
    return Artifact(Identity(**fields), api_id, parts)


def _faults(artifact: Artifact) -> list[str]:
    with pytest.raises(ProblemsError) as refused:
        artifact.check()
    return [problem.reason for problem in refused.value.problems]


def test_a_sound_artifact_passes() -> None:
    _artifact(PART).check()


def test_each_kind_has_a_folder_of_its_own() -> None:
    assert len(set(KINDS.values())) == len(KINDS)


@pytest.mark.parametrize("field", ["tenant", "name", "version", "api_id"])
@pytest.mark.parametrize("value", ["../x", "x" * 256, "\n", "\udcff"])
def test_every_field_of_the_identity_is_checked(field: str, value: str) -> None:
    (fault,) = _faults(_artifact(PART, **{field: value}))
    assert fault.startswith(field)


def test_all_faults_are_told_with_the_artifact() -> None:
    parts = (
        PART,
        Part("sequence", "s", "other.xml", b""),
        Part("nonsense", "n", "sequences/s.xml", b""),
        Part("endpoint", "..", "../e", b""),
    )
    with pytest.raises(ProblemsError) as refused:
        _artifact(*parts, kind="sequins").check()
    assert [str(problem) for problem in refused.value.problems] == [
        f"sequins s (t): kind 'sequins' is unknown; it is one of {', '.join(KINDS)}",
        "sequins s (t)/other.xml: two parts are sequence 's'",
        "sequins s (t)/sequences/s.xml: role 'nonsense' is unknown",
        "sequins s (t)/sequences/s.xml: two parts have this path",
        "sequins s (t): path '../e' must be relative, with '/' and no '.', '..' or empty step",
        "sequins s (t): name of part '../e' '..' contains a path step; "
        "'.' and '..' are not allowed",
    ]


def test_an_artifact_needs_a_part() -> None:
    assert _faults(_artifact()) == ["the artifact has no parts"]


def test_a_part_cannot_be_anothers_folder() -> None:
    parts = (
        PART,
        Part("policy", "p", "sequences", b""),
        Part("policy", "q", "sequences/s.xml/q", b""),
    )
    with pytest.raises(ProblemsError) as refused:
        _artifact(*parts).check()
    assert [(p.where, p.reason) for p in refused.value.problems] == [
        (f"sequence s (t)/{path}", "is a part, and the folder of another part")
        for path in ("sequences", "sequences/s.xml")
    ]


def test_an_api_and_its_default_api_may_share_a_name() -> None:
    _artifact(Part("api", "a", "api/a_v1.xml", b""), Part("api", "a", "api/a.xml", b"")).check()


def test_fifteen_mebibytes_in_all_are_the_limit() -> None:
    half = bytes(ARTIFACT_MAX_BYTES // 2)
    one, other = (Part("policy", name, f"executionplans/{name}", half) for name in "ab")
    _artifact(one, other).check()
    (fault,) = _faults(_artifact(one, other, Part("policy", "c", "executionplans/c", b"x")))
    assert fault == f"{ARTIFACT_MAX_BYTES + 1} bytes; an artifact has at most {ARTIFACT_MAX_BYTES}"


def test_an_identity_is_told_as_people_say_it() -> None:
    assert str(Identity("carbon.super", "api", "Menu", "1.0")) == "api Menu 1.0"
    assert str(Identity("a.com", "sequence", "s")) == "sequence s (a.com)"


def test_an_id_made_from_the_identity_never_changes() -> None:
    identity = Identity("carbon.super", "api", "PizzaShackAPI", "1.0.0")
    assert identity.default_api_id() == "ce437e74-30a8-5de2-bf17-71fbc36fbb8d"
    assert uuid.UUID(identity.default_api_id()).version == 5


def test_fields_that_run_together_give_other_ids() -> None:
    identities = [
        Identity("t", "api", "a", "b"),
        Identity("t", "api", "ab", ""),
        Identity("t", "ap", "ia", "b"),
        Identity("t", "api", "a1:b", ""),
        Identity("t", "api", "a", "1:b"),
    ]
    assert len({identity.default_api_id() for identity in identities}) == len(identities)


@given(artifacts)
def test_what_the_tests_are_made_of_is_sound(artifact: Artifact) -> None:
    artifact.check()


def test_a_problem_says_where_it_is() -> None:
    problem = Problem("bad", where="a.xml", line=3)
    assert str(problem) == "a.xml:3: bad"
    assert str(problem.within("api x")) == "api x/a.xml:3: bad"
    assert str(Problem("bad")) == "bad"
    assert str(Problem("bad").within("api x")) == "api x: bad"


def test_a_problem_shows_what_a_terminal_would_obey() -> None:
    problem = Problem("a\x1b[2Jb\udcffc\u202e", where="x\ny")
    assert str(problem) == r"x\ny: a\x1b[2Jb\udcffc\u202e"
    assert str(problem.within("z")) == r"z/x\ny: a\x1b[2Jb\udcffc\u202e"


@given(st.sets(st.lists(st.sampled_from("a!é"), min_size=1, max_size=4).map("/".join), max_size=8))
def test_no_file_is_the_folder_of_another_whatever_stands_between_them(paths: set[str]) -> None:
    both = {path for path in paths for other in paths if other.startswith(path + "/")}
    parts = [Part("sequence", path, path, b"") for path in sorted(paths)]
    try:
        _artifact(PART, *parts).check()
        found = set()
    except ProblemsError as refused:
        found = {problem.where.removeprefix("sequence s (t)/") for problem in refused.problems}
    assert found == both


def test_a_path_of_a_million_steps_costs_no_more_than_itself() -> None:
    path = "a/" * 1_000_000 + "b.xml"
    artifact = _artifact(PART, Part("sequence", "b", path, b"<sequence/>"))
    tracemalloc.start()
    try:
        assert _faults(artifact)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100 * len(path)

"""The report is made of results.json alone, and the committed one is what its results make."""

import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))

import figures  # noqa: E402 - it stands in the benchmarks' own folder
import report  # noqa: E402

pytestmark = pytest.mark.fast

MACHINE = {
    "cores": 2,
    "memory_gb": 8.0,
    "cpu": "",
    "python": "3.11.7",
    "kernel": "6.1",
    "system": "Linux x86_64",
}
WORDS = st.text(alphabet="abc <>&|é", min_size=1, max_size=12)
NUMBERS = st.floats(min_value=0.001, max_value=1e6) | st.integers(min_value=1, max_value=10**6)


def results(*lines: dict[str, Any], name: str = "some") -> dict[str, Any]:
    ran = {
        "name": name,
        "about": "What it is about.",
        "command": f"python benchmarks/{name}.py",
        "date": "2026-01-02 03:04 UTC",
        "seconds": 12.3,
        "busy_cores_before": 0.1,
        "failed": "",
        "lines": [{"benchmark": name, **line} for line in lines],
    }
    return {
        "format": report.FORMAT,
        "machine": MACHINE,
        "versions": {"gatesync": "1.2"},
        "benchmarks": [ran],
    }


def figure(**more: Any) -> dict[str, Any]:
    timed = {"unit": "ms", "p50": 1.5, "p99": 2.5, "max": 3.5, "n": 9}
    return {"what": "a thing", **timed, **more}


def test_a_figure_is_judged_by_its_target_and_says_why_only_where_it_is_missed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    target = figures.Target("ratio", at_most=1.4, why="The loop is slow.")
    for ratio in (1.4, 1.41):
        figures.print_figure("some", "a thing", ratio=ratio, target=target, floor={"p50": 1})
    met, missed = map(json.loads, capsys.readouterr().out.splitlines())
    assert met["met"] is True
    assert {"why", "floor"} & met.keys() == set()
    assert missed["met"] is False
    assert missed["why"] == "The loop is slow."
    assert missed["floor"] == {"p50": 1}
    assert missed["target"] == {"figure": "ratio", "at_most": 1.4}


def test_at_least_counts_from_the_value_on() -> None:
    target = figures.Target("times_faster", at_least=5.0)
    assert [target.is_met(value) for value in (4.99, 5.0, 6.0)] == [False, True, True]


def test_what_a_line_tells_of_the_machine_is_not_whose_it_is() -> None:
    assert figures.machine().keys() == MACHINE.keys()


def test_a_target_is_a_row_with_its_limit_and_a_missed_one_says_why() -> None:
    limit = {"what": "the raw driver", "unit": "ms", "p50": 1.0}
    wanted = {"figure": "ratio", "at_most": 1.4}
    page = report.render(
        results(
            figure(limit=limit, ratio=1.5, target=wanted, met=False, floor={"p50": 1}, why="Slow.")
        )
    )["README.md"]
    assert (
        "| `some`: a thing | ≤ 1.4 times the limit | 1.5 ms (p99 2.5, max 3.5; n 9) "
        "| 1 ms: the raw driver | 1.5 | **no** |" in page
    )
    assert "- **`some`: a thing.** Slow. Floor: p50 1." in page
    assert "python benchmarks/some.py" in page


def test_a_peer_that_is_not_installed_is_named_and_has_no_row() -> None:
    page = report.render(results({"what": "all of it", "skipped": "not installed: apt"}))
    assert "- `some`: all of it: not installed: apt" in page["README.md"]
    assert "| what |" not in page["README.md"]


def test_a_line_that_does_not_say_what_it_is_about_is_shown_as_it_is() -> None:
    line = {"way": "http", "target": {"seconds": 60}, "met": True, "seconds": 2.5}
    page = report.render(results(line))["README.md"]
    assert "| `some`: way http | seconds 60 | seconds 2.5 |" in page
    assert '    {"benchmark": "some", "way": "http"' in page


def test_points_of_several_lines_make_one_picture() -> None:
    def line(gateways: int, series: str) -> dict[str, Any]:
        point = {"chart": "propagation", "series": series, "x": gateways, "y": gateways * 0.5}
        return figure(plots=[point])

    made = report.render(results(line(1, "<ours>"), line(1000, "<ours>"), line(10, "raw & bare")))
    assert made.keys() == {"README.md", "propagation.svg"}
    assert "![propagation](propagation.svg)" in made["README.md"]
    drawn = ElementTree.fromstring(made["propagation.svg"])
    texts = {each.text for each in drawn.iter() if each.tag.endswith("text")}
    assert {"<ours>", "raw & bare", "1", "1,000"} <= texts
    assert sum(each.tag.endswith("circle") for each in drawn.iter()) == 3


def test_another_format_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"gatesync\.benchmarks/9"):
        report.render(results() | {"format": "gatesync.benchmarks/9"})


@given(
    lines=st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "what": WORDS,
                "way": WORDS,
                "value": NUMBERS,
                "ratio": NUMBERS,
                "limit": NUMBERS | st.fixed_dictionaries({"value": NUMBERS}) | WORDS,
                "target": NUMBERS | st.dictionaries(WORDS, NUMBERS),
                "met": st.booleans(),
                "floor": st.none() | NUMBERS | st.dictionaries(WORDS, NUMBERS),
                "skipped": WORDS,
                "peer": st.just({"name": "P", "version": "", "settings": {"a": "b"}}),
                "plots": st.lists(
                    st.fixed_dictionaries(
                        {
                            "chart": st.sampled_from([*report.CHARTS, "unknown"]),
                            "series": WORDS,
                            "x": NUMBERS,
                            "y": NUMBERS,
                        }
                    ),
                    max_size=4,
                ),
            },
        ),
        max_size=4,
    )
)
def test_any_results_make_a_report_and_the_same_ones_the_same(lines: list[dict[str, Any]]) -> None:
    made = report.render(results(*lines))
    assert made == report.render(json.loads(json.dumps(results(*lines))))
    for name, text in made.items():
        if name.endswith(".svg"):
            ElementTree.fromstring(text)
    columns = {"what": 0}
    for row in made["README.md"].splitlines():
        if row.startswith("| what |"):
            columns["what"] = row.count("|")
        elif row.startswith("| ") and not row.startswith("| ---"):
            assert row.replace("\\|", "").count("|") == columns["what"]


def test_the_committed_report_is_what_its_results_make() -> None:
    folder = report.RESULTS.parent
    if not report.RESULTS.exists():  # nothing was measured yet: then there is no report, either
        assert not (folder / "README.md").exists()
        return
    made = report.render(json.loads(report.RESULTS.read_text()))
    there = {each.name for each in folder.iterdir() if each.suffix == ".svg"}
    assert there == made.keys() - {"README.md"}
    for name, text in made.items():
        assert (folder / name).read_text() == text, "run: python -m benchmarks.report"

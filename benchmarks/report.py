"""The report of a run: docs/benchmarks/README.md and its pictures, made of results.json alone.

    python -m benchmarks.report            write them anew
    python -m benchmarks.report --check    1 where they are not what results.json makes

Each line of a benchmark that says what it is about is a row of a table: of the targets where it has
one, else of what else was measured. Other lines are shown as they are. A line's `plots` are points
of the charts below.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # for `python -m benchmarks.report`
from charts import Chart, draw

__all__ = ["FORMAT", "RESULTS", "render", "write"]

FORMAT = "gatesync.benchmarks/1"
RESULTS = Path(__file__).parents[1] / "docs" / "benchmarks" / "results.json"
CHARTS = {
    "propagation": Chart("A change until every gateway has acknowledged it", "gateways", "ms, p50"),
    "cold_start": Chart("A gateway's start, until it is ready", "artifacts of 4 kB", "seconds"),
    "memory_by_gateways": Chart("A publisher's memory for its gateways", "gateways", "kB in all"),
    "memory_by_artifacts": Chart("A gateway's peak of memory", "artifacts of 4 kB", "MB"),
}
PROFILES = "Where the time of each goes is in [profiles.md](profiles.md)."
UNITS = {"ratio": "times the limit", "times_faster": "times faster"}
_SHOWN = {"benchmark", "what", "machine", "plots", "peer", "target", "met", "floor", "why", "limit"}
_SHOWN |= {"p50", "p99", "max", "n", "value", "unit", "ratio", "times_faster"}


def main() -> int:
    """Write the report, or compare it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if not options.check:
        write(options.results)
        return 0
    stale = [
        name
        for name, text in render(json.loads(options.results.read_text())).items()
        if not (file := options.results.parent / name).exists() or file.read_text() != text
    ]
    for name in stale:
        print(f"{name} is not what {options.results.name} makes: python -m benchmarks.report")
    return int(bool(stale))


def write(results: Path) -> None:
    """Write the report beside its results."""
    for name, text in render(json.loads(results.read_text())).items():
        (results.parent / name).write_text(text)


def render(results: Mapping[str, Any]) -> dict[str, str]:
    """The files of the report by name. Raises `ValueError` for another format."""
    if results.get("format") != FORMAT:
        raise ValueError(f"format {results.get('format')!r} is not {FORMAT!r}")
    lines = [line for each in results["benchmarks"] for line in each["lines"]]
    pictures = {f"{name}.svg": text for name, text in _pictures(lines)}
    parts = [
        _head(results),
        _targets(lines),
        _missed(lines),
        _not_measured(lines),
        "\n\n".join(f"![{name.removesuffix('.svg')}]({name})" for name in pictures),
        _others(lines),
        _peers(lines),
        *map(_benchmark, results["benchmarks"]),
    ]
    return {"README.md": "\n\n".join(part for part in parts if part) + "\n", **pictures}


def _head(results: Mapping[str, Any]) -> str:
    machine, ran = results["machine"], results["benchmarks"]
    dates = sorted(each["date"] for each in ran)
    minutes = sum(each["seconds"] for each in ran) / 60
    busiest = max((each["busy_cores_before"] for each in ran), default=0.0)
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    when = f"from {dates[0]} to {dates[-1]}" if dates else "never"
    return "\n".join(
        [
            "# Measured",
            "",
            "Made by `python -m benchmarks.run` of [results.json](results.json); do not edit it by",
            "hand. Each figure stands beside its limit, measured in the same run, in alternation:",
            "a ratio says more than a time, which another machine would not have. All of it ran on",
            "one machine, peers included.",
            "",
            f"- When: {when}, {minutes:.0f} minutes in all.",
            f"- Machine: {machine['cores']} cores ({machine['cpu'] or 'unknown'}), "
            f"{machine['memory_gb']} GB of memory, {machine['system']}, "
            f"kernel {machine['kernel']}, Python {machine['python']}.",
            f"- Others on it: before a benchmark they kept at most {busiest:g} cores busy.",
            f"- Versions: {versions}.",
            "- To repeat it: `make bench`, 20 minutes; `make bench NAME=fleet` for one. What is",
            "  others' has to be installed, and is left out where it is not: postgresql and",
            "  mariadb-server, nginx-light and wrk, etcd-server and etcd-client, lsyncd, rsync and",
            "  openssh-server, by their names in Debian; OPAL by",
            "  `python benchmarks/peers.py install`, into an environment of its own.",
        ]
    )


# What was aimed at ------------------------------------------------------------------------------


def _targets(lines: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        (_what(line), _target(line), _measured(line), _limit(line), _ratio(line), _met(line))
        for line in lines
        if "met" in line
    ]
    heads = ("what", "target", "measured", "the limit beside it", "ratio", "met")
    return _section("Targets", _table(heads, rows)) if rows else ""


def _missed(lines: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        f"- **{_what(line)}.** {line.get('why') or ''} Floor: {_flat(line.get('floor'))}."
        for line in lines
        if line.get("met") is False
    ]
    return _section("Missed, and why", f"{PROFILES}\n\n" + "\n".join(rows)) if rows else ""


def _not_measured(lines: Iterable[Mapping[str, Any]]) -> str:
    rows = [f"- {_what(line)}: {line['skipped']}" for line in lines if "skipped" in line]
    return _section("Not measured in this run", "\n".join(rows)) if rows else ""


def _others(lines: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        (_what(line), _measured(line), _limit(line), _ratio(line))
        for line in lines
        if "what" in line and not {"met", "skipped"} & line.keys() and _measured(line)
    ]
    heads = ("what", "measured", "the limit beside it", "ratio")
    return _section("Also measured", _table(heads, rows)) if rows else ""


def _what(line: Mapping[str, Any]) -> str:
    return f"`{line['benchmark']}`: {line['what']}" if "what" in line else _other_name(line)


def _other_name(line: Mapping[str, Any]) -> str:
    """A line that does not say what it is about is told from others by its words and numbers."""
    said = [f"{key} {value}" for key, value in line.items() if isinstance(value, str | bool)]
    names = [each for each in said if not each.startswith(("benchmark ", "met ", "folder "))]
    return f"`{line['benchmark']}`" + (f": {', '.join(names)}" if names else "")


def _target(line: Mapping[str, Any]) -> str:
    target = line.get("target")
    if not isinstance(target, Mapping) or "figure" not in target:
        return _flat(target)
    figure = target["figure"]
    unit = UNITS.get(figure, line.get("unit", ""))
    name = "" if figure in UNITS or figure == "value" else f"{figure} "
    bounds = [
        (sign, target[key]) for key, sign in (("at_most", "≤"), ("at_least", "≥")) if key in target
    ]
    return ", ".join(f"{name}{sign} {_number(value)} {unit}".strip() for sign, value in bounds)


def _measured(line: Mapping[str, Any]) -> str:
    unit = line.get("unit", "")
    if "p50" in line:
        return (
            f"{_number(line['p50'])} {unit} (p99 {_number(line['p99'])}, "
            f"max {_number(line['max'])}; n {line['n']})"
        )
    if "value" in line:
        return f"{_number(line['value'])} {unit}".strip()
    if "what" in line:
        return ""
    kept = {key: value for key, value in line.items() if key not in _SHOWN}
    return _flat({key: value for key, value in kept.items() if not isinstance(value, str | bool)})


def _limit(line: Mapping[str, Any]) -> str:
    limit = line.get("limit", "")
    if not isinstance(limit, Mapping):
        return _flat(limit)
    unit = limit.get("unit", line.get("unit", ""))
    value = limit.get("p50", limit.get("value"))
    said = f"{_number(value)} {unit}".strip() if value is not None else ""
    return f"{said}: {limit['what']}" if said and "what" in limit else said or _flat(limit)


def _ratio(line: Mapping[str, Any]) -> str:
    said = [_number(line["ratio"])] if "ratio" in line else []
    if "times_faster" in line:
        said.append(f"({_number(line['times_faster'])} times faster)")
    return " ".join(said)


def _met(line: Mapping[str, Any]) -> str:
    return "yes" if line["met"] else "**no**"


# Peers, and each benchmark ----------------------------------------------------------------------


def _peers(lines: Iterable[Mapping[str, Any]]) -> str:
    peers = {line["peer"]["name"]: line["peer"] for line in lines if "peer" in line}
    told = []
    for name, peer in peers.items():
        told.append(f"- **{name}** {peer['version']}".rstrip())
        told += [f"  - `{key}`: {value}" for key, value in peer["settings"].items()]
    return _section("Peers, and how they were set up", "\n".join(told)) if told else ""


def _benchmark(ran: Mapping[str, Any]) -> str:
    told = [
        ran["about"],
        f"    {ran['command']}",
        f"Took {ran['seconds']:.0f} s on {ran['date']}; others kept "
        f"{ran['busy_cores_before']:g} cores busy before it.",
    ]
    bare = [line for line in ran["lines"] if "what" not in line]
    if bare:
        shown = [{key: value for key, value in line.items() if key != "machine"} for line in bare]
        told.append("\n".join(f"    {json.dumps(line, ensure_ascii=False)}" for line in shown))
    return _section(f"`{ran['name']}`", "\n\n".join(told))


def _pictures(lines: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    points = [point for line in lines for point in line.get("plots", ())]
    for name, chart in CHARTS.items():
        series: dict[str, list[tuple[float, float]]] = {}
        for point in points:
            if point["chart"] == name and point["y"] > 0:
                series.setdefault(point["series"], []).append((point["x"], point["y"]))
        if series:
            yield name, draw(chart, series)


# Words ------------------------------------------------------------------------------------------


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    cells = (" | ".join(cell.replace("|", "\\|").strip() for cell in line) for line in lines)
    return "\n".join(f"| {line} |" for line in cells)


def _flat(value: Any) -> str:
    """A value in words: `p50 1.2, n 50`."""
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        said = (
            f"{key.replace('_', ' ')} {_flat(each)}" for key, each in value.items() if each != ""
        )
        return ", ".join(said)
    if isinstance(value, list | tuple):
        return ", ".join(map(_flat, value))
    return _number(value) if isinstance(value, int | float) else str(value)


def _number(value: float) -> str:
    """Three digits that count, and no more than there are."""
    if value == 0 or abs(value) >= 100 or isinstance(value, int):
        return f"{value:,.0f}"
    return f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())

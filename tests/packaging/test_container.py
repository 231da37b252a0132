"""The container file names what there is. Nothing here builds it: that needs a container engine."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

from gatesync.config.sections import GATEWAY_LISTEN, PUBLISHER_LISTEN, TRAFFIC_MANAGER_LISTEN
from tests.servers.gatesync import place, run

ROOT = Path(__file__).parents[2]
HEALTH = ROOT / "packaging" / "health.py"


class Step(NamedTuple):
    """One instruction of the container file."""

    word: str
    rest: str


def steps() -> list[Step]:
    text = (ROOT / "packaging" / "Containerfile").read_text().replace("\\\n", " ")
    lines = (line.strip() for line in text.splitlines())
    split = (line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))
    return [Step(word, " ".join(rest.split())) for word, rest in split]


def rest_of(word: str) -> list[str]:
    return [step.rest for step in steps() if step.word == word]


def pins(name: str) -> set[str]:
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    return {line.rstrip(" \\") for line in lines if line[:1].isalnum()}


def health(url: str) -> int:
    done = subprocess.run(
        [sys.executable, HEALTH],
        env={"GATESYNC_HEALTH": url},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert bool(done.stderr) == bool(done.returncode), done.stderr
    assert "Traceback" not in done.stderr
    return done.returncode


@pytest.mark.fast
def test_what_is_copied_is_there_and_is_sent_to_the_builder() -> None:
    sent = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = {
        source
        for rest in rest_of("COPY")
        if not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert sent & {source, source.partition("/")[0]}, f".dockerignore keeps {source} back"
    assert {each for each in sent if not (ROOT / each).exists()} == set()


@pytest.mark.fast
def test_both_stages_have_one_base_with_a_tag() -> None:
    bases = [rest.split()[0] for rest in rest_of("FROM")]
    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.\d+-slim-\w+", bases[0])


@pytest.mark.fast
def test_it_runs_a_command_that_there_is_and_not_as_root(tmp_path: Path) -> None:
    (entry,), (command,) = rest_of("ENTRYPOINT"), rest_of("CMD")
    program, *arguments = json.loads(entry) + json.loads(command)
    assert program == "gatesync"
    assert run(tmp_path, *arguments, "--help").code == 0
    assert [int(part) > 0 for part in rest_of("USER")[-1].split(":")] == [True, True]
    assert rest_of("STOPSIGNAL") == ["SIGTERM"]
    assert rest_of("WORKDIR")[-1:] == rest_of("VOLUME")


@pytest.mark.fast
def test_it_exposes_the_ports_that_the_roles_listen_on() -> None:
    listens = (PUBLISHER_LISTEN, GATEWAY_LISTEN, TRAFFIC_MANAGER_LISTEN)
    assert rest_of("EXPOSE") == [" ".join(each.rpartition(":")[2] for each in listens)]
    assert f"GATESYNC_HEALTH=http://{PUBLISHER_LISTEN}" in rest_of("ENV")


@pytest.mark.fast
def test_the_health_check_asks_with_what_was_copied() -> None:
    (check,) = rest_of("HEALTHCHECK")
    program, script = json.loads(check.partition("CMD ")[2])
    assert program == "python"
    assert f"packaging/health.py {script}" in rest_of("COPY")


@pytest.mark.fast
def test_what_is_installed_is_locked_as_for_the_tests() -> None:
    installed = {name for rest in rest_of("RUN") for name in re.findall(r"-r (\S+)", rest)}
    assert installed == {"requirements/run.txt", "requirements/build.txt"}
    assert pins("run.txt") | pins("build.txt") <= pins("dev.txt")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    wanted = [*project["project"]["dependencies"]]
    wanted += [each for name, extra in extras.items() if name != "dev" for each in extra]
    names = {re.match(r"[\w.-]+", each)[0].lower() for each in wanted} - {"gatesync"}  # type: ignore[index]
    assert {name.replace(".", "-") for name in names} <= {
        pin.partition("==")[0].replace(".", "-") for pin in pins("run.txt")
    }
    (builder,) = project["build-system"]["requires"]
    assert builder in pins("build.txt")


def test_a_role_that_lives_is_healthy_and_one_that_does_not_is_not(tmp_path: Path) -> None:
    with place(tmp_path) as where:
        role = where.role("up").start()
        broker = f"tcp://127.0.0.1:{where.broker_port}"
        urls = [where.publisher, where.gateway, broker]
        assert [health(url) for url in urls] == [0, 0, 0]
        assert health(f"http://127.0.0.1:{where.broker_port}") == 1  # that speaks no HTTP
        role.stop()
        assert [health(url) for url in urls] == [1, 1, 1]

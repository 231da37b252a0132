"""Three publishers on one PostgreSQL, no leader, killed at random while changes are published.

All of them push to one and the same gateway; another one reads the database and is told nothing.
"""

import asyncio
import itertools
import random
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec
import pytest

from gatesync.artifacts.changes import ChangeSet
from gatesync.cli.sending import ChangeResult, send_change
from gatesync.cli.session import Target, open_session
from gatesync.secret import Secret
from gatesync.stores.sql import open_sql_store
from gatesync.stores.store import read_manifest
from tests.promises.kills import changes_of, whole_log
from tests.servers.gatesync import (
    LABEL,
    Place,
    Role,
    ask,
    document,
    sequence_xml,
    until,
)
from tests.servers.postgresql import postgresql_server
from tests.servers.round_robin import round_robin
from tests.stores.budget import BUDGET

HEARTBEAT_MS: Final = 1_000
TWO_HEARTBEATS: Final = 2 * HEARTBEAT_MS / 1000 + 1.0  # and the transfer, on a busy machine
KILLS: Final = max(3, round(3 * BUDGET))  # turns, each of one or two
WRITERS: Final = 4  # beside the command line
END_SECONDS: Final = 40.0  # for what is under way when the last kill is done
PAUSE_SECONDS: Final = 0.01
PAGE: Final = Path(__file__).parents[2] / "docs" / "publishers.md"
PUSH_TOKEN: Final = "push-token-of-the-tests"
NO_BROKER: Final = "[apim.event_hub]\nenable = false\n"


class Publishers:
    """Three processes on one database; the command line knows them all."""

    def __init__(self, folder: Path, database: str, pushed: Place) -> None:
        names = [f"p{number}" for number in range(3)]
        self.places = [Place(folder / name, node=name, heartbeat_ms=HEARTBEAT_MS) for name in names]
        self.roles = [place.role("publisher") for place in self.places]
        self.killed = 0
        for place in self.places:
            with place.config.open("a") as config:
                config.write(
                    f'{NO_BROKER}[database.sync_runtime_artifacts_db]\nurl = "{database}"\n'
                    f'[[apim.gateway.environment]]\nname = "Pushed"\nlabels = ["{LABEL}"]\n'
                    f'service_url = "{pushed.gateway}"\npassword = "{PUSH_TOKEN}"\n'
                )

    @property
    def urls(self) -> list[str]:
        return [place.publisher for place in self.places]

    def start(self, *nodes: Place) -> str:
        """Start all, with the same tokens; answers with the operator's."""
        first, *others = self.places
        operator = first.create_token("publish", "operator")
        for node in nodes:
            first.give_token(node, LABEL)
        for other in others:
            other.data.mkdir(mode=0o700)
            shutil.copy2(first.data / "tokens.json", other.data)
        for role in self.roles:
            role.start(wait=False)
        for role, url in zip(self.roles, self.urls, strict=True):
            role.wait_for(lambda url=url: answers(url), f"{url} answers")
        return operator

    async def kill_at_random(self) -> None:
        """Kill one or two, start them again, and so on; whom the last kill hits stays dead.

        One always answers: a command that finds nobody says so and is repeated by its user.
        """
        for turn in range(KILLS):
            await asyncio.sleep(random.uniform(0, 1))
            await asyncio.to_thread(until, lambda: self._answering() >= 2, "one can be spared")
            for role in random.sample(self.roles, random.choice([1, 2])):
                if await asyncio.to_thread(self._can_spare, role):
                    role.stop(signal.SIGKILL)
                    self.killed += 1
            await asyncio.sleep(random.uniform(0, 0.5))
            for role in self.roles if turn + 1 < KILLS else ():
                if not role.alive:
                    role.start(wait=False)

    def _answering(self) -> int:
        return sum(answers(url) for url in self.urls)

    def _can_spare(self, role: Role) -> bool:
        others = (url for each, url in zip(self.roles, self.urls, strict=True) if each is not role)
        return role.alive and any(answers(url) for url in others)

    def end(self) -> None:
        for place in self.places:
            place.end()


def answers(url: str) -> bool:
    try:
        return ask(url, "/health/ready").status == 200
    except OSError:
        return False


def gateway(folder: Path, publisher: str, more: str = "") -> Place:
    node = Place(folder, node=folder.name, publisher=publisher, heartbeat_ms=HEARTBEAT_MS)
    text = node.config.read_text().replace("[apim.event_hub]\n", NO_BROKER)
    ours = f'[gatesync.gateway]\npush_token = "{PUSH_TOKEN}"\n'
    node.config.write_text(text.replace("[gatesync.gateway]\n", ours) + more)
    return node


class Writer:
    """Publishes one version after the other of artifacts of its own, as the command line sends."""

    def __init__(self, name: str, target: Target) -> None:
        self.acknowledged: list[ChangeSet] = []
        self.repeated = 0
        self._name = name
        self._target = target

    async def write(self, stop: asyncio.Event) -> None:
        async with open_session(self._target, timeout=10.0) as client:
            for number in itertools.count():
                if stop.is_set():
                    return
                name = f"{self._name}x{number % 3}"
                item = {"artifact": document(name, sequence_xml(name, f"text {number}"))}
                answer = await send_change(client, {"labels": [LABEL], "publish": [item]})
                self.acknowledged += answer.change_sets
                self.repeated += answer.repeated
                await asyncio.sleep(PAUSE_SECONDS)


class CommandLine:
    """The same, by the command that people use: each time a process, and `--publisher` thrice."""

    def __init__(self, folder: Path, urls: list[str], token: str) -> None:
        self.acknowledged: list[ChangeSet] = []
        self._place = Place(folder)
        self._urls = urls
        self._token = token

    async def write(self, stop: asyncio.Event) -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            path = self._place.folder / "command.xml"
            path.write_bytes(sequence_xml("command", f"text {number}"))
            urls = random.sample(self._urls, len(self._urls))
            named = [word for url in urls for word in ("--publisher", url)]
            done = await asyncio.to_thread(
                self._place.run,
                "publish",
                path,
                "--label",
                LABEL,
                "--json",
                *named,
                GATESYNC_TOKEN=self._token,
            )
            assert done.code == 0, done.err
            self.acknowledged += msgspec.json.decode(done.out, type=ChangeResult).change_sets


@pytest.fixture
def database() -> Iterator[str]:
    with postgresql_server() as server, server.database() as url:
        yield url


@pytest.mark.promise(1)
@pytest.mark.promise(3)
@pytest.mark.timeout(120 + 20 * KILLS)
async def test_publishers_killed_at_random_lose_nothing_double_nothing_and_leave_all_in_step(
    tmp_path: Path, database: str
) -> None:
    with ExitStack() as stack:
        balancer = stack.enter_context(round_robin())
        reads = f'[database.sync_runtime_artifacts_db]\nurl = "{database}"\n'
        nodes = [
            gateway(tmp_path / "pushed", balancer.url),
            gateway(tmp_path / "told-nothing", balancer.url, reads),
        ]
        publishers = Publishers(tmp_path, database, nodes[0])
        balancer.serve(publishers.urls)
        stack.callback(publishers.end)
        token = publishers.start(*nodes)
        for node in nodes:
            stack.callback(node.end)
            node.role("gateway").start(wait=False)
        for node in nodes:
            until(lambda node=node: answers(node.gateway), f"{node.node} is ready")

        target = Target(tuple(publishers.urls), Secret(token))
        sending = [Writer(f"w{number}", target) for number in range(WRITERS)]
        command = CommandLine(tmp_path / "command", publishers.urls, token)
        writers: list[Writer | CommandLine] = [*sending, command]
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            writing = [tasks.create_task(each.write(stop)) for each in writers]
            await publishers.kill_at_random()
            stop.set()
            async with asyncio.timeout(END_SECONDS):
                await asyncio.gather(*writing)
        ended = time.monotonic()

        async with open_sql_store(database) as store:
            log = await whole_log(store)
            _, entries = await read_manifest(store, LABEL)
        told = [each for writer in writers for each in writer.acknowledged]
        assert changes_of(told) == changes_of(log)  # each is there, once, and no other
        held = {each.name: each.digest for each in entries.values()}
        left = TWO_HEARTBEATS - (time.monotonic() - ended)
        for node in nodes:
            until(lambda node=node: node.held() == held, f"{node.node} is in step", max(left, 0.1))
        assert publishers.killed >= KILLS
        assert all(each.acknowledged for each in writers)
        print(
            f"{publishers.killed} publishers killed; {len(told)} changes acknowledged, "
            f"{sum(each.repeated for each in sending)} of them by a repetition; "
            f"requests that each publisher was passed: {list(balancer.passed.values())}"
        )


@pytest.mark.promise(3)
def test_a_publisher_that_dies_after_its_commit_leaves_no_second_change(tmp_path: Path) -> None:
    with ExitStack() as stack:
        here = Place(tmp_path)
        stack.callback(here.end)
        with here.config.open("a") as config:
            config.write(NO_BROKER)
        here.role("publisher").start()
        dying = stack.enter_context(round_robin(here.publisher))
        dying.swallows = True
        path = tmp_path / "once.xml"
        path.write_bytes(sequence_xml("once"))
        both = ("--publisher", dying.url, "--publisher", here.publisher)
        done = here.run("publish", path, "--label", LABEL, "--json", *both)
        assert done.code == 0, done.err
        assert f"trying {here.publisher}" in done.err
        assert dying.passed == {here.publisher: 1}  # it was saved, and nobody was told
        (told,) = done.json()["change_sets"]
        (head,) = here.heads()
        assert told["revision"] == head["revision"] == 1


def test_nobody_there_is_told_with_each_that_was_tried_as_the_page_shows(tmp_path: Path) -> None:
    lines = [line.strip() for line in PAGE.read_text().splitlines() if line.startswith("    ")]
    (command,) = (line for line in lines if line.startswith("$ gatesync "))
    printed = [line for line in lines if line.startswith("gatesync: ")]
    done = Place(tmp_path).run(*command.removeprefix("$ gatesync ").split())
    assert (done.code, done.out) == (3, "")
    assert done.err.splitlines() == printed

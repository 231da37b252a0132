"""Envoy outlives its gateway, and is watched by it."""

import asyncio
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from gatesync.engines.engine import EngineError
from gatesync.engines.envoy.admin import open_admin
from gatesync.engines.envoy.process import EnvoyFiles, EnvoyProcess, find_envoy
from gatesync.engines.envoy.resources import SCOPE
from tests.contracts.engine import deploy
from tests.contracts.saves import id_of
from tests.engines.envoy.load import load, upstream
from tests.engines.envoy.running import TIMEOUT, running
from tests.engines.envoy.test_engine import api, path, until_connected, until_ready
from tests.servers.gatesync import free_ports


@pytest.mark.promise(5)
async def test_a_gateway_that_is_gone_and_comes_back_costs_no_request(tmp_path: Path) -> None:
    folder, port = tmp_path / "e", free_ports(1)[0]
    async with upstream("one") as one, upstream("two") as two:
        async with running(folder, port, keep=True) as envoy:
            await deploy(envoy.engine, api("menu", to=one), api("bread"), api("ham"))
            pid = envoy.process.pid
        async with load(port, path("menu")) as requests:
            await requests.more()  # nobody is there but Envoy
            async with running(folder, port, held_back=True, keep=True) as envoy:
                await until_connected(envoy)
                assert (envoy.process.pid, envoy.process.starts) == (pid, 0)
                # What it was restarted with comes in two parts; then it is known to be all.
                await deploy(envoy.engine, api("bread"))
                await envoy.engine.started(proven=False)
                await requests.more()
                await deploy(envoy.engine, api("menu", to=one))
                await envoy.engine.started(proven=True)
                assert envoy.engine.state().ready
                session = envoy.engine.session
                assert session is not None
                assert session.pushes == 1  # nothing that it had; ham was removed meanwhile
                assert (await envoy.get(path("ham")))[0] == 404
                assert await envoy.get(path("bread")) == (200, "bread")
                await deploy(envoy.engine, api("menu", to=two))
                await requests.more()
        await envoy.process.stop(0.0)
        assert requests.failures == []
        assert requests.answers.keys() == {(200, "one"), (200, "two")}


async def test_what_changed_while_the_gateway_was_away_is_sent_and_nothing_else(
    tmp_path: Path,
) -> None:
    folder, port = tmp_path / "e", free_ports(1)[0]
    async with running(folder, port, keep=True) as envoy:
        await deploy(envoy.engine, *(api(f"a{number}") for number in range(10)))
        before = (await envoy.admin.held())[SCOPE]
    async with running(folder, port, held_back=True) as envoy:
        await until_connected(envoy)
        await deploy(envoy.engine, api("a0", text="new"), *(api(f"a{n}") for n in range(1, 10)))
        assert await envoy.get(path("a0")) == (200, "a0")
        await envoy.engine.started(proven=True)
        assert await envoy.get(path("a0")) == (200, "new")
        after = (await envoy.admin.held())[SCOPE]
        assert {name for name in after if after[name] != before[name]} == {id_of("a0")}


@pytest.mark.promise(4)
async def test_what_is_rejected_only_after_the_start_is_deployed_again_to_say_why(
    tmp_path: Path,
) -> None:
    again: asyncio.Queue[object] = asyncio.Queue()
    async with running(tmp_path / "e", free_ports(1)[0], held_back=True) as envoy:
        envoy.engine.on_back = again.put
        await deploy(envoy.engine, api("menu"), api("bread", bad="route"), api("ham"))
        await envoy.engine.started(proven=True)
        async with asyncio.timeout(TIMEOUT):
            assert await again.get() == {id_of("bread")}
        assert await envoy.get(path("menu")) == (200, "menu")
        assert await envoy.get(path("ham")) == (200, "ham")
        assert envoy.engine.content(id_of("bread")) is None
        refused = await envoy.engine.apply([api("bread", bad="route")], ())
        assert "missing ): (((" in refused[id_of("bread")]


async def test_an_envoy_that_was_started_otherwise_is_started_anew(tmp_path: Path) -> None:
    folder, port = tmp_path / "e", free_ports(1)[0]
    async with running(folder, port, keep=True) as envoy:
        await deploy(envoy.engine, api("menu"))
        pid = envoy.process.pid
        assert pid is not None
    async with open_admin(f"unix:{folder / 'admin'}") as admin:
        other = EnvoyProcess(EnvoyFiles(folder), find_envoy(None), [], b"{}", admin)
        await other._take_over()
        assert other.pid is None
    assert not psutil.pid_exists(pid)
    async with running(folder, port) as envoy:
        await deploy(envoy.engine, api("menu"))
        assert await envoy.get(path("menu")) == (200, "menu")


async def test_another_process_with_the_recorded_number_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "e"
    folder.mkdir()
    waiting = [sys.executable, "-c", "input()"]
    with subprocess.Popen(waiting, stdin=subprocess.PIPE) as other:  # noqa: ASYNC220
        (folder / "envoy.pid").write_text(f"{other.pid}\n")
        async with running(folder, free_ports(1)[0]) as envoy:
            await until_ready(envoy)
            assert envoy.process.starts == 1
        assert other.poll() is None
        other.communicate(b"\n")


async def test_an_envoy_that_cannot_start_says_why_and_is_tried_again(tmp_path: Path) -> None:
    program = tmp_path / "envoy"
    program.write_text("#!/bin/sh\necho 'no such option'\nexit 3\n")
    program.chmod(0o755)
    folder = tmp_path / "e"
    folder.mkdir()
    async with open_admin("127.0.0.1:1") as admin:
        process = EnvoyProcess(EnvoyFiles(folder), program, [], b"{}", admin, lambda: 0.0)
        running = asyncio.create_task(process.run())
        async with asyncio.timeout(TIMEOUT):
            while process.deaths < 3:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait([running])
    assert "with 3: no such option" in process.error


async def test_a_request_under_way_ends_before_envoy_does(tmp_path: Path) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await answer.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nslow")
        writer.close()

    server = await asyncio.start_server(slow, "127.0.0.1", 0)
    async with running(tmp_path / "e", free_ports(1)[0], keep=True) as envoy:
        await deploy(envoy.engine, api("menu", to=server.sockets[0].getsockname()[1]))
        request = asyncio.create_task(envoy.get(path("menu")))
        await asked.wait()
    stopping = asyncio.create_task(envoy.process.stop(TIMEOUT))
    async with open_admin(f"unix:{tmp_path / 'e' / 'admin'}") as admin:
        assert await admin.active_requests() == 1
    answer.set()
    assert await request == (200, "slow")
    await stopping
    assert envoy.process.pid is None
    server.close()


def test_a_program_that_is_not_there_is_refused_by_its_setting(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"gatesync\.envoy\.binary"):
        find_envoy(tmp_path / "envoy")

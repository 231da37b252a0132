"""Git servers that misbehave: no change is lost or doubled, and people are told what is wrong."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from gatesync.stores.git_retriever import open_git_retriever
from gatesync.stores.git_source import GitSource
from gatesync.stores.git_store import GitStore, open_git_store
from gatesync.stores.store import SaveOutcome, StoreError
from tests.contracts.genuine import publish
from tests.contracts.saves import asked
from tests.servers.git_http import Fault
from tests.stores.git_transports.servers import LOGIN, HttpHost, SshHost, host, with_login

PATIENCE = 60.0  # seconds, on a busy machine


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpHost]:
    with host("http with login", tmp_path_factory.mktemp("http")) as made:
        assert isinstance(made, HttpHost)
        yield made


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHost]:
    with host("ssh", tmp_path_factory.mktemp("ssh")) as made:
        assert isinstance(made, SshHost)
        yield made


@pytest.fixture
def source(http: HttpHost, tmp_path: Path) -> GitSource:
    return http.new_source(tmp_path / "clone")


@pytest.fixture
async def store(source: GitSource) -> AsyncIterator[GitStore]:
    async with open_git_store(source) as opened:
        await saved(opened, "First")
        yield opened


async def saved(store: GitStore, name: str, key: str = "") -> SaveOutcome:
    [answer] = await store.save([asked("Shop", publish(name), key=key or name)])
    assert isinstance(answer, SaveOutcome), answer
    return answer


async def saved_again(store: GitStore, name: str) -> SaveOutcome:
    """As whoever published it does: with its key, until it is there."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await saved(store, name)
            except StoreError:
                await asyncio.sleep(0.1)  # a server is let alone for a while


async def names_elsewhere(source: GitSource, folder: Path) -> list[str]:
    """What the log says that was published, in order, on a clone that has seen nothing yet."""
    async with open_git_store(replace(source, cache=folder)) as other:
        log = await other.change_sets("Shop", 0, 100)
    return [change.entry.name for each in log for change in each.changes]


@contextmanager
def refused(*words: str) -> Iterator[list[StoreError]]:
    """What happens is refused with these words, and without the password."""
    caught: list[StoreError] = []
    with pytest.raises(StoreError) as error:
        yield caught
    for word in words:
        assert word in str(error.value)
    assert LOGIN[1] not in str(error.value)
    caught.append(error.value)


@pytest.mark.promise(3)
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault.BUSY, "the server answers that we ask too often (429)"),
        (Fault.FAIL, "the server failed"),
        (Fault.CUT, "the connection broke off"),
        (Fault.SWALLOW, "the connection broke off"),
        (Fault.HANG, "nothing came for 1 s"),
    ],
)
async def test_what_was_saved_under_a_fault_is_there_once_after_a_repetition(
    fault: Fault, words: str, http: HttpHost, source: GitSource, tmp_path: Path
) -> None:
    async with open_git_store(replace(source, timeout=1.0)) as store:
        await saved(store, "First")
        with http.server.misbehaving(fault, "/git-receive-pack"), refused(words):
            await saved(store, "Second")
        await saved_again(store, "Second")
        await saved_again(store, "Third")
    assert await names_elsewhere(source, tmp_path / "elsewhere") == ["First", "Second", "Third"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault.FAIL, "the server failed"),
        (Fault.CUT, "the connection broke off"),
        (Fault.HANG, "nothing came for 1 s"),
    ],
)
async def test_a_pack_that_does_not_come_is_fetched_again(
    fault: Fault, words: str, http: HttpHost, store: GitStore, source: GitSource, tmp_path: Path
) -> None:
    reading = replace(source, cache=tmp_path / "reader", timeout=1.0)
    async with open_git_retriever(reading) as retriever:
        before = (await retriever.heads(["Shop"]))["Shop"]
        large = publish("Large", b"x" * 200_000)
        await store.save([asked("Shop", large)])
        with http.server.misbehaving(fault, "command=fetch"):
            with refused(words):
                await retriever.nudge()
            with refused(words):  # never an older state as if it were new
                await retriever.heads(["Shop"])
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    delta = await retriever.changes("Shop", before.cursor)
                    break
                except StoreError:
                    await asyncio.sleep(0.1)
        assert [change.entry.name for change in delta.changes] == ["Large"]
        digest = large.entry.digest
        assert await retriever.contents([digest]) == {digest: large.content}


async def test_a_connection_that_is_cut_anywhere_is_no_damage_of_the_clone(
    http: HttpHost, store: GitStore, source: GitSource, tmp_path: Path
) -> None:
    for number, http.server.cut_at in enumerate((0.05, 0.3, 0.6, 0.8, 0.99)):
        reading = replace(source, cache=tmp_path / f"{number}", timeout=5.0)
        async with open_git_retriever(reading) as retriever:
            await retriever.heads(["Shop"])
            mark = reading.cache / "clone.git" / "the-same"
            mark.touch()
            await store.save([asked("Shop", publish(f"Large{number}", b"x" * 50_000))])
            with http.server.misbehaving(Fault.CUT, "command=fetch"):
                with refused("the connection broke off"):
                    await retriever.nudge()
            assert mark.exists()
    http.server.cut_at = 0.5


async def test_a_server_that_says_when_to_come_back_is_let_alone_until_then(
    http: HttpHost, store: GitStore
) -> None:
    http.server.retry_after = 3
    with http.server.misbehaving(Fault.BUSY), refused("429"):
        await store.nudge()
    asked_then, told_at = len(http.server.asked), time.monotonic()
    async with asyncio.timeout(PATIENCE):
        while len(http.server.asked) == asked_then:
            with suppress(StoreError):
                await store.nudge()
            await asyncio.sleep(0.02)
    assert time.monotonic() - told_at > 2.5  # and not after the first second, as by itself


async def test_who_is_not_let_in_is_told(http: HttpHost, ssh: SshHost, tmp_path: Path) -> None:
    right = http.new_source(tmp_path / "http")
    wrong_password = with_login(right, (LOGIN[0], "wrong"))
    unknown = replace(ssh.new_source(tmp_path / "ssh"), known_hosts=tmp_path / "nobody")
    (tmp_path / "nobody").touch()
    stranger = replace(
        ssh.new_source(tmp_path / "key"), ssh_key=ssh.server.make_key("stranger", let_in=False)
    )
    nowhere = replace(right, url=type(right.url)(http.server.url("nowhere.git")))
    expected = {
        wrong_password: "check username and password (or token)",
        unknown: "the server's host key is not among known_hosts",
        stranger: "the server does not accept the ssh key; check ssh_key",
        nowhere: "there is no such repository",
    }
    for number, (source, words) in enumerate(expected.items()):
        async with open_git_retriever(replace(source, cache=tmp_path / f"{number}")) as retriever:
            with refused(words, str(source)):
                await retriever.heads(["Shop"])


async def test_a_certificate_that_nobody_trusts_is_told(tmp_path: Path) -> None:
    with host("https", tmp_path) as served:
        source = replace(served.new_source(tmp_path / "clone"), ca=None)
        async with open_git_retriever(source) as retriever:
            with refused("the server's certificate is not one that is trusted here; check ca"):
                await retriever.heads(["Shop"])


@pytest.mark.promise(3)
async def test_an_ssh_server_that_hangs_or_is_gone_holds_up_nobody(
    ssh: SshHost, tmp_path: Path
) -> None:
    source = replace(ssh.new_source(tmp_path / "clone"), timeout=2.0)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_git_store(replace(source, timeout=PATIENCE)))
        impatient = await stack.enter_async_context(
            open_git_store(replace(source, cache=tmp_path / "impatient"))
        )
        await saved(store, "First")
        ssh.server.pause()
        try:
            with refused():
                await saved(impatient, "Second")
        finally:
            ssh.server.resume()
        await saved_again(impatient, "Second")
        ssh.server.stop()
        try:
            with refused("the server cannot be reached"):
                await saved(store, "Third")
        finally:
            ssh.server.start()
        await saved_again(store, "Third")
    assert await names_elsewhere(source, tmp_path / "elsewhere") == ["First", "Second", "Third"]

"""What a person is told when Git is in the way, and that no secret is in it."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from gatesync.secret import Secret, SecretUrl
from gatesync.stores.git_command import GitCommand, GitError
from gatesync.stores.git_retriever import open_git_retriever
from gatesync.stores.git_source import GitSource
from gatesync.stores.git_trouble import explain, is_outrun, retry_after
from gatesync.stores.git_url import remote_of
from gatesync.stores.store import StoreError
from tests.contracts.genuine import held, publish
from tests.contracts.saves import asked, saved
from tests.stores.git.bench import GitBench, opened, source_of

pytestmark = pytest.mark.fast

HIDDEN = "s3cr3t-token"


def source(url: str, cache: Path = Path("clone")) -> GitSource:
    return GitSource(url=SecretUrl(url), cache=cache, poll_seconds=3600.0, timeout=5.0)


@pytest.mark.parametrize(
    ("url", "where", "protocol"),
    [
        ("https://ann:pw@git.example.com/a.git", "https://git.example.com/a.git", "https"),
        ("https://[::1]:8443/a.git", "https://[::1]:8443/a.git", "https"),
        ("http://127.0.0.1:80/a.git", "http://127.0.0.1:80/a.git", "http"),
        ("ssh://git@host:2222/a.git", "ssh://git@host:2222/a.git", "ssh"),
        ("git@github.com:wso2/apis.git", "git@github.com:wso2/apis.git", "ssh"),
        ("/srv/a b.git", "file:///srv/a%20b.git", "file"),
    ],
)
def test_a_url_is_gone_to_without_its_password(url: str, where: str, protocol: str) -> None:
    remote = remote_of(source(url))
    assert (remote.url, remote.protocols) == (where, protocol)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://git.example.com/a.git", "allow_plaintext"),
        ("ext::sh -c touch% /tmp/x", "not to go there"),
        ("git://host/a", "not to go there"),
        ("ftp://host/a", "not to go there"),
        ("-oProxyCommand=x:y", "not to go there"),
        ("ssh://-oProxyCommand=x/y", "not to go there"),
        ("https://host:port/a", "cannot be read"),
    ],
)
def test_a_url_that_git_is_not_to_follow_is_refused(url: str, reason: str) -> None:
    with pytest.raises(StoreError, match=reason):
        remote_of(source(url))


@pytest.mark.parametrize("branch", ["", "-x", "a..b", "a b", "x.lock", "a/", "@{u}", "a:b"])
def test_what_is_no_branch_is_refused(branch: str) -> None:
    with pytest.raises(StoreError, match="not the name of a branch"):
        remote_of(replace(source("file:///x"), branch=branch))


@pytest.mark.parametrize("path", ["/a", "a/../b", "a//b", ".git", "a\n"])
def test_a_path_stays_in_the_repository(path: str) -> None:
    with pytest.raises(StoreError, match="must be relative"):
        remote_of(replace(source("file:///x"), path=path))


def test_credentials_are_in_no_argument_no_file_and_no_message(tmp_path: Path) -> None:
    asked_for = replace(
        source(f"https://ann:{HIDDEN}@git.example.com/a.git", tmp_path),
        allowed_signers=tmp_path / 'with "quotes"',
    )
    remote = remote_of(asked_for)
    command = GitCommand(asked_for, remote)
    command.prepare()
    texts = [file.read_text() for file in tmp_path.rglob("*") if file.is_file()]
    texts += [str(asked_for), repr(asked_for), repr(remote), *command.arguments("fetch")]
    assert not [text for text in texts if HIDDEN in text]
    assert 'credential "https://git.example.com"' in texts[0]
    shown = {name for name, value in command.environment.items() if HIDDEN in value}
    assert shown == {"GATESYNC_GIT_PASSWORD"}


async def test_who_is_not_on_the_list_of_variables_has_no_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GIT_DIR", "GIT_PROXY_COMMAND", "GIT_SSH", "GIT_EXEC_PATH", "LD_PRELOAD"):
        monkeypatch.setenv(name, "/elsewhere")
    asked_for = source(f"file://{tmp_path}/a.git", tmp_path / "cache")
    command = GitCommand(asked_for, remote_of(asked_for))
    command.prepare()
    assert "/elsewhere" not in command.environment.values()
    await command.run("init", "--quiet", "--bare")
    with pytest.raises(GitError, match="not allowed"):
        await command.run("ls-remote", "--", "https://127.0.0.1:1/x")
    with pytest.raises(GitError, match="nothing came for") as caught:
        await command.run("-c", "alias.hang=!sleep 600", "hang", silence=0.2)
    assert caught.value.silent


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("fatal: Authentication failed for 'https://h/a'", "check username and password"),
        ("fatal: could not read Username for 'https://h': terminal prompts disabled", "who asks"),
        ("error: RPC failed; HTTP 429 curl 22 The requested URL returned error: 429", "429"),
        ("fatal: unable to access 'https://h/': The requested URL returned error: 503", "failed"),
        ("Host key verification failed.\nfatal: Could not read from remote", "known_hosts"),
        ("git@h: Permission denied (publickey).", "ssh_key"),
        ("fatal: unable to access 'https://h/': Could not resolve host: h", "name is not known"),
        ("fatal: the remote end hung up unexpectedly\nfatal: early EOF", "broke off"),
        (" ! [remote rejected] main (pre-receive hook declined)", "does not let us push"),
        ("error: 403 bytes of body are still expected\nfetch-pack: early EOF", "broke off"),
        ("fatal: something new", "git says: fatal: something new"),
    ],
)
def test_what_git_says_is_told_in_plain_words(told: str, words: str) -> None:
    assert words in explain(told)


def test_being_outrun_and_being_told_to_wait_are_recognised() -> None:
    assert is_outrun(" ! [rejected]  x -> main (fetch first)")
    assert is_outrun(" ! [remote rejected] x -> main (cannot lock ref 'refs/heads/main': is at a)")
    assert not is_outrun(" ! [remote rejected] x -> main (pre-receive hook declined)")
    assert retry_after("Retry-After: 30") == 30
    assert retry_after("error: 429") is None


async def test_a_server_that_fails_is_told_and_let_alone_for_a_while(
    bench: GitBench, url: str, tmp_path: Path
) -> None:
    await saved(bench, asked("Shop", publish("Menu")))
    server = tmp_path / "server.git"
    async with open_git_retriever(source_of(url, tmp_path / "gateway")) as retriever:
        await retriever.heads(["Shop"])
        away = server.rename(tmp_path / "away.git")
        with pytest.raises(StoreError, match="there is no"):
            await retriever.nudge()
        for question in (retriever.heads(["Shop"]), retriever.manifest("Shop")):
            with pytest.raises(StoreError):  # not as if what was known were in step
                await question
        digests = [publish("Menu").entry.digest]
        assert len(await retriever.contents(digests)) == 1  # immutable: served on
        with pytest.raises(StoreError):
            await bench.store.save([asked("Shop", publish("Bread"))])
        away.rename(server)
        retriever._branch.answered()
        await retriever.nudge()
        assert (await retriever.heads(["Shop"]))["Shop"].digest.count == 1


async def test_an_unsure_save_is_repeated_safely(
    bench: GitBench, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The push came through, and its answer did not."""
    repository = bench.store._branch.repository
    push = repository.push

    async def cut(commit: str) -> bool:
        await push(commit)
        raise GitError("fatal: the remote end hung up unexpectedly")

    request = asked("Shop", publish("Menu"))
    monkeypatch.setattr(repository, "push", cut)
    with pytest.raises(StoreError, match="broke off") as caught:
        await bench.store.save([request])
    assert caught.value.unsure
    monkeypatch.undo()
    bench.store._branch.answered()
    await bench.store.nudge()
    [outcome] = await saved(bench, request)
    assert outcome.repeated
    assert len(outcome.change_sets) == 1
    assert set(await held(bench, "Shop")) == {"Menu"}


def test_a_token_needs_no_name() -> None:
    remote = remote_of(replace(source("https://h/a"), password=Secret(HIDDEN)))
    assert remote.username == "git"


async def test_a_repository_that_is_not_there_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no"):
        async with opened(source((tmp_path / "none.git").as_uri(), tmp_path / "clone")):
            pass

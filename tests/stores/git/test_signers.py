"""With allowed signers a commit counts only if one of them has signed it (promise 8)."""

import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace

from gatesync.stores.git_retriever import open_git_retriever
from gatesync.stores.git_source import GitSource
from gatesync.stores.store import StoreError, read_manifest
from tests.contracts.genuine import held, publish
from tests.contracts.saves import asked, saved
from tests.stores.git.bench import git, opened, source_of
from tests.stores.git.people import Person

pytestmark = [pytest.mark.fast, pytest.mark.promise(8)]


def made_key(folder: Path, name: str) -> Path:
    key = folder / f"key of {name}"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(key)],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return key


class Signers:
    """The file, and keys that stand in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "allowed_signers"
        self.file.touch()

    def allowed(self, name: str) -> Path:
        key = made_key(self.folder, name)
        with self.file.open("a") as file:
            public = Path(f"{key}.pub").read_text()
            file.write(f"{name}@example.com {public}")
        return key


@pytest.fixture
def signers(tmp_path: Path) -> Signers:
    return Signers(tmp_path)


@pytest.fixture
def source(url: str, tmp_path: Path, signers: Signers) -> GitSource:
    return replace(
        source_of(url, tmp_path / "clone"),
        signing_key=signers.allowed("publisher"),
        allowed_signers=signers.file,
    )


def sign_with(person: Person, key: Path) -> None:
    git(person.folder, "config", "gpg.format", "ssh")
    git(person.folder, "config", "user.signingKey", str(key))
    git(person.folder, "config", "commit.gpgSign", "true")


async def test_what_allowed_signers_commit_counts(
    source: GitSource, signers: Signers, url: str, tmp_path: Path
) -> None:
    ann = Person(url, tmp_path / "ann")
    sign_with(ann, signers.allowed("ann"))
    async with opened(source) as bench:
        await saved(bench, asked("Shop", publish("Menu"), publish("Bread")))
        ann.pull()
        ann.put("Shop", "Tea")
        ann.share()
        await bench.store.nudge()
        assert bench.store.problems() == {}
        assert set(await held(bench, "Shop")) == {"Menu", "Bread", "Tea"}
        await saved(bench, asked("Shop", publish("Ham")))
        await bench.reopen_elsewhere(tmp_path / "another")
        assert set(await held(bench, "Shop")) == {"Menu", "Bread", "Tea", "Ham"}


@pytest.mark.parametrize("signed", [True, False])
async def test_the_log_ends_before_the_first_commit_that_nobody_allowed_has_signed(
    source: GitSource, url: str, tmp_path: Path, signed: bool
) -> None:
    eve = Person(url, tmp_path / "eve")
    if signed:
        sign_with(eve, made_key(tmp_path, "eve"))
    gateway = replace(source, cache=tmp_path / "gateway")
    async with opened(source) as bench, open_git_retriever(gateway) as retriever:
        await saved(bench, asked("Shop", publish("Menu")))
        await retriever.nudge()
        eve.pull()
        eve.put("Shop", "Evil")
        commit = eve.share()
        for reader in (retriever, bench.store):
            await reader.nudge()
            [(where, [reason])] = reader.problems().items()
            assert where == ""
            assert commit[:12] in reason
            assert ("not allowed" if signed else "not signed") in reason
            _, entries = await read_manifest(reader, "Shop")
            assert {each.name for each in entries.values()} == {"Menu"}
        with pytest.raises(StoreError, match=commit[:12]):
            await bench.store.save([asked("Shop", publish("Bread"))])
        git(eve.folder, "reset", "--quiet", "--hard", "HEAD~1")
        eve.push("--force")
        await bench.store.nudge()
        assert bench.store.problems() == {}
        await saved(bench, asked("Shop", publish("Bread")))
        head = (await bench.store.heads(["Shop"]))["Shop"]
        await retriever.nudge()
        assert (await retriever.heads(["Shop"]))["Shop"] == head
        assert head.epoch == bench.store.epoch


async def test_a_publisher_that_cannot_sign_does_not_begin(source: GitSource) -> None:
    with pytest.raises(StoreError, match="no signing_key"):
        async with opened(replace(source, signing_key=None)):
            pass


async def test_a_publisher_whose_key_is_not_allowed_is_told(
    source: GitSource, tmp_path: Path
) -> None:
    eve = replace(source, signing_key=made_key(tmp_path, "eve"), cache=tmp_path / "eve-clone")
    async with opened(source):
        pass
    async with opened(eve) as bench:
        with pytest.raises(StoreError, match="not allowed"):
            await bench.store.save([asked("Shop", publish("Evil"))])
    async with opened(source) as bench:
        assert await bench.store.labels() == []
        await saved(bench, asked("Shop", publish("Menu")))

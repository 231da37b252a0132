"""The Git store against plain git, in the same run, on one repository of 10,000 artifacts of 4 kB.

- A start: a new clone, the list of the label proven whole, and every content by its digest. The
  limit is `git clone --bare`, and `git cat-file --batch` of the same files' contents.
- One change of a person's or another publisher's: asked for, fetched, and its content read. The
  limit is `git fetch` of the same commit into a bare clone.
- One publish, durable on the server. The limit is `git add`, `git commit` and `git push` of the
  same files in a clone that is checked out.

Rounds alternate; medians and their ratio are printed. The server is a bare repository, reached by
`file://`. By default all files are in memory, where creating many small ones takes as long each
time; `--folder` puts them elsewhere.
"""

import argparse
import asyncio
import logging
import os
import shutil
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import structlog

from figures import Target, milliseconds, print_figure
from gatesync.artifacts import canonical
from gatesync.artifacts.folder import files_of
from gatesync.artifacts.paths import folder_of
from gatesync.artifacts.planning import SaveRequest
from gatesync.publisher.requests import PublishItem, publish_of
from gatesync.secret import SecretUrl
from gatesync.stores.git_retriever import open_git_retriever
from gatesync.stores.git_source import GitSource
from gatesync.stores.git_store import GitStore, open_git_store
from gatesync.stores.store import SaveOutcome, read_manifest
from parts import artifact_of

LABEL = "Default"
ARTIFACTS = 10_000
STARTS = 3
CHANGES = 20
IN_A_REQUEST = 500
BATCH = 256  # contents that a gateway asks for at once
TARGET = Target(
    "ratio",
    at_most=2.0,
    why="What git does not do: each artifact's canonical form is made of its files, hashed, and "
    "compared with what the log says.",
)


class Took(NamedTuple):
    """Seconds of each round."""

    store: list[float]
    git: list[float]


def main() -> None:
    """Measure, and print a line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifacts", type=int, default=ARTIFACTS)
    parser.add_argument("--starts", type=int, default=STARTS)
    parser.add_argument("--changes", type=int, default=CHANGES)
    parser.add_argument("--folder", type=Path, default=_in_memory())
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="git-store-") as folder:
        asyncio.run(
            _measure(Path(folder), arguments.artifacts, arguments.starts, arguments.changes)
        )


def _in_memory() -> Path:
    shared = Path("/dev/shm")
    return shared if shared.is_dir() else Path(tempfile.gettempdir())


async def _measure(folder: Path, artifacts: int, starts: int, changes: int) -> None:
    server = folder / "server.git"
    _git(folder, "init", "--quiet", "--bare", "--initial-branch=main", str(server))
    _git(server, "config", "gc.auto", "0")
    source = GitSource(
        url=SecretUrl(server.as_uri()), cache=folder / "publisher", poll_seconds=3600.0
    )
    async with open_git_store(source) as store:
        for first in range(0, artifacts, IN_A_REQUEST):
            numbers = range(first, min(first + IN_A_REQUEST, artifacts))
            await _save(store, [(number, 0) for number in numbers])
        _git(server, "gc", "--quiet")  # as a server does, in its own time
        print_figure(
            "git_store",
            f"a start with {artifacts:,} artifacts: clone, list, and every content",
            artifacts=artifacts,
            rounds=starts,
            target=TARGET,
            **_figures(await _starts(folder, source, starts), "git clone --bare, git cat-file"),
        )
        print_figure(
            "git_store",
            "one change of another's: asked for, fetched, and its content read",
            artifacts=artifacts,
            **_figures(await _fetches(folder, source, store, changes), "git fetch"),
        )
        print_figure(
            "git_store",
            "one publish, durable on the server",
            artifacts=artifacts,
            **_figures(
                await _publishes(folder, server, store, changes), "git add, git commit, git push"
            ),
        )


def _figures(took: Took, limit: str) -> dict[str, Any]:
    ours, gits = ([1000 * each for each in rounds] for rounds in took)
    ratio = statistics.median(ours) / statistics.median(gits)
    return {
        **milliseconds(ours),
        "limit": {"what": limit, **milliseconds(gits)},
        "ratio": round(ratio, 2),
        "floor": {"ms": round(statistics.median(gits), 1)},
    }


# A start --------------------------------------------------------------------------------------


async def _starts(folder: Path, source: GitSource, rounds: int) -> Took:
    took = Took([], [])
    blobs = [line.split()[2] for line in _git(folder / "server.git", "ls-tree", "-r", "main")]
    for number in range(rounds):
        began = time.perf_counter()
        _clone_and_read(source, folder / f"git-{number}", blobs)
        took.git.append(time.perf_counter() - began)

        began = time.perf_counter()
        await _start(source, folder / f"store-{number}")
        took.store.append(time.perf_counter() - began)
        for made in (folder / f"git-{number}", folder / f"store-{number}"):
            shutil.rmtree(made)
    return took


async def _start(source: GitSource, cache: Path) -> None:
    async with open_git_retriever(_at(source, cache)) as retriever:
        _, entries = await read_manifest(retriever, LABEL)
        digests = [entry.digest for entry in entries.values()]
        found = 0
        for first in range(0, len(digests), BATCH):
            found += len(await retriever.contents(digests[first : first + BATCH]))
        assert found == len(digests)


def _clone_and_read(source: GitSource, clone: Path, blobs: Sequence[str]) -> None:
    _git(clone.parent, "clone", "--quiet", "--bare", source.url.reveal(), str(clone))
    _git(clone, "cat-file", "--batch", feed="".join(f"{blob}\n" for blob in blobs))


# One change -----------------------------------------------------------------------------------


async def _fetches(folder: Path, source: GitSource, store: GitStore, rounds: int) -> Took:
    took = Took([], [])
    clone = folder / "fetching.git"
    _git(folder, "clone", "--quiet", "--bare", source.url.reveal(), str(clone))
    async with open_git_retriever(_at(source, folder / "reader")) as retriever:
        cursor = (await retriever.heads([LABEL]))[LABEL].cursor
        for number in range(1, rounds + 1):
            await _save(store, [(number, number)])
            began = time.perf_counter()
            _git(clone, "fetch", "--quiet", "origin", "+refs/heads/main:refs/heads/main")
            took.git.append(time.perf_counter() - began)

            began = time.perf_counter()
            await retriever.nudge()
            delta = await retriever.changes(LABEL, cursor)
            (change,) = delta.changes
            assert await retriever.contents([change.entry.digest])
            took.store.append(time.perf_counter() - began)
            cursor = delta.head.cursor
    return took


# One publish ----------------------------------------------------------------------------------


async def _publishes(folder: Path, server: Path, store: GitStore, rounds: int) -> Took:
    took = Took([], [])
    other = folder / "other.git"  # so that nobody is outrun
    _git(folder, "clone", "--quiet", "--bare", server.as_uri(), str(other))
    clone = folder / "clone"
    _git(folder, "clone", "--quiet", other.as_uri(), str(clone))
    for number in range(1, rounds + 1):
        artifact = artifact_of(number, edit=1_000 + number)
        began = time.perf_counter()
        files = {
            f"{folder_of(LABEL, artifact.identity)}/{path}": content
            for path, content in files_of(artifact).items()
        }
        for path, content in files.items():
            (clone / path).write_bytes(content)
        _git(clone, "add", "--", *files)
        _git(clone, "commit", "--quiet", "--message", f"Publish {artifact.identity.name}")
        _git(clone, "push", "--quiet", "origin", "main")
        took.git.append(time.perf_counter() - began)

        began = time.perf_counter()
        await _save(store, [(number, 1_000 + number)])
        took.store.append(time.perf_counter() - began)
    return took


async def _save(store: GitStore, numbers: Sequence[tuple[int, int]]) -> None:
    items = tuple(_published(numbers))
    key = uuid.uuid4().hex
    now = int(time.time() * 1000)
    request = SaveRequest((LABEL,), (items,), key, fingerprint=key, published_at=now)
    [outcome] = await store.save([request])
    assert isinstance(outcome, SaveOutcome), outcome


def _published(numbers: Sequence[tuple[int, int]]) -> Iterator[Any]:
    for number, edit in numbers:
        content = canonical.encode(artifact_of(number, edit=edit))
        yield publish_of(PublishItem(msgspec.json.decode(content)))


def _at(source: GitSource, cache: Path) -> GitSource:
    return GitSource(url=source.url, cache=cache, poll_seconds=source.poll_seconds)


def _git(folder: Path, *arguments: str, feed: str = "") -> list[str]:
    """Run git as nobody in particular, as careful about what is on the disk as the store is."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment = kept | {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    settings = ("core.fsync=all", "gc.auto=0", "user.name=git", "user.email=git@example.com")
    options = [word for each in settings for word in ("-c", each)]
    done = subprocess.run(
        ["git", *options, *arguments],
        cwd=folder,
        env=environment,
        input=feed.encode(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode(errors="replace").splitlines()


if __name__ == "__main__":
    main()

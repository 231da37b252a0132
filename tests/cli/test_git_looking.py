"""Webhooks and polls, with a branch that is none: who is asked to look, and who is told."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gatesync.cli.git_looking import looking_at_git, not_served
from gatesync.cli.retrieving import lag_seconds, reads_from
from gatesync.config import load
from gatesync.config.git import GIT_TABLE, GitSettings
from gatesync.gateway.lag import LAG_SECONDS
from gatesync.secret import Secret, SecretUrl
from gatesync.stores.git_source import GitSource
from gatesync.stores.store import StoreError
from gatesync.web.git_hook import GitHook

pytestmark = pytest.mark.fast

SOURCE = GitSource(url=SecretUrl("https://git.example.com/apis.git"), cache=Path("none"))
GIT = GitSettings(source=SOURCE, webhook_secret=Secret("0123456789abcdef"))


class Branch:
    """Counts how often it was looked at; fails as often as it is told to."""

    def __init__(self, fails: int = 0) -> None:
        self.looked = asyncio.Semaphore(0)
        self.told: Callable[[], object] | None = None
        self._fails = fails

    async def nudge(self) -> None:
        self.looked.release()
        if self._fails:
            self._fails -= 1
            raise StoreError("the server failed")

    def on_moved(self, told: Callable[[], object]) -> None:
        self.told = told

    def problems(self) -> Mapping[str, tuple[str, ...]]:
        return {"b/x": ("b/x/a.xml:1: not well-formed XML",), "a/artifact.toml": ("is a stray",)}


async def send(app: GitHook, delivery: str) -> int:
    """A push that GitLab tells of; answers with the status."""
    headers = [
        (b"x-gitlab-token", b"0123456789abcdef"),
        (b"x-gitlab-event-uuid", delivery.encode()),
    ]
    scope = {"type": "http", "method": "POST", "path": "/hooks/git", "headers": headers}
    answers: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": delivery.encode(), "more_body": False}

    async def answer(message: dict[str, Any]) -> None:
        answers.append(message)

    await app(scope, receive, answer)
    return int(answers[0]["status"])


async def test_each_webhook_has_the_branch_looked_at_though_a_look_fails() -> None:
    branch, app = Branch(fails=1), object()
    async with looking_at_git(branch, GIT, lambda: None) as with_hook:
        hook = with_hook(app)
        assert isinstance(hook, GitHook)
        for delivery in ("1", "2"):
            assert await send(hook, delivery) == 200
            async with asyncio.timeout(60):
                await branch.looked.acquire()


async def test_whoever_waits_is_told_when_the_branch_has_moved_with_or_without_webhooks() -> None:
    for git in (GIT, replace(GIT, webhook_secret=None)):
        told: list[str] = []
        branch = Branch()
        async with looking_at_git(branch, git, lambda told=told: told.append("moved")):
            assert branch.told is not None
            branch.told()
        assert told == ["moved"]


async def test_without_a_secret_or_a_branch_there_is_no_hook() -> None:
    app = object()
    for store, git in ((Branch(), replace(GIT, webhook_secret=None)), (object(), GIT)):
        async with looking_at_git(store, git, lambda: None) as with_hook:
            assert with_hook(app) is app


def test_what_is_not_served_is_one_line_that_names_its_place() -> None:
    assert not_served(Branch()) == "a/artifact.toml: is a stray (and 1 more places)"
    assert not_served(object()) == ""


def test_a_gateway_says_what_it_reads_and_a_slow_poll_is_no_other_history(tmp_path: Path) -> None:
    def settings(poll_ms: int) -> Any:
        (tmp_path / "deployment.toml").write_text(
            '[apim.sync_runtime_artifacts.gateway]\nartifact_retriever = "GitRetriever"\n'
            f'[{GIT_TABLE}]\nurl = "https://u:hidden@git.example.com/a.git"\n'
            f"poll_interval = {poll_ms}\n"
        )
        return load(tmp_path / "deployment.toml").settings

    assert reads_from(settings(1_000)) == "branch main of https://git.example.com/a.git"
    assert lag_seconds(settings(1_000)) == LAG_SECONDS
    assert lag_seconds(settings(600_000)) == 1_200.0

"""Webhooks of Git servers, as plain ASGI: who is believed, and what they can do."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.secret import Secret
from gatesync.web import git_hook
from gatesync.web.git_hook import HOOK_PATH, GitHook
from gatesync.web.rates import Rates

pytestmark = pytest.mark.fast

SECRET = "0123456789abcdef"
PUSH = {"ref": "refs/heads/main", "before": "0" * 40, "after": "1" * 40, "commits": []}


class Said(NamedTuple):
    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def what(self) -> str:
        return str(json.loads(self.body)["status"])


class Hook:
    """The hook in front of an application that answers 299, and how often it looked."""

    def __init__(self, **options: Any) -> None:
        self.looked = 0
        options.setdefault("rates", Rates(0))
        self.app = GitHook(self._app, Secret(SECRET), "main", self._look, **options)

    def _look(self) -> None:
        self.looked += 1

    async def _app(self, _scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 299, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ask(
        self,
        body: bytes | Sequence[bytes] = b"",
        headers: Mapping[str, str] | None = None,
        *,
        path: str = HOOK_PATH,
        method: str = "POST",
        client: str = "10.0.0.1",
    ) -> Said | None:
        """One request, its body in as many pieces as are given; None where nothing was said."""
        pieces = [body] if isinstance(body, bytes) else list(body)
        messages = [{"type": "http.request", "body": each, "more_body": True} for each in pieces]
        messages[-1]["more_body"] = False
        answer: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return messages.pop(0)

        async def send(message: dict[str, Any]) -> None:
            answer.append(message)

        sent = [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()]
        scope = {"type": "http", "method": method, "path": path, "headers": sent}
        await self.app(scope | {"client": (client, 1)}, receive, send)
        if not answer:
            return None
        return Said(answer[0]["status"], dict(answer[0]["headers"]), answer[1]["body"])


def signed(body: bytes, secret: str = SECRET) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


async def github(
    hook: Hook, body: bytes | None = None, *, event: str = "push", delivery: str = "1", **more: Any
) -> Said:
    body = json.dumps(PUSH).encode() if body is None else body
    headers = {
        "X-Hub-Signature-256": signed(body),
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": delivery,
    }
    said = await hook.ask(body, headers, **more)
    assert said is not None
    return said


async def gitlab(
    hook: Hook, push: Mapping[str, Any] = PUSH, *, token: str = SECRET, event: str = "Push Hook"
) -> Said:
    headers = {"X-Gitlab-Token": token, "X-Gitlab-Event": event}
    said = await hook.ask(json.dumps(push).encode(), headers)
    assert said is not None
    return said


async def test_a_push_that_github_signed_is_looked_at() -> None:
    hook = Hook()
    said = await github(hook)
    assert (said.status, said.what) == (200, "looking at the branch")
    assert hook.looked == 1


async def test_a_push_that_gitlab_shows_the_token_of_is_looked_at() -> None:
    hook = Hook()
    said = await gitlab(hook)
    assert (said.status, said.what) == (200, "looking at the branch")
    assert hook.looked == 1


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Gitlab-Token": ""},
        {"X-Gitlab-Token": SECRET[:-1]},
        {"X-Gitlab-Token": f"{SECRET}0"},
        {"X-Hub-Signature-256": ""},
        {"X-Hub-Signature-256": signed(b"{}", "another secret..")},
        {"X-Hub-Signature-256": signed(b"{} ")},
        {"X-Hub-Signature-256": signed(b"{}").upper()},
        {"X-Hub-Signature-256": signed(b"{}").removeprefix("sha256=")},
        {"X-Hub-Signature": "sha1=" + hmac.new(SECRET.encode(), b"{}", "sha1").hexdigest()},
        {"Authorization": f"Bearer {SECRET}"},
    ],
)
async def test_who_does_not_know_the_secret_is_not_believed(headers: dict[str, str]) -> None:
    hook = Hook()
    said = await hook.ask(b"{}", headers)
    assert said is not None
    assert said.status == 401
    assert "webhook_secret in [apim.sync_runtime_artifacts.git]" in said.body.decode()
    assert SECRET not in said.body.decode()
    assert hook.looked == 0


@given(st.binary(max_size=90), st.binary(max_size=40))
async def test_no_bytes_whatsoever_stand_for_a_proof(header: bytes, body: bytes) -> None:
    hook = Hook()
    for name in ("X-Hub-Signature-256", "X-Gitlab-Token"):
        said = await hook.ask(body, {name: header.decode("latin-1")})
        assert said is not None
        assert said.status == 401
    assert hook.looked == 0


async def test_a_signature_goes_before_a_token() -> None:
    headers = {"X-Hub-Signature-256": signed(b"other"), "X-Gitlab-Token": SECRET}
    said = await Hook().ask(b"{}", headers)
    assert said is not None
    assert said.status == 401


async def test_a_body_may_come_in_pieces() -> None:
    body = json.dumps(PUSH).encode()
    hook = Hook()
    said = await hook.ask([body[:7], b"", body[7:]], {"X-Hub-Signature-256": signed(body)})
    assert said is not None
    assert said.status == 200
    assert hook.looked == 1


async def test_what_comes_again_is_not_looked_at_again() -> None:
    hook = Hook()
    await github(hook, delivery="a")
    assert (await github(hook, delivery="a")).what == "known: it came before"
    # Whoever heard it may send it under another id, which is not what is signed.
    assert (await github(hook, delivery="b")).what == "known: it came before"
    other = json.dumps(PUSH | {"after": "2" * 40}).encode()
    assert (await github(hook, other, delivery="a")).what == "known: it came before"
    assert hook.looked == 1
    third = json.dumps(PUSH | {"after": "3" * 40}).encode()
    assert (await github(hook, third, delivery="c")).what == "looking at the branch"
    assert hook.looked == 2


async def test_only_so_many_deliveries_are_remembered() -> None:
    hook = Hook()
    for number in range(3 * git_hook.REMEMBERED):
        await github(hook, json.dumps(PUSH | {"after": str(number)}).encode(), delivery=str(number))
    assert hook.looked == 3 * git_hook.REMEMBERED
    assert len(hook.app._seen) == 2 * git_hook.REMEMBERED


async def test_what_is_no_push_to_our_branch_is_ignored() -> None:
    hook = Hook()
    assert (await github(hook, event="ping")).what == "pong"
    assert (await github(hook, event="issues")).what == "ignored: it tells of no push"
    assert (await gitlab(hook, event="Pipeline Hook")).what == "ignored: it tells of no push"
    for ref in ("refs/heads/mainly", "refs/tags/main", "main"):
        assert (await gitlab(hook, PUSH | {"ref": ref})).what == "ignored: it is another branch's"
    assert hook.looked == 0


@pytest.mark.parametrize(
    "body", [b"", b"payload=%7B%22ref%22", b"[]", b'{"ref": 1}', b"\xff", b"["]
)
async def test_a_push_whose_branch_cannot_be_read_may_be_ours(body: bytes) -> None:
    hook = Hook()
    assert (await github(hook, body)).what == "looking at the branch"


async def test_a_large_push_is_taken_without_being_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_hook, "READ_MAX", 64)
    body = json.dumps(PUSH | {"ref": "refs/heads/other", "commits": ["x" * 200]}).encode()
    hook = Hook()
    assert (await github(hook, body)).what == "looking at the branch"


async def test_a_body_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_hook, "BODY_MAX", 100)
    hook = Hook()
    declared = await hook.ask(b"", {"X-Gitlab-Token": SECRET, "Content-Length": "101"})
    streamed = await hook.ask([b"x" * 60, b"x" * 60], {"X-Gitlab-Token": SECRET})
    strange = await hook.ask(b"", {"X-Gitlab-Token": SECRET, "Content-Length": "-1"})
    for said in (declared, streamed, strange):
        assert said is not None
        assert said.status == 413
    assert hook.looked == 0


async def test_each_address_may_ask_so_often() -> None:
    hook = Hook(rates=Rates(1, burst=2, clock=lambda: 0.0))
    statuses = [(await github(hook, delivery=str(n))).status for n in range(3)]
    assert statuses == [200, 200, 429]
    said = await github(hook)
    assert said.headers[b"retry-after"] == b"1"
    assert (await github(hook, client="10.0.0.2")).status == 200


async def test_only_post_is_taken() -> None:
    said = await Hook().ask(method="GET")
    assert said is not None
    assert (said.status, said.headers[b"allow"]) == (405, b"POST")


@pytest.mark.parametrize("path", ["/", "/hooks/git/", "/hooks", "/hooks/Git", "/v1/changes"])
async def test_every_other_path_is_passed_on(path: str) -> None:
    hook = Hook()
    said = await hook.ask(b"{}", {"X-Gitlab-Token": SECRET}, path=path)
    assert said is not None
    assert said.status == 299
    assert hook.looked == 0


async def test_who_goes_away_or_sends_slowly_holds_nothing() -> None:
    hook = Hook(body_seconds=0.01)
    said: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def silent() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    headers = [(b"x-gitlab-token", SECRET.encode())]
    scope = {"type": "http", "method": "POST", "path": HOOK_PATH, "headers": headers}
    await hook.app(scope, gone, send)
    assert said == []
    await hook.app(scope, silent, send)
    assert said[0]["status"] == 408
    assert hook.looked == 0
    assert hook.app._reading == 0


async def test_only_so_many_bodies_are_on_their_way() -> None:
    hook = Hook()
    started, goes_on = asyncio.Semaphore(0), asyncio.Event()

    async def receive() -> dict[str, Any]:
        started.release()
        await goes_on.wait()
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_message: dict[str, Any]) -> None:
        pass

    headers = [(b"x-gitlab-token", SECRET.encode())]
    scope = {"type": "http", "method": "POST", "path": HOOK_PATH, "headers": headers}
    async with asyncio.TaskGroup() as tasks:
        for _ in range(git_hook.AT_ONCE):
            tasks.create_task(hook.app(scope, receive, send))
        for _ in range(git_hook.AT_ONCE):
            await started.acquire()
        assert (await gitlab(hook)).status == 429
        goes_on.set()
    assert (await gitlab(hook)).status == 200

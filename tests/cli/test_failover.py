"""Several publishers: the next one is asked where one does not answer."""

import msgspec
import pytest

from gatesync.cli.failover import FailoverClient, NoneAnsweredError
from gatesync.cli.session import find_target
from gatesync.web.client import AnsweredError, HttpClient, Response, UnreachableError

pytestmark = pytest.mark.fast


class Publisher(HttpClient):
    """Answers, or fails as it is told; remembers what it was asked."""

    def __init__(self, url: str, failure: Exception | None = None) -> None:
        self.url = url
        self.failure = failure
        self.asked: list[object] = []

    async def request(self, method: str, path: str, **more: object) -> Response:
        self.asked.append((method, path, more["params"], more["body"], more["headers"]))
        if self.failure is not None:
            raise self.failure
        return Response(200, {}, msgspec.json.encode(self.url))


def down(url: str, *, unsure: bool = False) -> UnreachableError:
    return UnreachableError(f"{url} cannot be reached", unsure=unsure)


def no(url: str, status: int, code: str) -> AnsweredError:
    return AnsweredError(url, status, msgspec.json.encode({"code": code, "reasons": [code]}))


def of(*publishers: Publisher) -> tuple[FailoverClient, list[str]]:
    told: list[str] = []
    return FailoverClient(publishers, lambda reason, url: told.append(f"{reason}; {url}")), told


async def test_the_first_is_asked_until_it_fails_and_then_the_one_that_answered() -> None:
    one, two, three = Publisher("one"), Publisher("two"), Publisher("three")
    client, told = of(one, two, three)
    assert await client.get("/", str) == "one"
    one.failure = down("one")
    assert await client.get("/", str) == "two"
    one.failure = None
    assert await client.get("/", str) == "two"
    assert (client.url, told) == ("two", ["one cannot be reached; two"])
    two.failure, three.failure = down("two"), no("three", 503, "store")
    assert await client.get("/", str) == "one"


async def test_each_is_asked_the_very_same() -> None:
    one, two = Publisher("one", down("one", unsure=True)), Publisher("two")
    client, _ = of(one, two)
    params = iter([("label", "L")])
    await client.request("POST", "/c", params=params, body=b"b", headers={"Idempotency-Key": "k"})
    assert (
        one.asked == two.asked == [("POST", "/c", [("label", "L")], b"b", {"Idempotency-Key": "k"})]
    )


async def test_a_no_is_an_answer() -> None:
    one, two = Publisher("one", no("one", 409, "conflict")), Publisher("two")
    client, _ = of(one, two)
    with pytest.raises(AnsweredError, match="one: conflict"):
        await client.get("/", str)
    assert two.asked == []


async def test_none_that_answers_is_told_with_each_that_was_tried_once() -> None:
    publishers = [Publisher(name, down(name)) for name in ("one", "two", "three")]
    client, _ = of(*publishers)
    with pytest.raises(NoneAnsweredError) as raised:
        await client.get("/", str)
    assert raised.value.reasons == tuple(f"{each.url} cannot be reached" for each in publishers)
    assert not raised.value.unsure
    assert [len(each.asked) for each in publishers] == [1, 1, 1]


@pytest.mark.parametrize("failure", [down("one", unsure=True), no("one", 503, "unsure")])
async def test_a_doubt_about_one_is_a_doubt_about_all(failure: Exception) -> None:
    client, _ = of(Publisher("one", failure), Publisher("two", down("two")))
    with pytest.raises(NoneAnsweredError) as raised:
        await client.get("/", str)
    assert raised.value.unsure


async def test_where_all_say_that_they_cannot_their_doubt_is_what_counts() -> None:
    client, _ = of(
        Publisher("one", no("one", 503, "unsure")), Publisher("two", no("two", 503, "store"))
    )
    with pytest.raises(AnsweredError) as raised:
        await client.get("/", str)
    assert raised.value.code == "unsure"


@pytest.mark.parametrize(
    ("given", "environ", "urls"),
    [
        (["http://a", "http://b"], "http://c", ("http://a", "http://b")),
        (["http://a, http://b", "http://a"], "", ("http://a", "http://b")),
        (None, "http://a,http://b  http://c", ("http://a", "http://b", "http://c")),
        ([], "", ("http://127.0.0.1:9640",)),
    ],
)
def test_publishers_are_named_one_by_one_or_in_one_text(
    given: list[str] | None,
    environ: str,
    urls: tuple[str, ...],
    tmp_path: object,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(str(tmp_path))
    assert find_target(given, {"GATESYNC_PUBLISHER": environ}).urls == urls

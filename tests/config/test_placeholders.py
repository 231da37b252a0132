import pytest

from gatesync.config.placeholders import Placeholders, Resolved
from gatesync.config.problems import Invalid
from tests.config.conftest import Reading

pytestmark = pytest.mark.fast

DOCUMENT = {
    "server": {"hostname": "am.example", "offset": 2, "ports": [1, 2]},
    "super_admin": {"username": "admin", "password": "hidden"},
    "loop": {"a": "x $ref{loop.b}", "b": "$ref{loop.c}", "c": "${b} $ref{loop.a}"},
    "secrets": {
        "plain": "[hidden]",
        "env": "[$env{DB_PASSWORD}]",
        "coded": "ZW5j",
        "self": "[$secret{self}]",
        "number": 3,
    },
    "big": {"a": "x" * 40_000, "b": "$ref{big.a}$ref{big.a}"},
}
ENVIRON = {"HOST": "h1", "b": "B", "DB_PASSWORD": "hidden", "LITERAL": "$env{HOST}", "EMPTY": ""}


def resolve(value: object) -> Resolved:
    return Placeholders(DOCUMENT, ENVIRON).resolve(value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("plain $HOST $ {x}", "plain $HOST $ {x}"),
        ("$env{HOST}", "h1"),
        ("https://$env{HOST}:${mgt.transport.https.port}/", "https://h1:9445/"),
        ("$sys{HOST}${HOST}", "h1h1"),
        ("$env{LITERAL}", "$env{HOST}"),
        ("$env{EMPTY}", ""),
        ("$ref{server.hostname}", "am.example"),
        ("$ref{server.offset}", 2),
        ("n$ref{server.offset}", "n2"),
        ("$ref{server.ports}", [1, 2]),
        ("${carbon.host} ${admin.username}", "am.example admin"),
        (["$env{HOST}", {"a": "$env{HOST}"}], ["h1", {"a": "h1"}]),
        (7, 7),
    ],
)
def test_placeholders_are_filled_in_wherever_a_text_stands(given: object, expected: object) -> None:
    assert resolve(given) == Resolved(expected)


@pytest.mark.parametrize(
    "given",
    [
        "$secret{plain}",
        "$secret{env}",
        "$env{DB_PASSWORD}",
        "$ref{super_admin.password}",
        "${admin.password}",
    ],
)
def test_what_comes_from_a_secret_is_known_to_be_one(given: str) -> None:
    assert resolve(given) == Resolved("hidden", secret=True)
    assert resolve([f"x{given}"]) == Resolved(["xhidden"], secret=True)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("$env{NONE}", r"environment variable NONE, which is not set"),
        ("${no.such}", r"environment variable no\.such"),
        ("$ref{server.none}", r"refers to server\.none, which is not in this file"),
        ("$ref{server.hostname.x}", r"which is not in this file"),
        ("$ref{loop.a}", r"refers to itself: loop\.a → loop\.b → loop\.c → loop\.a"),
        ("$secret{none}", r"the secret none, which is not in \[gatesync\.secrets\]"),
        ("$secret{number}", r"which is not in \[gatesync\.secrets\]"),
        ("$secret{coded}", r"encrypted, for WSO2 alone; add coded = .*\[gatesync\.secrets\]"),
        ("$secret{self}", r"refers to itself"),
        ("a $ref{server.ports}", r"is a list or a table"),
        ("a $env{HOST", r"without a closing brace"),
        ("$env{}", r"empty placeholder \$env\{\}"),
        ("a$ref{big.b}$ref{big.b}", r"grows beyond 64 KiB"),
    ],
)
def test_what_cannot_be_filled_in_is_named(given: str, expected: str) -> None:
    with pytest.raises(Invalid, match=expected) as caught:
        resolve(given)
    assert "hidden" not in str(caught.value)


def test_a_reference_to_the_offset_and_host_has_wso2s_default() -> None:
    empty = Placeholders({}, {})
    assert empty.resolve("$ref{server.hostname}:${https.nio.port}").value == "localhost:8243"


def test_only_values_that_gatesync_reads_are_filled_in(reading: Reading) -> None:
    assert reading.load('[apim.analytics]\nurl = "$env{NOT_SET}"').settings.server.offset == 0


def test_a_secret_in_the_wrong_key_is_not_shown(reading: Reading) -> None:
    text = '[gatesync]\nlog_level = "$env{DB_PASSWORD}"\nnode_id = "$env{OTHER}"\n'
    problems = reading.check(text, {"DB_PASSWORD": "hidden", "OTHER": "hid den"}).problems
    assert [problem.key for problem in problems] == ["gatesync.log_level", "gatesync.node_id"]
    assert "hid" not in problems[0].message
    assert "hid den" not in problems[1].message
    assert "it is '$env{OTHER}' with something filled in" in problems[1].message

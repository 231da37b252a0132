import fcntl
import hashlib
import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gatesync.private_file import write_private_file
from gatesync.publisher import token_registry, tokens
from gatesync.publisher.token_registry import TokenRegistry
from gatesync.publisher.tokens import Principal, Role, TokenError, TokenFile

pytestmark = pytest.mark.fast


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "tokens.json"


@pytest.fixture
def file(path: Path, clock: Clock) -> TokenFile:
    return TokenFile(path, clock=clock)


def test_a_created_token_is_known_by_its_text(file: TokenFile, path: Path) -> None:
    registry = TokenRegistry(path)
    text = file.create(Role.NODE, "gw-1", ["Production and Sandbox", "ä"])
    prefix, token_id, secret = text.split("_", 2)
    assert (prefix, len(token_id), len(secret)) == ("gs", 12, 43)
    assert registry.authenticate(text) == Principal(
        "gw-1", Role.NODE, ("Production and Sandbox", "ä"), token_id
    )


def test_the_file_holds_hashes_and_is_its_owners_alone(
    file: TokenFile, path: Path, clock: Clock
) -> None:
    text = file.create(Role.PUBLISH, "ci")
    secret = text.split("_", 2)[2]
    assert secret not in path.read_text()
    (stored,) = file.list()
    assert stored.sha256 == hashlib.sha256(secret.encode()).hexdigest()
    assert (stored.id, stored.created_at, stored.revoked_at) == ("ci", int(clock.now * 1000), 0)
    for made in (path, path.with_name("tokens.json.lock")):
        assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert json.loads(path.read_text())["format"] == 1


def test_roles_may_do_what_the_design_says() -> None:
    publisher = Principal("ci", Role.PUBLISH)
    reader = Principal("grafana", Role.READ)
    node = Principal("gw-1", Role.NODE, ("A", "B"))
    fleet = Principal("gw-2", Role.NODE, ("*",))
    assert [who.may_publish() for who in (publisher, reader, node, fleet)] == [
        True,
        False,
        False,
        False,
    ]
    assert [who.may_read("C") for who in (publisher, reader, node, fleet)] == [
        True,
        True,
        False,
        True,
    ]
    assert node.may_read("A")
    assert not node.may_read("a")
    assert [who.may_see_gateways() for who in (publisher, reader, node)] == [True, True, False]
    assert node.may_report_as("gw-1")
    assert not node.may_report_as("gw-2")
    assert not publisher.may_report_as("ci")


@pytest.mark.parametrize(
    ("role", "holder", "labels", "expected"),
    [
        (Role.NODE, "gw-1", [], "needs a label"),
        (Role.NODE, "gw 1", ["A"], "node id 'gw 1' must be"),
        (Role.NODE, "gw-1", ["x" * 256], "256 bytes"),
        (Role.NODE, "gw-1", [""], "label is empty"),
        (Role.READ, "ro", ["A"], "labels to nodes and publishers only"),
        (Role.PUBLISH, "ci", ["x" * 256], "256 bytes"),
        (Role.READ, "", [], "must be 1 to 64"),
    ],
)
def test_a_token_that_makes_no_sense_is_not_created(
    file: TokenFile, path: Path, role: Role, holder: str, labels: list[str], expected: str
) -> None:
    with pytest.raises(TokenError, match=expected):
        file.create(role, holder, labels)
    assert not path.exists()


@pytest.mark.parametrize(
    ("role", "tenant", "expected"),
    [
        (Role.READ, "example.com", "publishes nothing"),
        (Role.NODE, "example.com", "publishes nothing"),
        (Role.PUBLISH, "", "tenant is empty"),
        (Role.PUBLISH, "..", "path step"),
    ],
)
def test_tenants_limit_publishers_only(
    file: TokenFile, path: Path, role: Role, tenant: str, expected: str
) -> None:
    with pytest.raises(TokenError, match=expected):
        file.create(role, "x", ["A"] if role is Role.NODE else [], [tenant])
    assert not path.exists()


def test_a_limited_publisher_reads_its_labels_and_changes_what_it_was_given(
    file: TokenFile, path: Path
) -> None:
    text = file.create(Role.PUBLISH, "ci", ["A", "B"], ["example.com"])
    who = TokenRegistry(path).authenticate(text)
    assert who == Principal("ci", Role.PUBLISH, ("A", "B"), text.split("_")[1], ("example.com",))
    assert [who.may_publish_to(label) for label in ("A", "B", "C", "a", "*")] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert [who.may_read(label) for label in ("A", "C")] == [True, False]
    assert [who.may_publish_for(tenant) for tenant in ("example.com", "Example.com")] == [
        True,
        False,
    ]
    assert (who.may_see_gateways(), who.may_see_all(), who.reads_all) == (True, False, False)
    everything = Principal("op", Role.PUBLISH)
    assert everything.may_publish_to("C")
    assert everything.may_publish_for("example.com")
    assert everything.may_see_all()
    assert Principal("op", Role.PUBLISH, ("*",)).may_publish_to("C")
    for other in (Principal("ro", Role.READ), Principal("gw", Role.NODE, ("A", "*"))):
        assert not other.may_publish_to("A")
        assert not other.may_publish_for("example.com")


@pytest.mark.parametrize(("labels", "tenants"), [(["A"], []), ([], ["example.com"])])
def test_a_version_that_would_not_limit_a_publisher_cannot_read_the_file(
    file: TokenFile, path: Path, labels: list[str], tenants: list[str]
) -> None:
    written = lambda: json.loads(path.read_text())["format"]  # noqa: E731
    file.create(Role.NODE, "gw-1", ["A"])
    file.create(Role.PUBLISH, "all", ["*"])
    assert written() == 1
    file.create(Role.PUBLISH, "ci", labels, tenants)
    assert written() == 2
    assert TokenRegistry(path).authenticate(file.create(Role.READ, "ro")) is not None


def test_a_revoked_token_is_refused_at_once_and_others_are_not(
    file: TokenFile, path: Path, clock: Clock
) -> None:
    first = file.create(Role.NODE, "gw-1", ["A"])
    second = file.create(Role.NODE, "gw-1", ["A"])
    registry = TokenRegistry(path)
    clock.now += 60
    (revoked,) = file.revoke(first.split("_")[1])
    assert revoked.revoked_at == int(clock.now * 1000)
    assert registry.authenticate(first) is None
    assert registry.authenticate(second) is not None
    assert len(file.revoke("gw-1")) == 1
    assert registry.authenticate(second) is None
    before = path.read_bytes()
    assert file.revoke("gw-1") == ()
    assert path.read_bytes() == before


def test_revoking_what_is_not_there_is_an_error(file: TokenFile) -> None:
    with pytest.raises(TokenError, match=r"tokens\.json: there is no token of 'gw-9'"):
        file.revoke("gw-9")


def test_wrong_tokens_are_nobodys(file: TokenFile, path: Path) -> None:
    text = file.create(Role.PUBLISH, "ci")
    other = file.create(Role.READ, "ro")
    registry = TokenRegistry(path)
    secret = text.split("_", 2)[2]
    swapped = f"gs_{other.split('_')[1]}_{secret}"
    flipped = text[:-2] + ("A" if text[-2] != "A" else "B") + text[-1]
    unknown = f"gs_{'0' * 12}_{secret}"
    for wrong in (swapped, flipped, unknown, text + "=", text + "\n", " " + text, text[:-1], ""):
        assert registry.authenticate(wrong) is None
    assert registry.authenticate(text) == Principal("ci", Role.PUBLISH, token_id=text.split("_")[1])


def test_an_unknown_id_is_compared_like_a_wrong_secret(
    file: TokenFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = file.create(Role.PUBLISH, "ci")
    registry = TokenRegistry(path)
    compared: list[tuple[str, str]] = []

    def compare(given: str, expected: str) -> bool:
        compared.append((given, expected))
        return given == expected

    monkeypatch.setattr("hmac.compare_digest", compare)
    assert registry.authenticate(f"gs_{'0' * 12}_{'A' * 43}") is None
    assert registry.authenticate(f"{text[:16]}{'A' * 43}") is None
    assert [len(given) == len(expected) == 64 for given, expected in compared] == [True, True]


@given(st.text() | st.from_regex(r"gs_[0-9a-f]{12}_[A-Za-z0-9_-]{43}", fullmatch=True))
def test_no_text_is_accepted_or_breaks_anything_without_tokens(text: str) -> None:
    assert TokenRegistry(Path("no-such-folder/tokens.json")).authenticate(text) is None


def test_a_file_that_comes_later_is_picked_up(file: TokenFile, path: Path) -> None:
    registry = TokenRegistry(path)
    text = file.create(Role.PUBLISH, "ci")
    assert registry.authenticate(text) is not None


def test_an_unchanged_file_is_not_read_again(
    file: TokenFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = file.create(Role.PUBLISH, "ci")
    registry = TokenRegistry(path)
    monkeypatch.setattr(token_registry, "read_tokens_file", lambda path: pytest.fail("read again"))
    assert registry.authenticate(text) is not None


BROKEN: list[tuple[Any, str]] = [
    ("{", "is not a token file"),
    ("[]", "is not a token file"),
    ({"format": 3, "tokens": 3}, "has format 3; this version reads 1 and 2"),
    ({"format": 1}, "missing required field `tokens`"),
    ({"format": 1, "tokens": [{}]}, r"\$\.tokens\[0\]"),
]


def broken_tokens(path: Path, **fields: Any) -> dict[str, Any]:
    """The file's document, with some fields of its first token changed."""
    document: dict[str, Any] = json.loads(path.read_text())
    document["tokens"][0] |= fields
    return document


@pytest.mark.parametrize(("content", "expected"), BROKEN)
def test_a_malformed_file_is_refused_at_start_with_its_name(
    file: TokenFile, path: Path, content: Any, expected: str
) -> None:
    path.parent.mkdir()
    text = content if isinstance(content, str) else json.dumps(content)
    write_private_file(path, text.encode())
    for use in (lambda: TokenRegistry(path), file.list, lambda: file.create(Role.READ, "ro")):
        with pytest.raises(TokenError, match=expected) as caught:
            use()
        assert str(path) in str(caught.value)
    assert path.read_text() == text


@pytest.mark.parametrize(
    "fields",
    [
        {"sha256": "x"},
        {"sha256": "ü" * 64},
        {"sha256": "0" * 64 + "\n"},
        {"token_id": "../../etc"},
        {"role": "root"},
        {"labels": "A"},
        {"revoked_at": "never"},
    ],
)
def test_a_token_of_the_wrong_shape_is_refused(
    file: TokenFile, path: Path, fields: dict[str, Any]
) -> None:
    file.create(Role.NODE, "gw-1", ["A"])
    write_private_file(path, json.dumps(broken_tokens(path, **fields)).encode())
    with pytest.raises(TokenError, match=rf"\$\.tokens\[0\]\.{next(iter(fields))}"):
        TokenRegistry(path)


def test_two_tokens_of_one_id_are_refused(file: TokenFile, path: Path) -> None:
    file.create(Role.READ, "ro")
    document = json.loads(path.read_text())
    document["tokens"] *= 2
    write_private_file(path, json.dumps(document).encode())
    with pytest.raises(TokenError, match="two tokens of the same token_id"):
        TokenRegistry(path)


def test_fields_of_a_later_version_are_passed_over(file: TokenFile, path: Path) -> None:
    text = file.create(Role.READ, "ro")
    write_private_file(path, json.dumps(broken_tokens(path, note="new")).encode())
    assert TokenRegistry(path).authenticate(text) is not None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_file_that_others_can_access_is_refused(file: TokenFile, path: Path, mode: int) -> None:
    file.create(Role.READ, "ro")
    path.chmod(mode)
    with pytest.raises(TokenError, match=rf"mode {mode:04o}\); run chmod 600"):
        TokenRegistry(path)
    with pytest.raises(TokenError, match="chmod 600"):
        file.list()


def test_a_file_that_breaks_while_running_adds_nothing_and_cuts_nobody_off(
    file: TokenFile, path: Path
) -> None:
    text = file.create(Role.NODE, "gw-1", ["A"])
    registry = TokenRegistry(path)
    good = path.read_bytes()
    with capture_logs() as logs:
        path.write_bytes(good[:-20])
        assert registry.authenticate(text) is not None
        assert registry.authenticate(text) is not None
    assert [entry["event"] for entry in logs] == ["tokens_not_reloaded"]
    assert str(path) in logs[0]["reason"]
    path.write_bytes(good)
    file.revoke("gw-1")
    assert registry.authenticate(text) is None


def test_a_file_that_opens_to_others_while_running_adds_nothing(
    file: TokenFile, path: Path
) -> None:
    first = file.create(Role.READ, "ro")
    registry = TokenRegistry(path)
    second = file.create(Role.PUBLISH, "intruder")
    path.chmod(0o666)
    with capture_logs() as logs:
        assert registry.authenticate(second) is None
        assert registry.authenticate(first) is not None
    assert "chmod 600" in logs[0]["reason"]
    path.chmod(0o600)
    assert registry.authenticate(second) is not None


def test_a_file_that_is_removed_leaves_no_token_valid(file: TokenFile, path: Path) -> None:
    text = file.create(Role.READ, "ro")
    registry = TokenRegistry(path)
    path.unlink()
    with capture_logs() as logs:
        assert registry.authenticate(text) is None
    assert [(entry["event"], entry["now_refused"]) for entry in logs] == [("tokens_gone", 1)]


def test_processes_that_create_at_once_lose_no_token(path: Path, file: TokenFile) -> None:
    code = (
        "import sys; from pathlib import Path; from gatesync.publisher.tokens import *;"
        "file = TokenFile(Path(sys.argv[1]));"
        "[print(file.create(Role.NODE, sys.argv[2], ['A'])) for _ in range(10)]"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path), f"gw-{number}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    texts = [line for process in processes for line in process.communicate(timeout=60)[0].split()]
    registry = TokenRegistry(path)
    assert len(texts) == len(set(texts)) == len(file.list()) == 40
    assert all(registry.authenticate(text) for text in texts)


def test_a_lock_that_is_never_given_back_is_an_error_and_not_a_hang(
    file: TokenFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.create(Role.READ, "ro")
    monkeypatch.setattr(tokens, "_LOCK_SECONDS", 0.0)
    with path.with_name("tokens.json.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TokenError, match=r"tokens\.json\.lock: another process holds it"):
            file.create(Role.READ, "ro")
    file.create(Role.READ, "ro")


def test_a_crash_before_the_rename_leaves_the_old_file_and_no_obstacle(
    file: TokenFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = file.create(Role.READ, "ro")

    class Crash(BaseException):
        pass

    def crash(*_: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        with pytest.raises(Crash):
            file.create(Role.READ, "ro2")
    path.with_name("tokens.json.new").write_text("half of it")
    assert TokenRegistry(path).authenticate(text) is not None
    file.create(Role.READ, "ro3")
    assert [token.id for token in file.list()] == ["ro", "ro3"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(TokenError, match=r"tokens\.json\.lock: cannot be opened"):
        TokenFile(tmp_path / "data" / "tokens.json").create(Role.READ, "ro")

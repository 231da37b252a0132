"""`[gatesync.secrets]`: files, variables, commands; what fails is named, and nothing is shown."""

import os
import sys
from pathlib import Path

import msgspec
import pytest

from gatesync.config import as_toml, describe, encode_masked, load
from gatesync.config import secret_sources as module
from tests.config.conftest import Reading

pytestmark = [pytest.mark.fast, pytest.mark.promise(8)]


def file_with(source: str, value: str = "$secret{a}") -> str:
    return f"[gatesync.secrets]\na = {source}\n[gatesync.gateway]\nadmin_token = '{value}'\n"


def python(code: str) -> str:
    """A command of Python's, as TOML writes it."""
    return f"{{ command = ['{sys.executable}', '-c', '{code}'] }}"


def private(path: Path, text: str, mode: int = 0o600) -> Path:
    path.touch(mode)
    path.write_text(text)
    path.chmod(mode)
    return path


def given(reading: Reading, source: str, **environ: str) -> str:
    token = reading.load(file_with(source), {"PATH": os.environ["PATH"], **environ}).settings
    assert token.gateway.admin_token is not None
    return token.gateway.admin_token.reveal()


def test_a_file_a_variable_and_a_command_give_a_secret(reading: Reading, tmp_path: Path) -> None:
    private(tmp_path / "admin", " hidden 1\n")
    assert given(reading, "{ file = 'admin' }") == "hidden 1"
    assert given(reading, "{ file = '$env{WHERE}/admin' }", WHERE=str(tmp_path)) == "hidden 1"
    assert given(reading, "{ environment = 'NAME' }", NAME="$env{X} ") == "$env{X} "
    assert given(reading, python('print("hidden 2 ")')) == "hidden 2 "
    assert given(reading, "{ command = ['cat', 'admin'] }") == " hidden 1"
    assert given(reading, python('import os; print(os.environ["B"])'), B="hidden") == "hidden"


def test_no_shell_reads_a_command(reading: Reading) -> None:
    assert given(reading, "{ command = ['echo', '$HOME; `id` > x', '*'] }") == "$HOME; `id` > x *"


def test_a_part_of_a_value_may_be_a_secret(reading: Reading) -> None:
    text = file_with("{ environment = 'B' }", "x-$secret{a}-y")
    token = reading.load(text, {"B": "hidden"}).settings.gateway.admin_token
    assert token is not None
    assert token.reveal() == "x-hidden-y"


def test_it_goes_before_what_wso2_has_encrypted(reading: Reading) -> None:
    text = file_with("{ environment = 'B' }") + "[secrets]\na = 'ZW5j'\n"
    checked = reading.check(text, {"B": "hidden"})
    assert (checked.problems, checked.warnings) == ((), ())


def test_a_command_runs_once_however_often_it_is_asked_for(
    reading: Reading, tmp_path: Path
) -> None:
    code = 'open("ran", "a").write("x"); print(1)'
    more = "[apim.event_hub]\nusername = 'u'\npassword = '$secret{a}'\n"
    reading.load(file_with(python(code)) + more)
    assert (tmp_path / "ran").read_text() == "x"
    reading.load(f"[gatesync.secrets]\na = {python(code)}\n")
    assert (tmp_path / "ran").read_text() == "x", "nobody asked for it"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{ file = 'none' }", "none: cannot be read: No such file"),
        ("{ file = 'open' }", r"open: others can access it \(mode 0644\); run chmod 600"),
        ("{ file = 'empty' }", "empty: is empty"),
        ("{ environment = 'NONE' }", "the environment variable NONE is not set, or empty"),
        ("{ environment = 'EMPTY' }", "the environment variable EMPTY is not set, or empty"),
        ("{ command = ['no-such-program'] }", "no-such-program cannot be run: No such file"),
        ("{ command = ['./open'] }", "./open cannot be run: Permission denied"),
        (python("print(\"hidden\"); exit(\"hidden\")"), r"failed \(exit status 1\); run it by"),
        (python("import os; print(\"hidden\", flush=True); os.kill(0, 15)"), r"failed \(SIGTERM\)"),
        (python("print()"), "printed nothing"),
        (python("import os; os.write(1, bytes([255]) + b\"hidden\")"), "not UTF-8 text"),
        (python("while True: print(\"hidden\" * 1000)"), "printed more than 64 KiB"),
        ("{ command = 'pass show' }", r"must give the secret a as \{ file"),
        ("{ command = [] }", r"must give the secret a as \{ file"),
        ("{ command = ['x', 1] }", r"must give the secret a as \{ file"),
        ("{ file = 'x', environment = 'B' }", r"must give the secret a as \{ file"),
        ("{ vault = 'x' }", r"must give the secret a as \{ file"),
        ("'hidden'", r"must give the secret a as \{ file"),
        ("{ file = '$secret{a}' }", r"refers to itself: \$secret\{a\}"),
    ],
)  # fmt: skip
def test_what_fails_is_named_without_what_it_said(
    reading: Reading, tmp_path: Path, source: str, said: str
) -> None:
    private(tmp_path / "open", "hidden", 0o644)
    private(tmp_path / "empty", "\n")
    problems = reading.check(file_with(source), {"EMPTY": ""}).problems
    shown = "\n".join(problem.at(None) for problem in problems)
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(shown)
    assert {problem.line for problem in problems} <= {1, 4}
    assert "hidden" not in shown.replace("'hidden'", "")


def test_a_command_that_does_not_end_is_ended_with_its_children(
    reading: Reading, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "COMMAND_SECONDS", 0.5)
    told = tmp_path / "pid"
    source = f"{{ command = ['sh', '-c', 'sleep 300 & echo $! > {told}; wait'] }}"
    problem = reading.problem(file_with(source), {"PATH": os.environ["PATH"]})
    assert "the command sh did not end within" in problem.message
    child = Path(f"/proc/{told.read_text().strip()}/stat")
    assert not child.exists() or child.read_text().split()[2] in "ZX"


def test_a_file_that_others_can_write_names_no_command(reading: Reading, tmp_path: Path) -> None:
    text = file_with("{ command = ['touch', 'ran'] }")
    path = tmp_path / "deployment.toml"
    path.touch(0o600)
    path.chmod(0o664)
    problem = reading.problem(text)
    assert "a command is run only where nobody else can write" in problem.message
    assert "mode 0664; run chmod go-w on it" in problem.message
    assert not (tmp_path / "ran").exists()


def test_config_show_tells_where_a_secret_is_and_not_what(reading: Reading) -> None:
    loaded = reading.load(file_with("{ command = ['echo', '--key=hidden'] }"), dict(os.environ))
    described = describe(loaded)
    shown = as_toml(described)
    assert 'secrets = { a = "command echo and 1 arguments" }' in shown
    assert 'admin_token = "***"' in shown
    encoded = msgspec.json.encode(loaded.settings, enc_hook=encode_masked).decode()
    assert "hidden" not in shown + repr(loaded) + encoded


def test_the_example_of_the_documentation_is_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    section = page.partition("### Where secrets are kept")[2]
    example = section.partition("```toml\n")[2].partition("```")[0]
    program = private(tmp_path / "pass", "#!/bin/sh\necho $1 $2\n", 0o700)
    config = private(tmp_path / "deployment.toml", example)
    loaded = load(config, environ={"PATH": f"{program.parent}:{os.environ['PATH']}"})
    assert loaded.warnings == ()
    token = loaded.settings.gateway.admin_token
    assert token is not None
    assert token.reveal() == "show gatesync/admin"

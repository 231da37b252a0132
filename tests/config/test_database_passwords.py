"""A database's password is kept whole, and shown nowhere."""

import os
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gatesync.config import Secret, as_toml, check, describe, encode_masked
from gatesync.secret import SecretUrl
from tests.config.conftest import TABLE, Reading, table

pytestmark = pytest.mark.fast


def test_a_password_that_is_not_utf8_is_refused(reading: Reading) -> None:
    password = os.fsdecode(b"hid\xffden")
    text = table(url="jdbc:mysql://h/d", password="$env{P}")
    problem = reading.problem(text, {"P": password})
    assert "not UTF-8" in problem.message
    assert "hid" not in str(problem)


PASSWORDS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
    st.text("@:/?#&=%+;,[]'\"\\ pa", max_size=12),
    st.sampled_from(["&password=", "?token=x@", "@h/", "%2", "a@b?password=c@d", "//", "jdbc:"]),
)
FORMS = ("//u:{}@h/d", "//u@h/d?password={}", "//h/d?a=b&password={}&c=d", "//h/d?passwd={}&user=u")
MARK = "hidden"  # no message has this word by chance


@settings(max_examples=300, deadline=None)
@given(
    before=PASSWORDS,
    after=PASSWORDS,
    product=st.sampled_from(["jdbc:mysql:", "jdbc:postgresql:", "mysql:", "jdbc:oracle:", "h:"]),
    form=st.sampled_from(FORMS),
    escaped=st.booleans(),
    read=st.booleans(),
)
def test_no_view_of_a_file_has_a_password_that_stands_in_a_url(
    tmp_path_factory: pytest.TempPathFactory,
    before: str,
    after: str,
    product: str,
    form: str,
    escaped: bool,
    read: bool,
) -> None:
    password = f"{before}{MARK}{after}"
    url = product + form.format(quote(password, safe="") if escaped else password)
    keys: dict[str, Any] = {"url": "jdbc:mysql://h/d", "read_url": url} if read else {"url": url}
    folder = tmp_path_factory.getbasetemp()
    file = folder / "password.toml"
    file.write_text(f"[{TABLE}]\n" + "\n".join(f'{key} = "$env{{{key}}}"' for key in keys))
    checked = check(file, environ=keys, hostname="host")
    views = [repr(checked.problems), repr(checked.warnings), repr(SecretUrl(url))]
    if checked.loaded is not None:
        described = describe(checked.loaded)
        views += [
            repr(checked.loaded),
            as_toml(described),
            msgspec.json.encode(checked.loaded.settings, enc_hook=encode_masked).decode(),
            str(checked.loaded.settings.database.source),
        ]
    assert not [view for view in views if MARK in view]
    if escaped and product == "jdbc:mysql:":
        assert checked.loaded is not None
        database = checked.loaded.settings.database
        source = database.read_source if read else database.source
        assert source is not None
        assert source.password == Secret(password)


@settings(max_examples=100, deadline=None)
@given(password=PASSWORDS)
def test_a_password_of_its_own_key_is_kept_whole_and_never_shown(
    tmp_path_factory: pytest.TempPathFactory, password: str
) -> None:
    assume(password)
    password += MARK
    file = tmp_path_factory.getbasetemp() / "own.toml"
    file.write_text(table(url="jdbc:postgresql://h/d?nonsense=1", password="$env{P}"))
    checked = check(file, environ={"P": password}, hostname="host")
    assert checked.loaded is not None
    source = checked.loaded.settings.database.source
    assert source is not None
    assert source.password == Secret(password)
    assert MARK not in repr(checked)

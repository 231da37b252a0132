import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatesync.config.positions import KeyPath, dotted, key_lines, line_of

pytestmark = pytest.mark.fast

DOCUMENT = '''
top = 1 # [not.a.table]
"quoted.key" = 2
[a]
x = """
[not.a.table]
y = 1
"""   # comment
'literal' . b = [
  1, # ] not the end
  "]",
  { c = 1 },
]
[a.sub]
text = "a \\" = [ # no"
raw = \'\'\'it''s [x]\'\'\'\'
[[list]]
n = 1
[list.inner]
m = 1
[[list.deep]]
k = 1
[[list]]
n = 2
[[list.deep]]
k = 2
[[list.deep]]
k = 3
'''
EXPECTED = {
    "top": 2,
    '"quoted.key"': 3,
    "a": 4,
    "a.x": 5,
    "a.literal.b": 9,
    "a.sub": 14,
    "a.sub.text": 15,
    "a.sub.raw": 16,
    "list[0]": 17,
    "list[0].n": 18,
    "list[0].inner.m": 20,
    "list[0].deep[0].k": 22,
    "list[1].n": 24,
    "list[1].deep[0].k": 26,
    "list[1].deep[1].k": 28,
}


def test_every_table_and_key_has_its_line() -> None:
    tomllib.loads(DOCUMENT)  # what is read here is always valid
    lines = {dotted(path): line for path, line in key_lines(DOCUMENT).items()}
    assert {key: lines.get(key) for key in EXPECTED} == EXPECTED


def test_what_has_no_line_of_its_own_has_that_of_what_is_around_it() -> None:
    lines = key_lines("a = 1\nb = [{c = 1}]\n")
    assert line_of(("b", 0, "c"), lines) == 2
    assert line_of(("z",), lines) == 0


KEYS = st.text("ab-_1", min_size=1, max_size=3) | st.text(min_size=1, max_size=4)
VALUES = st.one_of(
    st.integers(-5, 5), st.text(max_size=8), st.lists(st.text(max_size=4), max_size=3)
)


def write(document: dict[str, dict[str, Any]]) -> tuple[str, dict[KeyPath, int]]:
    """The document as TOML, and the line at which each key was written."""

    def basic(text: str) -> str:
        return '"' + "".join(f"\\U{ord(char):08x}" for char in text) + '"'

    def literal(value: Any) -> str:
        if isinstance(value, str):
            return '"""\n' + basic(value)[1:-1] + '\n="""'
        return (
            "[\n" + ",\n".join(map(basic, value)) + "]" if isinstance(value, list) else str(value)
        )

    lines: dict[KeyPath, int] = {}
    text = ""
    for table, values in document.items():
        text += f"[{basic(table)}]\n"
        for key, value in values.items():
            lines[table, key] = text.count("\n") + 1
            text += f"{basic(key)} = {literal(value)} # = [\n"
    return text, lines


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=4), max_size=4))
def test_lines_are_found_whatever_the_keys_and_values(document: dict[str, dict[str, Any]]) -> None:
    text, expected = write(document)
    tomllib.loads(text)
    found = key_lines(text)
    assert {path: found[path] for path in expected} == expected

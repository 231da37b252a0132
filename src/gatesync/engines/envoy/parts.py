"""Which of many artifacts is the one that Envoy rejects. Pure."""

from collections.abc import Collection, Iterator, Sequence
from typing import Final

__all__ = ["in_parts", "said"]

ALONE_MOST: Final = 16  # suspects that are tried one by one; with more, halves are faster
WORDS_MOST: Final = 600  # characters of Envoy's own words
_FIRST_WORDS: Final = 120


def in_parts(suspects: Sequence[str], named: Collection[str]) -> Iterator[Sequence[str]]:
    """Split what was rejected together, in its order; each part is smaller than the whole.

    Args:
        suspects: two or more.
        named: those that Envoy's words point at; each is a part of its own.
    """
    pointed = [index for index, each in enumerate(suspects) if each in named]
    if not 0 < len(pointed) <= ALONE_MOST:
        middle = len(suspects) // 2
        yield from (suspects[:middle], suspects[middle:])
        return
    after = 0
    for index in pointed:
        if index > after:
            yield suspects[after:index]
        yield suspects[index : index + 1]
        after = index + 1
    if after < len(suspects):
        yield suspects[after:]


def said(words: str) -> str:
    """What Envoy said, on one line; the end of a long one, where the reason stands."""
    text = " ".join(words.split())
    if len(text) > WORDS_MOST:
        text = f"{text[:_FIRST_WORDS]} ... {text[_FIRST_WORDS - WORDS_MOST :]}"
    return f"Envoy rejects it: {text}"

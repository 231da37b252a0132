"""`[gatesync.signing]`: the keys that a publisher signs with."""

import re
from pathlib import Path

import msgspec

from gatesync.config import kinds
from gatesync.config.problems import Invalid
from gatesync.config.reader import Reader

__all__ = ["SigningSettings", "read_signing"]

_KEY_ID = re.compile(r"[0-9a-f]{16}")


class SigningSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the private keys are, and the id of the one that signs.

    Without `key` it is the one that was put to use last; where there is none, nothing is signed.
    """

    directory: Path
    key: str | None


def read_signing(reader: Reader, data: Path, folder: Path) -> SigningSettings:
    """The section as a document gives it; `data` is where keys are unless it says otherwise."""
    ours = reader.section("gatesync.signing")
    return SigningSettings(
        directory=ours.optional("directory", kinds.path_in(folder)) or data / "keys",
        key=ours.optional("key", _key_id),
    )


def _key_id(value: object) -> str:
    text = kinds.text(value)
    if not _KEY_ID.fullmatch(text):
        raise Invalid("must be a key's id, 16 hex digits, as `gatesync keys list` shows it")
    return text

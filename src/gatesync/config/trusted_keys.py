"""`[[gatesync.trusted_keys]]`: whose signatures a gateway asks for."""

from gatesync.artifacts.signatures import TrustedKey
from gatesync.config import kinds
from gatesync.config.problems import Invalid
from gatesync.config.reader import Reader

__all__ = ["read_trusted_keys"]


def read_trusted_keys(reader: Reader) -> tuple[TrustedKey, ...]:
    """The keys of the file; faults are left in `reader.problems`."""
    found: list[TrustedKey] = []
    for table in reader.sections("gatesync.trusted_keys"):
        key = table.optional("key", _public_key)
        labels = table.optional("labels", kinds.labels)
        if key is not None:
            found.append(TrustedKey.parse(key, labels or ()))
        elif reader.lookup(table.place("key")) is None:
            table.problem("key", "is needed: a public key, as `gatesync keys list` shows it")
    return tuple(found)


def _public_key(value: object) -> str:
    text = kinds.text(value).strip()
    try:
        return TrustedKey.parse(text).text
    except ValueError as error:
        raise Invalid(f"cannot be used: {error}") from None

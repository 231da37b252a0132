"""What whoever publishes an OpenAPI document says beside it, as options of the command line."""

from typing import Final

import msgspec

__all__ = ["OpenApiOptions"]


class OpenApiOptions(msgspec.Struct, frozen=True):
    """What whoever publishes a document says beside it; empty: what the document says.

    `context` is without the version, unless it has `{version}` where that belongs. Where it is
    to `allow_unauthenticated`, no handler asks clients who they are.
    """

    endpoint: str = ""
    sandbox_endpoint: str = ""
    context: str = ""
    name: str = ""
    version: str = ""
    allow_unauthenticated: bool = False

    def why_not(self, documents: int) -> str:
        """Why this cannot be said of so many documents; empty if it can."""
        said = [
            f"--{field.replace('_', '-')}"
            for field in self.__struct_fields__
            if getattr(self, field)
        ]
        if said and not documents:
            return f"{', '.join(said)}: for OpenAPI documents only, and no PATH is one"
        if documents > 1 and (own := [each for each in said if each in _OF_ONE]):
            return f"{', '.join(own)}: for one OpenAPI document, not for {documents}"
        return ""


_OF_ONE: Final = ("--context", "--name", "--version")

"""The canonical form: the one sequence of bytes that an artifact has everywhere.

RFC 8785 (JSON Canonicalization Scheme): members sorted, no white space, shortest escapes.
The digest, the ARTIFACT column, the cache and the HTTP answer are made of these bytes.
"""

import base64
from typing import Annotated, Final

import msgspec

from gatesync.artifacts.errors import FormatError, Problem, ProblemsError
from gatesync.artifacts.extra import decode_extra, encode_extra, refuse_repeated_members
from gatesync.artifacts.model import ARTIFACT_MAX_BYTES, Artifact, Identity, Part

__all__ = ["ARTIFACT_FORMAT", "decode", "encode"]

ARTIFACT_FORMAT: Final = "gatesync.artifact/1"

# msgspec writes members in the order of the fields, so fields stand in RFC 8785's order:
# sorted by name. Its string escapes are RFC 8785's; a property test holds both against the
# rfc8785 package, which takes 36 times longer for an artifact of 4 kB.


class _PartForm(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    base64: str | msgspec.UnsetType = msgspec.UNSET
    name: str
    path: str
    role: str
    text: str | msgspec.UnsetType = msgspec.UNSET


class _ArtifactForm(msgspec.Struct, forbid_unknown_fields=True):
    api_id: str
    extra: msgspec.Raw
    format: str
    kind: str
    name: str
    parts: list[_PartForm]
    tenant: str
    version: str


class _AnyFormat(msgspec.Struct):
    format: Annotated[str, msgspec.Meta(max_length=200)]


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_ArtifactForm)
_format_decoder = msgspec.json.Decoder(_AnyFormat)


def encode(artifact: Artifact) -> bytes:
    """The canonical form.

    Raises:
        ProblemsError: it would be larger than `ARTIFACT_MAX_BYTES`, or a name or path is not
            valid Unicode.
        FormatError: `extra` holds what `encode_extra` cannot write.
    """
    identity = artifact.identity
    form = _ArtifactForm(
        api_id=artifact.api_id,
        extra=msgspec.Raw(encode_extra(artifact.extra)),
        format=ARTIFACT_FORMAT,
        kind=identity.kind,
        name=identity.name,
        parts=[_part_form(part) for part in sorted(artifact.parts, key=lambda p: (p.role, p.path))],
        tenant=identity.tenant,
        version=identity.version,
    )
    try:
        data = _encoder.encode(form)
    except UnicodeEncodeError:
        problem = Problem("a name or a path is not valid Unicode", where=str(identity))
        raise ProblemsError([problem]) from None
    if len(data) > ARTIFACT_MAX_BYTES:
        problem = Problem(
            f"{len(data)} bytes in canonical form; an artifact has at most {ARTIFACT_MAX_BYTES}",
            where=str(identity),
        )
        raise ProblemsError([problem])
    return data


def decode(data: bytes | msgspec.Raw) -> Artifact:
    """The artifact that these bytes describe; they need not be in canonical order.

    Raises:
        FormatError: the bytes are not an artifact document of the format this version reads.
    """
    try:
        found = _format_decoder.decode(data).format
        if found != ARTIFACT_FORMAT:
            raise FormatError(
                f"artifact format {found!r} is unknown; this version reads {ARTIFACT_FORMAT!r}"
            )
        form = _decoder.decode(data)
        if _encoder.encode(form) != bytes(data):  # else no member of it can be there twice
            refuse_repeated_members(bytes(data))
        extra = decode_extra(form.extra)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FormatError(f"this is not an artifact document: {error}") from None
    except RecursionError:
        raise FormatError("this is not an artifact document: nested too deep") from None
    return Artifact(
        identity=Identity(form.tenant, form.kind, form.name, form.version),
        api_id=form.api_id,
        parts=tuple(_part(part) for part in form.parts),
        extra=extra,
    )


def _part_form(part: Part) -> _PartForm:
    form = _PartForm(name=part.name, path=part.path, role=part.role)
    try:
        form.text = part.content.decode()  # strict UTF-8: decoding and encoding is the identity
    except UnicodeDecodeError:
        form.base64 = base64.b64encode(part.content).decode()
    return form


def _part(form: _PartForm) -> Part:
    if (form.text is msgspec.UNSET) == (form.base64 is msgspec.UNSET):
        raise FormatError(f"part {form.path!r} must have either 'text' or 'base64'")
    if form.text is not msgspec.UNSET:
        content = form.text.encode()
    else:
        assert form.base64 is not msgspec.UNSET
        try:
            content = base64.b64decode(form.base64, validate=True)
        except ValueError as error:
            raise FormatError(f"part {form.path!r} has broken base64: {error}") from None
    return Part(form.role, form.name, form.path, content)

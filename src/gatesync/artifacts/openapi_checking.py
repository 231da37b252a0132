"""What is wrong with an OpenAPI document, of which version, and what it refers to elsewhere.

The schemas are those that the OpenAPI Initiative publishes (`openapi_schemas`); jsonschema-rs
applies them. Nothing is ever fetched: references into other documents are told, and left alone.
"""

import json
from collections.abc import Iterator
from functools import cache
from importlib import resources
from itertools import islice
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import jsonschema_rs
from jsonschema_rs import ValidationError, ValidationErrorKind

from gatesync.artifacts.errors import Problem
from gatesync.artifacts.openapi_document import Fault, Pointer

__all__ = ["VERSIONS", "Reference", "external_references", "faults_in", "resolved", "version_of"]

VERSIONS: Final = ("2.0", "3.0", "3.1")
_MOST: Final = 100  # faults that are looked for
_LONGEST: Final = 300  # characters of what the library says
_DIGITS: Final = 8  # of an index: no list has a hundred million entries


def version_of(document: Any) -> str:
    """Which of `VERSIONS` the document says that it is.

    Raises:
        Problem: it says none, or another one.
    """
    if not isinstance(document, dict):
        raise Problem("no OpenAPI document: it must be a mapping with 'openapi' or 'swagger'")
    for member in ("openapi", "swagger"):
        if member not in document:
            continue
        said = document[member]
        if not isinstance(said, str):
            reason = f"{member!r} must be text: put the version into quotes, such as '3.1.0'"
            raise Problem(reason)
        version = ".".join(said.split(".")[:2])
        if version in VERSIONS and (member == "swagger") == (version == "2.0"):
            return version
        raise Problem(f"{member} {said[:40]!r} is not read; {', '.join(VERSIONS)} are")
    raise Problem("no OpenAPI document: it has neither 'openapi' nor 'swagger'")


def faults_in(document: Any, version: str) -> list[Fault]:
    """Everything that is wrong with a document of this version, or the first hundred of it."""
    errors = _validator(version).iter_errors(document)
    faults = [fault for error in islice(errors, _MOST) for fault in _faults_of(error)]
    if not faults:  # what follows relies on the document's form
        found = (each for each in _references(document) if not _leads_somewhere(document, each))
        faults = [
            Fault(each.pointer, f"{each.target[:120]!r} leads to nothing in this document")
            for each in islice(found, _MOST)
        ]
    return list(dict.fromkeys(faults))


# The schemas ----------------------------------------------------------------------------------


@cache
def _validator(version: str) -> Any:
    text = resources.files(__package__).joinpath(f"openapi_schemas/{version}.json").read_text()
    # Messages must not repeat what stands in the document: it may be a secret, and long.
    return jsonschema_rs.validator_for(json.loads(text), mask="it", offline=True)


def _faults_of(error: ValidationError) -> list[Fault]:
    kind = error.kind
    if isinstance(kind, ValidationErrorKind.OneOfNotValid | ValidationErrorKind.AnyOf):
        branches = [
            [fault for each in branch for fault in _faults_of(each)] for branch in kind.context
        ]
        return min(filter(None, branches), key=_distance, default=[])
    if isinstance(kind, ValidationErrorKind.Required):
        reason = f"{kind.property!r} is missing"
    elif isinstance(
        kind,
        ValidationErrorKind.AdditionalProperties | ValidationErrorKind.UnevaluatedProperties,
    ):
        names = ", ".join(repr(name[:80]) for name in kind.unexpected[:5])
        reason = f"{names}: OpenAPI has no such member here; take it out, or call it x-..."
    elif isinstance(kind, ValidationErrorKind.Not):
        reason = "it is not allowed here"
    elif isinstance(kind, ValidationErrorKind.OneOfMultipleValid):
        reason = "it has members of several forms, of which it must have one"
    else:
        reason = error.message
    if len(reason) > _LONGEST:
        reason = f"{reason[:_LONGEST]}..."
    return [Fault(tuple(map(str, error.instance_path)), reason)]


def _distance(branch: list[Fault]) -> tuple[bool, int]:
    """How far what stands there is from one of the forms that it may have.

    A form that wants a `$ref` is not meant where there is none, nor one for another place of
    parameters (`in: query`), whatever else fits it.
    """
    other = any(fault.pointer[-1:] == ("in",) or "'$ref'" in fault.reason for fault in branch)
    return other, len(branch)


# References -----------------------------------------------------------------------------------


class Reference(NamedTuple):
    """A `$ref`: where it stands, and where it leads."""

    pointer: Pointer
    target: str


def external_references(document: Any) -> list[Reference]:
    """The references that lead out of the document."""
    return [each for each in _references(document) if not each.target.startswith("#")]


def resolved(document: Any, target: str) -> Any:
    """What a reference within the document leads to; raises `LookupError` where to nothing."""
    value = document
    for step in unquote(target.removeprefix("#")).split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and len(step) < _DIGITS:
            value = value[int(step)]
        else:
            raise LookupError(target)
    return value


def _leads_somewhere(document: Any, reference: Reference) -> bool:
    if not reference.target.startswith("#/"):
        return True  # another document, or an anchor of JSON Schema's
    try:
        resolved(document, reference.target)
    except LookupError:
        return False
    return True


# Members that hold data, in which "$ref" is a name like any other.
_DATA: Final = frozenset({"const", "default", "enum", "example", "examples", "value"})
# Members whose own members are named by people.
_NAMED: Final = frozenset(
    {
        *("properties", "patternProperties", "definitions", "$defs", "dependentSchemas"),
        *("schemas", "responses", "parameters", "requestBodies", "headers", "securitySchemes"),
        *("links", "callbacks", "pathItems", "paths", "webhooks", "content", "encoding"),
    }
)

Steps = tuple["Steps", str] | None


def _references(document: Any) -> Iterator[Reference]:
    """Every `$ref`, but for those in examples, and in schemas that are resources of their own."""
    todo: list[tuple[Any, Steps, bool]] = [(document, None, False)]
    while todo:
        value, steps, named = todo.pop()
        if isinstance(value, list):
            inner = [(each, (steps, str(at)), False) for at, each in enumerate(value)]
            todo += reversed(inner)
        if not isinstance(value, dict) or ("$id" in value and not named):
            continue
        target = value.get("$ref")
        if isinstance(target, str) and not named:
            yield Reference((*_pointer(steps), "$ref"), target)
        for key in reversed(value):
            if named or not (key in _DATA or key.startswith("x-")):
                todo.append((value[key], (steps, key), key in _NAMED and not named))


def _pointer(steps: Steps) -> Pointer:
    found: list[str] = []
    while steps is not None:
        steps, step = steps
        found.append(step)
    return tuple(reversed(found))

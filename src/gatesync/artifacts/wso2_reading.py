"""WSO2's artifact JSON becomes an artifact.

The members that `wso2_form` names are its parts; name, version, tenantDomain and apiId say what it
is. All else is kept in `extra["wso2"]`. The order of lists `...ToBeAdd` and `...ToBeRemove` says
nothing: WSO2 takes them from hash sets.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from gatesync.artifacts.errors import FormatError, Problem, ProblemsError
from gatesync.artifacts.extra import decode_extra, encode_extra
from gatesync.artifacts.model import ARTIFACT_MAX_BYTES, SUPER_TENANT, Artifact, Identity, Part
from gatesync.artifacts.passwords import Passwords
from gatesync.artifacts.synapse import read_root
from gatesync.artifacts.wso2_form import (
    API,
    DEFAULT_API,
    LISTS,
    ROLES,
    TEXTS,
    WSO2_FORMAT,
    Content,
    GatesyncForm,
    PartForm,
    part_by_rule,
    provider_told,
)

__all__ = ["Wso2Artifact", "artifact_from_wso2"]


class Wso2Artifact(NamedTuple):
    """What a document holds; `secrets` are the aliases whose passwords stood in it."""

    artifact: Artifact
    secrets: tuple[str, ...]


def artifact_from_wso2(document: bytes, where: str, *, tenant: str | None = None) -> Wso2Artifact:
    """The artifact that a WSO2 artifact JSON holds, with `$secret{alias}` for its passwords.

    An API part is named as its XML says; else that what the XML says fits is left to `describe`.

    Args:
        document: UTF-8 JSON, of at most `ARTIFACT_MAX_BYTES`.
        where: the file, for messages; empty: they name the member only.
        tenant: the domain to publish to, where the document has no `tenantDomain`.

    Raises:
        ProblemsError: with every fault that was found, each with its member. None shows a
            password.
    """
    try:
        return _Reading(_members(document)).whole(tenant)
    except ProblemsError as error:
        problems = error.problems
    except Problem as problem:
        problems = (problem,)
    except RecursionError:
        problems = (Problem("it is nested too deep"),)
    raise ProblemsError(problem.within(where) if where else problem for problem in problems)


def _members(document: bytes) -> dict[str, Any]:
    if len(document) > ARTIFACT_MAX_BYTES:
        raise Problem(f"more than {ARTIFACT_MAX_BYTES} bytes; an artifact has no more")
    try:
        return decode_extra(document, what="it")
    except FormatError as error:
        raise Problem(str(error)) from None


class _Reading:
    """A document in the course of being read: a fault in one member hides none in another."""

    def __init__(self, members: dict[str, Any]) -> None:
        self.problems: list[Problem] = []
        self.texts: dict[str, str] = dict.fromkeys(TEXTS, "")
        self.contents: list[Content] = []
        self.rest: dict[str, Any] = {}
        self.said = GatesyncForm()
        self.passwords = Passwords()
        for member, value in members.items():
            try:
                self.take(member, value)
            except Problem as problem:
                self.problems.append(problem)

    def take(self, member: str, value: Any) -> None:
        """Take one member; raises `Problem` where it is not what it must be."""
        if member in TEXTS:
            self.texts[member] = "?"  # wrong is not missing
            self.texts[member] = "" if value is None else _text({member: value}, member, member)
        elif member == "gatesync":
            self.said = _said_by_gatesync(value)
            self.said.extra = self.passwords.hidden(self.said.extra, "")
        elif member == "override":
            if not isinstance(value, bool | None):
                raise Problem(f"must be true or false, not {_kind(value)}", where=member)
            if value is False:
                self.rest[member] = value
        elif member not in LISTS:
            kept = self.passwords.hidden({member: value}, "")[member]
            _check_numbers(member, kept)
            if isinstance(kept, list) and member.endswith(("ToBeAdd", "ToBeRemove")):
                kept = _in_fixed_order(member, kept)
            self.rest[member] = kept
        elif value is not None:
            self.take_list(member, self.passwords.hidden(value, member))

    def take_list(self, member: str, entries: Any) -> None:
        """Take one of WSO2's lists; raises `Problem` where it is not what it must be."""
        _check_entries(member, entries)
        kept = _in_fixed_order(member, entries)
        if member in ROLES:
            self.contents += [Content(member, each["name"], each["content"]) for each in kept]
            kept = _in_fixed_order(member, _beside_content(kept))
        if kept:
            self.rest[member] = kept

    def whole(self, tenant: str | None) -> Wso2Artifact:
        """The artifact of all that was taken, if nothing is wrong with it."""
        texts = self.texts
        for member in ("name", API):
            if not texts[member]:
                self.problems.append(Problem("is missing", where=member))
        domain = texts["tenantDomain"]
        if tenant and domain not in {"", tenant}:
            reason = f"is {domain!r}, but --tenant says {tenant!r}; drop one of them"
            self.problems.append(Problem(reason, where="tenantDomain"))
        self.stop_if_wrong()

        domain = domain or tenant or SUPER_TENANT
        identity = Identity(domain, "api", texts["name"], texts["version"])
        parts = self.parts(identity)
        self.stop_if_wrong()
        if texts["provider"] not in {"", provider_told(parts[0].path, identity)}:
            self.rest["provider"] = texts["provider"]
        api_id = texts["apiId"] or _uuid(texts[API]) or identity.default_api_id()
        parts.sort(key=lambda part: (part.role, part.path))
        artifact = Artifact(identity, api_id, tuple(parts), self.extra())
        artifact.check()
        return Wso2Artifact(artifact, self.passwords.aliases)

    def parts(self, identity: Identity) -> list[Part]:
        """The parts, the API first; those that cannot be made are among the problems."""
        said = {(form.member, _key(form)): form for form in self.said.parts if form.member}
        parts: list[Part] = []
        for content in [*self.definitions(), *self.contents]:
            try:
                if form := said.pop((content.member, content.name), None):
                    parts.append(Part(content.role, form.name, form.path, content.text.encode()))
                else:
                    parts.append(part_by_rule(content, identity, self.texts["provider"]))
            except Problem as problem:
                self.problems.append(problem)
        parts += [
            Part(form.role, form.name, form.path, form.content.encode())
            for form in self.said.parts
            if not form.member
        ]
        for member, name in said:
            reason = f"speaks of {' '.join(filter(None, (member, name)))!r}, which is not there"
            self.problems.append(Problem(reason, where="gatesync.parts"))
        return parts

    def definitions(self) -> list[Content]:
        """The API and, if there is one, its default API."""
        return [Content(m, "", self.texts[m]) for m in (API, DEFAULT_API) if self.texts[m]]

    def extra(self) -> dict[str, Any]:
        """What is kept; raises `Problem` where two members say it."""
        if not self.rest:
            return self.said.extra
        if "wso2" in self.said.extra:
            reason = f"stands beside {next(iter(self.rest))!r}, which belongs there; drop one"
            raise Problem(reason, where="gatesync.extra.wso2")
        return {"wso2": self.rest, **self.said.extra}

    def stop_if_wrong(self) -> None:
        """Raise all problems, if there are any."""
        if self.problems:
            raise ProblemsError(self.problems)


def _uuid(definition: str) -> str:
    """The one that the API's handlers name; empty: none."""
    try:
        return read_root(definition.encode(), API).uuid
    except Problem:
        return ""


def _key(form: PartForm) -> str:
    return form.name if form.member in ROLES else ""


def _said_by_gatesync(value: Any) -> GatesyncForm:
    found = value.get("format") if isinstance(value, dict) else None
    if found != WSO2_FORMAT:
        called = f"format {found!r}" if isinstance(found, str) else "its format"
        reason = f"{called} is unknown; this version reads {WSO2_FORMAT!r}"
        raise Problem(reason, where="gatesync")
    try:
        said = msgspec.convert(value, GatesyncForm)
    except msgspec.ValidationError as error:
        raise Problem(str(error), where="gatesync") from None
    seen: set[tuple[str, str]] = set()
    for form in said.parts:
        if form.member not in {"", API, DEFAULT_API, *ROLES} or bool(form.member) == bool(
            form.role or form.content
        ):
            reason = f"part {form.path!r} must have either 'member' or 'role' and 'content'"
            raise Problem(reason, where="gatesync.parts")
        if form.member and (form.member, _key(form)) in seen:
            raise Problem(f"two parts have the content of {form.member!r}", where="gatesync.parts")
        seen.add((form.member, _key(form)))
    _check_numbers("gatesync", said.extra)
    return said


def _check_entries(member: str, entries: Any) -> None:
    if not isinstance(entries, list):
        raise Problem(f"must be a list, not {_kind(entries)}", where=member)
    for at, entry in enumerate(entries):
        place = f"{member}[{at}]"
        if not LISTS[member]:
            _text({place: entry}, place, place)
        elif not isinstance(entry, dict):
            raise Problem(f"must be an object, not {_kind(entry)}", where=place)
        for inner in LISTS[member]:
            _text(entry, inner, f"{place}.{inner}")


def _in_fixed_order(member: str, entries: Iterable[Any]) -> list[Any]:
    """Each entry once, however the list was shuffled."""
    found = {_check_numbers(member, entry): entry for entry in entries}
    names: set[str] = set()
    for entry in found.values():
        name = entry.get("alias", entry.get("name")) if isinstance(entry, dict) else None
        if isinstance(name, str) and name in names:
            reason = f"two entries are named {name!r}, and differ; keep one of them"
            raise Problem(reason, where=member)
        names.add(str(name))
    return [found[key] for key in sorted(found)]


def _beside_content(entries: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for entry in entries:
        beside = {member: value for member, value in entry.items() if member != "content"}
        if len(beside) > 1:
            yield beside


def _check_numbers(member: str, value: Any) -> bytes:
    """The value in canonical form; raises `Problem` where it has none."""
    try:
        return encode_extra({member: value}, what="it")
    except FormatError as error:
        reason = f"{error}; put integers beyond 2^53 into quotes"
        raise Problem(reason, where=member) from None


def _text(members: dict[str, Any], member: str, where: str) -> str:
    value = members.get(member)
    if value is None:
        raise Problem("is missing", where=where)
    if not isinstance(value, str):
        raise Problem(f"must be text, not {_kind(value)}", where=where)
    return value


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "true or false", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), "a number")

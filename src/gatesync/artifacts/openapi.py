"""An OpenAPI document becomes the API that WSO2's publisher portal would make of it.

    api/admin--Menu_v1.0.xml                             a resource for each operation
    endpoints/Menu--v1.0_APIproductionEndpoint.xml       and ..._APIsandboxEndpoint.xml
    local-entries/<api_id>.xml                           the document, as it came

What the document says and no Synapse XML can is told, never guessed.
"""

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from gatesync.artifacts.errors import Problem, ProblemsError
from gatesync.artifacts.model import SUPER_TENANT, Artifact, Identity
from gatesync.artifacts.openapi_checking import external_references, faults_in, resolved, version_of
from gatesync.artifacts.openapi_document import (
    Fault,
    pointer_text,
    problems_of,
    read_document,
)
from gatesync.artifacts.openapi_endpoints import check_url, servers_of
from gatesync.artifacts.openapi_operations import Operation, operations_of
from gatesync.artifacts.openapi_options import OpenApiOptions
from gatesync.artifacts.openapi_writing import ApiXml, endpoint_xml, local_entry_xml
from gatesync.artifacts.wso2_form import API, Content, part_by_rule

__all__ = ["OpenApiArtifact", "artifact_from_openapi"]


class OpenApiArtifact(NamedTuple):
    """What was made of a document; `notes` say what was chosen or left aside in that."""

    artifact: Artifact
    notes: tuple[str, ...]


def artifact_from_openapi(
    content: bytes,
    options: OpenApiOptions,
    *,
    tenant: str = SUPER_TENANT,
    json_only: bool = False,
) -> OpenApiArtifact:
    """The API that a document describes.

    Args:
        content: OpenAPI 3.0 or 3.1, or Swagger 2.0, as JSON or YAML in UTF-8.
        options: what else is known of the API.
        tenant: the domain to publish to.
        json_only: YAML is refused.

    Raises:
        ProblemsError: with everything that is wrong, with lines of the document.
    """
    try:
        document = read_document(content, json_only=json_only)
        version = version_of(document)
        faults = faults_in(document, version)
        operations = [] if faults else operations_of(document, faults)
    except Problem as problem:
        raise ProblemsError([problem]) from None
    if faults:
        raise ProblemsError(problems_of(content, faults))
    making = _Making(content, document, operations, options, tenant)
    return making.whole()


# The parts ------------------------------------------------------------------------------------

PROVIDER: Final = "admin"
# Together with what WSO2 puts around them they are names of 255 bytes at most. WSO2 itself has
# 60 characters for a name and 30 for a version.
_NAME_MOST: Final = 100
_VERSION_MOST: Final = 100
# What WSO2's portal takes out of a title that becomes a name.
_NOT_IN_NAMES: Final = re.compile(r"[&/\\#,+()$~%.'\":*?<>{}\[\]|;@!^=`\s]")
_VERSION: Final = re.compile(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*")
_CONTEXT: Final = re.compile(r"(?:/[A-Za-z0-9._~!$&'()+,;=:@%-]+)+|/")
_OAUTH: Final = frozenset({"oauth2", "openIdConnect"})


class _Making:
    """An artifact in the course of being made of a sound document."""

    def __init__(
        self,
        content: bytes,
        document: dict[str, Any],
        operations: Sequence[Operation],
        options: OpenApiOptions,
        tenant: str,
    ) -> None:
        self.content = content
        self.document = document
        self.operations = operations
        self.options = options
        self.tenant = tenant
        self.problems: list[Problem] = []
        self.notes: list[str] = []

    def whole(self) -> OpenApiArtifact:
        """The artifact, if nothing stands against it."""
        name, version = self.name(), self.version()
        context = self.context(name, version)
        production, sandbox = self.endpoints()
        if self.problems:
            raise ProblemsError(self.problems)
        identity = Identity(self.tenant, "api", name, version)
        api_id = identity.default_api_id()
        provider = PROVIDER if self.tenant == SUPER_TENANT else f"{PROVIDER}-AT-{self.tenant}"
        endpoints = {f"{name}--v{version}_APIproductionEndpoint": production}
        if sandbox:
            endpoints[f"{name}--v{version}_APIsandboxEndpoint"] = sandbox
        api = ApiXml(
            name=f"{provider}--{name}",
            context=context,
            version=version,
            uuid=api_id,
            production=next(iter(endpoints)),
            sandbox=next(reversed(endpoints)) if sandbox else "",
            authenticated=not self.options.allow_unauthenticated,
        )
        try:
            entry = local_entry_xml(api_id, self.content.decode())
        except Problem as problem:
            raise ProblemsError([problem]) from None
        contents = [
            Content(API, "", api.written(self.operations)),
            Content("localEntriesToBeAdd", api_id, entry),
            *(
                Content("endpointEntriesToBeAdd", key, endpoint_xml(key, url))
                for key, url in endpoints.items()
            ),
        ]
        parts = [part_by_rule(each, identity, provider) for each in contents]
        parts.sort(key=lambda part: (part.role, part.path))
        artifact = Artifact(identity, api_id, tuple(parts))
        artifact.check()
        self.note_security()
        self.note_references()
        return OpenApiArtifact(artifact, tuple(self.notes))

    def name(self) -> str:
        """A title is rid of what WSO2 has in no name, a name that was given is refused for it."""
        name = self.options.name
        if name and (_NOT_IN_NAMES.search(name) or not name.isprintable()):
            reason = f"--name {name[:80]!r} has a space or a character that WSO2 has in no name"
            self.problems.append(Problem(f"{reason}; letters, digits, '-' and '_' are sound"))
            return ""
        if not name:
            title = self.document["info"]["title"]
            name = "".join(c for c in _NOT_IN_NAMES.sub("", title) if c.isprintable())
            if not name:
                self.fault(("info", "title"), "makes no name for the API; give it one with --name")
        size = len(name.encode())
        if size > _NAME_MOST:
            reason = f"the API's name has {size} bytes; at most {_NAME_MOST} are allowed"
            self.problems.append(Problem(f"{reason}, give it another with --name"))
        return name

    def version(self) -> str:
        """What becomes a step of the API's URL."""
        version: str = self.options.version or self.document["info"]["version"]
        if not _VERSION.fullmatch(version) or len(version) > _VERSION_MOST:
            reason = (
                f"{version[:40]!r} cannot be a step of the API's URL; "
                f"1 to {_VERSION_MOST} letters, digits, '.', '-', '_' and '~' can"
            )
            if self.options.version:
                self.problems.append(Problem(f"--version {reason}"))
            else:
                self.fault(("info", "version"), f"{reason}; give another with --version")
        return version

    def context(self, name: str, version: str) -> str:
        """Where the API begins: with its version, as WSO2 has it."""
        given = self.options.context
        base = given or self.document.get("basePath", "").rstrip("/")
        if not base and not name:
            return ""  # what is wrong with the name is said
        base = base or f"/{name.lower()}"
        step = version if "{version}" in base else ""
        plain = base.replace("{version}", "v") if step else base
        if not _CONTEXT.fullmatch(plain) or {".", ".."} & set(plain.split("/")):
            reason = "must be a path as it stands in URLs: '/menu', '%20' for a space"
            if given:
                self.problems.append(
                    Problem(f"--context {given[:80]!r} {reason}, no '/' at its end")
                )
            else:
                advice = (
                    f"the context would be {base[:80]!r}, which is none; give it with --context"
                )
                self.problems.append(Problem(f"the context {reason}; {advice}"))
        if step:
            return base.replace("{version}", version)
        return f"{base.rstrip('/')}/{version}"

    def endpoints(self) -> tuple[str, str]:
        """The URLs for production and, if there is one, for the sandbox."""
        production, sandbox = self.options.endpoint, self.options.sandbox_endpoint
        try:
            if production:
                production = check_url(production, "--endpoint")
            if sandbox:
                sandbox = check_url(sandbox, "--sandbox-endpoint")
        except Problem as problem:
            self.problems.append(problem)
        if not production:
            servers = servers_of(self.document)
            if servers:
                production = servers[0]
                others = f", the first of its {len(servers)} servers" if servers[1:] else ""
                self.notes.append(f"requests go to {production}, as the document says{others}")
            else:
                reason = "the document names no server that requests could be sent to"
                self.problems.append(Problem(f"{reason}; name one with --endpoint https://..."))
        return production, sandbox

    def note_security(self) -> None:
        """Where clients are asked for something else than the document says."""
        asked = [each for each in self.operations if each.security]
        if self.options.allow_unauthenticated:
            if asked:
                names = sorted({name[:80] for each in asked for name in each.security})
                self.notes.append(
                    "the API is open to everyone, though the document asks for "
                    f"{', '.join(names[:5])} ({_some(asked)})"
                )
            return
        others = [each for each in self.operations if not self.is_oauth(each)]
        if others:
            self.notes.append(
                "each operation asks for an OAuth 2.0 token, as in WSO2, also where the document "
                f"asks for something else or for nothing ({_some(others)})"
            )

    def is_oauth(self, operation: Operation) -> bool:
        """Whether the document lets clients of an operation come with a token."""
        schemes = self.document.get("securityDefinitions") or self.document.get(
            "components", {}
        ).get("securitySchemes", {})
        for name in operation.security:
            scheme = schemes.get(name, {})
            if isinstance(target := scheme.get("$ref"), str) and target.startswith("#/"):
                scheme = resolved(self.document, target)
            if not isinstance(scheme, dict):
                continue
            if str(scheme.get("type")) in _OAUTH or str(scheme.get("scheme")).lower() == "bearer":
                return True
        return False

    def note_references(self) -> None:
        """The definition is stored as it is; whoever reads it may not find what it refers to."""
        if found := external_references(self.document):
            first = f"{found[0].target[:120]!r} at {pointer_text(found[0].pointer[:-1])[:200]}"
            self.notes.append(
                f"the definition refers to other documents, which are not published with it "
                f"({len(found)} times, such as {first})"
            )

    def fault(self, pointer: tuple[str, ...], reason: str) -> None:
        """Say what is wrong with a value of the document."""
        self.problems += problems_of(self.content, [Fault(pointer, reason)])


def _some(operations: Sequence[Operation]) -> str:
    first = f"{operations[0].method} {operations[0].path[:120]}"
    more = len(operations) - 1
    return f"{first} and {more} more" if more else first

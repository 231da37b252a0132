"""Options that several commands have, the same for all."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from gatesync.cli.running import EXIT_WRONG
from gatesync.cli.session import CommandError

__all__ = [
    "AllowUnauthenticatedOption",
    "ConfigOption",
    "ContextOption",
    "DryRunOption",
    "EndpointOption",
    "Engine",
    "EngineOption",
    "ExpectOption",
    "ForceOption",
    "JsonOption",
    "KeyArgument",
    "KindFilter",
    "LabelOption",
    "NameArgument",
    "NameOption",
    "OneLabel",
    "PublisherOption",
    "SandboxEndpointOption",
    "SkipInvalidOption",
    "TenantFilter",
    "TimeoutOption",
    "VersionFilter",
    "VersionOption",
    "WaitOption",
    "seconds",
]

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="deployment.toml; defaults without it")
]
JsonOption = Annotated[bool, typer.Option("--json", help="one JSON document on standard output")]
PublisherOption = Annotated[
    list[str] | None,
    typer.Option("--publisher", help="its URL, repeatable: the next one is tried where one fails"),
]
LabelOption = Annotated[list[str] | None, typer.Option("--label", "-l", help="repeatable")]
WaitOption = Annotated[
    str | None, typer.Option("--wait", help="all, N or P%: until so many gateways have it")
]
ExpectOption = Annotated[
    int | None, typer.Option("--expect", min=0, help="gateways that there must be at least")
]
OneLabel = Annotated[str | None, typer.Option("--label", "-l", help="needed where several had it")]
ForceOption = Annotated[
    bool, typer.Option("--force", help="also where others refer to what goes away")
]
TimeoutOption = Annotated[str, typer.Option("--timeout", help="such as 30s, 500ms or 2m")]
VersionFilter = Annotated[str | None, typer.Option("--version", help="the artifact's version")]
KindFilter = Annotated[str | None, typer.Option("--kind", help="api, sequence, policy...")]
TenantFilter = Annotated[str | None, typer.Option("--tenant", help="the tenant domain")]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="its name, or its api_id")]
KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="its id")]
SkipInvalidOption = Annotated[
    bool, typer.Option("--skip-invalid", help="leave out what is refused, tell, go on")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="say what would change and what is wrong; no more")
]


class Engine(StrEnum):
    """Engines whose refusals can be told beforehand."""

    ENVOY = "envoy"


EngineOption = Annotated[
    Engine | None,
    typer.Option("--engine", help="with --dry-run: what gateways with this engine would refuse"),
]

# Of publish, for OpenAPI documents.
_OPENAPI: Final = "OpenAPI documents"
EndpointOption = Annotated[
    str,
    typer.Option("--endpoint", metavar="URL", help="else their server's", rich_help_panel=_OPENAPI),
]
SandboxEndpointOption = Annotated[
    str,
    typer.Option(
        "--sandbox-endpoint", metavar="URL", help="else there is none", rich_help_panel=_OPENAPI
    ),
]
ContextOption = Annotated[
    str,
    typer.Option(
        "--context", metavar="/PATH", help="without the version", rich_help_panel=_OPENAPI
    ),
]
NameOption = Annotated[str, typer.Option(help="else their title", rich_help_panel=_OPENAPI)]
VersionOption = Annotated[str, typer.Option(help="else theirs", rich_help_panel=_OPENAPI)]
AllowUnauthenticatedOption = Annotated[
    bool,
    typer.Option(
        "--allow-unauthenticated", help="ask nobody for a token", rich_help_panel=_OPENAPI
    ),
]


def seconds(text: str) -> float:
    """Read `30s`, `500ms`, `2m` or a number of seconds; raises `CommandError` for anything else."""
    for unit, factor in (("ms", 0.001), ("s", 1.0), ("m", 60.0), ("", 1.0)):
        if text.endswith(unit):
            number = text.removesuffix(unit) if unit else text
            try:
                number_of = float(number) * factor
            except ValueError:
                break
            if 0 < number_of < 86_400:
                return number_of
            break
    raise CommandError(EXIT_WRONG, f"--timeout {text!r} is not understood; write 30s, 500ms or 2m")

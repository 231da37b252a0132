"""The command `gatesync`: a gateway at once, everything else through `commands`.

A gateway starts on every node, again and again, and has no use for a command line: what reads
options and writes help takes as long to import as all that a gateway needs.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run a command; the exit code says how it went (0, 1, 2 or 3)."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["gateway"] and (config := _config_alone(arguments[1:])) is not None:
        from gatesync.cli.gateway_process import main as run_gateway

        sys.exit(run_gateway(*config))
    from gatesync.cli.commands import main as run_command

    run_command()


def _config_alone(options: Sequence[str]) -> list[Path] | None:
    """The file in `[--config FILE]`, and none or one of them; None where there is anything else."""
    match options:
        case []:
            return []
        case ["--config" | "-c", file] if not file.startswith("-"):
            return [Path(file)]
        case [option] if option.startswith("--config="):
            return [Path(option.removeprefix("--config="))]
        case _:
            return None

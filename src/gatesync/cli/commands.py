"""The command line. Each command is a thin shell around a module beside this one."""

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from gatesync import __version__
from gatesync.cli import admin_commands, artifact_commands
from gatesync.cli.notifying import ready_at
from gatesync.cli.options import ConfigOption
from gatesync.cli.output import Output
from gatesync.cli.rsync_commands import rsync_app
from gatesync.cli.running import EXIT_UNREACHABLE, EXIT_WRONG, run_role
from gatesync.cli.session import CommandError
from gatesync.config import ConfigError, Loaded, Settings, load

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Keeps every node of an API-gateway cluster serving the same artifacts.",
)


def main() -> NoReturn:
    """Run a command; the exit code says how it went (0, 1, 2 or 3)."""
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 - closed by the caller
    sys.stderr = sys.stderr or sys.stdout
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except CommandError as error:
        output = Output(json=False)
        for reason in error.reasons:
            output.problem(reason)
        code = error.code
    except ConfigError as error:
        print(error, file=sys.stderr)
        code = EXIT_WRONG
    except OSError as error:
        where = error.filename if error.filename is not None else "the answer cannot be written"
        print(f"gatesync: {where}: {error.strerror}", file=sys.stderr)
        _give_up_stdout()
        code = EXIT_UNREACHABLE
    except typer.Abort:
        code = 130
    except typer.Exit as error:
        code = error.exit_code
    except Exception as error:
        if not hasattr(error, "show"):
            raise
        error.show()  # click's own: a wrong option, a missing argument
        code = EXIT_WRONG
    sys.exit(code or 0)


def _give_up_stdout() -> None:
    """What is still in the buffer must not fail a second time when the process ends."""
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 1)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="print the version")] = False,
    ca: Annotated[
        Path | None,
        typer.Option("--ca", metavar="FILE", help="the authority that publishers are checked by"),
    ] = None,
) -> None:
    """Print the version, if that was asked for."""
    if ca is not None:
        os.environ["GATESYNC_CA"] = str(ca)
    if version:
        print(f"gatesync {__version__}")
        raise typer.Exit


@app.command()
def up(
    config: ConfigOption = None,
    tls: Annotated[
        bool, typer.Option("--tls", help="with TLS, by an authority of this folder's own")
    ] = False,
) -> int:
    """Run all roles in one process, with an embedded broker and SQLite."""
    from gatesync.cli.roles import REFUSALS, up_role

    settings = _start(config, encrypted=tls).settings
    if not tls:
        return run_role(up_role(settings, lambda: load(config).settings), REFUSALS)
    from gatesync.cli.local_authority import with_local_authority

    def load_again() -> Settings:
        return with_local_authority(load(config, encrypted=True).settings)

    return run_role(up_role(with_local_authority(settings), load_again), REFUSALS)


@app.command()
def publisher(config: ConfigOption = None) -> int:
    """Run a publisher."""
    from gatesync.cli.roles import REFUSALS, publisher_role

    loaded = _start(config)
    return run_role(publisher_role(loaded.settings, ready_at), REFUSALS)


@app.command("traffic-manager")
def traffic_manager(
    config: ConfigOption = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="print what a nats-server of your own needs")
    ] = False,
) -> int:
    """Run the embedded broker."""
    if print_config:
        from gatesync.cli.broker_config import broker_config

        print(broker_config(load(config).settings), end="")
        return 0
    from gatesync.cli.roles import REFUSALS, traffic_manager_role

    loaded = _start(config)
    return run_role(traffic_manager_role(loaded.settings, ready_at), REFUSALS)


@app.command()
def gateway(
    config: ConfigOption = None,
    print_envoy_bootstrap: Annotated[
        bool,
        typer.Option("--print-envoy-bootstrap", help="print what an Envoy of your own needs"),
    ] = False,
) -> int:
    """Run a gateway."""
    if print_envoy_bootstrap:
        from gatesync.engines.envoy.addresses import envoy_bootstrap

        print(envoy_bootstrap(load(config).settings).decode(), end="")
        return 0
    from gatesync.cli.gateway_process import main as run_gateway

    return run_gateway(config)


app.add_typer(artifact_commands.commands)
app.add_typer(admin_commands.commands)
app.add_typer(rsync_app, name="rsync")


def _start(config: Path | None, *, encrypted: bool = False) -> Loaded:
    """Load the configuration of a role and get ready to log."""
    from gatesync.cli.gateway_process import tell_warnings
    from gatesync.cli.logs import configure_logs

    loaded = load(config, encrypted=encrypted)
    configure_logs(loaded.settings.log_format, loaded.settings.log_level)
    tell_warnings(loaded)
    return loaded

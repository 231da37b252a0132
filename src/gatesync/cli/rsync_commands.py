"""`gatesync rsync`: its options, and what they are handed to."""

import asyncio
import getpass
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gatesync.artifacts.errors import Problem
from gatesync.cli.options import ConfigOption, DryRunOption, JsonOption, PublisherOption
from gatesync.cli.output import Output
from gatesync.cli.running import EXIT_WRONG
from gatesync.cli.session import CommandError
from gatesync.config import load

if TYPE_CHECKING:
    from gatesync.cli.rsync_job import RsyncOptions

__all__ = ["rsync_app"]

rsync_app = typer.Typer(
    invoke_without_command=True,
    help="Copy a repository to workers by rsync and ssh, with proof that they have it.",
)

LEFT_OUT: Final = frozenset({"once", "json", "dry_run", "confirm_removals"})
"""Options that nobody installs for good."""

WorkersOption = Annotated[
    Path | None,
    typer.Option("--workers", metavar="FILE", help="the list: one user@host:/path a line"),
]
SourceOption = Annotated[
    Path | None, typer.Option("--source", metavar="DIR", help="<API-M_HOME>/repository")
]
IdentityOption = Annotated[
    Path | None, typer.Option("--identity-file", metavar="PEM", help="the private key for ssh")
]
EveryOption = Annotated[
    str | None, typer.Option("--every", metavar="60s", help="go on, and look so often")
]
WatchOption = Annotated[
    bool, typer.Option("--watch", help="go on, and copy each change as it is made")
]
OnceOption = Annotated[bool, typer.Option("--once", help="do it once (the default)")]
MirrorOption = Annotated[
    bool, typer.Option("--mirror", help="also remove what the source never had")
]
BandwidthOption = Annotated[
    str | None, typer.Option("--bwlimit", metavar="RATE", help="of each rsync, a second: 500k, 10m")
]
JobsOption = Annotated[int, typer.Option("--jobs", min=1, max=256, help="rsyncs at a time")]
StrictOption = Annotated[
    bool, typer.Option("--strict-host-keys", help="refuse a host that was never seen, too")
]
KnownHostsOption = Annotated[
    Path | None, typer.Option("--known-hosts", metavar="FILE", help="else ~/.ssh/known_hosts")
]
SshConfigOption = Annotated[
    Path | None, typer.Option("--ssh-config", metavar="FILE", help="of your own, such as for jumps")
]
FullOption = Annotated[
    str, typer.Option("--full-every", metavar="10m", help="compare all contents so often")
]
TakeoverOption = Annotated[
    str,
    typer.Option(
        "--takeover-after", metavar="30s", help="when another host's silent runner is replaced"
    ),
]
ConfirmOption = Annotated[
    bool, typer.Option("--confirm-removals", help="carry out the removals that wait for a word")
]
NameOption = Annotated[
    str, typer.Option("--name", help="of this list of workers, where there are several")
]
LogOption = Annotated[
    Path | None, typer.Option("--log-file", metavar="FILE", help="a log that rotates: 6 x 10 MB")
]


@rsync_app.callback()
def rsync(
    context: typer.Context,
    workers: WorkersOption = None,
    source: SourceOption = None,
    identity_file: IdentityOption = None,
    every: EveryOption = None,
    watch: WatchOption = False,
    once: OnceOption = False,
    mirror: MirrorOption = False,
    dry_run: DryRunOption = False,
    bwlimit: BandwidthOption = None,
    jobs: JobsOption = 8,
    strict_host_keys: StrictOption = False,
    known_hosts: KnownHostsOption = None,
    ssh_config: SshConfigOption = None,
    full_every: FullOption = "10m",
    takeover_after: TakeoverOption = "30s",
    confirm_removals: ConfirmOption = False,
    name: NameOption = "default",
    log_file: LogOption = None,
    publisher: PublisherOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> int:
    """Copy a repository to workers by rsync and ssh, with proof that they have it."""
    if context.invoked_subcommand is not None:
        return 0
    from gatesync.cli.rsync_job import job_of
    from gatesync.cli.rsync_reporting import reporting_target

    loaded = load(config)
    job = job_of(_options(context), loaded)
    target = reporting_target(publisher, loaded)
    if job.every is None:
        from gatesync.cli.rsync_once import once as bring_once

        return bring_once(job, loaded, target, Output(json=json))
    if json:
        raise CommandError(EXIT_WRONG, "--json goes with --once: a runner that goes on has no end")
    from gatesync.cli.logs import configure_logs
    from gatesync.cli.rsync_once import REFUSALS, WRONG
    from gatesync.cli.rsync_runner import run_on
    from gatesync.cli.running import run_role

    configure_logs(loaded.settings.log_format, loaded.settings.log_level)
    # uvloop would stand still for 10 ms, four times as long, each time that it starts an rsync.
    return run_role(run_on(job, loaded, target), REFUSALS, WRONG, asyncio.new_event_loop)


@rsync_app.command()
def status(
    name: NameOption = "default", config: ConfigOption = None, json: JsonOption = False
) -> int:
    """Say how the workers are, from what the runner of this host remembers."""
    from gatesync.cli.rsync_once import show_status

    return show_status(load(config).settings.data, name, Output(json=json))


@rsync_app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def install(
    context: typer.Context,
    cron: Annotated[bool, typer.Option("--cron", help="a line for crontab -e")] = False,
    systemd: Annotated[bool, typer.Option("--systemd", help="a unit")] = False,
) -> int:
    """Print what runs it: a line for cron or a unit for systemd, with the options given here."""
    from gatesync.cli.rsync_install import cron_line, systemd_unit
    from gatesync.cli.rsync_job import job_of

    if cron == systemd:
        raise CommandError(EXIT_WRONG, "give --cron or --systemd, and gatesync rsync's options")
    asked = _asked(context)
    options = _options(asked)
    job = job_of(options, load(asked.params["config"]))
    job.read_workers()
    words = [_program(), "rsync", *_words(asked)]
    folder = str(Path.cwd())
    try:
        if systemd:
            goes_on = options.watch or options.every is not None
            command = words if goes_on else [*words, "--watch"]
            print(systemd_unit(command, folder, getpass.getuser()), end="")
        else:
            print(cron_line([*words, "--once"], folder, job.passes.every))
    except Problem as problem:
        raise CommandError(EXIT_WRONG, str(problem)) from None
    return 0


def _options(context: typer.Context) -> "RsyncOptions":
    """What was typed for the job; raises `CommandError` where something of it is missing."""
    from gatesync.cli.rsync_job import RsyncOptions

    typed = context.params
    for needed in ("workers", "source", "identity_file"):
        if typed[needed] is None:
            raise CommandError(EXIT_WRONG, f"--{needed.replace('_', '-')} is missing")
    return RsyncOptions(**{field: typed[field] for field in RsyncOptions.__struct_fields__})


def _asked(context: typer.Context) -> typer.Context:
    """The rest of the line, read as `gatesync rsync` itself reads it."""
    assert context.parent is not None
    group: Any = context.parent.command
    asked: typer.Context = group.make_context("rsync", list(context.args))
    left = [*asked.args, *getattr(asked, "_protected_args", ())]
    if left:
        raise CommandError(EXIT_WRONG, f"{left[0]!r} is no option of gatesync rsync")
    return asked


def _words(asked: typer.Context) -> list[str]:
    """The options that were given, with whole paths; how often is said otherwise, if for cron."""
    words: list[str] = []
    for option in asked.command.params:
        value = asked.params.get(option.name or "")
        source = asked.get_parameter_source(option.name or "")
        if source is None or source.name != "COMMANDLINE" or option.name in LEFT_OUT:
            continue
        values = value if isinstance(value, list | tuple) else [value]
        for each in values:
            if each is True:
                words.append(option.opts[0])
            elif each is not False:
                whole = Path(each).expanduser().absolute() if isinstance(each, Path) else each
                words += [option.opts[0], str(whole)]
    return words


def _program() -> str:
    return shutil.which("gatesync", path=str(Path(sys.argv[0]).parent)) or sys.argv[0]

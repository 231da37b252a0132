"""What `gatesync rsync` was asked to do, checked before anything is begun."""

import re
from pathlib import Path
from typing import Final

import msgspec

from gatesync.artifacts.places import SERVER_FOLDER, TENANTS_FOLDER
from gatesync.cli.options import seconds
from gatesync.cli.running import EXIT_WRONG
from gatesync.cli.session import CommandError
from gatesync.config import Loaded
from gatesync.mirroring.passes import PassSettings
from gatesync.mirroring.rsync import check_bandwidth
from gatesync.mirroring.ssh import SshSettings
from gatesync.mirroring.workers import ListedWorkers, Worker, read_workers

__all__ = ["Job", "RsyncOptions", "job_of", "kept_paths"]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
TAKEOVER_LEAST: Final = 0.5  # seconds; a lease that is shorter is lost to a busy machine


class RsyncOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options, as they were typed."""

    workers: Path
    source: Path
    identity_file: Path | None
    every: str | None = None
    watch: bool = False
    once: bool = False
    mirror: bool = False
    dry_run: bool = False
    bwlimit: str | None = None
    jobs: int = 8
    strict_host_keys: bool = False
    known_hosts: Path | None = None
    ssh_config: Path | None = None
    full_every: str = "10m"
    takeover_after: str = "30s"
    confirm_removals: bool = False
    name: str = "default"
    log_file: Path | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done. `folder` is this runner's own, below the data folder.

    `every` is None for a runner that does it once. `lease_seconds`: after which another host takes
    over. `node_id` is whose workers they are in receipts.
    """

    options: RsyncOptions
    folder: Path
    passes: PassSettings
    every: float | None
    lease_name: str
    lease_seconds: float
    node_id: str

    @property
    def source(self) -> Path:
        """The folder that is copied."""
        return self.passes.source

    @property
    def record(self) -> Path:
        """What is remembered of the source from one runner to the next."""
        return self.folder / "source.json"

    @property
    def state(self) -> Path:
        """What is remembered of the workers."""
        return self.folder / "state.json"

    def read_workers(self) -> ListedWorkers:
        """The list as it is now.

        Raises:
            CommandError: it cannot be read, or names no worker.
        """
        path = self.options.workers
        try:
            listed = read_workers(path)
        except OSError as error:
            raise CommandError(
                EXIT_WRONG, f"the workers' list {path} cannot be read: {error.strerror}"
            ) from None
        if not listed.workers:
            reason = f"{path} names no worker; write one user@host:/path a line"
            raise CommandError(EXIT_WRONG, *listed.problems, reason)
        return listed


def job_of(options: RsyncOptions, loaded: Loaded) -> Job:
    """Check the options.

    Raises:
        CommandError: what is wrong with them, and what to write.
    """
    settings = loaded.settings
    if sum((options.every is not None, options.watch, options.once)) > 1:
        raise CommandError(EXIT_WRONG, "of --every, --watch and --once one can be given")
    if options.dry_run and (options.every is not None or options.watch):
        raise CommandError(EXIT_WRONG, "--dry-run goes with --once: it ends when all is told")
    if not _NAME.fullmatch(options.name):
        reason = f"--name {options.name!r} has to be of letters, digits, '.', '-' and '_'"
        raise CommandError(EXIT_WRONG, reason)
    if options.bwlimit is not None:
        try:
            check_bandwidth(options.bwlimit)
        except ValueError as error:
            raise CommandError(EXIT_WRONG, f"--bwlimit {error}") from None
    source = options.source.expanduser().absolute()
    _check_source(source)
    folder = (settings.data / "rsync" / options.name).absolute()
    every = _duration("--every", options.every or "60s")
    compare_every = _duration("--full-every", options.full_every)
    lease_seconds = _duration("--takeover-after", options.takeover_after)
    if lease_seconds < TAKEOVER_LEAST:
        raise CommandError(EXIT_WRONG, f"--takeover-after is {TAKEOVER_LEAST:g}s at least")
    passes = PassSettings(
        source=source,
        folder=folder / "work",
        ssh=SshSettings(
            identity_file=options.identity_file,
            strict_host_keys=options.strict_host_keys,
            known_hosts=options.known_hosts,
            extra_config=options.ssh_config,
        ),
        parallel=options.jobs,
        every=min(every, compare_every),  # a comparison is made where a worker is looked at
        compare_every=compare_every,
        mirror=options.mirror,
        bandwidth=options.bwlimit,
    )
    return Job(
        options=options,
        folder=folder,
        passes=passes,
        every=every if options.watch or options.every is not None else None,
        lease_name=f"rsync {options.name}",
        lease_seconds=lease_seconds,
        node_id=settings.server.node_id,
    )


def kept_paths(path: str, workers: tuple[Worker, ...]) -> bool:
    """Whether a path below the source concerns any of these workers; a folder's ends with `/`.

    So what else is in a repository (databases, logs, components) is not even read.
    """
    for part in {each.part for each in workers}:
        whole = f"{part}/" if part else ""
        if path.startswith(whole) or whole.startswith(path):
            return True
    return False


def _check_source(source: Path) -> None:
    if not source.is_dir():
        raise CommandError(EXIT_WRONG, f"the source {source} is no folder")
    if any((source / part).is_dir() for part in (SERVER_FOLDER, TENANTS_FOLDER)):
        return
    for part in (SERVER_FOLDER, TENANTS_FOLDER):
        if str(source).endswith(f"/{part}"):
            above = str(source)[: -len(part) - 1]
            raise CommandError(EXIT_WRONG, f"the source is the whole repository: --source {above}")
    raise CommandError(
        EXIT_WRONG,
        f"the source {source} has neither {SERVER_FOLDER} nor {TENANTS_FOLDER}; "
        "give <API-M_HOME>/repository",
    )


def _duration(option: str, text: str) -> float:
    try:
        return seconds(text)
    except CommandError:
        hours = text.removesuffix("h")
        if hours != text and hours.isdecimal() and 0 < int(hours) < 24 * 7:
            return int(hours) * 3600.0
        raise CommandError(
            EXIT_WRONG, f"{option} {text!r} is not understood; write 60s, 10m or 6h"
        ) from None

"""What `gatesync rsync --once` and `status` print, and the exit codes."""

import asyncio
import sys
import time
from pathlib import Path

from gatesync.cli.output import Output
from gatesync.cli.rsync_job import Job
from gatesync.cli.rsync_receipts import read_state, rows_of
from gatesync.cli.rsync_runner import Done, run_once
from gatesync.cli.rsync_showing import WORKER_COLUMNS, worker_rows
from gatesync.cli.rsync_turn import RunnerBusyError
from gatesync.cli.running import EXIT_NO, EXIT_UNREACHABLE, EXIT_WRONG
from gatesync.cli.session import CommandError, Target
from gatesync.config import Loaded
from gatesync.mirroring.outcome import Outcome, Result
from gatesync.mirroring.ssh import SshError
from gatesync.stores.store import StoreError

__all__ = ["REFUSALS", "WRONG", "once", "show_status"]

WRONG = (CommandError, RunnerBusyError, SshError)
REFUSALS = (*WRONG, StoreError)
NAMED = 20  # files that a dry run names for each worker
STOPPED = 130  # by Ctrl-C, as shells have it


def once(job: Job, loaded: Loaded, target: Target | None, output: Output) -> int:
    """Bring the workers in step once, and say how that went; quiet in a pipe where all is well."""
    total = len(job.read_workers().workers)
    shown = sys.stdout.isatty() or job.options.dry_run
    try:
        with output.progress("workers", total) as advance:
            note = output.note if shown else lambda _: None
            done = asyncio.run(run_once(job, loaded, target, advance=advance, note=note))
    except SshError as error:
        raise CommandError(EXIT_WRONG, str(error)) from None
    except StoreError as error:
        raise CommandError(EXIT_UNREACHABLE, str(error)) from None
    except KeyboardInterrupt:
        return STOPPED
    output.document(done)
    return _tell(done, output, shown=shown)


def show_status(data: Path, name: str, output: Output) -> int:
    """Show what the runner of this host remembers; 1 where a worker is not in step."""
    state = read_state(data / "rsync" / name / "state.json")
    if state is None:
        raise CommandError(
            EXIT_NO, f"no runner has been at it with {data}; name its --config, or its --name"
        )
    rows = rows_of(state, time.time())
    output.document(state)
    lines = worker_rows(rows)
    output.table(WORKER_COLUMNS, lines)
    return EXIT_NO if any(line.state != "in step" for line in lines) else 0


def _tell(done: Done, output: Output, *, shown: bool) -> int:
    if done.busy:
        if shown:
            output.line(done.busy)
        return 0  # it is being done
    for problem in done.problems:
        output.problem(f"left out: {problem}")
    if done.waiting:
        output.problem(f"{done.waiting}; --confirm-removals carries the removals out")
    for outcome in done.workers:
        failed = outcome.result is Result.FAILED or outcome.held
        if failed:
            output.problem(f"{outcome.worker}: {outcome.sentence()}")
        elif shown:
            output.line(f"{outcome.worker}: {outcome.sentence()}")
        if outcome.result is Result.PLANNED:
            _tell_plan(outcome, output)
    return 0 if done.is_good and not done.waiting else EXIT_NO


def _tell_plan(outcome: Outcome, output: Output) -> None:
    for sign, paths in (("+", outcome.offered), ("-", outcome.removed), ("?", outcome.held)):
        for path in paths[:NAMED]:
            output.line(f"  {sign} {path}")
        if len(paths) > NAMED:
            output.line(f"  {sign} and {len(paths) - NAMED} more")

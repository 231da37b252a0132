"""Runs the demo: `python scripts/demo`, or `python -m demo` with `scripts` on the path."""

import argparse
import sys
from pathlib import Path

MECHANISMS = ("broker", "rsync", "shared")


def main() -> int:
    """Read the arguments and run; 0 when everything was where it should be, else 1."""
    if not __package__:  # run as a folder: then the folder itself is on the path, not its parent
        sys.path[0] = str(Path(__file__).resolve().parent.parent)
    from demo.database import DATABASES
    from demo.story import STORES, run

    parser = argparse.ArgumentParser(prog="demo", description="A gatesync cluster at work.")
    parser.add_argument("--keep", action="store_true", help="keep the folder, with all the logs")
    parser.add_argument("--quick", action="store_true", help="fewer artifacts and measurements")
    parser.add_argument("--folder", type=Path, help="must not exist yet; default: build/demo")
    parser.add_argument(
        "--database", choices=DATABASES, default="sqlite", help="where the publisher stores"
    )
    parser.add_argument(
        "--store", choices=STORES, default="database", help="a database, or a Git repository"
    )
    parser.add_argument(
        "--mechanism", choices=MECHANISMS, default="broker", help="how nodes get their artifacts"
    )
    chosen = parser.parse_args()
    if chosen.mechanism == "rsync":
        from demo import rsync_story

        return rsync_story.run(chosen.folder, keep=chosen.keep)
    if chosen.mechanism == "shared":
        from demo import share_story

        return share_story.run(chosen.folder, keep=chosen.keep, quick=chosen.quick)
    return run(
        chosen.folder,
        keep=chosen.keep,
        quick=chosen.quick,
        database=chosen.database,
        store=chosen.store,
    )


if __name__ == "__main__":
    sys.exit(main())

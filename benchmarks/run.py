"""Run all benchmarks, or the one that is named: each prints lines of JSON."""

import subprocess
import sys
from pathlib import Path

BENCHMARKS = (
    "propagation",
    "fleet",
    "idle_gateway",
    "cold_start",
    "large_publish",
    "sql_store",
    "receipts",
    "reading_rights",
    "signing",
    "envoy_serving",
)


def main() -> int:
    """Run them one after the other; answers with the first failure's exit code."""
    chosen = sys.argv[1:] or BENCHMARKS
    for name in chosen:
        if name not in BENCHMARKS:
            print(f"there is no benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
            return 2
        code = subprocess.call([sys.executable, str(Path(__file__).parent / f"{name}.py")])
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())

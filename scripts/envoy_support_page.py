"""Writes docs/envoy-support.md anew, from the code and the corpus beside the checkout."""

from pathlib import Path

from gatesync.cli.reading import read_artifacts
from gatesync.engines.envoy.options import Options
from gatesync.engines.envoy.support import Counts, count, page

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "envoy-support.md"
CORPUS = ROOT.parent / "shared" / "corpus" / "micro-integrator"


def counts() -> list[Counts]:
    """Of each suite of the corpus."""
    return [
        count(
            suite.name,
            (each.load() for each in read_artifacts([suite / "repository"], None).artifacts),
            Options(),
        )
        for suite in sorted(CORPUS.iterdir())
    ]


if __name__ == "__main__":
    PAGE.write_text(page(counts()))
    print(f"{PAGE} is up to date")

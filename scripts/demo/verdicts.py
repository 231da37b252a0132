"""What each label should hold, what each gateway was seen to hold, and the verdict. No I/O."""

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec

__all__ = ["Model", "Tally", "Verdict", "judge", "percentile"]


class Verdict(msgspec.Struct, frozen=True):
    """One gateway at the end of one step: counts, and the api_ids of what is not right."""

    gateway: str
    expected: int
    held: int
    missing: tuple[str, ...] = ()
    different: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()

    @property
    def in_step(self) -> bool:
        """Whether it holds exactly what it should, byte for byte."""
        return not (self.missing or self.different or self.unexpected)

    @property
    def lost(self) -> int:
        """How many artifacts should be there as published, and are not."""
        return len(self.missing) + len(self.different)

    def __str__(self) -> str:
        """`102 of 102`, and what is wrong."""
        counts = {
            "missing": len(self.missing),
            "different": len(self.different),
            "not to be there": len(self.unexpected),
        }
        wrong = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        right = self.expected - self.lost
        return f"{right} of {self.expected}" + (f" ({wrong})" if wrong else "")


def judge(gateway: str, expected: Mapping[str, str], held: Mapping[str, str]) -> Verdict:
    """Compare digests by api_id: what the input files say, and what the gateway's bytes say."""
    return Verdict(
        gateway=gateway,
        expected=len(expected),
        held=len(held),
        missing=tuple(sorted(expected.keys() - held.keys())),
        different=tuple(sorted(k for k in expected.keys() & held.keys() if expected[k] != held[k])),
        unexpected=tuple(sorted(held.keys() - expected.keys())),
    )


class Model:
    """What each label should hold: SHA-256 of the canonical form, by api_id."""

    def __init__(self) -> None:
        self._labels: dict[str, dict[str, str]] = {}

    def publish(self, labels: Iterable[str], digests: Mapping[str, str]) -> None:
        """Expect these artifacts in these labels from now on."""
        for label in labels:
            self._labels.setdefault(label, {}).update(digests)

    def remove(self, label: str, api_id: str) -> None:
        """Expect this artifact in this label no more."""
        del self._labels[label][api_id]

    def expected(self, label: str) -> dict[str, str]:
        """What a gateway of this label should hold."""
        return dict(self._labels.get(label, {}))

    @property
    def artifacts(self) -> int:
        """How many different artifacts there are, in whatever label."""
        return len({api_id for held in self._labels.values() for api_id in held})


class Tally:
    """What the last line of the demo says."""

    def __init__(self, gateways: int) -> None:
        self.gateways = gateways
        self.artifacts = 0
        self.lost = 0
        self.failures: list[str] = []
        self.publish_to_all_ms: list[float] = []
        self.publish_to_answer_ms: list[float] = []
        self.push_to_all_ms: dict[str, list[float]] = {}  # of a person, by what told of it
        self.calls = 0
        self.finished = False
        self._last: dict[str, bool] = {}

    def take(self, verdicts: Iterable[Verdict]) -> None:
        """Count the verdicts at the end of a step."""
        for verdict in verdicts:
            self.lost += verdict.lost
            self._last[verdict.gateway] = verdict.in_step
            if not verdict.in_step:
                self.failures.append(f"{verdict.gateway} has {verdict}")

    def fail(self, reason: str) -> None:
        """Something was not as promised."""
        self.failures.append(reason)

    @property
    def in_step(self) -> int:
        """How many gateways were in step when they were last looked at."""
        return sum(self._last.values())

    @property
    def ok(self) -> bool:
        """Whether the whole story was told, and nothing in it went wrong."""
        everyone = self.in_step == self.gateways
        measured = bool(self.publish_to_all_ms and self.publish_to_answer_ms and self.calls)
        return self.finished and measured and everyone and not self.lost and not self.failures

    def document(self) -> dict[str, object]:
        """The summary, for programs. Milliseconds; null where nothing was measured."""
        pushed = {each: _percentiles(taken) for each, taken in self.push_to_all_ms.items()}
        return {
            "ok": self.ok,
            "artifacts": self.artifacts,
            "gateways": self.gateways,
            "in_step": self.in_step,
            "lost": self.lost,
            "calls": self.calls,
            "publish_to_all_ms": _percentiles(self.publish_to_all_ms),
            "publish_to_answer_ms": _percentiles(self.publish_to_answer_ms),
        } | ({"push_to_all_ms": pushed} if pushed else {})


def _percentiles(values: Sequence[float]) -> dict[str, float | None]:
    return {"p50": percentile(values, 50), "p99": percentile(values, 99)}


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The smallest value that `percent` of all do not exceed (nearest rank), to one decimal."""
    if not values:
        return None
    rank = max(1, math.ceil(percent / 100 * len(values)))
    return round(sorted(values)[rank - 1], 1)

"""What is unusual about a VM's newest runs, by its own history: explained with figures and what to do. Pure.

Robust: the median and the median deviation from it (MAD) of the runs before, so that one odd run in the past hides
nothing; with floors, so that a small VM that doubles is none; and nothing is said of a VM with too few runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from statistics import median

from xobackup.texts import size_text

RUNS = 30
"""That are looked at; the newest first."""
RUNS_MIN = 8
"""Earlier ones below which nothing is called unusual."""
MADS = 6.0
"""How far from the median, in (scaled) median deviations: about six standard deviations of what is normal."""
SCALE = 1.4826
"""Makes the MAD of normally distributed figures their standard deviation."""
TIMES = 4.0
"""And so many times the median."""
DELTA_MIN_BYTES = 2 << 30
"""A smaller delta is none to speak of."""
PACKED_MIN = 0.9
"""What cannot be compressed by more than a tenth looks encrypted."""
PACKED_JUMP = 0.25
ENTROPY_RUNS = 3
"""A jump stands until so many runs were as usual again: encrypted data are not well again after one quiet night."""


class Odd(StrEnum):
    """Stable codes."""

    DELTA = "delta"
    ENTROPY = "entropy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """One thing that is unusual."""

    code: Odd
    text: str
    advice: str

    def as_data(self) -> dict[str, str]:
        return {key: str(value) for key, value in asdict(self).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One good run of a VM. ``packed``: by disk, how well a sample could be compressed (1: not at all)."""

    began_at: float
    mode: str
    read_bytes: int
    packed: Mapping[str, float]
    names: Mapping[str, str]


def anomalies(runs: Sequence[Run]) -> list[Anomaly]:
    """Of one VM in one job; its good runs, the newest first."""
    found = [_delta(runs), *_entropy(runs)]
    return [one for one in found if one is not None]


def fulls_in_a_row(runs: Sequence[Run]) -> int:
    """How many of the newest runs read everything."""
    return next((number for number, run in enumerate(runs) if run.mode != "full"), len(runs))


def _delta(runs: Sequence[Run]) -> Anomaly | None:
    if not runs or runs[0].mode != "delta":
        return None
    newest = runs[0].read_bytes
    before = [run.read_bytes for run in runs[1:] if run.mode == "delta"]
    if len(before) < RUNS_MIN or newest < DELTA_MIN_BYTES:
        return None
    usual = median(before)
    if newest <= max(usual * TIMES, usual + MADS * _deviation(before, usual)):
        return None
    times = f"{newest / usual:.0f} times" if usual else "far more than"
    text = (
        f"its delta is unusually large: {size_text(newest)}, {times} its usual {size_text(usual)} (the median of "
        f"{len(before)} runs, which were {size_text(min(before))} to {size_text(max(before))})"
    )
    advice = (
        "look what wrote so much in the guest: an update or a defragmentation, a new database, or something that "
        "encrypts its files; pin an older restore point (`xobackup backups pin`) until you know"
    )
    return Anomaly(code=Odd.DELTA, text=text, advice=advice)


def _entropy(runs: Sequence[Run]) -> list[Anomaly]:
    """One for each disk; of the newest runs the newest that jumped is told."""
    found: dict[str, Anomaly] = {}
    for number, run in enumerate(runs[:ENTROPY_RUNS]):
        for disk, packed in run.packed.items():
            before = [one.packed[disk] for one in runs[number + 1 :] if disk in one.packed]
            told = _jump(run.names.get(disk) or disk, packed, before, number)
            if told is not None and disk not in found:
                found[disk] = told
    return [found[disk] for disk in sorted(found)]


def _jump(name: str, packed: float, before: Sequence[float], runs_ago: int) -> Anomaly | None:
    if packed < PACKED_MIN or len(before) < RUNS_MIN:
        return None
    usual = median(before)
    if packed - usual < max(PACKED_JUMP, MADS * _deviation(before, usual)):
        return None
    when = "what its newest run read" if not runs_ago else f"what was read {runs_ago} run{'s' * (runs_ago > 1)} ago"
    text = (
        f"disk {name}: {when} cannot be compressed any more: {packed:.0%} of its size is left, {usual:.0%} is usual "
        f"(the median of {len(before)} runs)"
    )
    advice = (
        "encrypted data look like this: look into the guest for malware before older restore points expire, pin one "
        "(`xobackup backups pin`) and test it isolated (`xobackup health-check`); media and archives look so too"
    )
    return Anomaly(code=Odd.ENTROPY, text=text, advice=advice)


def _deviation(figures: Sequence[float], middle: float) -> float:
    return SCALE * median(abs(one - middle) for one in figures)

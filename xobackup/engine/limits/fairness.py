"""How several processes share one rate: pure; times are arguments.

Each process (a *holder*) says about once a second how much it would like to transfer, and gets a share for
:data:`SHARE_S`. Shares are kept where everybody sees them, by one holder at a time. The invariant:

    the sum of what holders may transfer is at no moment more than the rate

* What others hold is taken from the rate first; a holder grows only into what is left, and shrinks at once to what
  is fair: so whoever comes late has his part when the others have said their next word.
* A holder who cannot say his word falls back to his ``floor`` when his share is over: his part if all had the same,
  or his share if that was less. That much stays his for :data:`GONE_S`; then he is dead, and the others have it.
* Between reading and the end of the transaction nobody knows whether it counts: a holder goes down to what he is
  about to write before it is written, and up only afterwards (:func:`lowered`).

A worker that was not heard of for so long has lost its tasks, and transfers nothing. A control node goes on with what
it can do itself, at the rate divided by the number of holders that it knew last: only then may the sum be more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

SHARE_S = 5.0
GONE_S = 30.0
"""As long as a worker's tasks are its own (:data:`xobackup.workers.records.LEASE_S`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one holder has of one rate, in bytes per second; times by the clock of where it is kept."""

    demand: float
    share: float
    floor: float
    until_s: float
    gone_s: float
    holders: int = 1
    """How many shared the rate when it was made."""

    def held(self, now_s: float) -> float:
        """What nobody else may have."""
        return self.share if now_s < self.until_s else self.floor if now_s < self.gone_s else 0.0


def fair_shares(rate: float, demands: Mapping[str, float]) -> dict[str, float]:
    """``rate`` by max-min fairness: nobody gets less than an equal part unless he asks for less; what nobody asks
    for is divided equally on top, so that who suddenly needs more need not wait."""
    shares: dict[str, float] = {}
    left, open_ = max(0.0, rate), sorted(demands, key=lambda name: (demands[name], name))
    for index, name in enumerate(open_):
        shares[name] = min(max(0.0, demands[name]), left / (len(open_) - index))
        left -= shares[name]
    spare = max(0.0, left) / len(open_) if open_ else 0.0
    return {name: share + spare for name, share in shares.items()}


def renewed(others: Mapping[str, Claim], me: str, *, demand: float, limit: float, now_s: float) -> Claim:
    """My next claim; ``others``: what is kept of everybody else."""
    living = {name: one for name, one in others.items() if name != me and now_s < one.until_s}
    reserved = sum(one.held(now_s) for name, one in others.items() if name != me and name not in living)
    rate = max(0.0, limit - reserved)
    fair = fair_shares(rate, {**{name: one.demand for name, one in living.items()}, me: demand})[me]
    left = max(0.0, rate - sum(one.share for one in living.values()))
    share, holders = min(fair, left), len(living) + 1
    return Claim(
        demand=demand,
        share=share,
        floor=min(share, limit / holders),
        until_s=now_s + SHARE_S,
        gone_s=now_s + GONE_S,
        holders=holders,
    )


def lowered(mine: Claim | None, coming: Claim) -> Claim | None:
    """What I may use while it is not known whether ``coming`` counts or what I had."""
    if mine is None:
        return None
    return replace(mine, share=min(mine.share, coming.share), floor=min(mine.floor, coming.floor))


def allowed(mine: Claim | None, *, limit: float, now_s: float, unheard_s: float, goes_on: bool) -> float:
    """What I may transfer per second. ``unheard_s``: since when nobody hears me; ``goes_on``: also then."""
    if mine is None:
        return limit if goes_on and now_s - unheard_s >= GONE_S else 0.0
    if now_s >= mine.gone_s:
        return limit / max(1, mine.holders) if goes_on else 0.0
    return min(limit, mine.held(now_s))

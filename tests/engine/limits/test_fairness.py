"""How a rate is shared: never more than it, and fairly."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from xobackup.engine.limits.fairness import GONE_S, SHARE_S, Claim, allowed, fair_shares, lowered, renewed

RATE = 100.0
amounts = st.floats(min_value=0, max_value=1000, allow_nan=False)


@given(rate=amounts, demands=st.dictionaries(st.text(max_size=3), amounts, max_size=8))
def test_shares_are_the_rate_and_whoever_gets_less_than_he_asks_gets_no_less_than_others(rate, demands) -> None:
    shares = fair_shares(rate, demands)
    assert set(shares) == set(demands)
    assert math.isclose(sum(shares.values()), rate if demands else 0.0, rel_tol=1e-9, abs_tol=1e-6)
    for name, share in shares.items():
        assert share >= min(demands[name], rate / len(demands)) - 1e-6
        if share < demands[name] - 1e-6:
            assert share >= max(shares.values()) - 1e-6


def test_what_nobody_asks_for_is_divided() -> None:
    assert fair_shares(90.0, {"a": 10.0, "b": 100.0, "c": 100.0}) == {"a": 10.0, "b": 40.0, "c": 40.0}
    assert fair_shares(90.0, {"a": 10.0, "b": 20.0}) == {"a": 40.0, "b": 50.0}
    assert fair_shares(0.0, {"a": 10.0}) == {"a": 0.0} and fair_shares(-5.0, {"a": 1.0}) == {"a": 0.0}


class Sharing(RuleBasedStateMachine):
    """Holders of one rate who come, ask, die, and lose sight of the database; each knows only what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.kept: dict[str, Claim] = {}
        self.mine: dict[str, Claim | None] = {}
        self.numbers = 0

    @rule()
    @precondition(lambda self: len(self.mine) < 6)
    def comes(self) -> None:
        self.numbers += 1
        self.mine[f"h{self.numbers}"] = None

    @rule(data=st.data())
    @precondition(lambda self: bool(self.mine))
    def dies(self, data) -> None:
        del self.mine[data.draw(st.sampled_from(sorted(self.mine)))]

    @rule(data=st.data(), demand=amounts, how=st.sampled_from(["ok", "not written", "written, and not heard of it"]))
    @precondition(lambda self: bool(self.mine))
    def renews(self, data, demand, how) -> None:
        me = data.draw(st.sampled_from(sorted(self.mine)))
        self.kept = {name: one for name, one in self.kept.items() if one.gone_s > self.now_s}
        claim = renewed(self.kept, me, demand=demand, limit=RATE, now_s=self.now_s)
        self.mine[me] = lowered(self.mine[me], claim)
        if how != "not written":
            self.kept[me] = claim
        if how == "ok":
            self.mine[me] = claim

    @rule(data=st.data(), written=st.booleans())
    @precondition(lambda self: bool(self.mine))
    def gives_back(self, data, written) -> None:
        me = data.draw(st.sampled_from(sorted(self.mine)))
        self.mine[me] = None
        if written:
            self.kept.pop(me, None)

    @rule(seconds=st.sampled_from([0.3, 1.0, SHARE_S, GONE_S / 2, GONE_S]))
    def time_passes(self, seconds) -> None:
        self.now_s += seconds

    @invariant()
    def never_more_than_the_rate(self) -> None:
        rates = [
            allowed(one, limit=RATE, now_s=self.now_s, unheard_s=0.0, goes_on=False) for one in self.mine.values()
        ]
        assert sum(rates) <= RATE * (1 + 1e-9), (rates, self.kept)


TestSharing = Sharing.TestCase


def test_who_is_alone_has_all_and_a_newcomer_his_half_two_words_later() -> None:
    first = renewed({}, "a", demand=RATE, limit=RATE, now_s=0.0)
    assert first.share == RATE
    second = renewed({"a": first}, "b", demand=RATE, limit=RATE, now_s=0.1)
    assert second.share == 0.0
    first = renewed({"a": first, "b": second}, "a", demand=RATE, limit=RATE, now_s=1.0)
    second = renewed({"a": first, "b": second}, "b", demand=RATE, limit=RATE, now_s=1.1)
    assert first.share == second.share == RATE / 2


def test_who_cannot_renew_falls_back_to_his_part_and_then_it_is_the_others() -> None:
    cut = Claim(demand=RATE, share=80.0, floor=50.0, until_s=SHARE_S, gone_s=GONE_S, holders=2)

    def may(now_s: float, *, goes_on: bool = False) -> float:
        return allowed(cut, limit=RATE, now_s=now_s, unheard_s=0.0, goes_on=goes_on)

    assert (may(1.0), may(SHARE_S + 1), may(GONE_S + 1)) == (80.0, 50.0, 0.0)
    assert may(GONE_S + 1, goes_on=True) == RATE / 2, "a control node goes on with what it can do itself"
    other = renewed({"cut": cut}, "b", demand=RATE, limit=RATE, now_s=SHARE_S + 1)
    assert other.share == 50.0
    assert renewed({"cut": cut}, "b", demand=RATE, limit=RATE, now_s=GONE_S).share == RATE


def test_a_rate_that_falls_is_kept_as_soon_as_it_is_known() -> None:
    high = Claim(demand=RATE, share=RATE, floor=RATE, until_s=SHARE_S, gone_s=GONE_S)
    assert allowed(high, limit=10.0, now_s=1.0, unheard_s=0.0, goes_on=False) == 10.0
    assert renewed({"a": high}, "b", demand=10.0, limit=10.0, now_s=1.0).share == 0.0


def test_nothing_passes_before_the_first_share_unless_nobody_is_left_to_ask() -> None:
    def may(now_s: float, *, goes_on: bool) -> float:
        return allowed(None, limit=RATE, now_s=now_s, unheard_s=0.0, goes_on=goes_on)

    assert may(1.0, goes_on=True) == may(GONE_S, goes_on=False) == 0.0
    assert may(GONE_S, goes_on=True) == RATE

"""Retention over several remotes: moments count, wherever they are, and what was not seen deletes nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schedules.retention import Entry, LongTerm, Rule, expired
from xobackup.engine.placing.counting import judge_over_all


def entries(*moments: int) -> list[Entry]:
    return [Entry(id=f"p{moment}", timestamp_ms=moment) for moment in moments]


def old(own: list[int], elsewhere: list[int], rule: int | Rule) -> list[int]:
    """``rule``: the newest so many, or any other."""
    by = Rule(newest=rule) if isinstance(rule, int) else rule
    verdicts = judge_over_all(entries(*own), entries(*elsewhere), by)
    assert {verdict.entry.id for verdict in verdicts} == {f"p{moment}" for moment in own}
    return [entry.timestamp_ms for entry in expired(verdicts)]


def test_points_elsewhere_push_out_points_here() -> None:
    assert old([1, 2, 3], [4, 5], 3) == [1, 2]
    assert old([1, 2, 3], [], 3) == []
    assert old([4, 5], [1, 2, 3], 3) == []


def test_a_moment_that_is_on_several_remotes_counts_once() -> None:
    assert old([1, 2, 3], [1, 2, 3], 3) == []
    assert old([1, 2, 3], [2, 3, 4], 3) == [1]


moments = st.lists(st.integers(0, 12), unique=True)


@given(own=moments, other=moments, unseen=moments, count=st.integers(1, 5))
def test_what_was_not_seen_only_makes_more_stay(
    own: list[int], other: list[int], unseen: list[int], count: int
) -> None:
    assert set(old(own, other, count)) <= set(old(own, [*other, *unseen], count))
    kept = {*own, *other} - set(old(own, other, count)) - set(old(other, own, count))
    assert len(kept) == min(count, len({*own, *other})), "the newest of all, however they are spread"


HOUR_MS = 3_600_000
hours = st.lists(st.integers(0, 200).map(lambda hour: hour * HOUR_MS), unique=True, max_size=12)


@given(own=hours, other=hours, unseen=hours, daily=st.integers(0, 4), weekly=st.integers(0, 2))
def test_the_long_term_too(own: list[int], other: list[int], unseen: list[int], daily: int, weekly: int) -> None:
    rule = Rule(newest=1, long_term=LongTerm(daily=daily, weekly=weekly))
    assert set(old(own, other, rule)) <= set(old(own, [*other, *unseen], rule))
    together = sorted({*own, *other})
    kept = {*own, *other} - set(old(own, other, rule)) - set(old(other, own, rule))
    assert kept == set(together) - set(old(together, [], rule)), "as if all were on one remote"

"""Retention by count: a pure decision with reasons."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedules.retention import Entry, expired, newest


def entries(*stamps: int) -> list[Entry]:
    return [Entry(id=f"e{stamp}", timestamp_ms=stamp) for stamp in stamps]


def test_the_newest_are_kept_and_the_rest_expire_oldest_first() -> None:
    verdicts = newest(entries(30, 10, 40, 20), 2)
    assert [v.entry.timestamp_ms for v in verdicts] == [10, 20, 30, 40]
    assert [v.keep for v in verdicts] == [False, False, True, True]
    assert [e.timestamp_ms for e in expired(verdicts)] == [10, 20]


def test_every_verdict_has_a_reason() -> None:
    assert {v.reason for v in newest(entries(1, 2, 3), 2)} == {"among the newest 2", "older than the newest 2"}


def test_fewer_than_the_count_are_all_kept() -> None:
    assert expired(newest(entries(1, 2), 5)) == []
    assert newest([], 1) == []


@pytest.mark.parametrize("count", [0, -1])
def test_a_retention_that_keeps_nothing_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1, got {count}"):
        newest(entries(1), count)


@given(st.lists(st.integers(0, 10**13), unique=True), st.integers(1, 10), st.randoms())
def test_the_answer_does_not_depend_on_the_order_given(stamps: list[int], count: int, random) -> None:
    given_order = entries(*stamps)
    shuffled = list(given_order)
    random.shuffle(shuffled)
    assert newest(shuffled, count) == newest(given_order, count)
    kept = [v.entry.timestamp_ms for v in newest(shuffled, count) if v.keep]
    assert kept == sorted(stamps)[-count:]


def test_ties_are_broken_by_id() -> None:
    twins = [Entry(id="b", timestamp_ms=1), Entry(id="a", timestamp_ms=1)]
    assert [e.id for e in expired(newest(twins, 1))] == ["a"]

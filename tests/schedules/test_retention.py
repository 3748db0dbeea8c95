"""Retention by count and over the long term: pure decisions with reasons."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedules.periods import PERIODS, Offsets, label_of
from schedules.retention import Entry, LongTerm, Rule, Verdict, expired, judge, newest, stands_for

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures/retention"


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


# -- the long term


def day(year: int, month: int, number: int, hour: int = 0) -> int:
    return int(datetime(year, month, number, hour, tzinfo=UTC).timestamp() * 1000)


def kept(verdicts: list[Verdict]) -> dict[str, str]:
    return {verdict.entry.id: verdict.reason for verdict in verdicts if verdict.keep}


def test_xen_orchestras_own_vector() -> None:
    """Four days, of which the last is a Sunday: the first week is stood for by its oldest day."""
    four = [Entry(id=name, timestamp_ms=day(2026, 1, 1 + number)) for number, name in enumerate("abcd")]
    verdicts = judge(four, Rule(newest=2, long_term=LongTerm(weekly=2)))
    assert kept(verdicts) == {
        "a": "weekly 2026-01 (2 of 2)",
        "c": "among the newest 2",
        "d": "among the newest 2, weekly 2026-02 (1 of 2)",
    }
    assert [v.reason for v in verdicts if not v.keep] == [
        "older than the newest 2, and stands for no week that is kept"
    ]


def test_periods_without_an_entry_do_not_count() -> None:
    years = [Entry(id=str(year), timestamp_ms=day(year, 6, 1)) for year in (2010, 2015, 2024, 2026)]
    assert set(kept(judge(years, Rule(newest=1, long_term=LongTerm(yearly=3))))) == {"2015", "2024", "2026"}


def test_who_begins_the_month_is_promised_and_stays_until_its_turn_is_over() -> None:
    """Day by day over two years, as runs do: what expires is gone for ever, and 12 months, 4 weeks, 7 days remain."""
    rule = Rule(newest=2, long_term=LongTerm(daily=7, weekly=4, monthly=12))
    there: list[Entry] = []
    firsts: set[str] = set()
    for number in range(730):
        at = day(2025, 1, 1, 3) + number * 86_400_000
        text = f"{datetime.fromtimestamp(at / 1000, UTC):%Y-%m-%d}"
        if any(name.startswith("monthly=") for name in stands_for(at, there, rule.long_term)):
            firsts.add(text)
        verdicts = judge([*there, Entry(id=text, timestamp_ms=at)], rule)
        there = [verdict.entry for verdict in verdicts if verdict.keep]
        assert {one.id for one in there} >= set(sorted(firsts)[-12:])
    assert firsts == {f"{year}-{month:02}-01" for year in (2025, 2026) for month in range(1, 13)}
    assert len([one for one in there if one.id.endswith("-01")]) == 12 and len(there) <= 7 + 4 + 12


def test_an_hour_that_comes_twice_is_two_hours() -> None:
    before, after = day(2026, 10, 25, 0) + 1, day(2026, 10, 25, 1) + 1  # 02:00 twice in Paris
    labels = [label_of(at, "hourly", timezone="Europe/Paris", offsets=Offsets()) for at in (before, after)]
    assert labels == ["2026-10-25T02+0200", "2026-10-25T02+0100"]


def test_names_of_periods_are_those_of_xen_orchestras_library() -> None:
    rows = json.loads((FIXTURES / "periods.json").read_text())["rows"]
    assert len(rows) > 200
    for at, zone, hour, week_day, month_day, year_day, *expected in rows:
        offsets = Offsets(hour_of_day=hour, day_of_week=week_day, day_of_month=month_day, day_of_year=year_day)
        assert [label_of(at, period, timezone=zone, offsets=offsets) for period in PERIODS[1:]] == expected


def test_an_entry_opens_a_period_when_nobody_older_is_in_it() -> None:
    rule = LongTerm(daily=1, monthly=1)
    there = [Entry(id="a", timestamp_ms=day(2026, 8, 1))]
    assert stands_for(day(2026, 8, 21), there, rule) == ["daily=2026-08-21"]
    assert stands_for(day(2026, 8, 1, 5), there, rule) == []
    assert stands_for(day(2026, 8, 21), [], rule) == ["daily=2026-08-21", "monthly=2026-08"]


def test_the_young_and_the_pinned_stay() -> None:
    days = [Entry(id=str(number), timestamp_ms=day(2026, 5, number)) for number in (1, 2, 3, 4, 5)]
    rule = Rule(newest=1, long_term=LongTerm(age_min_ms=2 * 86_400_000))
    verdicts = judge(days, rule, now_ms=day(2026, 5, 5, 12), pins={"1": "pinned: before the migration"})
    assert kept(verdicts) == {
        "1": "pinned: before the migration",
        "4": "younger than 2 d",
        "5": "among the newest 1, younger than 2 d",
    }
    with pytest.raises(ValueError, match="what time it is"):
        judge(days, rule)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LongTerm(daily=-1), "daily retention must be at least 0, got -1"),
        (lambda: LongTerm(timezone="Mars/Olympus"), "no such time zone: 'Mars/Olympus'"),
        (lambda: LongTerm(timezone="../../etc/passwd"), "no such time zone"),
        (lambda: LongTerm(age_min_ms=-1), "at least 0"),
        (lambda: Offsets(day_of_week=7), "day_of_week must be from 0 to 6, got 7"),
        (lambda: label_of(0, "fortnightly", timezone="UTC", offsets=Offsets()), "no such period: 'fortnightly'"),
    ],
)
def test_what_makes_no_sense_is_refused(make, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


@given(st.lists(st.integers(0, 4 * 10**12), unique=True, max_size=60), st.integers(1, 4), st.integers(0, 5))
def test_the_newest_are_always_kept_and_judging_again_changes_nothing(stamps: list[int], count: int, n: int) -> None:
    rule = Rule(newest=count, long_term=LongTerm(hourly=n, daily=n, weekly=n, monthly=n, yearly=n))
    verdicts = judge(entries(*stamps), rule)
    stay = [verdict.entry for verdict in verdicts if verdict.keep]
    assert {e.timestamp_ms for e in stay} >= set(sorted(stamps)[-count:])
    assert len(stay) <= count + 5 * n
    again = judge(stay, rule)
    assert all(verdict.keep for verdict in again)

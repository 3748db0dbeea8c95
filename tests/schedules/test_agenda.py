"""What is started now: nothing twice, nothing lost without a word."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from schedules.agenda import Due, Missed, Schedule, due, next_start
from schedules.calendar import Calendar
from schedules.timing import Cron, Every
from schedules.windows import parse_span

HOURLY = Schedule(calendar=Calendar(name="hourly", timing=Every(interval="1h")))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def only(found: list[Due]) -> Due:
    (one,) = found
    return one


def test_what_is_due_is_started_once() -> None:
    since, now = at("2026-11-27T10:00"), at("2026-11-27T11:00:05")
    one = only(due([HOURLY], {"hourly": since}, now))
    assert (one.start, one.times, one.reason, one.settled) == (True, 1, "", at("2026-11-27T11:00"))
    assert due([HOURLY], {"hourly": one.settled}, now) == []


def test_a_new_schedule_begins_now() -> None:
    assert due([HOURLY], {}, at("2026-11-27T11:00:05")) == []


def test_missed_times_are_one_run_that_says_so() -> None:
    one = only(due([HOURLY], {"hourly": at("2026-11-27T03:00")}, at("2026-11-27T09:30")))
    assert one.start and one.times == 6
    assert one.reason == "missed: it was due at 2026-11-27 09:00 UTC, 6 times in one"


def test_missed_times_may_be_skipped() -> None:
    skipping = replace(HOURLY, missed=Missed.SKIP)
    one = only(due([skipping], {"hourly": at("2026-11-27T03:00")}, at("2026-11-27T09:30")))
    assert not one.start and one.reason.endswith("missed times are skipped")
    assert due([skipping], {"hourly": one.settled}, at("2026-11-27T09:30")) == []


def test_what_was_missed_too_long_ago_is_skipped() -> None:
    nightly = Schedule(calendar=Calendar(name="n", timing=Cron(expression="0 3 * * *")), missed_max_s=3600)
    one = only(due([nightly], {"n": at("2026-11-26T03:00")}, at("2026-11-27T09:00")))
    assert not one.start and one.reason.endswith("longer ago than 1:00:00")


def test_after_a_year_away_the_newest_time_counts() -> None:
    minutely = Schedule(calendar=Calendar(name="m", timing=Every(interval="1m")))
    one = only(due([minutely], {"m": at("2025-11-27T00:00")}, at("2026-11-27T09:30:10")))
    assert one.start and one.settled == at("2026-11-27T09:30")


def test_what_was_due_long_ago_is_told_once_and_not_run() -> None:
    yearly, now = Schedule(calendar=Calendar(name="y", timing=Cron(expression="@yearly"))), at("2026-11-27T00:00")
    one = only(due([yearly], {"y": at("2025-06-01T00:00")}, now))
    assert (
        not one.start and one.reason == "missed: it was due at 2026-01-01 00:00 UTC, longer ago than 1 day, 0:00:00"
    )
    assert due([yearly], {"y": one.settled}, now) == []


def test_a_clock_that_goes_back_starts_nothing_again() -> None:
    assert due([HOURLY], {"hourly": at("2026-11-27T11:00")}, at("2026-11-27T08:00")) == []


def test_paused_and_disabled() -> None:
    since, now = {"hourly": at("2026-11-27T10:00")}, at("2026-11-27T11:00")
    one = only(due([HOURLY], since, now, {"hourly": "the array is being moved"}))
    assert not one.start and one.reason == "paused: the array is being moved"
    assert due([replace(HOURLY, enabled=False)], since, now) == []
    assert next_start(replace(HOURLY, enabled=False), None, now) is None


def test_the_more_important_goes_first() -> None:
    low = Schedule(calendar=Calendar(name="a", timing=Every(interval="1h")))
    high = Schedule(calendar=Calendar(name="b", timing=Every(interval="1h")), priority=5)
    since = {"a": at("2026-11-27T10:00"), "b": at("2026-11-27T10:00")}
    assert [one.schedule for one in due([low, high], since, at("2026-11-27T11:00"))] == ["b", "a"]


def test_what_waits_for_its_window_is_one_run_when_it_opens() -> None:
    window = parse_span(begin="20:00", end="06:00", days="")
    schedule = Schedule(calendar=Calendar(name="w", timing=Every(interval="1h"), window=window))
    since = {"w": at("2026-11-27T05:00")}
    assert due([schedule], since, at("2026-11-27T19:59")) == []
    one = only(due([schedule], since, at("2026-11-27T20:00")))
    assert one.start and one.times == 15 and one.settled == at("2026-11-27T20:00")


def test_the_next_start() -> None:
    fire = next_start(HOURLY, at("2026-11-27T10:00"), at("2026-11-27T10:20"))
    assert fire is not None and fire.at == at("2026-11-27T11:00")
    assert next_start(HOURLY, None, at("2026-11-27T10:20")) == fire


@given(st.lists(st.integers(-7200, 20_000), min_size=1, max_size=40))
def test_however_the_clock_walks_every_hour_is_settled_once_and_in_order(steps: list[int]) -> None:
    """Forward, back, standing still: what was started is never started again."""
    now = at("2026-11-27T00:00")
    settled = {"hourly": now}
    started: list[datetime] = []
    for step in steps:
        now += timedelta(seconds=step)
        for one in due([HOURLY], settled, now):
            settled["hourly"] = one.settled
            started.append(one.settled)
    assert started == sorted(set(started))

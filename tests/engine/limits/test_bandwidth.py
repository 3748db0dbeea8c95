"""Limits by the time of day: windows, days, midnight, time zones, and a change in the middle of a transfer."""

from datetime import UTC, datetime

import pytest

from schedules.windows import BadWindow, days_text, parse_days, span_text
from xobackup.clock import FakeClock
from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import Cancelled
from xobackup.engine.limits.bandwidth import (
    MIB,
    Timetable,
    limit_text,
    parse_window,
    zone_of,
)
from xobackup.engine.throttle import Throttle

OFFICE = parse_window(begin="08:00", end="18:00", days="mon-fri", rate_bytes_s=50 * MIB)
NIGHT = parse_window(begin="22:00", end="06:00", days="fri", rate_bytes_s=500 * MIB)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("moment", "rate"),
    [
        ("2026-01-05T07:59", 100),  # a Monday
        ("2026-01-05T08:00", 50),
        ("2026-01-05T17:59", 50),
        ("2026-01-05T18:00", 100),
        ("2026-01-10T12:00", 100),  # a Saturday
        ("2026-01-09T21:59", 100),  # a Friday
        ("2026-01-09T22:00", 500),
        ("2026-01-10T05:59", 500),  # the night that began on Friday
        ("2026-01-10T06:00", 100),
        ("2026-01-10T23:00", 100),
        ("2026-01-09T05:00", 100),  # the night that began on Thursday
    ],
)
def test_the_window_that_holds_counts_else_the_rate_for_the_rest(moment: str, rate: int) -> None:
    table = Timetable(rate_bytes_s=100 * MIB, windows=(OFFICE, NIGHT), zone="UTC")
    assert table.at(at(moment)).rate_bytes_s == rate * MIB


def test_a_window_keeps_its_hours_by_the_clock_on_the_wall() -> None:
    table = Timetable(windows=(OFFICE,), zone="Europe/Paris")
    assert table.at(at("2026-01-05T07:30")).rate_bytes_s == 50 * MIB, "winter: 08:30 in Paris"
    assert table.at(at("2026-07-06T06:30")).rate_bytes_s == 50 * MIB, "summer: 08:30 in Paris"
    assert table.at(at("2026-01-05T06:30")).rate_bytes_s is None


def test_the_first_window_that_holds_counts() -> None:
    lunch = parse_window(begin="12:00", end="13:00", days="", rate_bytes_s=MIB)
    assert Timetable(windows=(lunch, OFFICE), zone="UTC").at(at("2026-01-05T12:30")).rate_bytes_s == MIB


def test_days_are_read_and_told() -> None:
    assert parse_days("fri-mon") == {4, 5, 6, 0} and parse_days("Sat, sun") == {5, 6} and len(parse_days("")) == 7
    assert days_text({0, 1, 2, 3, 4}) == "mon-fri" and days_text({5, 6, 1}) == "tue, sat, sun"
    assert span_text(NIGHT) == "from 22:00 to 06:00 on fri"
    table = Timetable(rate_bytes_s=None, windows=(OFFICE,), zone="UTC")
    assert limit_text(table.at(at("2026-01-05T08:00"))) == "50 MiB/s from 08:00 to 18:00 on mon-fri"
    assert limit_text(table.at(at("2026-01-05T07:00"))) == "no limit"


@pytest.mark.parametrize(
    ("begin", "end", "days", "words"),
    [
        ("8:00", "18:00", "", "from: expected a time"),
        ("08:00", "24:01", "", "to: expected a time"),
        ("08:00", "08:00", "", "two different times"),
        ("24:00", "08:00", "", "two different times"),
        ("08:00", "18:00", "monday", "days such as"),
        ("08:00", "18:00", "mon-", "days such as"),
        ("08:00", "18:00", "mon-fri-sun", "days such as"),
    ],
)
def test_what_is_no_window_is_refused_with_what_was_expected(begin: str, end: str, days: str, words: str) -> None:
    with pytest.raises(BadWindow, match=words):
        parse_window(begin=begin, end=end, days=days, rate_bytes_s=1)


@pytest.mark.parametrize("name", ["Mars/Olympus", "../etc/passwd", "a" * 300, "\0"])
def test_a_time_zone_nobody_knows_is_refused(name: str) -> None:
    with pytest.raises(BadWindow, match="timezone"):
        zone_of(name)


def test_a_change_takes_effect_in_the_middle_of_a_transfer() -> None:
    clock = FakeClock(at("2026-01-05T17:59:50"))
    throttle = Throttle(Timetable(rate_bytes_s=100 * MIB, windows=(OFFICE,), zone="UTC"), clock)
    for _ in range(500):  # 1000 MiB: ten seconds at 50 MiB/s, then five at 100
        throttle.take(2 * MIB, CancelToken())
    assert clock.now_s() == pytest.approx(at("2026-01-05T18:00:05"), abs=0.2)


def test_a_change_reaches_who_already_waits() -> None:
    clock = FakeClock(at("2026-01-05T17:59:58"))
    throttle = Throttle(Timetable(windows=(OFFICE,), zone="UTC"), clock)
    throttle.take(10_000 * MIB, CancelToken())  # 200 s at that rate
    assert clock.now_s() <= at("2026-01-05T18:00:01")


def test_a_total_above_holds_all_jobs_together_and_changes_are_told() -> None:
    clock, told = FakeClock(at("2026-01-05T07:59:59")), []
    total = Throttle(Timetable(rate_bytes_s=20 * MIB, windows=(OFFICE,), zone="UTC"), clock)
    jobs = [Throttle(None, clock, above=total, tell=told.append), Throttle(30 * MIB, clock, above=total)]
    began_s = clock.now_s()
    for _ in range(20):
        for job in jobs:
            job.take(2 * MIB, CancelToken())
    assert clock.now_s() - began_s == pytest.approx(1 + 60 / 50, abs=0.3)
    assert [limit_text(limits[0]) for limits in told] == ["20 MiB/s", "50 MiB/s from 08:00 to 18:00 on mon-fri"]


def test_waiting_for_bandwidth_notices_the_switch() -> None:
    clock, cancel = FakeClock(), CancelToken()
    cancel.cancel("enough")
    with pytest.raises(Cancelled):
        Throttle(1.0, clock).take(1000, cancel)

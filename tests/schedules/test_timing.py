"""When something is due: cron and intervals, and the nights on which the clocks change."""

from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedules.timing import Cron, Every

PARIS = "Europe/Paris"
YEAR = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))


def walls(timing: Cron | Every, begin: str, count: int) -> list[str]:
    start = datetime.fromisoformat(begin).replace(tzinfo=ZoneInfo(timing.timezone))
    return [f"{one:%m-%d %H:%M%z}" for one in islice(timing.after(start), count)]


def test_a_time_that_does_not_exist_is_due_after_the_gap() -> None:
    nightly = Cron(expression="30 2 * * *", timezone=PARIS)
    assert walls(nightly, "2026-03-28T00:00", 3) == ["03-28 02:30+0100", "03-29 03:00+0200", "03-30 02:30+0200"]


def test_a_time_that_comes_twice_is_due_once() -> None:
    nightly = Cron(expression="30 2 * * *", timezone=PARIS)
    assert walls(nightly, "2026-10-24T12:00", 2) == ["10-25 02:30+0200", "10-26 02:30+0100"]


@given(st.integers(0, 48 * 60))
def test_what_comes_after_a_moment_comes_after_it(minutes: int) -> None:
    moment = datetime(2026, 10, 24, tzinfo=UTC) + timedelta(minutes=minutes)
    for expression in ("30 2 * * *", "*/20 * * * *", "0 1,2,3 * * *"):
        due = next(Cron(expression=expression, timezone="Europe/Paris").after(moment))
        assert due.astimezone(UTC) > moment


def test_what_is_about_real_time_goes_on_through_both() -> None:
    half = Cron(expression="*/30 * * * *", timezone=PARIS)
    due = list(islice(half.after(datetime(2026, 10, 24, 22, tzinfo=UTC)), 12))
    assert {later.timestamp() - one.timestamp() for one, later in pairwise(due)} == {1800}
    due = list(islice(half.after(datetime(2026, 3, 28, 22, tzinfo=UTC)), 12))
    assert {later.timestamp() - one.timestamp() for one, later in pairwise(due)} == {1800}


@pytest.mark.parametrize(
    ("expression", "zone", "told"),
    [
        (
            "30 2 * * *",
            PARIS,
            [
                "2026-03-29: 02:30 does not exist in Europe/Paris; it is due at 03:00",
                "2026-10-25: 02:30 comes twice in Europe/Paris; it is due the first time",
            ],
        ),
        ("0 3 * * *", PARIS, []),
        ("*/10 * * * *", PARIS, []),
        ("0 2,3 * * *", PARIS, ["2026-10-25: 02:00 comes twice in Europe/Paris; it is due the first time"]),
        ("30 2 * * mon", PARIS, []),
        ("30 2 * * *", "UTC", []),
        (
            "15 2 * * *",
            "Australia/Lord_Howe",  # its clocks change by half an hour
            ["2026-10-04: 02:15 does not exist in Australia/Lord_Howe; it is due at 02:30"],
        ),
    ],
)
def test_changes_of_summer_time_are_said_out_loud(expression: str, zone: str, told: list[str]) -> None:
    assert Cron(expression=expression, timezone=zone).remarks(*YEAR) == told


def test_days_of_the_week_begin_on_sunday() -> None:
    assert walls(Cron(expression="0 0 * * 0"), "2026-11-27T00:00", 1) == ["11-29 00:00+0000"]
    assert walls(Cron(expression="0 0 * * 7"), "2026-11-27T00:00", 1) == ["11-29 00:00+0000"]
    assert walls(Cron(expression="@weekly"), "2026-11-27T00:00", 1) == ["11-29 00:00+0000"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Cron(expression="daily"), "expected five fields"),
        (lambda: Cron(expression="* * * * * *"), "expected five fields"),
        (lambda: Cron(expression="61 * * * *"), "bad minute"),
        (lambda: Cron(expression="0 0 31 2 *"), "day"),
        (lambda: Cron(expression="0 0 * * *", timezone="Mars/Olympus"), "no such time zone"),
        (lambda: Every(interval="0m"), "expected an interval such as 10m"),
        (lambda: Every(interval="10"), "expected an interval"),
        (lambda: Every(interval="-1h"), "expected an interval"),
    ],
)
def test_what_is_no_timing_is_refused(make, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


@given(st.text(max_size=30))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    try:
        timing = Cron(expression=text)
    except ValueError:
        return
    assert next(timing.after(YEAR[0])) > YEAR[0]


@given(st.integers(0, 4 * 10**9), st.integers(1, 5000), st.sampled_from(["m", "h", "d"]))
def test_an_interval_does_not_depend_on_when_one_looks(begin_s: int, number: int, unit: str) -> None:
    timing, begin = Every(interval=f"{number}{unit}"), datetime.fromtimestamp(begin_s, UTC)
    first, second = islice(timing.after(begin), 2)
    assert first > begin and first - begin <= second - first == timedelta(seconds=timing.seconds)
    assert next(timing.after(first - timedelta(seconds=1))) == first

"""Calendars: excluded days, windows, jitter."""

from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from schedules.calendar import Calendar, parse_excluded, timing_of
from schedules.timing import BadTiming, Cron, Every
from schedules.windows import parse_span

NIGHT = parse_span(begin="20:00", end="06:00", days="")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_excluded_days_are_not_due() -> None:
    excluded = parse_excluded(("sun", "12-25", "2026-12-28..2026-12-30"))
    calendar = Calendar(name="n", timing=Cron(expression="0 3 * * *"), excluded=excluded)
    days = [fire.at.day for fire in islice(calendar.after(at("2026-12-23T12:00")), 4)]
    assert days == [24, 26, 31, 1]


def test_what_is_due_outside_of_the_window_waits_for_it() -> None:
    calendar = Calendar(name="n", timing=Cron(expression="0 12 * * *"), window=NIGHT)
    fire = next(calendar.after(at("2026-11-27T00:00")))
    assert (fire.nominal, fire.at) == (at("2026-11-27T12:00"), at("2026-11-27T20:00"))
    assert fire.why == "due at 12:00, outside of the window from 20:00 to 06:00"
    assert [one.at for one in calendar.between(at("2026-11-27T19:00"), at("2026-11-27T21:00"))] == [fire.at]
    assert calendar.closes(fire.at) == at("2026-11-28T06:00")
    assert calendar.closes(at("2026-11-27T12:00")) is None


def test_a_window_of_some_days() -> None:
    weekend = parse_span(begin="22:00", end="04:00", days="sat")
    calendar = Calendar(name="n", timing=Cron(expression="0 23 * * *"), window=weekend)
    fires = list(islice(calendar.after(at("2026-11-23T00:00")), 7))  # a Monday
    assert {fire.at for fire in fires[:5]} == {at("2026-11-28T22:00")}
    assert fires[5].at == fires[5].nominal == at("2026-11-28T23:00")
    assert fires[6].at == at("2026-12-05T22:00")


def test_jitter_is_the_same_whoever_asks_and_later_only() -> None:
    calendar = Calendar(name="n", timing=Every(interval="1h"), jitter_s=900)
    fires = list(islice(calendar.after(at("2026-11-27T00:00")), 50))
    late = [(fire.at - fire.nominal).total_seconds() for fire in fires]
    assert all(0 <= one <= 900 for one in late) and len(set(late)) > 30
    assert fires == list(islice(calendar.after(at("2026-11-27T00:00")), 50))
    other = Calendar(name="m", timing=Every(interval="1h"), jitter_s=900)
    assert [one.at for one in islice(other.after(at("2026-11-27T00:00")), 50)] != [one.at for one in fires]


def test_jitter_never_leaves_the_window() -> None:
    short = parse_span(begin="20:00", end="20:10", days="")
    calendar = Calendar(name="n", timing=Cron(expression="0 20 * * *"), window=short, jitter_s=3600)
    assert all(short.holds(fire.at) for fire in islice(calendar.after(at("2026-11-27T00:00")), 40))


def test_between_has_what_starts_there() -> None:
    calendar = Calendar(name="n", timing=Every(interval="6h"))
    begin, end = at("2026-11-27T06:00"), at("2026-11-28T06:00")
    assert [fire.at.hour for fire in calendar.between(begin, end)] == [6, 12, 18, 0]
    assert calendar.between(end, begin) == []


def test_a_window_keeps_its_hours_over_a_change_of_summer_time() -> None:
    calendar = Calendar(name="n", timing=Cron(expression="0 12 * * *", timezone="Europe/Paris"), window=NIGHT)
    fires = list(islice(calendar.after(at("2026-10-24T00:00")), 2))
    assert [f"{fire.at:%H:%M%z}" for fire in fires] == ["20:00+0200", "20:00+0100"]
    assert (
        fires[1].at - fires[0].at == timedelta(days=1) and fires[1].at.timestamp() - fires[0].at.timestamp() == 90_000
    )


@pytest.mark.parametrize(
    "texts", [("funday",), ("2026-13-01",), ("12-24..12-26",), ("2026-12-26..2026-12-24",), ("mon-sun",), ("",)]
)
def test_what_is_no_day_is_refused(texts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"exclude|days"):
        parse_excluded(texts)


def test_cron_or_every_not_both() -> None:
    assert isinstance(timing_of(cron=None, every="1h", timezone="UTC"), Every)
    for cron, every in (("@daily", "1h"), (None, None)):
        with pytest.raises(BadTiming, match="either cron or every"):
            timing_of(cron=cron, every=every, timezone="UTC")


def test_exclusions_that_leave_nothing_are_refused() -> None:
    with pytest.raises(BadTiming, match="nothing is left of cron 0 3 \\* \\* sun"):
        Calendar(
            name="s",
            timing=timing_of(cron="0 3 * * sun", every=None, timezone="UTC"),
            excluded=parse_excluded(("sun",)),
        )


def test_a_span_that_excludes_everything_ahead_ends_the_search() -> None:
    years = parse_excluded(("2026-01-01..2090-01-01",))
    calendar = Calendar(name="s", timing=timing_of(cron="0 3 * * *", every=None, timezone="UTC"), excluded=years)
    assert next(calendar.after(datetime(2026, 6, 1, tzinfo=UTC)), None) is None

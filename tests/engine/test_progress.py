"""Counters tell bytes, rate, time left and who is waited for."""

from xobackup.clock import FakeClock
from xobackup.engine.progress import Meter, Progress


def test_rate_and_time_left_come_from_the_recent_past() -> None:
    clock = FakeClock()
    meter = Meter("root", clock, total_bytes=1000)
    for _ in range(5):
        clock.advance(1)
        meter.add(100)
    seen = meter.snapshot()
    assert (seen.done_bytes, seen.rate_bytes_s, seen.eta_s) == (500, 100.0, 5.0)


def test_an_old_burst_does_not_colour_the_rate() -> None:
    clock = FakeClock()
    meter = Meter("root", clock)
    clock.advance(1)
    meter.add(10_000_000)
    for _ in range(60):
        clock.advance(1)
        meter.add(10)
    assert 5 <= meter.snapshot().rate_bytes_s <= 20
    assert meter.snapshot().eta_s is None


def test_the_bottleneck_is_the_busiest_side() -> None:
    meter = Meter("root", FakeClock())
    assert meter.snapshot().bottleneck == ""
    meter.busy("source", 2.0)
    meter.busy("nas", 1.5)
    assert meter.snapshot().bottleneck == "source"
    meter.busy("nas", 1.0)
    assert meter.snapshot().bottleneck == "nas"


def test_a_new_stage_counts_from_zero() -> None:
    meter = Meter("root", FakeClock(), total_bytes=10, stage="transfer")
    meter.add(10)
    meter.begin("merge", total_bytes=4)
    seen = meter.snapshot()
    assert (seen.stage, seen.done_bytes, seen.total_bytes) == ("merge", 0, 4)


def test_a_dropped_meter_is_no_longer_listed_and_stands_still() -> None:
    clock = FakeClock()
    told: list[int] = []
    progress = Progress(clock, changed=lambda: told.append(1))
    one, two = progress.meter("one"), progress.meter("two")
    progress.drop(one)
    clock.advance(5)
    assert [seen.name for seen in progress.snapshots()] == ["two"]
    assert one.snapshot().finished and one.snapshot().elapsed_s == 0.0
    assert two.snapshot().elapsed_s == 5.0 and len(told) == 3

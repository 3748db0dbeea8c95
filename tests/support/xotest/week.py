"""A simulated week of the service: a fake clock, four schedules, 50 VMs, work of paper that writes real journals.

``python -m xotest.week DIRECTORY FROM UNTIL [SCHEDULE NOMINAL]`` is one process of it, from one Unix time to another;
with a schedule and a nominal time it says ``hangs`` in the middle of that run and waits to be killed.
"""

from __future__ import annotations

import json
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

from schedules.agenda import Schedule
from schedules.calendar import Calendar, parse_excluded
from schedules.timing import Cron, Every
from schedules.windows import parse_span
from xobackup.clock import FakeClock
from xobackup.engine.cancel import CancelToken
from xobackup.engine.events import Event, RunEnded, RunStarted, VmEnded, as_record
from xobackup.engine.journal import close_interrupted, journal_path
from xobackup.service.runner import Order
from xobackup.service.service import Plan, Service

BEGIN = datetime(2026, 10, 22, 12, tzinfo=UTC)  # the clocks of Paris go back on the 25th
PARIS = "Europe/Paris"
VMS = {"nightly": 20, "often": 10, "evening": 12, "weekdays": 8}
"""How many of the 50 each schedule backs up."""
STEP_S = 600
DONE_BEFORE_IT_HANGS = 7


def schedules(often: Every) -> dict[str, Schedule]:
    """Four of them: one at the hour that comes twice, one with jitter, one put off by a window, one with days off."""
    calendars = (
        Calendar(name="nightly", timing=Cron(expression="30 2 * * *", timezone=PARIS)),
        Calendar(name="often", timing=often, jitter_s=300),
        Calendar(
            name="evening",
            timing=Cron(expression="0 18 * * *", timezone=PARIS),
            window=parse_span(begin="20:00", end="23:00", days=""),
        ),
        Calendar(
            name="weekdays",
            timing=Cron(expression="15 6 * * *", timezone=PARIS),
            excluded=parse_excluded(("sat", "sun")),
        ),
    )
    return {one.name: Schedule(calendar=one) for one in calendars}


WEEK = Plan(schedules=schedules(Every(interval="2h")), runs_max=4)


def expected(plan: Plan, begin: datetime, end: datetime) -> set[tuple[str, datetime]]:
    """What the calendar says, asked all at once; in UTC, as times that come twice equal nothing in another zone."""
    return {
        (name, fire.nominal.astimezone(UTC))
        for name, schedule in plan.schedules.items()
        for fire in schedule.calendar.between(begin, end)
        if fire.nominal > begin
    }


def vms_of(schedule: str) -> list[str]:
    return [f"{schedule}-vm-{number:02}" for number in range(VMS[schedule])]


def main(directory: Path, begin_s: float, until_s: float, hang: tuple[str, float] | None) -> None:
    clock = FakeClock(begin_s)
    numbers = iter(range(10**6))
    mutex = threading.Lock()

    def work(order: Order, _cancel: CancelToken) -> str:
        with mutex:
            run_id = f"{order.schedule}-{int(order.nominal.timestamp())}-{int(begin_s)}-{next(numbers)}"
            path = journal_path(directory / "journal", run_id, clock)

        def write(event: Event) -> None:  # as a journal's, but nobody cuts the power here
            with path.open("a") as file:
                file.write(json.dumps(as_record(event, clock.now_s())) + "\n")

        path.parent.mkdir(exist_ok=True)
        who = {"version": "1", "host": "h", "pid": 1}
        write(RunStarted(run_id=run_id, verb="run", job=order.schedule, job_id="j", **who))
        for done, vm in enumerate(vms_of(order.schedule)):
            if hang == (order.schedule, order.nominal.timestamp()) and done == DONE_BEFORE_IT_HANGS:
                print("hangs", flush=True)
                threading.Event().wait()
            ended = {"outcome": "ok", "attempts": 1, "duration_s": 1.0, "read_bytes": 1 << 20}
            write(VmEnded(vm=vm, vm_name=vm, **ended))
        write(RunEnded(run_id=run_id, outcome="ok", ok=1, failed=0, skipped=0, duration_s=1.0))
        return "ok"

    def say(level: str, text: str, **fields: object) -> None:
        if level != "info":
            print(f"{level} {fields.get('schedule', '')}: {text}", flush=True)

    close_interrupted(directory / "journal", clock)
    service = Service(directory, WEEK, work, clock=clock, log=say)
    service.start()
    assert service.runner.idle(20)
    while clock.now_s() < until_s:
        clock.advance(STEP_S)
        service.round()
        service.runner.idle(60)
    assert service.stop("SIGTERM") == []


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        float(sys.argv[2]),
        float(sys.argv[3]),
        (sys.argv[4], float(sys.argv[5])) if len(sys.argv) > 4 else None,
    )

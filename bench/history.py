"""The history after years: a million VM runs, and the page over ten thousand VMs: the time to its first byte."""

from __future__ import annotations

import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bench.measure import Settings
from bench.rows import Row
from xobackup.clock import FakeClock
from xobackup.history import ask, schema
from xobackup.history.store import Store, default_url, open_store

VMS = 10_000
NIGHTS = 100
"""Of as many VM runs each as there are VMs; in runs of fifty."""
PER_RUN = 50
TRIES = 7
DAY_S = 86_400.0
NOW_S = 1_767_225_600.0
SUPPORT = Path(__file__).resolve().parents[1] / "tests" / "support"


def rows(settings: Settings) -> Iterator[Row]:
    nights = max(2, settings.blocks(NIGHTS))
    store = open_store(default_url(settings.directory))
    try:
        began_s = time.perf_counter()
        fill(store, nights)
        took_s = time.perf_counter() - began_s
        total = f"{VMS * nights} VM runs in {VMS * nights // PER_RUN} runs, made in {took_s:.0f} s"
        uuid = _uuid(VMS // 2)
        for name, question in (
            ("the newest runs", lambda: ask.runs(store, limit=50)),
            ("one VM, run by run", lambda: ask.subjects(store, uuid, limit=50)),
            ("sums of thirty days", lambda: ask.days(store, since=NOW_S - 30 * DAY_S, until=NOW_S + DAY_S)),
            ("problems of a week", lambda: ask.problems(store, since=NOW_S - 7 * DAY_S, limit=100)),
        ):
            yield _row(f"history: {name}", 1000 * _median(question), 500 if "sums" in name else 50, total)
        yield from _pages(store, settings.directory, total)
    finally:
        store.close()


def fill(store: Store, nights: int) -> None:
    """Straight into the tables, as :meth:`Store.put` would have left them."""
    numbers = range(VMS)
    with store.writing() as connection:
        run_id = 0
        for night in range(nights):
            at = NOW_S - (nights - night) * DAY_S
            runs, subjects = [], []
            for first in range(0, VMS, PER_RUN):
                run_id += 1
                runs.append(_run(run_id, at + first))
                subjects += [
                    _subject(run_id, number, at + first, night) for number in numbers[first : first + PER_RUN]
                ]
            connection.execute(sa.insert(schema.runs), runs)
            connection.execute(sa.insert(schema.subjects), subjects)
        connection.execute(sa.insert(schema.latest), [_latest(number, NOW_S - DAY_S) for number in numbers])


def _pages(store: Store, directory: Path, total: str) -> Iterator[Row]:
    if not SUPPORT.is_dir():
        return
    sys.path.insert(0, str(SUPPORT))
    from xobackup.web.app import make_app
    from xobackup.web.server import Place, WebServer
    from xobackup.web.views import VmOnRemote
    from xotest.web import PaperHouse, door_of

    clock = FakeClock(NOW_S)
    house = PaperHouse(history=store, journals=directory / "journal", clock=clock, keep_sums=True)
    house.backups.vms = tuple(
        VmOnRemote(uuid=_uuid(one), name=f"vm-{one}", points=14, oldest_at=NOW_S, newest_at=NOW_S, size_bytes=1 << 40)
        for one in range(VMS)
    )
    server = WebServer(make_app(house, door_of(directory, clock)), Place(host="127.0.0.1", port=0))
    try:
        for path, name in (
            ("/", "first page"),
            ("/runs", "runs"),
            (f"/vms/{_uuid(7)}", "one VM"),
            (f"/vms/{_uuid(7)}/points", "its restore points"),
            ("/backups?q=77", "backups"),
            ("/operations", "operations"),
            ("/metrics", "metrics"),
        ):
            found_s = _median(lambda path=path: _first_byte(server.url + path))
            goal = 2000 if name == "metrics" else 200
            yield _row(f"first byte of the page: {name}, {VMS} VMs", 1000 * found_s, goal, total)
    finally:
        server.stop()


def _first_byte(url: str) -> None:
    with urllib.request.urlopen(url) as answer:
        assert answer.read(1)


def _median(question: Callable[[], Any]) -> float:
    question()
    found = []
    for _ in range(TRIES):
        began_s = time.perf_counter()
        question()
        found.append(time.perf_counter() - began_s)
    return sorted(found)[TRIES // 2]


def _row(name: str, value_ms: float, goal_ms: float, detail: str) -> Row:
    return Row(name=name, ratio=value_ms, goal=goal_ms, better="lower", unit="ms", detail=detail)


def _uuid(number: int) -> str:
    return f"{number:08}-0000-4000-8000-000000000000"


def _run(number: int, at: float) -> dict[str, Any]:
    return {
        "id": number, "run_id": f"run-{number}", "verb": "run", "job": "nightly", "job_id": "j", "version": "1",
        "host": "h", "began_at": at, "ended_at": at + 60, "duration_s": 60.0, "outcome": "ok", "reason": "",
        "ok": PER_RUN, "failed": 0, "skipped": 0, "read_bytes": 1 << 30,
    }  # fmt: skip


def _subject(run: int, number: int, at: float, night: int) -> dict[str, Any]:
    bad = (number + night) % 97 == 0
    return {
        "run": run, "kind": "vm", "uuid": _uuid(number), "name": f"vm-{number}", "pool": "main", "job": "nightly",
        "outcome": "failed" if bad else "ok", "reason": "the remote is full" if bad else "", "began_at": at,
        "ended_at": at + 50, "duration_s": 50.0, "attempts": 1, "mode": "delta", "fulls": 0, "deltas": 2,
        "fallbacks": 0, "read_bytes": 20 << 20, "size_bytes": 20 << 20, "merged_blocks": 9, "merged_bytes": 18 << 20,
        "downtime_s": 0.0,
    }  # fmt: skip


def _latest(number: int, at: float) -> dict[str, Any]:
    return {
        "job": "nightly", "uuid": _uuid(number), "kind": "vm", "name": f"vm-{number}", "pool": "main",
        "run_id": f"run-{number}", "began_at": at, "ended_at": at + 50, "outcome": "ok", "reason": "",
        "mode": "delta", "good_at": at if number % 50 else at - 3 * DAY_S, "good_run_id": "run-1", "failures": 0,
    }  # fmt: skip

"""A PostgreSQL server that goes away while the service runs and comes back: backups go on, nothing is forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest

from xobackup.cli.logs import Lines
from xobackup.cli.options import read_configuration
from xobackup.cli.scheduled import plan_of
from xobackup.cli.serving.eyes import Eyes
from xobackup.cli.serving.house import ServiceHouse
from xobackup.cli.serving.ordered import make_operations
from xobackup.cli.serving.works import Works
from xobackup.clock import FakeClock, SystemClock, utc
from xobackup.engine.cancel import CancelToken
from xobackup.history import ask
from xobackup.history.errors import HistoryUnavailable
from xobackup.service.runner import Order
from xobackup.service.service import Service
from xotest.postgres import stoppable_postgres
from xotest.site import Site


def test_backups_go_on_without_it_and_the_history_is_whole_when_it_is_back(
    copied: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = FakeClock(SystemClock().now_s())
    with stoppable_postgres() as server:
        text = f'[history]\nurl = "{server.url}"\n[schedules.often]\njobs = ["nightly"]\nevery = "1d"\n'
        copied.config.write_text(copied.config.read_text() + text)
        configuration = read_configuration(Path(copied.config))
        log = Lines()
        works = Works(copied.config, configuration, log)
        service = Service(copied.state, plan_of(configuration), works.work, clock=SystemClock(), log=log)
        eyes = Eyes(works)
        house = ServiceHouse(works, service, eyes, make_operations(works, eyes.backups.changed, log), clock)

        def run() -> str:
            clock.advance(60)  # what was found a moment ago is not asked for again
            return works.work(Order(schedule="often", nominal=utc(0)), CancelToken())

        try:
            assert run() == "ok" and works.unwritten == "" and house.overview().good
            server.stop()
            assert run() == "ok", "no backup waits for a database"
            assert works.unwritten.startswith("the history was not written: ")
            assert "warning: the history was not written" in capsys.readouterr().err
            assert house.healthy()["history"].startswith("the history cannot be used: ") and house.problems()
            with pytest.raises(HistoryUnavailable):
                house.overview()
            server.start()
            clock.advance(60)
            assert house.healthy()["history"] == "" and len(ask.runs(house.store(), job="nightly", limit=9)) == 2
            assert house.overview().good
            assert run() == "ok" and works.unwritten == "" and not house.problems()
            assert len(ask.runs(house.store(), job="nightly", limit=9)) == 3
        finally:
            house.close()
            service.stop("over")

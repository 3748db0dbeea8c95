"""An application over a paper house, and a browser without a window or scripts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from xobackup.clock import FakeClock
from xobackup.history.store import default_url, open_store
from xobackup.web.app import Door, make_app
from xotest.journals import DATABASE, WEB, one_run
from xotest.web import PaperHouse, door_of


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def house(tmp_path: Path, clock: FakeClock) -> Iterator[PaperHouse]:
    """Three nights; the database failed in the last one."""
    journals = tmp_path / "journal"
    for night in range(3):
        outcomes = {WEB: "ok", DATABASE: "failed" if night == 2 else "ok"}
        one_run(journals, clock, f"run-{night}", outcomes=outcomes, mode="delta" if night else "full")
        clock.advance(86_400 - 40)
    clock.advance(-20 * 3600)
    store = open_store(default_url(tmp_path))
    yield PaperHouse(history=store, journals=journals, clock=clock)
    store.close()


@pytest.fixture
def door(tmp_path: Path, clock: FakeClock) -> Door:
    return door_of(tmp_path, clock)


@pytest.fixture
def client(house: PaperHouse, door: Door) -> Iterator[TestClient]:
    with TestClient(make_app(house, door), raise_server_exceptions=False, follow_redirects=False) as browser:
        yield browser

"""Databases for boards, as fixtures: a ``conftest.py`` imports them by name."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from xobackup.clock import Clock
from xobackup.workers.board import Board
from xobackup.workers.opening import open_board
from xotest.postgres import postgres_server


@pytest.fixture(scope="session")
def postgres():
    with postgres_server() as url:
        yield url


@pytest.fixture
def empty_postgres(postgres):
    """The server's database with nothing in it."""
    import psycopg

    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return postgres


@pytest.fixture(params=["embedded", "procrastinate"])
def board_url(request, tmp_path):
    """A database with nothing in it, of each kind."""
    if request.param == "embedded":
        return f"sqlite:///{tmp_path / 'engine.db'}"
    return request.getfixturevalue("empty_postgres")


@pytest.fixture
def board(board_url):
    opened = open_board(board_url)
    yield opened
    opened.close()


class ClockedBoard(Board):
    """A board whose database has a clock that a test owns."""

    clock: Clock

    @property
    def now(self) -> sa.ColumnElement[float]:
        return sa.literal(self.clock.now_s(), sa.Float(53))


def clocked_board(url: str, clock: Clock) -> ClockedBoard:
    """The database ``url`` with that clock."""
    opened = open_board(url)
    made = ClockedBoard(opened.engine, opened.dispatch)
    made.clock = clock
    return made

import pytest

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

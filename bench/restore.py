from collections.abc import Iterator
from bench.measure import Settings
from bench.rows import Row


def rows(settings: Settings) -> Iterator[Row]:
    yield from ()

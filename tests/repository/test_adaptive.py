"""The level follows the time there is: up while blocks are awaited, down while they wait."""

import pytest

from xobackup.clock import FakeClock
from xobackup.repository import adaptive
from xobackup.repository.adaptive import LEVEL_MAX, LEVEL_MIN, WINDOW_BLOCKS, AdaptiveZstd, next_level
from xobackup.repository.codecs import CODECS


@pytest.mark.parametrize(
    ("level", "share", "after"),
    [(1, 0.1, 2), (1, 0.4, 1), (1, 0.9, -1), (-1, 0.1, 1), (-1, 0.9, -1), (9, 0.0, 9), (3, 1.0, 2)],
)
def test_the_next_level(level: int, share: float, after: int) -> None:
    assert next_level(level, share) == after


def test_it_settles_within_bounds_and_what_it_writes_is_zstd(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock(0)

    class Costly(adaptive.ZstdCodec):
        def compress(self, data):
            clock.advance(1.0)
            return super().compress(data)

    monkeypatch.setattr(adaptive, "ZstdCodec", Costly)
    codec = AdaptiveZstd(clock.monotonic_s)
    data = b"block" * 1000
    for wait_s, level in ((9.0, LEVEL_MAX), (0.0, LEVEL_MIN)):
        for _ in range(20 * WINDOW_BLOCKS):
            packed = codec.compress(data)
            assert (
                CODECS["zstd"].decompress(bytes(packed), len(data))
                == data
                == codec.decompress(bytes(packed), len(data))
            )
            clock.advance(wait_s)
        assert codec.level == level

"""What is compressed, and how hard: decided by what was measured."""

from __future__ import annotations

import random

import pytest

from xobackup.relay.squeezing import LEVELS, TRY_EVERY, Measured, Squeezer, choose_level, next_trial

FAST = Measured(compress_s=1e-9, share=0.5)
HARD = Measured(compress_s=4e-9, share=0.4)
SAME = Measured(compress_s=1e-9, share=1.0)


@pytest.mark.parametrize(("levels", "send_s", "level"), [
    ({}, 1.0, 0),
    ({1: FAST, 3: HARD}, 1e-9, 0),
    ({1: FAST, 3: HARD}, 1e-8, 1),
    ({1: FAST, 3: HARD}, 1e-7, 3),
    ({1: SAME, 3: SAME}, 1e-6, 0),
    ({1: FAST, 3: HARD}, 0.0, 0),
])  # fmt: skip
def test_the_level_by_which_a_byte_is_over_there_soonest(
    levels: dict[int, Measured], send_s: float, level: int
) -> None:
    assert choose_level(levels, send_s) == level


def test_unknown_levels_are_tried_first_and_all_again_now_and_then() -> None:
    assert next_trial({}, 0) is None
    assert next_trial({}, 1) == 1 and next_trial({1: FAST}, 2) == 3
    known = {1: FAST, 3: HARD}
    tried = {next_trial(known, count) for count in range(3, 3 + TRY_EVERY * len(LEVELS))} - {None}
    assert tried == set(LEVELS)
    assert [next_trial(known, count) for count in range(TRY_EVERY + 1, 2 * TRY_EVERY)] == [None] * (TRY_EVERY - 1)


def feed(squeezer: Squeezer, data: bytes, *, line_s: float, compress_s: float, pieces: int = 200) -> list[int]:
    """The levels chosen for pieces over a line that takes ``line_s`` for a byte."""
    levels = []
    for _ in range(pieces):
        level = squeezer.next_level()
        wire = len(squeezer.compress(memoryview(data), level)) if level else len(data)
        squeezer.compressed(level, len(data), wire, compress_s * level * len(data))
        squeezer.sent(min(wire, len(data)), line_s * min(wire, len(data)))
        levels.append(squeezer.level)
    return levels


def test_a_line_that_becomes_slow_is_noticed_and_one_that_becomes_fast_too() -> None:
    squeezer, text = Squeezer(), bytes(random.Random(3).choices(b"abcdefgh", k=1 << 16))
    assert set(feed(squeezer, text, line_s=1e-10, compress_s=1e-9)[-50:]) == {0}
    assert 0 not in feed(squeezer, text, line_s=1e-7, compress_s=1e-9)[-50:]
    assert set(feed(squeezer, text, line_s=1e-10, compress_s=1e-9)[-50:]) == {0}


def test_noise_is_sent_as_it_is_on_any_line() -> None:
    noise = random.Random(1).randbytes(1 << 16)
    assert set(feed(Squeezer(), noise, line_s=1e-6, compress_s=1e-9)[-50:]) == {0}

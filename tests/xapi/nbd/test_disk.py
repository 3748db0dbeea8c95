"""Whole disks, through the scripted server (XAPI's dialect): what is read, how it is asked for, what goes wrong."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

import pytest

from vhd.block import BLOCK_BYTES, Block, BufferPool
from xobackup.clock import FakeClock, SystemClock
from xobackup.xapi.changed_blocks import RANGE_BYTES, ChangedBlocks
from xobackup.xapi.errors import XapiError
from xobackup.xapi.nbd.disk import NbdDisk
from xobackup.xapi.nbd.errors import (
    NbdCancelled,
    NbdError,
    NbdLost,
    NbdNotOffered,
    NbdProtocolError,
    NbdReadFailed,
    NbdRefused,
    NbdSizeMismatch,
    NbdTimeout,
    NbdUnreachable,
)
from xobackup.xapi.nbd.lane import is_zero
from xobackup.xapi.nbd.options import NbdOptions
from xobackup.xapi.nbd.target import NbdTarget
from xotest.nbd_servers import QUICK, free_port
from xotest.scripted_nbd import Plan, ScriptedNbd

CONTENT = random.Random(7).randbytes(9 * BLOCK_BYTES)
ONE = replace(QUICK, connections=1)


def of(picture: str, tail_bytes: int = 0) -> bytes:
    """A disk's bytes: a letter is a block of data, ``-`` a block of zeros; ``tail_bytes`` more at the end."""
    blocks = [bytes(BLOCK_BYTES) if letter == "-" else letter.encode() * BLOCK_BYTES for letter in picture]
    return b"".join(blocks) + b"t" * tail_bytes


def disk_on(server: ScriptedNbd, options: NbdOptions = QUICK, size: int | None = None) -> NbdDisk:
    return NbdDisk(server.targets, name="disk", clock=SystemClock(), options=options, virtual_size_bytes=size)


def drained(blocks: Iterator[Block], pool: BufferPool) -> dict[int, bytes]:
    found = {}
    for block in blocks:
        assert block.index not in found, "each block once"
        found[block.index] = bytes(block.buffer.data)
        pool.release(block.buffer)
    assert free(pool) == pool.count, "every buffer is back"
    return found


def free(pool: BufferPool) -> int:
    return pool._free.qsize()


def by_block(content: bytes) -> dict[int, bytes]:
    return {
        at // BLOCK_BYTES: content[at : at + BLOCK_BYTES].ljust(BLOCK_BYTES, b"\0")
        for at in range(0, len(content), BLOCK_BYTES)
    }


def test_a_full_is_every_block_but_zeros_and_its_end_is_filled_up() -> None:
    content = of("AB--C", tail_bytes=1536)
    pool = BufferPool(8)
    with ScriptedNbd(content) as server, disk_on(server) as disk:
        assert disk.virtual_size_bytes == len(content)
        assert not disk.knows_holes
        found = drained(disk.blocks(pool), pool)
        assert disk.stats.zero_blocks == 2
        assert disk.stats.received_bytes == len(content)
    expected = by_block(content)
    assert found == {index: expected[index] for index in (0, 1, 4, 5)}


def test_a_list_of_blocks_reads_only_these_and_zeros_count_in_a_delta() -> None:
    content = of("AB--C")
    pool = BufferPool(8)
    with ScriptedNbd(content) as server, disk_on(server) as disk:
        found = drained(disk.blocks(pool, indexes=[1, 2], skip_zeros=False), pool)
    assert set(found) == {1, 2} and is_zero(memoryview(found[2]))
    assert sorted(server.reads) == [(BLOCK_BYTES, BLOCK_BYTES), (2 * BLOCK_BYTES, BLOCK_BYTES)]


def test_nothing_to_read_is_no_request() -> None:
    pool = BufferPool(1)
    with ScriptedNbd(of("A")) as server, disk_on(server) as disk:
        assert drained(disk.blocks(pool, indexes=[]), pool) == {}
    assert server.reads == []


def test_changes_move_whole_blocks_or_only_their_ranges() -> None:
    content = bytearray(CONTENT)
    changes = ChangedBlocks.of_ranges([0, 3, 4, 5, 32 * 4 + 31, 32 * 4, 32 * 8], virtual_size_bytes=len(content))
    pool = BufferPool(8)
    with ScriptedNbd(bytes(content)) as server, disk_on(server) as disk:
        assert drained(disk.changed(pool, changes), pool) == {i: by_block(bytes(content))[i] for i in (0, 4, 8)}
        server.reads.clear()
        before = disk.stats.received_bytes
        found = {}
        for block in disk.changed(pool, changes, precise=True):
            found[block.index] = (block.bitmap, bytes(block.buffer.data))
            pool.release(block.buffer)
        assert disk.stats.received_bytes - before == changes.changed_bytes == 7 * RANGE_BYTES
    assert sorted(server.reads) == [
        (0, RANGE_BYTES),
        (3 * RANGE_BYTES, 3 * RANGE_BYTES),
        (4 * BLOCK_BYTES, RANGE_BYTES),
        (5 * BLOCK_BYTES - RANGE_BYTES, RANGE_BYTES),
        (8 * BLOCK_BYTES, RANGE_BYTES),
    ]
    for index, (bitmap, data) in found.items():
        assert bitmap == changes.bitmap(index)
        for number in range(32):
            at = number * RANGE_BYTES
            changed = changes.is_changed(index * 32 + number)
            expected = content[index * BLOCK_BYTES + at :][:RANGE_BYTES] if changed else bytes(RANGE_BYTES)
            assert data[at : at + RANGE_BYTES] == expected


def test_changes_at_the_end_of_an_odd_disk() -> None:
    content = of("AB", tail_bytes=RANGE_BYTES + 512)
    changes = ChangedBlocks.of_ranges([64, 65], virtual_size_bytes=len(content))
    pool = BufferPool(2)
    with ScriptedNbd(content) as server, disk_on(server) as disk:
        (block,) = disk.changed(pool, changes, precise=True)
    assert server.reads == [(2 * BLOCK_BYTES, RANGE_BYTES + 512)]
    assert bytes(block.buffer.data) == by_block(content)[2]


@pytest.mark.parametrize("backwards", [False, True])
def test_the_pipeline_is_kept_full_whatever_the_latency(backwards: bool) -> None:
    """The server answers only when ``depth`` requests wait: as if every answer took as long as it takes to ask."""
    depth = 8
    content = bytes(1) * (64 * BLOCK_BYTES)
    options = replace(ONE, depth=depth)
    pool = BufferPool(options.buffers_wanted)
    with ScriptedNbd(content, hold=depth, due=64, backwards=backwards) as server, disk_on(server, options) as disk:
        assert drained(disk.blocks(pool), pool) == {}
        assert disk.stats.in_flight_max == depth
    assert server.waiting_max == depth and len(server.reads) == 64


def test_one_request_in_flight_would_not_get_past_such_a_server() -> None:
    options = replace(ONE, depth=1, idle_s=0.2, reconnect_tries=1)
    with (
        ScriptedNbd(CONTENT, hold=8, due=9) as server,
        disk_on(server, options) as disk,
        pytest.raises(NbdTimeout, match="silence"),
    ):
        drained(disk.blocks(BufferPool(12)), BufferPool(1))


def test_several_connections_share_the_work_and_few_blocks_need_only_one() -> None:
    options = replace(QUICK, connections=3, depth=2)
    pool = BufferPool(options.buffers_wanted)
    with ScriptedNbd(CONTENT) as server, disk_on(server, options) as disk:
        assert drained(disk.blocks(pool), pool) == by_block(CONTENT)
        before = disk.stats.connections
        assert before <= 3
        assert len(drained(disk.blocks(pool, indexes=[3, 4]), pool)) == 2
        assert disk.stats.connections == before + 1
    assert 2 <= server.goodbyes <= disk.stats.connections  # one that came too late for any work is just closed


def test_shorter_requests_are_put_together() -> None:
    options = replace(ONE, request_bytes=512 * 1024, depth=4)
    pool = BufferPool(3)
    with ScriptedNbd(CONTENT, backwards=True) as server, disk_on(server, options) as disk:
        assert drained(disk.blocks(pool), pool) == by_block(CONTENT)
    assert {length for _offset, length in server.reads} == {512 * 1024}


def test_one_buffer_is_enough() -> None:
    pool = BufferPool(1)
    with ScriptedNbd(CONTENT) as server, disk_on(server) as disk:
        assert drained(disk.blocks(pool), pool) == by_block(CONTENT)


def test_it_is_a_disk_too() -> None:
    content = of("A-", tail_bytes=512)
    pool = BufferPool(1)
    buffer = pool.acquire()
    with ScriptedNbd(content) as server, disk_on(server) as disk:
        assert disk.block_indexes() == [0, 1, 2]
        for index in range(3):
            assert disk.read_block(index, buffer) is None
            assert bytes(buffer.data) == by_block(content)[index]
    assert server.accepted == 1


@pytest.mark.parametrize("part", [False, True])
def test_a_lost_connection_is_made_again_under_a_new_name(part: bool) -> None:
    plans = deque([Plan(drop_after=3, part_of_answer=part)])
    pool = BufferPool(6)
    with ScriptedNbd(CONTENT, plans=plans) as server, disk_on(server, ONE) as disk:
        server.names.append("/disk?session_id=OpaqueRef:second")
        assert drained(disk.blocks(pool), pool) == by_block(CONTENT)
        assert server.asked == 2 and server.accepted == 2
        assert any("closed by the server" in problem or "broke" in problem for problem in disk.stats.problems)
        assert "OpaqueRef" not in " ".join(disk.stats.problems)


def test_a_connection_lost_again_and_again_ends_when_blocks_were_asked_for_too_often() -> None:
    plans = deque([Plan(drop_after=1) for _ in range(99)])
    options = replace(ONE, depth=8, block_tries=3)
    pool = BufferPool(9)
    with ScriptedNbd(CONTENT, plans=plans) as server, disk_on(server, options) as disk:
        with pytest.raises(NbdLost):
            drained(disk.blocks(pool), pool)
        assert server.accepted == 3
    assert free(pool) == pool.count


def test_one_answer_per_connection_is_progress_enough() -> None:
    plans = deque([Plan(drop_after=1) for _ in range(8)])
    options = replace(ONE, block_tries=20)
    pool = BufferPool(9)
    with ScriptedNbd(CONTENT, plans=plans) as server, disk_on(server, options) as disk:
        assert drained(disk.blocks(pool), pool) == by_block(CONTENT)


def test_a_second_connection_that_is_refused_does_no_harm() -> None:
    plans = deque([Plan(), *[Plan(close_at="accept")] * 9])
    options = replace(QUICK, connections=3, depth=1)
    pool = BufferPool(options.buffers_wanted)
    with ScriptedNbd(CONTENT, plans=plans) as server, disk_on(server, options) as disk:
        assert drained(disk.blocks(pool), pool) == by_block(CONTENT)


def test_more_than_sixteen_connections_are_not_to_be_had() -> None:
    options = replace(QUICK, connections=20, depth=1, reconnect_tries=1)
    content = of("A" * 40)
    pool = BufferPool(24)
    with ScriptedNbd(content) as server, disk_on(server, options) as disk:
        assert drained(disk.blocks(pool), pool) == by_block(content)
    assert server.open_max <= 20


def test_when_the_last_connection_is_lost_for_good_the_reader_is_told() -> None:
    plans = deque([Plan(drop_after=2), *[Plan(close_at="name")] * 99])
    options = replace(QUICK, depth=2)
    pool = BufferPool(9)
    with ScriptedNbd(CONTENT, plans=plans) as server, disk_on(server, options) as disk:
        with pytest.raises(NbdRefused, match="closed without an answer to the export's name"):
            drained(disk.blocks(pool), pool)
        assert server.accepted == 2 * options.reconnect_tries  # three by each lane, the first one included
    assert free(pool) == pool.count


@pytest.mark.parametrize("place", ["accept", "greeting", "options", "name"])
def test_closing_anywhere_before_the_export_is_retried_a_bounded_number_of_times(place: str) -> None:
    with ScriptedNbd(CONTENT, plans=deque([Plan(close_at=place)] * 2)) as server, disk_on(server):
        assert server.accepted == 3
    with ScriptedNbd(CONTENT, plans=deque([Plan(close_at=place)] * 9)) as server:
        with pytest.raises(NbdError) as caught:
            disk_on(server).begin()
        assert caught.value.transient and server.accepted == QUICK.reconnect_tries
        assert "OpaqueRef" not in str(caught.value)


def test_a_name_that_aged_is_asked_for_again() -> None:
    with ScriptedNbd(CONTENT) as server:
        stale = [replace(server.targets()[0], export_name="/disk?session_id=OpaqueRef:old")]
        answers = iter([stale])
        disk = NbdDisk(lambda: next(answers, None) or server.targets(), name="d", clock=FakeClock(), options=QUICK)
        with disk:
            assert disk.virtual_size_bytes == len(CONTENT)


def test_an_io_error_is_tried_again_and_then_told() -> None:
    errors = {BLOCK_BYTES: deque([5, 5])}
    pool = BufferPool(6)
    with ScriptedNbd(CONTENT, errors=errors) as server, disk_on(server) as disk:
        assert drained(disk.blocks(pool), pool) == by_block(CONTENT)
    errors[BLOCK_BYTES] = deque([5] * 9)
    with ScriptedNbd(CONTENT, errors=errors) as server, disk_on(server) as disk:
        with pytest.raises(NbdReadFailed, match=f"EIO reading {BLOCK_BYTES} bytes at {BLOCK_BYTES}"):
            drained(disk.blocks(pool), pool)
        assert len(errors[BLOCK_BYTES]) == 9 - QUICK.read_tries
    assert free(pool) == pool.count


def test_an_error_that_cannot_pass_is_told_at_once() -> None:
    pool = BufferPool(6)
    errors = {0: deque([1, 1, 1])}
    with (
        ScriptedNbd(CONTENT, errors=errors) as server,
        disk_on(server) as disk,
        pytest.raises(NbdReadFailed, match="EPERM"),
    ):
        drained(disk.blocks(pool), pool)
    assert len(errors[0]) == 2


def test_silence_on_one_connection_ends_and_the_other_reads_on() -> None:
    plans = deque([Plan(silent_after=1), Plan()])
    options = replace(QUICK, depth=2, idle_s=0.3)
    pool = BufferPool(9)
    with ScriptedNbd(CONTENT, plans=plans) as server, disk_on(server, options) as disk:
        assert drained(disk.blocks(pool), pool) == by_block(CONTENT)
        assert any("silence for 0.3 s" in problem for problem in disk.stats.problems)


def test_an_export_shorter_than_the_disk_is_refused_a_longer_one_is_cut() -> None:
    with ScriptedNbd(of("AB")) as server:
        with pytest.raises(NbdSizeMismatch, match="expected at least 6291456"):
            disk_on(server, size=3 * BLOCK_BYTES).begin()
        pool = BufferPool(2)
        with disk_on(server, size=BLOCK_BYTES + 512) as disk:
            found = drained(disk.blocks(pool), pool)
    assert found == {0: b"A" * BLOCK_BYTES, 1: (b"B" * 512).ljust(BLOCK_BYTES, b"\0")}


def test_garbage_is_no_nbd_server() -> None:
    with (
        ScriptedNbd(CONTENT, plans=deque([Plan(greeting=b"HTTP/1.1 400 Bad Request\r\n")])) as server,
        pytest.raises(NbdProtocolError, match="expected NBD's greeting"),
    ):
        disk_on(server).begin()
    with (
        ScriptedNbd(CONTENT, plans=deque([Plan(padding=b"x" * 124)])) as server,
        pytest.raises(NbdProtocolError, match="expected 124 zeros"),
    ):
        disk_on(server).begin()


def test_nobody_there() -> None:
    clock = FakeClock()
    begun = clock.monotonic_s()
    nowhere = NbdTarget(address="127.0.0.1", port=free_port(), export_name="x")
    options = replace(QUICK, reconnect_pause_s=2.0)
    with pytest.raises(NbdUnreachable) as caught:
        NbdDisk(lambda: [nowhere], name="d", clock=clock, options=options).begin()
    assert caught.value.hint is not None and clock.monotonic_s() - begun == pytest.approx(4.0)
    with pytest.raises(NbdNotOffered):
        NbdDisk(list, name="d", clock=clock, options=options).begin()


def test_a_server_that_fails_is_left_for_another() -> None:
    with ScriptedNbd(CONTENT) as good:
        bad = NbdTarget(address="127.0.0.1", port=free_port(), export_name="x")
        options = replace(QUICK, depth=1)
        pool = BufferPool(options.buffers_wanted)
        disk = NbdDisk(lambda: [bad, *good.targets()], name="d", clock=FakeClock(), options=options)
        with disk:
            assert drained(disk.blocks(pool), pool) == by_block(CONTENT)


def test_connections_are_spread_over_the_servers() -> None:
    with ScriptedNbd(CONTENT, hold=1) as one, ScriptedNbd(CONTENT) as other:
        options = replace(QUICK, connections=4, depth=1)
        pool = BufferPool(options.buffers_wanted)
        disk = NbdDisk(lambda: one.targets() + other.targets(), name="d", clock=SystemClock(), options=options)
        with disk:
            assert drained(disk.blocks(pool), pool) == by_block(CONTENT)
        assert one.accepted >= 1 and abs(one.accepted - other.accepted) <= 1


def test_cancelling_wakes_a_reader_that_waits() -> None:
    options = replace(QUICK, idle_s=60.0, goodbye_s=0.1)
    pool = BufferPool(9)
    with ScriptedNbd(CONTENT, hold=99, due=99) as server, disk_on(server, options) as disk:
        timer = threading.Thread(target=_cancel_when_asked, args=(server, disk))
        timer.start()
        with pytest.raises(NbdCancelled):
            drained(disk.blocks(pool), pool)
        timer.join()
        with pytest.raises(NbdCancelled):
            drained(disk.blocks(pool, indexes=[1]), pool)
    assert free(pool) == pool.count


def _cancel_when_asked(server: ScriptedNbd, disk: NbdDisk) -> None:
    while not server.reads:
        threading.Event().wait(0.01)
    disk.cancel()


def test_cancelling_wakes_who_connects() -> None:
    with ScriptedNbd(CONTENT, plans=deque([Plan(greeting=b"NBD")])) as server:
        disk = disk_on(server)
        disk.cancel()
        with pytest.raises(NbdCancelled):
            disk.begin()


def test_leaving_early_gives_every_buffer_back() -> None:
    pool = BufferPool(9)
    with ScriptedNbd(CONTENT) as server, disk_on(server) as disk:
        blocks = disk.blocks(pool)
        pool.release(next(blocks).buffer)
        blocks.close()  # type: ignore[attr-defined]
        assert free(pool) == pool.count
        assert drained(disk.blocks(pool, indexes=[2]), pool) == {2: by_block(CONTENT)[2]}


def test_a_source_that_fails_is_heard() -> None:
    class Gone(XapiError):
        transient = False

    def ask() -> list[NbdTarget]:
        raise Gone("the pool is gone")

    with pytest.raises(Gone):
        NbdDisk(ask, name="d", clock=FakeClock(), options=QUICK).begin()


def test_a_bug_in_a_lane_is_not_a_hang() -> None:
    calls = []

    def ask() -> list[NbdTarget]:
        calls.append(1)
        if len(calls) > 1:
            raise ZeroDivisionError("a bug")
        return server.targets()

    pool = BufferPool(9)
    options = replace(QUICK, depth=1, idle_s=30.0)
    with (
        ScriptedNbd(CONTENT, hold=99, due=99) as server,
        NbdDisk(ask, name="d", clock=SystemClock(), options=options) as disk,
        pytest.raises(ZeroDivisionError),
    ):
        drained(disk.blocks(pool), pool)
    assert free(pool) == pool.count


def test_zero_is_told_from_nearly_zero() -> None:
    data = bytearray(BLOCK_BYTES)
    assert is_zero(memoryview(data))
    for at in (0, 1, BLOCK_BYTES // 2, BLOCK_BYTES - 1):
        data[at] = 1
        assert not is_zero(memoryview(data))
        data[at] = 0

"""The same disk through servers we did not write: qemu-nbd and nbdkit, plain and over TLS, healthy and not."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from vhd.block import BLOCK_BYTES, BufferPool
from xobackup.clock import FakeClock, SystemClock
from xobackup.xapi.nbd.disk import NbdDisk
from xobackup.xapi.nbd.errors import NbdError, NbdReadFailed, NbdRefused, NbdTlsError
from xobackup.xapi.nbd.options import NbdOptions
from xobackup.xapi.nbd.target import NbdTarget
from xotest.certificates import make_certificate, make_pki
from xotest.nbd_servers import NAME, QUICK, nbdkit, qemu_nbd, target
from xotest.programs import need

HELD = [0, 3, 4, 9, 10, 15]
SIZE = 15 * BLOCK_BYTES + 4096
NO_MAP = replace(QUICK, allocation=False)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A sparse image: data in a few blocks, in one of them only at its very end, and written zeros in one."""
    path = tmp_path / "disk.img"
    generator = random.Random(3)
    with path.open("wb") as file:
        file.truncate(SIZE)
        for index in HELD:
            length = min(BLOCK_BYTES, SIZE - index * BLOCK_BYTES)
            file.seek(index * BLOCK_BYTES + (BLOCK_BYTES - 512 if index == 9 else 0))
            file.write(generator.randbytes(512 if index == 9 else length))
        file.seek(7 * BLOCK_BYTES)
        file.write(bytes(BLOCK_BYTES))
    return path


def check(image: Path, where: NbdTarget, options: NbdOptions = QUICK) -> NbdDisk:
    """Read all of it and compare every byte; the stopped disk with its stats."""
    pool = BufferPool(options.buffers_wanted)
    with NbdDisk(lambda: [where], name="d", clock=SystemClock(), options=options) as disk:
        assert disk.virtual_size_bytes == SIZE
        found = {}
        for block in disk.blocks(pool):
            found[block.index] = bytes(block.buffer.data)
            pool.release(block.buffer)
    content = image.read_bytes()
    assert sorted(found) == HELD
    for index, data in found.items():
        assert data == content[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES].ljust(BLOCK_BYTES, b"\0")
    return disk


Serve = Callable[[Path], AbstractContextManager[int]]


@pytest.mark.parametrize("serve", [qemu_nbd, nbdkit])
def test_holes_are_skipped_where_the_server_knows_them(image: Path, serve: Serve) -> None:
    with serve(image) as port:
        disk = check(image, target(port))
        assert disk.stats.received_bytes <= 7 * BLOCK_BYTES + 4096, "the written zeros at most, never a hole"
        with NbdDisk(lambda: [target(port)], name="d", clock=SystemClock(), options=QUICK) as again:
            assert again.knows_holes
            assert set(again.block_indexes()) - {7} == set(HELD)


@pytest.mark.parametrize("serve", [qemu_nbd, nbdkit])
def test_without_its_map_all_is_read_and_zeros_are_found_by_looking(image: Path, serve: Serve) -> None:
    with serve(image) as port:
        disk = check(image, target(port), NO_MAP)
    assert disk.stats.received_bytes == SIZE and disk.stats.zero_blocks == 16 - len(HELD)


def test_a_wrong_name_is_refused_with_a_reason_or_by_closing(image: Path) -> None:
    with qemu_nbd(image) as port:
        wrong = target(port, name="/x?session_id=OpaqueRef:s")
        for options, problem in ((QUICK, "no such export"), (NO_MAP, "closed without an answer")):
            with pytest.raises(NbdRefused, match=problem) as caught:
                NbdDisk(lambda: [wrong], name="d", clock=FakeClock(), options=options).begin()
            assert "OpaqueRef" not in str(caught.value)


def test_over_tls_with_the_servers_own_certificate_or_its_ca(image: Path, tmp_path: Path) -> None:
    certificate = make_pki(tmp_path)
    with qemu_nbd(image, tls=tmp_path) as port:
        check(image, target(port, certificate=certificate, subject="localhost"))
        check(image, target(port, certificate=tmp_path / "ca-cert.pem", subject="localhost"), NO_MAP)
        with pytest.raises(NbdTlsError, match="ostname mismatch"):
            check(image, target(port, certificate=certificate, subject="another"))
        stranger = make_certificate(tmp_path, name="stranger")
        with pytest.raises(NbdTlsError, match="not the one the pool named"):
            check(image, target(port, certificate=stranger, subject="localhost"))
        with pytest.raises(NbdTlsError, match="requires TLS"):
            check(image, target(port))


def test_a_server_without_tls_is_not_taken_for_one_with(image: Path, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    with qemu_nbd(image) as port:
        where = target(port, certificate=certificate, subject="localhost")
        with pytest.raises(NbdTlsError, match="does not speak TLS"):
            check(image, where)
        check(image, where, replace(QUICK, plain_allowed=True))


def test_a_server_whose_reads_all_fail_is_told_and_works_again_afterwards(image: Path, tmp_path: Path) -> None:
    """Its error filter fails every read while a file exists."""
    trigger = tmp_path / "fail"
    trigger.touch()
    arguments = ["error-pread=EIO", "error-pread-rate=100%", f"error-file={trigger}"]
    with nbdkit(image, filters=["error"], arguments=arguments) as port, pytest.raises(NbdReadFailed, match="EIO"):
        check(image, target(port))
    trigger.unlink()  # another process: now and then nbdkit does not survive a client that leaves amid errors
    with nbdkit(image, filters=["error"], arguments=arguments) as port:
        check(image, target(port))


def test_nbdkit_with_a_small_rate_of_errors_is_got_past(image: Path) -> None:
    options = replace(QUICK, read_tries=50, block_tries=50, request_bytes=256 * 1024)
    with nbdkit(image, filters=["error"], arguments=["error-pread=EIO", "error-pread-rate=5%"]) as port:
        check(image, target(port), options)


def test_a_server_that_takes_one_connection_at_a_time_is_enough(image: Path) -> None:
    with nbdkit(image, filters=["limit"], arguments=["limit=1"]) as port:
        disk = check(image, target(port), replace(QUICK, connections=3, depth=1))
    assert disk.stats.connections >= 1


def test_nbdkit_that_answers_late_gets_many_requests_at_once(image: Path) -> None:
    """Each read takes 30 ms there; in flight are as many as asked for."""
    options = replace(NO_MAP, connections=1, depth=8)
    with nbdkit(image, filters=["delay"], arguments=["delay-read=30ms"]) as port:
        disk = check(image, target(port), options)
    assert disk.stats.in_flight_max == 8


def test_a_server_that_limits_the_size_of_requests_gets_smaller_ones(image: Path) -> None:
    arguments = ["blocksize-minimum=4096", "blocksize-maximum=256K", "blocksize-error-policy=error"]
    with nbdkit(image, filters=["blocksize-policy"], arguments=[*arguments, "blocksize-preferred=4096"]) as port:
        check(image, target(port))


def test_nbdcopy_sees_the_same_disk(image: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.img"
    with qemu_nbd(image) as port:
        command = [need("nbdcopy"), f"nbd://127.0.0.1:{port}/{NAME}", str(copy)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        check(copy, target(port))


def test_a_server_that_goes_away_for_good_is_told(image: Path) -> None:
    pool = BufferPool(8)
    with qemu_nbd(image) as port:
        disk = NbdDisk(lambda: [target(port)], name="d", clock=FakeClock(), options=QUICK)
        disk.begin()
    with pytest.raises(NbdError) as caught:
        _drain(disk, pool)
    assert caught.value.transient
    assert pool._free.qsize() == pool.count


def _drain(disk: NbdDisk, pool: BufferPool) -> None:
    blocks: Iterator[object] = disk.blocks(pool, indexes=list(range(16)))
    for block in blocks:
        pool.release(block.buffer)  # type: ignore[attr-defined]

"""Merging 280 changed blocks into a base of 1965, against one plain copy of the same bytes inside the file system."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from bench.measure import Settings, Variant, cold, interleave, opened, peak_mib, seconds, warm
from bench.merging import TEMPLATE, Repeated, make
from bench.rows import Row
from remotes.write_behind import WriteBehind

GIB = 1 << 30
LARGE, SMALL = 2040 * GIB, 64 * GIB


def rows(settings: Settings) -> Iterator[Row]:
    disks = make(settings.directory, base_blocks=settings.blocks(1965), changed=settings.blocks(280))
    yield from _against_copy(settings, disks, state="warm", durable=False, goal=0.9)
    yield from _against_copy(settings, disks, state="warm", durable=True, goal=1.0)
    yield from _against_copy(settings, disks, state="cold", durable=True, goal=1.0)
    yield Row(
        name="peak memory of a merge", ratio=_memory(disks), goal=64, better="lower", unit="MiB",
        detail=f"{disks.changed} blocks",
    )  # fmt: skip
    yield from _virtual_sizes(settings)


def _against_copy(settings: Settings, disks: Repeated, *, state: str, durable: bool, goal: float) -> Iterator[Row]:
    template, copy = disks.directory / TEMPLATE, disks.directory / "copy"

    def prepare_copy() -> None:
        copy.unlink(missing_ok=True)
        (warm if state == "warm" else cold)(template)

    def merge() -> None:
        if durable:
            disks.merge()
        else:
            with not_durable():
                disks.merge()

    times = interleave(
        [
            Variant(name="merge", run=merge, prepare=lambda: disks.reset(warm_child=state == "warm")),
            Variant(name="copy", run=lambda: copy_range(template, copy, durable=durable), prepare=prepare_copy),
        ],
        settings.runs,
    )
    copy.unlink()
    ending = "both with fsync" if durable else "no fsync"
    yield Row(
        name=f"plain copy_file_range / merge of the same bytes, {state}, {ending}",
        ratio=times["copy"] / times["merge"],
        goal=goal,
        better="higher",
        detail=f"{disks.child_bytes >> 20} MiB: {seconds(times)}",
    )


@contextlib.contextmanager
def not_durable() -> Iterator[None]:
    """What is left is opening, planning and copying.

    Off are fsync, writing back behind, which waits for the disk as well, and the renaming at the end: ext4 writes a
    file back before it replaces another.
    """
    with (
        mock.patch("os.fsync", lambda fd: None),
        mock.patch("os.fdatasync", lambda fd: None),
        mock.patch.object(WriteBehind, "written", lambda *_: None),
        mock.patch("vhd.merge.run.finish_merge", lambda *_: None),
    ):
        yield


def _memory(disks: Repeated) -> float:
    disks.reset(warm_child=None)
    return peak_mib("merge", disks.directory)


def _virtual_sizes(settings: Settings) -> Iterator[Row]:
    """Two bases of the same blocks; only the virtual size differs."""
    made: dict[str, Repeated] = {}
    for name, size in (("64 GiB", SMALL), ("2040 GiB", LARGE)):
        directory = settings.directory / name.replace(" ", "")
        directory.mkdir()
        made[name] = make(directory, base_blocks=settings.blocks(600), changed=settings.blocks(200), size_bytes=size)
    times = interleave(
        [Variant(name=name, run=disks.merge, prepare=_resetter(disks)) for name, disks in made.items()],
        settings.runs,
    )
    yield Row(
        name="merge into 2040 GiB virtual size / into 64 GiB",
        ratio=times["2040 GiB"] / times["64 GiB"],
        goal=1.5,
        better="lower",
        detail=seconds(times),
    )
    yield Row(
        name="peak memory of a merge, 2040 GiB",
        ratio=_memory(made["2040 GiB"]),
        goal=128,
        better="lower",
        unit="MiB",
    )


def _resetter(disks: Repeated) -> Callable[[], None]:
    return lambda: disks.reset(warm_child=True)


def copy_range(source: Path, target: Path, *, durable: bool) -> None:
    with opened(source, os.O_RDONLY) as here, opened(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC) as there:
        while os.copy_file_range(here, there, 1 << 30):
            pass
        if durable:
            os.fsync(there)


def copy_bytes(source: Path, target: Path) -> None:
    """Read and write 2 MiB at a time, then fsync: no extent is shared."""
    buffer = memoryview(bytearray(2 << 20))
    with opened(source, os.O_RDONLY) as here, opened(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC) as there:
        while count := os.readv(here, [buffer]):
            os.write(there, buffer[:count])
        os.fsync(there)

"""Merging on file systems that share extents (loop-mounted XFS and Btrfs): hardly a byte is written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from bench.measure import Settings, Variant, call, interleave, opened, program, seconds, warm
from bench.merge import copy_bytes
from bench.merging import TEMPLATE, make
from bench.rows import Row, skipped

MAKE = {"xfs": ("mkfs.xfs", "-q", "-f", "-m", "reflink=1"), "btrfs": ("mkfs.btrfs", "-q", "-f")}
PACKAGES = {"xfs": "xfsprogs", "btrfs": "btrfs-progs"}


def rows(settings: Settings) -> Iterator[Row]:
    for kind in MAKE:
        names = (
            f"bytes written by a merge on {kind} / bytes merged",
            f"copy with fsync / merge on {kind}, both durable",
        )
        if not program(MAKE[kind][0]):
            why = f"apt-get install {PACKAGES[kind]}"
        elif os.geteuid() != 0:
            why = "mounting a loop device needs root"
        else:
            try:
                with mounted(settings, kind) as (directory, device):
                    yield from _rows(settings, directory, device, names)
                continue
            except RuntimeError as error:
                why = str(error)
        yield skipped(names[0], 0.05, "lower", why)
        yield skipped(names[1], 10, "higher", why)


@contextlib.contextmanager
def mounted(settings: Settings, kind: str) -> Iterator[tuple[Path, str]]:
    """An empty file system in a sparse file; (where it is mounted, its loop device)."""
    image, point = settings.directory / f"{kind}.img", settings.directory / kind
    with opened(image, os.O_RDWR | os.O_CREAT) as fd:
        os.ftruncate(fd, 6 << 30)
    program_path = program(MAKE[kind][0])
    assert program_path is not None
    call(program_path, *MAKE[kind][1:], image)
    point.mkdir()
    call("mount", "-o", "loop", image, point)
    try:
        lines = Path("/proc/mounts").read_text().splitlines()
        device = next(line.split()[0] for line in lines if line.split()[1] == str(point))
        yield point, device
    finally:
        call("umount", point)
        image.unlink()


def _rows(settings: Settings, directory: Path, device: str, names: tuple[str, str]) -> Iterator[Row]:
    disks = make(directory, base_blocks=settings.blocks(600), changed=settings.blocks(280))
    template, copy = directory / TEMPLATE, directory / "copy"

    def prepare_copy() -> None:
        copy.unlink(missing_ok=True)
        warm(template)

    times = interleave(
        [
            Variant(name="merge", run=disks.merge, prepare=lambda: disks.reset(warm_child=True)),
            Variant(name="copy", run=lambda: copy_bytes(template, copy), prepare=prepare_copy),
        ],
        settings.runs,
    )
    copy.unlink()
    disks.reset(warm_child=True)
    os.sync()
    before = written_bytes(device)
    disks.merge()
    os.sync()
    written = written_bytes(device) - before
    yield Row(
        name=names[0], ratio=written / disks.child_bytes, goal=0.05, better="lower",
        detail=f"{written / (1 << 20):.1f} of {disks.child_bytes >> 20} MiB, at the device, metadata included",
    )  # fmt: skip
    yield Row(
        name=names[1], ratio=times["copy"] / times["merge"], goal=10, better="higher", detail=seconds(times)
    )  # fmt: skip


def written_bytes(device: str) -> int:
    return int(Path(f"/sys/class/block/{Path(device).name}/stat").read_text().split()[6]) * 512

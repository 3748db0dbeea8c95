"""qcow2 images in memory and on disk, and QEMU's opinion of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from vhd.block import BufferPool, Disk
from vhd.qcow2.emit import Qcow2Emitter
from vhd.qcow2.stream import Qcow2Stream
from xotest.memory_file import MemoryFile
from xotest.programs import need


def qemu_img(*arguments: str | Path) -> str:
    """Run it; returns what it says."""
    done = subprocess.run([need("qemu-img"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_image(path: Path) -> None:
    """QEMU finds nothing wrong: no error, no leak."""
    found = json.loads(qemu_img("check", "--output=json", "-f", "qcow2", path))
    assert not {"corruptions", "leaks", "check-errors"} & {key for key, count in found.items() if count}, found


def mapped(path: Path) -> list[tuple[int, int]]:
    """Where the disk has data, by QEMU: place and length."""
    return [
        (one["start"], one["length"])
        for one in json.loads(qemu_img("map", "--output=json", "-f", "qcow2", path))
        if one["data"]
    ]


def raw_image(path: Path) -> bytes:
    """The whole disk, by QEMU."""
    raw = path.with_suffix(".raw")
    qemu_img("convert", "-f", "qcow2", "-O", "raw", path, raw)
    return raw.read_bytes()


def emitted(disk: Disk) -> MemoryFile:
    """The disk as our emitter writes it."""
    file, at = MemoryFile(name="a.qcow2"), 0
    for piece in Qcow2Emitter(disk).chunks(BufferPool(1)):
        file.write_at(at, piece)
        at += len(piece)
    return file


def reader(file: MemoryFile, *, most: int = 1 << 30) -> Callable[[memoryview], int]:
    """The file as a stream that gives at most so much at a time."""
    at = 0

    def read_into(view: memoryview) -> int:
        nonlocal at
        got = file.read_into(at, view[:most])
        at += got
        return got

    return read_into


def begun(file: MemoryFile, **options: int) -> Qcow2Stream:
    stream = Qcow2Stream(reader(file, **options), name="a stream")
    stream.begin()
    return stream


def read_pieces(file: MemoryFile) -> list[tuple[int, bytes]]:
    """Everything the image holds, by our reader."""
    return [(at, bytes(view)) for at, view in begun(file).pieces()]


def read_raw(file: MemoryFile) -> bytes:
    """The whole disk, by our reader."""
    raw = bytearray(begun(file).virtual_size_bytes)
    for at, data in read_pieces(file):
        raw[at : at + len(data)] = data
    return bytes(raw)

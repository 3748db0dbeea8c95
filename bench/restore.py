"""Restore of one disk, digests checked on the way: to a raw file against qemu-img, to a pipe against cat."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from bench import repositories
from bench.measure import Settings, Variant, call, cold, interleave, program, seconds, sync_file, warm
from bench.rows import Row, skipped


def rows(settings: Settings) -> Iterator[Row]:
    where = settings.directory / "repository"
    (flat,) = repositories.make(where, settings.blocks(1500))
    yield qemu_row(
        settings,
        "qemu-img convert / restore to a raw file, cold",
        restore=where,
        ours=[flat],
        flat=flat,
    )
    for state, prepare in (("cold", cold), ("warm", warm)):
        yield _pipe_row(settings, state, where, flat, partial(prepare, flat))


def qemu_row(settings: Settings, name: str, *, restore: Path, ours: list[Path], flat: Path) -> Row:
    """Both end with the raw file durable; both read files that are not in the page cache."""
    if not program("qemu-img"):
        return skipped(name, 0.9, "higher", "apt-get install qemu-utils")
    out = settings.directory / "out.raw"

    def qemu() -> None:
        call("qemu-img", "convert", "-f", "vpc", "-O", "raw", flat, out)
        sync_file(out)

    def fresh(*paths: Path) -> None:
        out.unlink(missing_ok=True)
        cold(*paths)

    times = interleave(
        [
            Variant(name="restore", run=lambda: to_raw(restore, out), prepare=lambda: fresh(*ours)),
            Variant(name="qemu-img", run=qemu, prepare=lambda: fresh(flat)),
        ],
        settings.runs,
    )
    out.unlink()
    detail = f"{flat.stat().st_size >> 20} MiB, both durable: {seconds(times)}"
    return Row(name=name, ratio=times["qemu-img"] / times["restore"], goal=0.9, better="higher", detail=detail)


def _pipe_row(settings: Settings, state: str, where: Path, flat: Path, prepare: Callable[[], None]) -> Row:
    times = interleave(
        [
            Variant(name="restore", run=lambda: to_pipe(where), prepare=prepare),
            Variant(name="cat", run=lambda: _cat(flat), prepare=prepare),
        ],
        settings.runs,
    )
    return Row(
        name=f"cat of the same bytes / restore, each to a pipe, {state}",
        ratio=times["cat"] / times["restore"],
        goal=0.9,
        better="higher",
        detail=f"{flat.stat().st_size >> 20} MiB into `cat >/dev/null`: {seconds(times)}",
    )


def to_raw(repository: Path, out: Path) -> None:
    from xobackup.engine.restore.files import restore_to_file

    world, opened, point, disk = repositories.open_point(repository)
    written = restore_to_file(world, opened, point, disk, out, replace=True)
    assert written.compared == written.blocks


def to_pipe(repository: Path) -> None:
    from xobackup.engine.restore.files import restore_to_pipe

    world, opened, point, disk = repositories.open_point(repository)
    with _consumer() as reader:
        assert reader.stdin is not None
        written = restore_to_pipe(world, opened, point, disk, reader.stdin.fileno())
        reader.stdin.close()
        reader.wait()
    assert written.compared == written.blocks


def _cat(flat: Path) -> None:
    with _consumer() as reader:
        subprocess.run(["cat", str(flat)], stdout=reader.stdin, check=True)
        assert reader.stdin is not None
        reader.stdin.close()
        reader.wait()


def _consumer() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)

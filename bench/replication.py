"""Replication of 20 VMs by one worker, as often as every five minutes, while both pools collect garbage."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.measure import Settings
from bench.rows import Row
from xobackup.clock import SystemClock
from xobackup.engine.job import Job, PoolTarget, SrTarget
from xobackup.engine.job import Settings as JobSettings
from xobackup.engine.run import run_job
from xobackup.engine.world import real_world
from xobackup.simpool import DiskSpec, PoolSpec, SimPool, SrSpec, VmSpec
from xobackup.xapi.address import PoolAddress
from xobackup.xapi.tls import Ca

VMS = 20
EVERY_S = 300.0
MIB = 1 << 20
SOURCE = PoolSpec(
    vms=tuple(
        VmSpec(name=f"vm-{number}", disks=(DiskSpec(name="disk", size_bytes=64 * MIB, filled_bytes=8 * MIB),))
        for number in range(VMS)
    )
)
TARGET = PoolSpec(name="other", vms=(), srs=(SrSpec(name="dr"),))


def rows(settings: Settings) -> Iterator[Row]:
    clock, runs = SystemClock(), 2 if settings.quick else 4
    with ExitStack() as held:
        pools = [
            held.enter_context(SimPool.start(settings.directory / name, spec=spec))
            for name, spec in (("source", SOURCE), ("target", TARGET))
        ]
        held.enter_context(collecting(pools))
        job = job_of(*pools)
        world = real_world(Path(settings.directory / "state"), clock=clock)

        def timed() -> float:
            began_s = clock.monotonic_s()
            report = run_job(job, world)
            assert str(report.outcome) == "ok", [(vm.name, vm.reason) for vm in report.vms if vm.reason]
            return clock.monotonic_s() - began_s

        timed()
        busy: list[float] = []
        for turn in range(runs):
            for number in range(VMS):
                (disk,) = pools[0].vdis_of(pools[0].vm_named(f"vm-{number}"))
                pools[0].write_disk(disk, (turn % 8) * 4 * MIB, bytes([turn + 1]) * MIB)
            busy.append(timed())
        idle = [timed() for _ in range(2)]
    yield Row(
        name=f"worst lag of {VMS} VMs replicated every 5 minutes",
        ratio=EVERY_S + max(busy),
        goal=2 * EVERY_S,
        better="lower",
        unit="s",
        detail=f"runs of {min(busy):.0f} to {max(busy):.0f} s; 1 MiB written per VM, garbage collected meanwhile",
    )
    yield Row(
        name=f"a replication of {VMS} VMs with nothing changed, per VM",
        ratio=min(idle) / VMS,
        goal=5,
        better="lower",
        unit="s",
        detail=f"{min(idle):.0f} s for all",
    )


def job_of(source: SimPool, target: SimPool) -> Job:
    def named(name: str, pool: SimPool) -> PoolTarget:
        tls = Ca(path=pool.ca_pem_path)
        return PoolTarget(
            name=name, address=PoolAddress(url=pool.url, username=pool.username, password=pool.password, tls=tls)
        )

    return Job(
        name="bench",
        pools=(named("source", source),),
        remotes=(),
        targets=(SrTarget(name="dr", pool=named("target", target), srs=("dr",)),),
        settings=JobSettings(retention=3, vms_max=2),
    )


@contextmanager
def collecting(pools: list[SimPool]) -> Iterator[None]:
    """Garbage collection, over and over."""
    ended = threading.Event()

    def collect() -> None:
        while not ended.wait(2):
            for pool in pools:
                pool.gc()

    thread = threading.Thread(target=collect, name="gc")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()

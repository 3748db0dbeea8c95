"""A differential restore: what it writes when 5 % of a disk's blocks changed since the snapshot that survives."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from bench.measure import Settings
from bench.rows import Row
from vhd.block import BLOCK_BYTES
from xobackup.clock import SystemClock
from xobackup.engine.job import Job, PoolTarget, RemoteTarget
from xobackup.engine.job import Settings as JobSettings
from xobackup.engine.restore import vdi as sending
from xobackup.engine.restore.differential import Differential, with_bases
from xobackup.engine.restore.plan import VmRequest
from xobackup.engine.restore.vm import plan_restore, restore_vm
from xobackup.engine.run import run_job
from xobackup.engine.world import real_world
from xobackup.simpool import DiskSpec, PoolSpec, SimPool, VmSpec
from xobackup.xapi.address import PoolAddress
from xobackup.xapi.tls import Ca

SHARE = 0.05


def rows(settings: Settings) -> Iterator[Row]:
    blocks, clock = settings.blocks(800), SystemClock()
    size = blocks * BLOCK_BYTES
    disk = DiskSpec(name="disk", size_bytes=size, filled_bytes=size // 2)
    (settings.directory / "repository").mkdir()
    with SimPool.start(settings.directory / "pool", spec=PoolSpec(vms=(VmSpec(name="vm", disks=(disk,)),))) as pool:
        address = PoolAddress(
            url=pool.url, username=pool.username, password=pool.password, tls=Ca(path=pool.ca_pem_path)
        )
        target = RemoteTarget(name="nas", url=f"file://{settings.directory / 'repository'}")
        world = real_world(settings.directory / "state", clock=clock)
        job = Job(
            name="bench",
            pools=(PoolTarget(name="sim", address=address),),
            remotes=(target,),
            settings=JobSettings(retention=5),
        )
        _run(job, world)
        (live,) = pool.vdis_of(pool.vm_named("vm"))
        before = pool.disk_sha256(live)
        changed = round(blocks * SHARE)
        for number in range(changed):
            pool.write_disk(live, number * (blocks // changed) * BLOCK_BYTES + 4096, b"changed" * 512)
        pool.gc()
        clock.sleep(1.1)  # restore points have names of seconds
        _run(job, world)
        repository = world.open_repository(target)
        points = repository.points(repository.vms()[0]).points
        with world.connect(address) as session, _counted() as sent:
            plan = plan_restore(world, session, points[0], VmRequest(name="again"), remote="nas")
            plan = with_bases(session, repository, plan, points, Differential.REQUIRE)
            began_s = clock.monotonic_s()
            made = restore_vm(world, session, repository, plan)
            took_s = clock.monotonic_s() - began_s
        repository.remote.close()
        (new,) = pool.vdis_of(made.vm_ref)
        assert pool.disk_sha256(new) == before, "the restored disk is not what was backed up"
    yield Row(
        name="bytes sent by a differential restore of 5 % changed blocks / bytes of the disk",
        ratio=sum(sent) / size,
        goal=0.06,
        better="lower",
        detail=f"{changed} of {blocks} blocks changed since; {sum(sent) >> 20} of {size >> 20} MiB, {took_s:.1f} s",
    )


def _run(job: Job, world: Any) -> None:
    report = run_job(job, world)
    assert str(report.outcome) == "ok", [vm.reason for vm in report.vms]


@contextlib.contextmanager
def _counted() -> Iterator[list[int]]:
    """The announced lengths of what is sent into disks."""
    lengths: list[int] = []
    real = sending.open_import

    def counting(*arguments: Any, **fields: Any) -> Any:
        lengths.append(fields["length_bytes"])
        return real(*arguments, **fields)

    sending.open_import = counting
    try:
        yield lengths
    finally:
        sending.open_import = real

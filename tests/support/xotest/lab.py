"""A pool, remotes and an engine, small and real: what end-to-end tests are made in.

::

    lab = Lab(tmp_path, pool)
    lab.run()                      # back up; every restore point's expected digests are remembered
    lab.check()                    # every listed point reads back as it was, two ways, and XO would touch nothing

The engine's clock is fake and moves an hour between runs, so that restore points never fall into the same second and
retries cost no time. Everything else is real: HTTPS, files or memory remotes, threads.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from remotes.contract import Remote
from remotes.local import LocalRemote
from remotes.memory import MemoryRemote
from vhd.block import BLOCK_BYTES, BlockBuffer, Disk
from xobackup.clock import FakeClock
from xobackup.engine import keys
from xobackup.engine.active import Active
from xobackup.engine.cancel import CancelToken
from xobackup.engine.hooks.hook import GuestHooks, Hook
from xobackup.engine.job import Consistent, Job, PoolTarget, RemoteTarget, Selector, Settings, VmRule
from xobackup.engine.journal import MemoryJournal, Sink, Tee
from xobackup.engine.leftovers.claim import text_of
from xobackup.engine.progress import Progress
from xobackup.engine.report import RunReport, VmReport
from xobackup.engine.run import run_job
from xobackup.engine.throttle import Throttle
from xobackup.engine.world import World
from xobackup.repository.lock_rule import LockRule
from xobackup.repository.metadata import RestorePoint
from xobackup.repository.options import RepositoryOptions
from xobackup.repository.repository import Repository
from xobackup.simpool import DiskSpec, PoolSpec, SimPool, VmSpec
from xobackup.xapi.address import PoolAddress
from xobackup.xapi.session import Session
from xobackup.xapi.timeouts import Timeouts
from xobackup.xapi.tls import Ca
from xotest.xo_rules import assert_conformant, assert_nothing, disk_sha256
from xotest.xo_rules import points as xo_points

MIB = 1 << 20
SMALL = PoolSpec(
    vms=(
        VmSpec(
            name="guest",
            disks=(
                DiskSpec(name="system", size_bytes=8 * MIB, filled_bytes=3 * MIB),
                DiskSpec(name="data", size_bytes=6 * MIB, filled_bytes=2 * MIB),
            ),
            tags=("nightly",),
        ),
    )
)
HUGE_BYTES = 1 << 32
"""Larger disks are compared by what they hold."""
TIMEOUTS = Timeouts(poll_s=0.05, first_byte_s=20, idle_s=20, drain_s=5, task_end_s=20, cancel_s=5)


class KeptOpen:
    """A remote that outlives the run that closes it."""

    def __init__(self, inner: Remote) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def close(self) -> None:
        """The lab closes it."""


@dataclass(slots=True)
class Lab:
    """See the module's head. ``remotes``: by name; one in memory when none is given."""

    directory: Path
    pool: SimPool
    remotes: dict[str, Remote] = field(default_factory=dict)
    vhd_directory: bool = False
    lock: LockRule | None = None
    """Of every remote."""
    settings: Settings = field(default_factory=lambda: Settings(retention=3, lock_wait_s=0))
    selector: Selector = field(default_factory=lambda: Selector(include=(VmRule(name="guest"),)))
    clock: FakeClock = field(default_factory=FakeClock)
    journal: MemoryJournal = field(default_factory=MemoryJournal)
    cancel: CancelToken = field(default_factory=CancelToken)
    expected: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    """(remote, point) -> live VDI uuid -> sha256."""
    ids: int = 0
    hooks: tuple[Hook, ...] = ()
    guest_hooks: GuestHooks = field(default_factory=GuestHooks)
    consistent: Consistent | None = None
    more_sinks: tuple[Sink, ...] = ()
    """That hear of a run's events too."""

    def __post_init__(self) -> None:
        if not self.remotes:
            self.remotes["nas"] = MemoryRemote(clock=self.clock)

    def on_disk(self) -> Path:
        """Put the repository into a directory instead."""
        path = self.directory / "repository"
        path.mkdir(parents=True)
        self.remotes["nas"] = LocalRemote(path)
        return path

    # -- the engine's side

    @property
    def address(self) -> PoolAddress:
        return PoolAddress(
            url=self.pool.url,
            username=self.pool.username,
            password=self.pool.password,
            tls=Ca(path=self.pool.ca_pem_path),
            timeouts=TIMEOUTS,
        )

    def job(self, **fields: Any) -> Job:
        defaults: dict[str, Any] = {
            "name": "nightly",
            "pools": (PoolTarget(name="lab", address=self.address),),
            "remotes": tuple(RemoteTarget(name=name, url=f"lab:{name}") for name in self.remotes),
            "selector": self.selector,
            "settings": self.settings,
            "hooks": self.hooks,
            "guest_hooks": self.guest_hooks,
            "consistent": self.consistent,
        }
        return Job(**{**defaults, **fields})

    def world(self) -> World:
        return World(
            clock=self.clock,
            state_directory=self.directory / "state",
            journal=Tee(self.journal, *self.more_sinks),
            progress=Progress(self.clock),
            cancel=self.cancel,
            throttle=Throttle(None, self.clock),
            connect=lambda address: Session.connect(address, clock=self.clock),
            open_repository=lambda target: self.repository(target.name),
            new_id=self._new_id,
        )

    def _new_id(self) -> str:
        self.ids += 1
        return str(UUID(int=self.ids << 64 | 0x4000 << 64 | 1 << 63, version=4))

    def repository(self, name: str = "nas") -> Repository:
        options = RepositoryOptions(vhd_directory=self.vhd_directory, lock=self.lock)
        return Repository(KeptOpen(self.remotes[name]), clock=self.clock, options=options)  # type: ignore[arg-type]

    # -- the guest's side

    @property
    def vm(self) -> str:
        return self.pool.vm_named("guest")

    @property
    def vm_uuid(self) -> str:
        return str(self.pool.model.get("VM", self.vm)["uuid"])

    def disks(self, vm: str | None = None) -> dict[str, str]:
        """Live VDI uuid -> ref."""
        refs = self.pool.vdis_of(vm or self.vm)
        return {str(self.pool.model.get("VDI", ref)["uuid"]): ref for ref in refs}

    def write(self, disk: int, offset: int, data: bytes) -> None:
        self.pool.write_disk(self.pool.vdis_of(self.vm)[disk], offset, data)

    # -- verbs

    def run(self, *, expect: str | None = "ok", after_s: float = 3600, **fields: Any) -> RunReport:
        """One run, an hour after the last one; remembers what its restore points must give back.

        ``expect``: its outcome; ``None``: whatever it is.
        """
        self.clock.advance(after_s)
        self.pool.gc()
        images = {uuid: self._image(ref) for uuid, ref in self.disks().items()} if self._has_guest() else {}
        report = run_job(self.job(**fields), self.world())
        self._let_go()
        images |= self._memories()
        for vm in report.vms:
            for remote, point in vm.points.items():
                self.expected[remote, point] = images
        assert expect in (None, report.outcome), f"expected {expect}, found {report.outcome}: {self.why(report)}"
        return report

    def _image(self, vdi: str) -> str:
        if self.pool.model.get("VDI", vdi)["virtual_size"] <= HUGE_BYTES:
            return self.pool.disk_sha256(vdi)
        with self.pool.read_disk(vdi) as disk:
            return sparse_sha256(disk)

    def _memories(self) -> dict[str, str]:
        """Memory images on the pool, by their own uuids."""
        images = self.pool.model.where("VDI", type="suspend")
        return {record["uuid"]: self.pool.disk_sha256(ref) for ref, record in images}

    def _has_guest(self) -> bool:
        return any(not record["is_a_snapshot"] for _, record in self.pool.model.where("VM", name_label="guest"))

    @staticmethod
    def why(report: RunReport) -> list[Any]:
        return [*report.problems, *((vm.name, vm.reason, vm.errors, vm.warnings) for vm in report.vms)]

    def points(self, remote: str = "nas") -> list[RestorePoint]:
        return list(self.repository(remote).points(self.vm_uuid).points)

    def check(self, *, remotes: tuple[str, ...] | None = None, finished: bool = True) -> None:
        """Every listed point reads back as it was, by our reader and by a naive one; XO would touch nothing."""
        for name in remotes or tuple(self.remotes):
            for point in self.points(name):
                known = self.expected.get((name, point.id))
                if known is None:
                    continue
                for disk in point.disks:
                    chain = self.repository(name).open_disk(point, disk.vdi_ref)
                    try:
                        huge = chain.virtual_size_bytes > HUGE_BYTES
                        found = sparse_sha256(chain) if huge else sha256_of(chain)
                    finally:
                        chain.close()
                    assert found == known[disk.live_vdi_uuid], f"{name} {point.id} {disk.name_label} differs"
            if finished:
                self.check_as_xo(name)

    def check_as_xo(self, name: str) -> None:
        tree = self.remotes[name]
        assert_nothing(tree)
        assert_conformant(tree)
        for path in xo_points(tree, self.vm_uuid):
            known = self.expected.get((name, path.rsplit("/", 1)[-1].removesuffix(".json")), {})
            point = next(one for one in self.points(name) if path.endswith(f"/{one.id}.json"))
            for disk in point.disks:
                if disk.live_vdi_uuid in known and disk.virtual_size <= HUGE_BYTES:
                    assert disk_sha256(tree, path, disk.vdi_ref) == known[disk.live_vdi_uuid]

    def assert_tidy(self) -> None:
        """The pool is as a run must leave it: nothing blocked, nothing temporary, no task, no VBD on dom0."""
        model = self.pool.model
        for record in model.records("VM").values():
            assert not record["blocked_operations"], record["name_label"]
            assert not record["name_label"].startswith("xobackup-temp"), record["name_label"]
        self._let_go(10)
        assert not self._busy()
        assert not list((self.directory / "state" / "active").glob("*"))

    def _let_go(self, seconds: float = 1) -> None:
        """A host detaches a disk in its own time, and a little after its last byte was taken."""
        deadline = time.monotonic() + seconds
        while self._busy() and time.monotonic() < deadline:
            time.sleep(0.005)

    def _busy(self) -> list[str]:
        """VBDs on control domains, and tasks that have not ended."""
        domains = [vm for vm in self.pool.model.records("VM").values() if vm["is_control_domain"]]
        tasks = [task for task in self.pool.model.records("task").values() if task["status"] == "pending"]
        return [*(vbd for vm in domains for vbd in vm["VBDs"]), *(task["name_label"] for task in tasks)]

    def claim(self, run_id: str, *, age_s: float = 0.0, vm: str | None = None, **fields: Any) -> None:
        """As a run on another machine that works on the VM, and said so that long ago."""
        active = Active(
            run_id=run_id,
            job_id=fields.get("job_id", self.job().id),
            job="nightly",
            pool_uuid="",
            vm_uuid="",
            since_s=0.0,
            kind=fields.get("kind", "backup"),
        )
        text = text_of(active, self.pool.toolstack.clock.now_s() - age_s)
        self.pool.call("VM.add_to_other_config", vm or self.vm, keys.claim_key(run_id, 0), text)

    def snapshots(self, vm: str | None = None) -> list[dict[str, Any]]:
        """The VM's snapshots on the pool."""
        return [self.pool.model.get("VM", ref) for ref in self.pool.model.get("VM", vm or self.vm)["snapshots"]]

    def with_settings(self, **changes: Any) -> None:
        self.settings = replace(self.settings, **changes)


def sha256_of(disk: Disk) -> str:
    """Digest of a whole disk, zeros included."""
    digest = hashlib.sha256()
    buffer = BlockBuffer()
    for index in range(-(-disk.virtual_size_bytes // BLOCK_BYTES)):
        disk.read_block(index, buffer)
        digest.update(buffer.data[: disk.virtual_size_bytes - index * BLOCK_BYTES])
    return digest.hexdigest()


def sparse_sha256(disk: Disk) -> str:
    """Digest of what a disk holds, and where: of a huge one nobody can read the zeros."""
    digest = hashlib.sha256()
    buffer = BlockBuffer()
    for index in disk.block_indexes():
        disk.read_block(index, buffer)
        if any(buffer.data.tobytes()):
            digest.update(index.to_bytes(8, "big") + buffer.data)
    return digest.hexdigest()


def only(report: RunReport) -> VmReport:
    """The one VM of a report."""
    assert len(report.vms) == 1, report
    return report.vms[0]

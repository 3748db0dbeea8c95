"""The demo's steps. Every one checks what it shows; the first surprise ends the story with an error.

Truth is the simulated pool's own book-keeping of what its guests wrote: it knows the SHA-256 of every disk at every
snapshot without reading a disk. Every comparison is with that.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remotes.url import parse_url
from xobackup.cli.demo.crash import kill_a_merge
from xobackup.cli.errors import Outcome
from xobackup.cli.exits import Exit
from xobackup.cli.live import world_of
from xobackup.cli.output import Output
from xobackup.clock import SystemClock
from xobackup.engine.job import Job, PoolTarget, RemoteTarget, Selector, Settings, VmRule
from xobackup.engine.restore.files import Format, restore_to_file
from xobackup.engine.restore.plan import VmRequest
from xobackup.engine.restore.vm import plan_restore, restore_vm
from xobackup.engine.run import run_job
from xobackup.engine.storage import open_repository
from xobackup.engine.world import real_world
from xobackup.repository.reclaim import StepKind
from xobackup.simpool import DiskSpec, Options, PoolSpec, SimPool, VmSpec
from xobackup.simpool.workload import Profile
from xobackup.texts import duration_text, size_text
from xobackup.xapi.address import PoolAddress
from xobackup.xapi.tls import Fingerprint

if TYPE_CHECKING:
    from xobackup.engine.report import RunReport
    from xobackup.engine.world import World
    from xobackup.repository.metadata import PointDisk, RestorePoint
    from xobackup.repository.repository import Repository

RETENTION = 3
GUEST_PAUSE_S = 0.4
GC_AFTER_S = 0.2
CHAIN_WAIT_S = 60
LOCK_WAIT_S = 30
MIB = 1024 * 1024
READ_BYTES = 4 * MIB
PROFILE = Profile(small_writes=1, sequential_every=16, sequential_bytes=2 * MIB, window_bytes=8 * MIB)
POOL = PoolSpec(
    vms=(
        VmSpec(
            name="web",
            disks=(
                DiskSpec(name="web system", size_bytes=16 * MIB, filled_bytes=10 * MIB),
                DiskSpec(name="web data", size_bytes=32 * MIB, filled_bytes=20 * MIB),
            ),
            tags=("production",),
        ),
        VmSpec(
            name="database",
            disks=(
                DiskSpec(name="database system", size_bytes=16 * MIB, filled_bytes=10 * MIB),
                DiskSpec(name="database data", size_bytes=40 * MIB, filled_bytes=26 * MIB),
            ),
            tags=("production",),
        ),
        VmSpec(name="test machine", power_state="Halted", tags=("test",)),
    )
)
VM_NAMES = ("web", "database")


@dataclass(slots=True, kw_only=True)
class Summary:
    """What was done, counted."""

    runs: int = 0
    restore_points: int = 0
    fulls: int = 0
    deltas: int = 0
    read_bytes: int = 0
    merged_blocks: int = 0
    kept: int = 0
    compared_bytes: int = 0
    compared_disks: int = 0
    blocks_verified: int = 0
    read_while_crashed: int = 0
    duration_s: float = 0.0
    repository: str = ""

    def as_data(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """The summary for a newcomer."""
        return [
            "What happened:",
            f"  {self.runs} backups of 2 running VMs with 2 disks each: {self.fulls} disks read whole once, then "
            f"{self.deltas} deltas; {size_text(self.read_bytes)} read from the pool.",
            f"  {self.restore_points} restore points were published, {self.kept} are kept: the others were merged "
            f"into their successors ({self.merged_blocks} blocks).",
            f"  One merge was killed by SIGKILL halfway. All {self.read_while_crashed} disks could be read as they "
            "were, and the next run finished the merge.",
            f"  {self.blocks_verified} blocks agree with the digests taken when they were written.",
            "  A VM was restored as a new VM, a disk as a file.",
            f"  {self.compared_disks} whole disks, {size_text(self.compared_bytes)}, were compared with what the "
            "guests had written: every byte is the same.",
        ]


@dataclass(slots=True, kw_only=True)
class Truth:
    """What each snapshot of a disk held, by the uuid of the snapshot's VDI."""

    sha256: dict[str, str] = field(default_factory=dict)


class Story:
    """See the module's head."""

    def __init__(
        self,
        output: Output,
        place: Path,
        url: str,
        *,
        runs: int,
        seed: int,
        verbose: bool,
        guest_pause_s: float = GUEST_PAUSE_S,
    ) -> None:
        """``url``: of an empty repository; ``guest_pause_s``: between two writes of a guest."""
        self._output = output
        self._place = place
        self._runs = runs
        self._seed = seed
        self._verbose = verbose
        self._guest_pause_s = guest_pause_s
        self._clock = SystemClock()
        self._truth = Truth()
        self._url = url
        self._summary = Summary(repository=parse_url(url).redacted)

    def tell(self, afterwards: Callable[[Summary, SimPool], None] = lambda _summary, _pool: None) -> Summary:
        """All of it. ``afterwards`` is called while the pool is still there and its guests go on writing."""
        began_s = self._clock.monotonic_s()
        with (
            SimPool.start(
                self._place / "pool", spec=POOL, seed=self._seed, options=Options(auto_gc_s=GC_AFTER_S)
            ) as pool,
            self._guests(pool),
        ):
            self._say(f"A simulated pool listens at {pool.url}; its guests write all the time.")
            for number in range(1, self._runs):
                self._back_up(pool, number)
            self._back_up(pool, self._runs, merge=False)
            self._crash()
            self._recover(pool)
            self._verify()
            self._compare_all_points()
            self._restore(pool)
            self._summary.duration_s = self._clock.monotonic_s() - began_s
            afterwards(self._summary, pool)
        return self._summary

    # -- steps

    def _back_up(self, pool: SimPool, number: int, *, merge: bool = True) -> None:
        report = self._run(pool, merge=merge)
        for vm in report.vms:
            self._summary.fulls += vm.fulls
            self._summary.deltas += vm.deltas
            self._summary.restore_points += len(vm.points)
            merged = f", {vm.merged_blocks} blocks merged" if vm.merged_blocks else ""
            self._say(
                f"  run {number}  {vm.name:9} {vm.fulls} full, {vm.deltas} delta  "
                f"{size_text(vm.read_bytes):>9}  {duration_text(vm.duration_s)}{merged}"
            )
        self._summary.runs += 1
        self._summary.read_bytes += report.read_bytes
        self._remember(pool)

    def _run(self, pool: SimPool, *, merge: bool) -> RunReport:
        with self._world() as world:
            report = run_job(self._job(pool, merge=merge), world)
        self._summary.merged_blocks += sum(vm.merged_blocks for vm in report.vms)
        self._check(str(report.outcome) == "ok", f"a backup failed: {[vm.reason for vm in report.vms]}")
        self._check(len(report.vms) == len(VM_NAMES), f"expected 2 VMs in a run, found {len(report.vms)}")
        return report

    def _remember(self, pool: SimPool) -> None:
        """Note what the disks of the newest restore points must hold, from the guests' own books."""
        with self._repository() as repository:
            for vm in repository.vms():
                for disk in repository.points(vm).points[-1].disks:
                    snapshot = pool.call("VDI.get_by_uuid", disk.vdi_uuid)
                    self._truth.sha256[disk.vdi_uuid] = pool.expected_sha256(snapshot)

    def _crash(self) -> None:
        with self._repository() as repository:
            vm = repository.vms()[0]
            steps = [step for step in repository.merge_plan(vm).steps if step.kind is StepKind.MERGE]
            self._check(bool(steps), "expected a merge to be waiting, found none")
        self._say("  Now a merge is killed by SIGKILL after its first block.")
        surprise = kill_a_merge(self._url, vm, 1)
        self._check(not surprise, f"the merging process: {surprise}")
        with self._repository() as repository:
            steps = [step for step in repository.merge_plan(vm).steps if step.kind is StepKind.RESUME]
            self._check(bool(steps), "expected an interrupted merge to be found, found none")
            before = self._summary.compared_disks
            self._compare_repository(repository)
            self._summary.read_while_crashed = self._summary.compared_disks - before
        self._say(f"  It stopped halfway; all {self._summary.read_while_crashed} disks read back as they were.")

    def _recover(self, pool: SimPool) -> None:
        self._back_up(pool, self._runs + 1)
        with self._repository() as repository:
            for vm in repository.vms():
                left = repository.merge_plan(vm).steps
                self._check(not left, f"after recovering nothing should be left to merge, found {left}")
                points = repository.points(vm).points
                self._check(len(points) == RETENTION, f"expected {RETENTION} restore points, found {len(points)}")
                self._summary.kept += len(points)
        self._say("  The next run finished that merge and went on as if nothing had happened.")

    def _verify(self) -> None:
        with self._repository() as repository:
            for vm in repository.vms():
                report = repository.verify(vm)
                self._check(not report.problems, f"verification found {[str(one) for one in report.problems]}")
                self._check(report.coverage.compared == report.coverage.blocks > 0, "not every block has a digest")
                self._summary.blocks_verified += report.coverage.compared
                findings = repository.clean_plan(vm)
                self._check(not findings, f"the repository should be clean, found {[str(one) for one in findings]}")
        self._say(f"  Verified: {self._summary.blocks_verified} blocks agree with their digests.")

    def _compare_all_points(self) -> None:
        with self._repository() as repository:
            self._compare_repository(repository)
        self._say("  Every restore point gives back exactly what the guests had written by then.")

    def _restore(self, pool: SimPool) -> None:
        with self._world() as world, self._repository() as repository:
            vm = next(vm for vm in repository.vms() if repository.points(vm).points[-1].vm_name == "database")
            point = repository.points(vm).points[0]
            with contextlib.closing(world.connect(self._address(pool))) as session:
                request = VmRequest(new_macs=True)
                plan = plan_restore(world, session, point, request, remote="demo")
                restored = restore_vm(world, session, repository, plan)
            for disk in point.disks:
                vdi = pool.call("VDI.get_by_uuid", restored.disks[disk.live_vdi_uuid])
                self._compare(f"the restored {disk.name_label}", pool.disk_sha256(vdi), disk)
            self._say(f"  Restored {restored.name} as a new VM: its disks are those of {point.id}.")
            self._restore_file(world, repository, point, point.disks[0])

    def _restore_file(self, world: World, repository: Repository, point: RestorePoint, disk: PointDisk) -> None:
        path = self._place / "restored-disk.raw"
        restore_to_file(world, repository, point, disk, path, format=Format.RAW)
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while piece := file.read(READ_BYTES):
                digest.update(piece)
        self._compare(str(path), digest.hexdigest(), disk)
        self._say(f"  Restored {disk.name_label} to a file: the same bytes.")

    # -- comparing

    def _compare_repository(self, repository: Repository) -> None:
        for vm in repository.vms():
            listing = repository.points(vm)
            self._check(not listing.problems, f"the listing complains: {[str(one) for one in listing.problems]}")
            for point in listing.points:
                for disk in point.disks:
                    self._compare(f"{point.id} {disk.name_label}", _sha256_of(repository, point, disk), disk)

    def _compare(self, what: str, found: str, disk: PointDisk) -> None:
        expected = self._truth.sha256[disk.vdi_uuid]
        self._check(found == expected, f"{what}: expected sha256 {expected}, found {found}")
        self._summary.compared_disks += 1
        self._summary.compared_bytes += disk.virtual_size

    # -- surroundings

    def _job(self, pool: SimPool, *, merge: bool) -> Job:
        return Job(
            name="demo",
            pools=(PoolTarget(name="simulated", address=self._address(pool)),),
            remotes=(RemoteTarget(name="demo", url=self._url),),
            selector=Selector(include=(VmRule(tag="production"),)),
            settings=Settings(
                retention=RETENTION, merge_in_run=merge, chain_wait_s=CHAIN_WAIT_S, lock_wait_s=LOCK_WAIT_S
            ),
        )

    def _address(self, pool: SimPool) -> PoolAddress:
        return PoolAddress(
            url=pool.url,
            username=pool.username,
            password=pool.password,
            tls=Fingerprint(pool.fingerprint_sha256),
        )

    @contextlib.contextmanager
    def _guests(self, pool: SimPool) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for number, name in enumerate(VM_NAMES):
                workload = pool.workload(pool.vm_named(name), self._seed * 1000 + number, PROFILE)
                workload.steps(4)
                stack.enter_context(workload.running(self._guest_pause_s))
            yield

    @contextlib.contextmanager
    def _world(self) -> Iterator[World]:
        state = self._place / "state"
        if self._verbose:
            with world_of(self._output, state) as world:
                yield world
        else:
            yield real_world(state, clock=self._clock)

    @contextlib.contextmanager
    def _repository(self) -> Iterator[Repository]:
        repository = open_repository(RemoteTarget(name="demo", url=self._url), clock=self._clock)
        try:
            yield repository
        finally:
            repository.remote.close()

    def _say(self, text: str) -> None:
        self._output.record("step", {"text": text.strip()})
        self._output.say(text)

    def _check(self, claim: bool, problem: str) -> None:
        if not claim:
            raise Outcome(Exit.FAILED, f"the demo found something wrong: {problem}")


def _sha256_of(repository: Repository, point: RestorePoint, disk: PointDisk) -> str:
    chain = repository.open_disk(point, disk.vdi_uuid)
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(READ_BYTES))
    try:
        offset = 0
        while offset < chain.virtual_size_bytes:
            piece = buffer[: min(READ_BYTES, chain.virtual_size_bytes - offset)]
            chain.read_into(offset, piece)
            digest.update(piece)
            offset += len(piece)
    finally:
        chain.close()
    return digest.hexdigest()

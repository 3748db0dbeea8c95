"""Backups on a remote, in Xen Orchestra's layout. Reading takes no lock; writing does: :meth:`Repository.lock`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from remotes.contract import Kind, Remote, Usage
from remotes.errors import NotFound
from vhd.chain import Chain
from xobackup.clock import Clock
from xobackup.repository.base import Tip, tip_of
from xobackup.repository.clean import plan_clean
from xobackup.repository.codecs import CODECS
from xobackup.repository.coverage import VmAges, read_ages
from xobackup.repository.disks import open_point_disk
from xobackup.repository.errors import BadMetadata, Encrypted, PointNotFound, RepositoryError
from xobackup.repository.findings import CleanFinding
from xobackup.repository.inflight import InFlight
from xobackup.repository.json_text import parse_object
from xobackup.repository.layout import VM_BACKUPS, checked_uuid, is_uuid, lineage_path, point_id, vm_directory
from xobackup.repository.lineage import Lineage, read_lineage
from xobackup.repository.listing import PointListing, list_points
from xobackup.repository.lock_rule import IMMUTABLE
from xobackup.repository.locking import lock_for
from xobackup.repository.merging import plan_merges
from xobackup.repository.metadata import RestorePoint
from xobackup.repository.options import RepositoryOptions
from xobackup.repository.pins import Pin, held_points, read_pins
from xobackup.repository.pools.backups import PoolBackups
from xobackup.repository.protection import Held, Locks, with_chain_end
from xobackup.repository.reclaim import ReclaimPlan, named_disks
from xobackup.repository.remembered import as_held
from xobackup.repository.repair.damage import Damages, find_damages
from xobackup.repository.repair.images import DamagedImage, find_damaged_images
from xobackup.repository.verify import VerifyOptions, VerifyReport, verify_vm
from xobackup.repository.vm_directory import VmDirectory
from xobackup.repository.workspace import RemoteWorkspace

ENCRYPTION = "encryption.json"
_ENCRYPTION_BYTES_MAX = 4096


class Repository:
    """See the module's head. ``remote`` stays the caller's: he closes it."""

    def __init__(self, remote: Remote, *, clock: Clock, options: RepositoryOptions | None = None) -> None:
        self.remote = remote
        self.options = options or RepositoryOptions()
        if self.options.codec and self.options.codec not in CODECS:
            raise RepositoryError(f"compression: expected one of {', '.join(CODECS)}, found {self.options.codec!r}")
        if self.options.lock is not None and self.options.lock.mode != IMMUTABLE:
            self.options = replace(self.options, use_cache=False)
        if not remote.capabilities.random_access:
            self.options = replace(self.options, vhd_directory=True)
        self._clock = clock
        parallel = remote.capabilities.parallel
        self._in_flight = InFlight(parallel) if parallel > 1 else None
        self._plain = False

    def vms(self) -> list[str]:
        """Uuids of the VMs that have a directory, sorted."""
        self._refuse_encrypted()
        try:
            entries = self.remote.list(VM_BACKUPS)
        except NotFound:
            return []
        return [entry.name for entry in entries if entry.kind is Kind.DIRECTORY and is_uuid(entry.name)]

    def points(self, vm: str) -> PointListing:
        """The VM's restore points, oldest first, and the problems of what could not be read."""
        self._refuse_encrypted()
        return list_points(self.remote, checked_uuid("vm", vm), use_cache=self.options.use_cache)

    def point(self, vm: str, identity: str) -> RestorePoint:
        """One restore point, ``identity`` being its ``<ts>`` (or Xen Orchestra's id)."""
        wanted = point_id(identity)
        found = self.points(vm).point(wanted)
        if found is None:
            raise PointNotFound(vm, wanted)
        return found

    def open_disk(self, point: RestorePoint, vdi: str) -> Chain:
        """The whole disk as it was, readable also while its chain is being merged. ``vdi``: ref or either uuid."""
        self._refuse_encrypted()
        return open_point_disk(self.remote, point, vdi)

    def lineage(self, vm: str, job_id: str, live_vdi_uuid: str) -> Lineage:
        """All disks of one VDI by one job."""
        path = lineage_path(job_id, live_vdi_uuid)
        return read_lineage(RemoteWorkspace(self.remote, f"{vm_directory(vm)}/{path}"), path, CODECS)

    def tip(self, vm: str, job_id: str, live_vdi_uuid: str) -> Tip:
        """As :meth:`VmDirectory.tip`, without a lock: a look, not a decision."""
        lineage = self.lineage(vm, job_id, live_vdi_uuid)
        published = named_disks(self.points(vm), lineage.path)
        tip = tip_of(lineage, published, vhd_directory=self.options.vhd_directory)
        return with_chain_end(self.remote, vm, lineage, tip, self.options.lock, now_s=self._clock.now_s())

    def held_points(self, points: Iterable[RestorePoint]) -> dict[str, Held]:
        """Which of ``points`` (of one VM) a lock or a pin keeps from being deleted, by id."""
        asked = list(points)
        return held_points(self.remote, asked[0].vm_uuid, asked, now_s=self._clock.now_s()) if asked else {}

    def pins(self, vm: str) -> dict[str, Pin]:
        """The pins that hold, by the id of their restore point."""
        now_s = self._clock.now_s()
        return {point: pin for point, pin in read_pins(self.remote, vm).items() if pin.holds(now_s)}

    def locked_points(self, points: Iterable[RestorePoint]) -> dict[str, Held]:
        """Which of ``points`` the storage keeps from being deleted, by id."""
        locks = Locks(self.remote, now_s=self._clock.now_s())
        return {point.id: held for point in points if (held := locks.of_point(point)) is not None}

    def merge_plan(self, vm: str) -> ReclaimPlan:
        """What there is to merge or delete, without a lock: a look, not a decision."""
        self._refuse_encrypted()
        return plan_merges(self.remote, checked_uuid("vm", vm), now_s=self._clock.now_s(), rule=self.options.lock)

    def clean_plan(self, vm: str) -> list[CleanFinding]:
        """What lies about in a VM's directory, without a lock: a look, not a decision."""
        self._refuse_encrypted()
        return plan_clean(self.remote, checked_uuid("vm", vm), now_s=self._clock.now_s(), rule=self.options.lock)

    def verify(
        self, vm: str, *, points: Iterable[str] | None = None, options: VerifyOptions | None = None
    ) -> VerifyReport:
        """Verify the restore points of one VM, or some of them. Takes no lock, changes no backup."""
        self._refuse_encrypted()
        return verify_vm(
            self.remote,
            checked_uuid("vm", vm),
            options or VerifyOptions(),
            now_s=self._clock.now_s(),
            points=points,
        )

    def verified(self, vm: str, *, days: float) -> VmAges:
        """How much of the VM's backups was verified within ``days``."""
        self._refuse_encrypted()
        return read_ages(self.remote, checked_uuid("vm", vm), now_s=self._clock.now_s(), days=days)

    def damages(
        self, vm: str, *, trusted_days: float | None = None, check: Callable[[], None] = lambda: None
    ) -> Damages:
        """Damaged blocks of the VM. What was verified within ``trusted_days`` is believed and not read again."""
        self._refuse_encrypted()
        since = self._since(trusted_days)
        return find_damages(self.remote, checked_uuid("vm", vm), trusted_since_s=since, check=check)

    def damaged_images(
        self, vm: str, *, trusted_days: float | None = None, check: Callable[[], None] = lambda: None
    ) -> list[DamagedImage]:
        """Full backups of the VM whose image is damaged or missing; ``trusted_days`` as in :meth:`damages`."""
        self._refuse_encrypted()
        since = self._since(trusted_days)
        return find_damaged_images(self.remote, checked_uuid("vm", vm), trusted_since_s=since, check=check)

    def _since(self, days: float | None) -> float | None:
        return None if days is None else self._clock.now_s() - days * 86_400

    @contextlib.contextmanager
    def lock(
        self, vm: str, *, timeout_s: float = 0.0, purpose: str = "", check: Callable[[], None] = lambda: None
    ) -> Iterator[VmDirectory]:
        """Hold the VM's lock and give its directory for writing. :class:`LockHeld` when somebody else has it.

        ``check`` is asked while waiting for it, and raises to give up.
        """
        self._refuse_encrypted()
        locked = lock_for(
            self.remote,
            vm,
            clock=self._clock,
            options=self.options,
            timeout_s=timeout_s,
            purpose=purpose,
            check=check,
        )
        with locked as lock:
            yield VmDirectory(
                as_held(self.remote, vm, lock),
                vm,
                lock,
                clock=self._clock,
                options=self.options,
                in_flight=self._in_flight,
            )

    def pools(self) -> PoolBackups:
        """Backups of pools' own databases, and what Xen Orchestra keeps beside them."""
        self._refuse_encrypted()
        return PoolBackups(self.remote, clock=self._clock)

    def usage(self) -> Usage | None:
        return self.remote.usage()

    def _refuse_encrypted(self) -> None:
        """Nothing in an encrypted remote makes sense without its key, and nothing plain may be put there."""
        if self._plain:
            return
        try:
            raw = self.remote.get(ENCRYPTION, limit_bytes=_ENCRYPTION_BYTES_MAX)
        except NotFound:
            self._plain = True
            return
        try:
            algorithm = parse_object(raw, ENCRYPTION).get("algorithm")
        except BadMetadata:
            algorithm = "unknown algorithm"
        if algorithm != "none":
            raise Encrypted(self.remote.url, str(algorithm))
        self._plain = True

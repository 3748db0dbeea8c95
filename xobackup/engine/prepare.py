"""Before a VM is touched: locks on its remotes, leftovers of earlier runs, a look at pool and remotes, the plan."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING

from xobackup.engine.base import RemoteTip
from xobackup.engine.cancel import CancelToken
from xobackup.engine.context import RunContext
from xobackup.engine.directory_target import DirectoryTarget, History
from xobackup.engine.errors import ChainsUnhealthy, NoRoom, RunLocked, TargetFailed, VmRefused, VmSkipped
from xobackup.engine.leftovers.claim import claims_of, pool_time_s
from xobackup.engine.placing.choice import Placement
from xobackup.engine.placing.decide import Seen, decide, placed, plan_on
from xobackup.engine.plan import MIGRATED, TipsByDisk, VmPlan, chains_of, no_disks, plan_vm
from xobackup.engine.recover import clean_locked
from xobackup.engine.replication.site import refuse_disks
from xobackup.engine.replication.target import replica_target
from xobackup.engine.space.check import HINT, remote_shortages, usages_of
from xobackup.engine.space.judge import TARGET_HINT, SpaceCheck
from xobackup.engine.space.replicas import look_again
from xobackup.engine.survey import Survey, survey
from xobackup.engine.target import SINK_ERRORS, Target, Targets
from xobackup.engine.turns.chains import told
from xobackup.engine.view import VmView
from xobackup.repository.errors import LockHeld
from xobackup.repository.withholding import HELD
from xobackup.xapi.errors import XapiError

if TYPE_CHECKING:
    from xobackup.engine.replication.site import ReplicaSite


class Preparation:
    """One attempt's. ``vm`` is the VM as last seen, ``targets`` the remotes that are still with us."""

    def __init__(
        self,
        context: RunContext,
        vm: VmView,
        *,
        targets: Targets,
        cancel: CancelToken,
        warn: Callable[[str, str], None],
        kept: str = "",
    ) -> None:
        """``warn`` hears a message and the remote it is about; ``kept``: a snapshot (ref) that is no leftover."""
        self._context = context
        self._world = context.world
        self._job = context.job
        self._session = context.session
        self._cancel = cancel
        self._warn = warn
        self._kept = kept
        self.vm = vm
        self.targets = targets
        self.placement: Placement | None = None
        """Where the job spreads its VMs over its remotes: which one was chosen."""
        self._newest_elsewhere_ms = 0

    @property
    def choosing(self) -> bool:
        """It is open yet which of the remotes it will be: one that fails now costs no backup."""
        return self._job.settings.distribute and self.placement is None

    def lock(self, held: ExitStack) -> None:
        """The VM's lock on every remote; one that fails drops out."""
        failures: dict[str, BaseException] = {}
        held.callback(self._context.given.release, self.vm.uuid)
        purpose, wait_s = f"backup job {self._job.name}", self._job.settings.lock_wait_s
        for name, repository in self._context.repositories.items():
            try:
                directory = held.enter_context(
                    repository.lock(self.vm.uuid, timeout_s=wait_s, purpose=purpose, check=self._cancel.check)
                )
                target = DirectoryTarget(name, directory)
                if self._job.settings.distribute:
                    held.callback(target.drop_empty)
                self.targets.add(target)
            except SINK_ERRORS as error:
                failures[name] = error
        busy = any(isinstance(error, LockHeld) for error in failures.values())
        if busy and (self.choosing or not len(self.targets)):  # its chain must not leave a remote that is only busy
            told = "; ".join(str(error) for error in failures.values())
            raise RunLocked(told, hint="another backup, merge or clean works on this VM; try again when it is done")
        self.targets.drop(failures)
        for site in self._context.sites.values():
            self.targets.add(held.enter_context(self._replica(site)))
        self.targets.require()

    def _replica(self, site: ReplicaSite) -> AbstractContextManager[Target]:
        return replica_target(self._context, site, lambda: self.vm, self._cancel, self._warn)

    def alone(self) -> None:
        """Without a remote there is no lock: the claims on the VM tell whether another run of the job is at work."""
        if self._job.remotes or not self._job.targets:
            return
        now_s = pool_time_s(self._session)
        for run_id, claimed in claims_of(self._session.call("VM.get_other_config", self.vm.ref)).items():
            if run_id != self._context.run_id and claimed.job_id == self._job.id and claimed.is_fresh(now_s):
                raise RunLocked(
                    f"another run of the job ({run_id}) works on this VM", hint="try again when it is done"
                )

    def finish_interrupted(self, target: Target) -> None:
        """Interrupted merges and parts of disks on one remote; merges that wait only if the job merges at all."""
        begin = self._job.settings.merge_in_run
        for refusal in target.merge(cancel=self._cancel.check, begin=begin).refusals:
            if refusal.code != HELD:  # what a lock holds is told when retention has had its turn
                self._warn(f"{refusal.lineage}: {refusal.reason}", target.name)

    def plan(self) -> tuple[Survey, VmPlan]:
        """Look at pool and remotes, and decide. Raises when there is nothing to do, or the VM cannot be backed up."""
        seen, vm = self.look()
        tips = self.tips(vm)
        if self._job.destinations and len(self.targets) == len(self._job.destinations):
            published: dict[str, list[str]] = {}
            for found in tips.values():
                for name, tip in found.items():
                    published.setdefault(tip.snapshot_uuid, []).append(name)
            cleaned = clean_locked(
                self._session,
                vm.ref,
                vm.uuid,
                job_id=self._job.id,
                run_id=self._context.run_id,
                published=published,
                journal=self._world.journal,
                kept=self._kept,
            )
            if cleaned:
                seen, vm = self.look()
        plan = self._choose(vm, tips) if self.choosing else self.replan(vm, tips)
        skipped = no_disks(plan)
        if skipped is not None:
            raise VmSkipped(skipped.reason)
        if plan.refusal:
            chains = chains_of(self._job, tuple(disk.disk for disk in plan.disks))
            if chains and plan.refusal == told(chains, self._job.settings.uncoalesced_max):
                raise ChainsUnhealthy(plan.refusal, chains)
            raise VmRefused(plan.refusal, transient=plan.refusal == MIGRATED, hint=plan.hint)
        for warning in plan.warnings:
            self._warn(warning, "")
        return seen, self._with_room(vm, plan)

    def _with_room(self, vm: VmView, plan: VmPlan) -> VmPlan:
        """The plan without remotes that lack the room, if the job refuses them; else they are told of."""
        settings = self._job.settings
        names = [target.name for target in self.targets if target.name in self._context.repositories]
        usages = usages_of(self._context.repositories, names)
        refused: dict[str, BaseException] = {}
        for name, shortage in remote_shortages([plan], usages, settings).items():
            if shortage.refusable and settings.space_check is SpaceCheck.REFUSE:
                refused[name] = NoRoom(shortage.reason, hint=HINT)
            else:
                self._warn(shortage.reason, name)
        for name, site in self._context.sites.items():
            if name in self.targets:
                refused |= self._without_room(name, site, plan)
        if not refused:
            return plan
        self.targets.drop(refused)
        self.targets.require()
        return self.replan(vm, self.tips(vm))

    def _without_room(self, name: str, site: ReplicaSite, plan: VmPlan) -> dict[str, BaseException]:
        """The target, if its SR certainly cannot take the replica; what is not certain is told."""
        unfit = refuse_disks(site, [one.disk for one in plan.disks])
        if unfit is not None:
            return {name: TargetFailed(name, unfit)}
        try:
            short = look_again(self._job, site, plan)
        except XapiError as error:
            return {name: TargetFailed(name, error)}
        for one in short:
            if one.refusable:
                return {name: NoRoom(one.reason, hint=TARGET_HINT)}
            self._warn(one.reason, name)
        return {}

    def replan(self, vm: VmView, tips: TipsByDisk) -> VmPlan:
        """The plan for the remotes that are settled."""
        if self.placement is None:
            return plan_vm(self._job, vm, tips, terms=self._context.means.terms)
        return placed(plan_on(self._context, vm, tips, self.placement.remote), self.placement)

    def _choose(self, vm: VmView, tips: TipsByDisk) -> VmPlan:
        """The plan on one of the remotes; the others are set aside, still locked."""
        found: dict[str, History] = {}

        def ask(target: Target) -> None:
            found[target.name] = target.history(self._job)

        self.targets.each(ask)
        newest = {target.name: found[target.name].newest_of_job_ms for target in self.targets}
        problems = {name: str(error) for name, error in self.targets.failures.items()}
        decided = decide(self._context, vm, Seen(tips=tips, newest_ms=newest, problems=problems))
        if decided.placement is not None:
            self.placement = decided.placement
            elsewhere = [one for name, one in found.items() if name != decided.placement.remote]
            self._newest_elsewhere_ms = max((one.newest_ms for one in elsewhere), default=0)
            self.targets.choose(decided.placement.remote, [entry for one in elsewhere for entry in one.entries])
        return decided.plan

    def newest_ms(self) -> int:
        """Timestamp of the newest restore point of the VM on any remote."""
        newest = [self._newest_elsewhere_ms]
        self.targets.each(lambda target: newest.append(target.newest_ms()))
        return max(newest)

    def look(self) -> tuple[Survey, VmView]:
        seen = survey(self._session, self._context.pool)
        vm = seen.vm_view(self.vm.uuid)
        if vm is None:
            raise VmRefused(f"the pool no longer has vm {self.vm.uuid}")
        self.vm = vm
        return seen, vm

    def tips(self, vm: VmView) -> TipsByDisk:
        """What every remote has of every disk."""
        found: dict[str, dict[str, RemoteTip]] = {}

        def ask(target: Target) -> None:
            found[target.name] = target.tips(self._job.id, vm)

        self.targets.each(ask)
        return {
            disk.vdi_uuid: {target.name: found[target.name][disk.vdi_uuid] for target in self.targets}
            for disk in vm.disks
        }

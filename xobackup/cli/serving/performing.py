"""What becomes of an order: the same verbs as the commands', with the operation as their face."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from xobackup.cli.failures import explain, foreseen
from xobackup.service.operations import Ending, Hand, Lane, Operation, State
from xobackup.web import requests

if TYPE_CHECKING:
    from xobackup.cli.serving.works import Works
    from xobackup.cli.verbs.restoring import Wanted
    from xobackup.config.model import Configuration
    from xobackup.engine.events import Event
    from xobackup.engine.world import World

Result = Mapping[str, Any]
VMS_MAX = 500
"""So many VMs of a plan are kept; the command shows all."""


class Failed(Exception):
    """It was done, and did not go well. ``result``: what came out all the same."""

    def __init__(self, message: str, result: Result, *, hint: str = "") -> None:
        self.result, self.hint = result, hint
        super().__init__(message)


class Said:
    """A journal sink: what events say, as lines of the operation."""

    def __init__(self, say: Callable[[str], None]) -> None:
        from xobackup.cli.telling import Teller

        self._teller, self._say = Teller(), say

    def write(self, event: Event) -> None:
        told = self._teller.tell(event)
        if told is not None:
            self._say(told[0])

    def close(self) -> None:
        """Nothing is held open."""


class Performer:
    """A :data:`xobackup.service.operations.Perform`. ``changed`` is told of restore points that were changed."""

    def __init__(self, works: Works, changed: Callable[[str, str], None] = lambda _remote, _vm: None) -> None:
        self._works, self.changed = works, changed
        self._verbs: Mapping[str, Callable[[Any, Hand], Result]] = {
            requests.Pin.kind: self._pin,
            requests.Unpin.kind: self._unpin,
            requests.Verify.kind: self._verify,
            requests.RestorePlan.kind: self._restore_plan,
            requests.Restore.kind: self._restore,
            requests.Retry.kind: self._retry,
            requests.JobPlan.kind: self._job_plan,
            requests.DrPlan.kind: self._dr_plan,
            requests.DrTest.kind: self._dr_test,
            requests.CommandLine.kind: self._command,
        }

    def __call__(self, operation: Operation, hand: Hand) -> Ending:
        wish = requests.from_asked(operation.kind, operation.asked)
        try:
            hand.cancel.check()
            return Ending(state=State.DONE, result=self._verbs[operation.kind](wish, hand))
        except Failed as error:
            state = State.CANCELLED if hand.cancel.cancelled else State.FAILED
            return Ending(state=state, result=error.result, problem=str(error), hint=error.hint)
        except foreseen() as error:
            if hand.cancel.cancelled:
                return Ending(state=State.CANCELLED, problem=hand.cancel.reason)
            failure = explain(error)
            return Ending(state=State.FAILED, problem=failure.message, hint=failure.hint or "")

    @property
    def _configuration(self) -> Configuration:
        return self._works.configuration

    def _world(self, hand: Hand, *places: str) -> World:
        """``places``: what is transferred comes from there, or goes there (:mod:`xobackup.engine.limits.links`)."""
        from xobackup.clock import SystemClock
        from xobackup.engine.world import real_world

        limits = self._works.limits
        world = real_world(
            self._configuration.state_directory,
            clock=SystemClock(),
            journal=Said(hand.say),
            cancel=hand.cancel,
            progress=hand.progress,
            limits=limits,
        )
        return replace(world, throttle=limits.across(world.throttle, places, world.clock))

    # -- restore points

    def _pin(self, wish: requests.Pin, _hand: Hand) -> Result:
        from xobackup.cli.jobs import remote_target
        from xobackup.cli.repositories import moment_s
        from xobackup.cli.verbs.pinning import pin_points
        from xobackup.repository.pins import Pin

        until_s = moment_s(wish.until, "until") if wish.until else None
        pin = Pin(note=wish.note, until_s=until_s)
        vm, points = pin_points(remote_target(self._configuration, wish.remote), wish.vm, [wish.point], pin)
        self.changed(wish.remote, vm)
        return {"vm": vm, "points": points, "pinned": True}

    def _unpin(self, wish: requests.Unpin, _hand: Hand) -> Result:
        from xobackup.cli.jobs import remote_target
        from xobackup.cli.verbs.pinning import pin_points

        vm, points = pin_points(remote_target(self._configuration, wish.remote), wish.vm, [wish.point], None)
        self.changed(wish.remote, vm)
        return {"vm": vm, "points": points, "pinned": False}

    def _verify(self, wish: requests.Verify, hand: Hand) -> Result:
        from xobackup.cli.examined import Examined
        from xobackup.cli.jobs import remote_target
        from xobackup.cli.repositories import LATEST, find_vm, opened
        from xobackup.cli.verbs.verifying import incomplete, note_verified, report_data, verify_points
        from xobackup.repository.slices import parse_slice
        from xobackup.repository.verify import VerifyOptions, VerifyReport

        asked = VerifyOptions(slice=parse_slice(wish.slice) if wish.slice else None, remember=True)
        wanted = [wish.point] if wish.point else [LATEST] if wish.latest else []
        total = VerifyReport()
        notes = Examined(self._configuration.state_directory, "verify")
        with contextlib.closing(notes), opened(remote_target(self._configuration, wish.remote)) as repository:
            for vm in [find_vm(repository, wish.vm)] if wish.vm else repository.vms():
                hand.cancel.check()
                if wish.latest and not repository.points(vm).points:
                    continue
                found = verify_points(
                    repository, vm, wanted, asked,
                    remote=wish.remote, progress=hand.progress, cancel=hand.cancel,
                )  # fmt: skip
                total.add(found)
                whole = not wanted and asked.slice is None
                note_verified(notes, wish.remote, repository, vm, found, all_of_it=whole)
        data = report_data(total)
        if told := incomplete(total):
            raise Failed(told[0], data, hint=told[1])
        return data

    # -- restores

    def _wanted(self, wish: requests.RestorePlan) -> Wanted:
        from xobackup.cli.jobs import remote_target
        from xobackup.cli.verbs.restoring import Wanted
        from xobackup.engine.restore.differential import Differential
        from xobackup.engine.restore.plan import VmRequest

        return Wanted(
            remote=remote_target(self._configuration, wish.remote),
            vm=wish.vm,
            point=wish.point,
            pool=wish.pool,
            request=VmRequest(
                name=wish.name or None,
                sr=wish.sr or None,
                disk_srs=wish.disk_srs,
                networks=wish.networks,
                new_macs=wish.new_macs,
                memory=wish.memory,
                start=wish.start,
            ),
            how=Differential(wish.differential),
        )

    def _restore_plan(self, wish: requests.RestorePlan, hand: Hand) -> Result:
        from xobackup.cli.verbs.restoring import plan_data, planned

        with planned(self._world(hand), self._configuration, self._wanted(wish)) as made:
            return plan_data(made, wish.pool)

    def _restore(self, wish: requests.Restore, hand: Hand) -> Result:
        from xobackup.cli.verbs.restoring import differences, plan_data, planned, restored_data
        from xobackup.engine.restore.vm import restore_vm

        world = self._world(hand, wish.wanted.remote, f"pool:{wish.wanted.pool}")
        with planned(world, self._configuration, self._wanted(wish.wanted)) as made:
            plan = plan_data(made, wish.wanted.pool)
            if changed := differences(wish.agreed, plan):
                told = "the plan is another one now than that which was agreed to; nothing was created: "
                raise Failed(told + "; ".join(changed), {"plan": plan}, hint="plan it again and look at it")
            restored = restore_vm(world, made.session, made.repository, made.plan, check=wish.wanted.check)
        return restored_data(restored)

    # -- jobs

    def _retry(self, wish: requests.Retry, hand: Hand) -> Result:
        from xobackup.cli.scheduled import jobs_again
        from xobackup.cli.serving.works import GOOD
        from xobackup.engine.mirror.job import MirrorJob, run_mirror
        from xobackup.engine.run import run_job

        jobs, schedule = jobs_again(self._configuration, wish.job, wish.schedule, list(wish.vms))
        if schedule != wish.schedule:
            hand.say(f"schedule {wish.schedule} does not run job {wish.job} any more: with the settings of the job")
        world = replace(self._world(hand), schedule=schedule)
        reports = [run_mirror(job, world) if isinstance(job, MirrorJob) else run_job(job, world) for job in jobs]
        self._works.run_ended()
        data = {"runs": [{"run_id": one.run_id, "outcome": str(one.outcome), "vms": len(one.vms)} for one in reports]}
        bad = [one for one in reports if str(one.outcome) not in GOOD]
        if bad:
            told = [f"{vm.name or vm.uuid}: {vm.reason}" for one in bad for vm in one.vms if vm.reason]
            problems = [text for one in bad for text in one.problems]
            raise Failed("\n".join([*problems, *told]) or str(bad[0].outcome), data)
        if not any(one.vms for one in reports):
            raise Failed("the job selects none of these VMs any more", data, hint="xobackup plan")
        return data

    def _job_plan(self, wish: requests.JobPlan, hand: Hand) -> Result:
        from xobackup.cli.jobs import jobs_for
        from xobackup.cli.mirror_jobs import mirror_jobs_for, plan_data
        from xobackup.engine.events import Failed as FailedEvent
        from xobackup.engine.journal import MemoryJournal, Tee
        from xobackup.engine.mirror.job import plan_mirror
        from xobackup.engine.plan import as_data
        from xobackup.engine.run import plan_job

        events = MemoryJournal()
        world = self._world(hand)
        world = replace(world, journal=Tee(world.journal, events))
        plans = [
            as_data(plan_job(job, world)) for job in jobs_for(self._configuration, [wish.job], vms=None, full=False)
        ]
        mirrors = [
            plan_data(job, one)
            for job in mirror_jobs_for(self._configuration, [wish.job], None)
            for one in plan_mirror(job, world)
        ]
        data = {"plans": plans, "mirrors": mirrors[:VMS_MAX], "more_mirrors": max(0, len(mirrors) - VMS_MAX)}
        told = [one.error for one in events.of(FailedEvent) if not one.vm]
        told += [f"{one['remote']}: {one['problem']}" for one in mirrors if one["problem"]]
        if told:
            raise Failed("\n".join(told), data)
        return data

    # -- disaster recovery

    def _dr_plan(self, wish: requests.DrPlan, hand: Hand) -> Result:
        from xobackup.cli.dr_plans import site_of
        from xobackup.cli.verbs.disaster import look, planning_data, vm_data

        with site_of(self._world(hand), self._configuration, wish.plan) as site:
            planning, done = look(site)
        vms = [vm_data(group.group.name, vm, done) for group in planning.groups for vm in group.vms]
        return {**planning_data(planning), "vms": vms}

    def _dr_test(self, wish: requests.DrTest, hand: Hand) -> Result:
        from xobackup.cli.dr_plans import site_of
        from xobackup.cli.verbs.disaster import complaints, rehearsed

        with site_of(self._world(hand), self._configuration, wish.plan) as site:
            trial = rehearsed(site, tell=hand.say, warn=lambda text: hand.say(f"warning: {text}"))
        data = trial.as_data()
        if not trial.ok:
            raise Failed("\n".join(complaints(trial)), data)
        return data

    # -- the command line

    def _command(self, wish: requests.CommandLine, hand: Hand) -> Result:
        from xobackup.cli.serving.commands import carry_out

        works = self._works
        if works.not_followed:
            hand.say(f"{works.not_followed}; this command reads the file as it is now")
        try:
            done = carry_out(wish, works.configuration, works.path, hand)
        finally:
            if wish.lane is Lane.WORK:
                works.run_ended()
            for remote in works.configuration.remotes:
                self.changed(remote, "")
        if done.problem:
            raise Failed(done.problem, done.as_data(), hint=done.hint)
        return done.as_data()


def shortened(plan: dict[str, Any]) -> dict[str, Any]:
    """A plan as an operation keeps it: its first VMs, and how many there are more."""
    short = {key: plan[key][:VMS_MAX] for key in ("vms", "skipped")}
    return {**plan, **short, "more_vms": len(plan["vms"]) - len(short["vms"])}

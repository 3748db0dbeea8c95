"""Rounds, the stop, the last round, the start there. See the invariants of the room."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from xobackup.engine import keys
from xobackup.engine.active import BACKUP, Active
from xobackup.engine.dr.failover import fail_over, failed_over
from xobackup.engine.dr.look import look
from xobackup.engine.dr.plan import make_plan
from xobackup.engine.dr.spec import Group, Plan
from xobackup.engine.errors import EngineError, Outcome, UsageError, VmRefused
from xobackup.engine.job import Job, Selector, Settings, VmRule
from xobackup.engine.leftovers.claim import touching
from xobackup.engine.leftovers.clean import recover
from xobackup.engine.move.request import Moved, MoveRequest, Round, enough
from xobackup.engine.restore.records import START_OPERATIONS
from xobackup.engine.run import run_job
from xobackup.engine.taking.owed import ShutdownMark, start, start_time, wait_until_settled
from xobackup.xapi.errors import NotFound, XapiError
from xobackup.xapi.other_config import set_key, set_keys

if TYPE_CHECKING:
    from xobackup.engine.world import World
    from xobackup.xapi.session import Session

JOB = "move"
AWAY = "xobackup: this VM was moved to another pool"
RAN = AWAY + ", where it runs on"
"""Of one that ran until then."""
EARLIER = " (left by an earlier try)"
Tell = Callable[[str], None]


def refuse(session: Session, request: MoveRequest) -> dict[str, Any]:
    """The VM's record, if it can be moved. Raises :class:`UsageError`."""
    try:
        ref = session.by_uuid("VM", request.vm_uuid)
    except NotFound:
        raise UsageError(f"pool {request.source.name} has no VM {request.vm_uuid}") from None
    vm = session.record("VM", ref)
    if vm.get("is_a_snapshot") or vm.get("is_a_template") or vm.get("is_control_domain"):
        raise UsageError(f"{vm['name_label']} is no VM that can be moved")
    if vm["power_state"] not in ("Running", "Halted"):
        raise UsageError(f"VM {vm['name_label']} is {vm['power_state'].lower()}: expected a running or a halted one")
    return {"ref": ref, **vm}


def replicate(world: World, request: MoveRequest) -> Round:
    """One round, while the VM runs or not. Raises :class:`EngineError` when nothing came of it."""
    job = Job(
        name=request.name,
        pools=(request.source,),
        remotes=(),
        targets=(request.target,),
        selector=Selector(include=(VmRule(uuid=request.vm_uuid),)),
        settings=Settings(retention=1, replica_retention=1, check_chains=False),
    )
    report = run_job(job, world)
    world.cancel.check()
    if report.outcome is not Outcome.OK or not report.vms:
        told = [*report.problems, *(vm.reason for vm in report.vms if vm.reason)]
        raise EngineError(f"replicating it failed: {'; '.join(told) or report.outcome}")
    (vm,) = report.vms
    return Round(duration_s=vm.duration_s, read_bytes=vm.read_bytes, fulls=vm.fulls)


def move(world: World, request: MoveRequest, *, tell: Tell = lambda _: None) -> Moved:
    """All of it."""
    with contextlib.closing(world.connect(request.source.address)) as session:
        pool_uuid = next(iter(session.records("pool").values()))["uuid"]
        recover(world, session, pool_uuid)
        vm = refuse(session, request)
        return _Move(world, session, request, vm, tell).run()


class _Move:
    """One move on its way."""

    def __init__(self, world: World, session: Session, request: MoveRequest, vm: dict[str, Any], tell: Tell) -> None:
        self._world, self._session, self._request, self._tell = world, session, request, tell
        self._ref, self._name = str(vm["ref"]), str(vm["name_label"])
        self._away = str(vm["blocked_operations"].get("start", ""))
        self._run_id = world.new_id()
        self._rounds: list[Round] = []
        self._warnings: list[str] = []
        self._off_s: float | None = None
        self._starting = False
        """Its start there may have begun."""

    def run(self) -> Moved:
        if self._away in (AWAY, RAN):
            self._tell("it was shut down for its move before: going on with its start there")
            set_key(self._session, "VM", self._ref, keys.SHUTDOWN, None)  # nobody owes it a start here any more
            try:
                return self._arrive()
            except BaseException:
                self._come_back(ran=self._away == RAN)
                raise
        while not enough(self._rounds, self._request):
            self._round("while it runs")
        pool_uuid = str(next(iter(self._session.records("pool").values()))["uuid"])
        active = Active(
            run_id=self._run_id, job_id=JOB, job=self._request.name, pool_uuid=pool_uuid,
            vm_uuid=self._request.vm_uuid, since_s=self._world.clock.now_s(), kind=BACKUP,
        )  # fmt: skip
        with touching(self._world.active_directory, self._session, active, self._ref):
            self._shut_down()
            try:
                self._round("the last one")
                self._forget_earlier()
                self._leave()
                return self._arrive()
            except BaseException:
                self._come_back(ran=self._off_s is not None)
                raise

    def _round(self, which: str) -> None:
        number = len(self._rounds) + 1
        self._tell(f"round {number}, {which}")
        done = replicate(self._world, self._request)
        self._rounds.append(done)
        self._tell(f"round {number}: {done.read_bytes >> 20} MiB in {done.duration_s:.0f} s")

    def _shut_down(self) -> None:
        session = self._session
        if session.call("VM.get_power_state", self._ref) == "Halted":
            return
        mark = ShutdownMark(
            run_id=self._run_id, job_id=JOB, vm_uuid=self._request.vm_uuid, started=start_time(session, self._ref)
        )
        set_key(session, "VM", self._ref, keys.SHUTDOWN, str(mark))
        self._off_s = self._world.clock.monotonic_s()
        self._tell("shutting it down")
        cancel = self._world.cancel
        wait_s = self._request.shutdown_wait_s
        try:
            session.call_async("VM.clean_shutdown", self._ref, timeout_s=wait_s, should_stop=lambda: cancel.cancelled)
        except XapiError as error:
            if wait_until_settled(session, self._ref) != "Halted":
                set_key(session, "VM", self._ref, keys.SHUTDOWN, None)
                told = f"VM {self._name} did not shut down within {wait_s:g} s: {error}"
                raise VmRefused(told, hint="shut it down by hand and run this again; its replica is kept") from error

    def _forget_earlier(self) -> None:
        """What an earlier try made there is of an earlier moment: it is set aside, so that it is made anew. Raises
        :class:`EngineError` when that one runs."""
        request = self._request
        with contextlib.closing(self._world.connect(request.target.pool.address)) as there:
            made = failed_over(there.records("VM"), request.name).get(request.vm_uuid)
            if made is None:
                return
            if made.power_state != "Halted":
                raise EngineError(
                    f"a VM that an earlier try made there is {made.power_state.lower()}, and holds an earlier moment"
                )
            set_key(there, "VM", made.ref, keys.FAILED_OVER, None)
            name = str(there.call("VM.get_name_label", made.ref))
            there.call("VM.set_name_label", made.ref, name.removesuffix(EARLIER) + EARLIER)
            self._warnings.append(f"a halted VM of an earlier try is left there: {name + EARLIER}; delete it")

    def _leave(self) -> None:
        """From here on it is never started here by anybody who does not say so."""
        text = AWAY if self._off_s is None else RAN
        set_keys(self._session, "VM", self._ref, dict.fromkeys(START_OPERATIONS, text), field="blocked_operations")
        self._session.call("VM.update_allowed_operations", self._ref)
        set_key(self._session, "VM", self._ref, keys.SHUTDOWN, None)

    def _arrive(self) -> Moved:
        request, world = self._request, self._world
        group = Group(name=JOB, vms=(VmRule(uuid=request.vm_uuid),), ready=request.ready, auto_start=False)
        plan = Plan(name=request.name, target=request.target, groups=(group,))
        with contextlib.closing(world.connect(request.target.pool.address)) as there:
            seen = look(world, there, plan, ())
            recover(world, there, seen.site.pool_uuid)
            planning = make_plan(plan, seen, now_s=world.clock.now_s(), job_names={})
            if planning.all_problems and not failed_over(seen.records["VM"], plan.name):
                raise EngineError(f"it cannot be started there: {'; '.join(planning.all_problems)}")
            self._tell("starting it there")
            self._starting = True
            (outcome,) = fail_over(world, there, plan, planning, seen, tell=self._tell)
            made = failed_over(there.records("VM"), plan.name).get(request.vm_uuid)
            if made is None or made.power_state != "Running":
                raise EngineError(f"it does not run there: {outcome.reason}")
            new_uuid = str(there.call("VM.get_uuid", made.ref))
        downtime_s = 0.0 if self._off_s is None else world.clock.monotonic_s() - self._off_s
        return Moved(
            vm_uuid=request.vm_uuid,
            new_uuid=new_uuid,
            name=outcome.name,
            rounds=tuple(self._rounds),
            downtime_s=downtime_s,
            reason=outcome.reason,
            warnings=(*outcome.warnings, *self._warnings),
        )

    def _come_back(self, *, ran: bool) -> None:
        """It does not run there: it is to run here again, if it ``ran``."""
        session = self._session
        if self._starting and self._runs_there():
            self._tell(f"{self._name} stays halted here: it runs there, or nobody can tell; run this again")
            return
        with contextlib.suppress(XapiError):
            blocked = session.call("VM.get_blocked_operations", self._ref)
            for name in START_OPERATIONS:
                if blocked.get(name) in (AWAY, RAN):
                    set_key(session, "VM", self._ref, name, None, field="blocked_operations")
            session.call("VM.update_allowed_operations", self._ref)
            if ran:
                start(session, self._ref)
                set_key(session, "VM", self._ref, keys.SHUTDOWN, None)
                self._tell(f"{self._name} runs again where it was")

    def _runs_there(self) -> bool:
        """Whether anything of it runs there, as far as can be told; when it cannot be told, it may."""
        try:
            with contextlib.closing(self._world.connect(self._request.target.pool.address)) as there:
                made = failed_over(there.records("VM"), self._request.name).get(self._request.vm_uuid)
        except XapiError:
            return True
        return made is not None and made.power_state != "Halted"

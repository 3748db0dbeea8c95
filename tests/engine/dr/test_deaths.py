"""The process dies at call after call of a test and of a failover. Restore points read back right after; the next
start leaves nothing of a test, and exactly one VM of a failover, whole.

Every 9th call is taken, by turns before the call and before its answer; ``XOTEST_SWEEP=full`` takes all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from remotes.faults import PowerCut
from xobackup.engine import keys
from xobackup.engine.dr.failover import fail_over
from xobackup.engine.dr.look import look
from xobackup.engine.dr.plan import make_plan
from xobackup.engine.dr.spec import Group, Plan, Readiness
from xobackup.engine.dr.trial import rehearse
from xobackup.engine.job import VmRule
from xobackup.engine.leftovers.clean import recover
from xobackup.xapi.session import Session
from xotest.dying import Death, dying_session, kept
from xotest.two_pools import TwoPools

EVERY = 1 if os.environ.get("XOTEST_SWEEP") == "full" else 9
CALLS_MAX = 400


@dataclass(frozen=True, slots=True)
class Site:
    two: TwoPools
    verb: Callable[..., object]

    def act(self, session: Session) -> object:
        world = self.two.lab.world()
        plan = Plan(
            name="p",
            target=self.two.sr_target(),
            groups=(Group(name="g", vms=(VmRule(name="guest"),), ready=Readiness(tools=False)),),
        )
        seen = look(world, session, plan, ())
        recover(world, session, seen.site.pool_uuid)
        planning = make_plan(plan, seen, now_s=world.clock.now_s(), job_names={})
        return self.verb(world, session, plan, planning, seen)

    def dies(self, death: Death) -> bool:
        session = dying_session(self.two.lab, self.two.address, death)
        with kept(self.two.lab.directory / "state" / "active", death):
            try:
                self.act(session)
            except PowerCut:
                assert death.dead
        session.close()  # as the kernel does for the dead
        return death.dead

    def lives(self) -> object:
        with self.session() as session:
            return self.act(session)

    @contextmanager
    def session(self) -> Iterator[Session]:
        with closing(Session.connect(self.two.address, clock=self.two.lab.clock)) as session:
            yield session

    def things(self) -> set[str]:
        return {ref for cls in ("VM", "VDI", "VBD", "VIF") for ref in self.two.other.model.records(cls)}


def moments() -> Iterator[tuple[int, bool]]:
    return ((at, bool(turn % 2)) for turn, at in enumerate(range(1, CALLS_MAX, EVERY)))


def test_a_test_that_died_leaves_nothing_after_the_next(two: TwoPools) -> None:
    two.run()
    site, deaths = Site(two, rehearse), 0
    before = site.things()
    for at, after in moments():
        died = site.dies(Death(at, after=after))
        two.check()
        assert site.lives().ok
        assert site.things() == before, f"death at {at}"
        two.assert_tidy()
        if not died:
            break
        deaths += 1
    assert deaths > 4 and not died


def test_a_failover_that_died_goes_on(two: TwoPools) -> None:
    two.run()
    site, deaths = Site(two, fail_over), 0
    before = site.things()
    (images,) = two.expected.values()
    for at, after in moments():
        died = site.dies(Death(at, after=after))
        two.check()
        (outcome,) = site.lives()
        assert outcome.ok, outcome
        (ref,) = [ref for ref, vm in two.other.model.records("VM").items() if keys.FAILED_OVER in vm["other_config"]]
        vm = two.other.model.get("VM", ref)
        assert vm["power_state"] == "Running" and vm["name_label"] == "guest" and not vm["blocked_operations"]
        disks = [two.other.model.get("VBD", vbd)["VDI"] for vbd in vm["VBDs"]]
        assert {two.other.disk_sha256(disk) for disk in disks if disk in two.other.model.records("VDI")} == set(
            images.values()
        )
        two.other.call("VM.hard_shutdown", ref)
        for disk in two.other.vdis_of(ref):
            two.other.call("VDI.destroy", disk)
        two.other.call("VM.destroy", ref)
        assert site.things() == before, f"death at {at}"
        if not died:
            break
        deaths += 1
    assert deaths > 3 and not died

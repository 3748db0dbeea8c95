"""A mirror as a job: several targets, what fails keeps nobody else from it, and all of it is in the journal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from remotes import errors
from remotes.faults import Fault, Faults
from remotes.faulty import FaultyRemote
from remotes.memory import MemoryRemote
from schedules.retention import Rule
from xobackup.engine import events
from xobackup.engine.cancel import CancelToken
from xobackup.engine.errors import UsageError
from xobackup.engine.job import RemoteTarget
from xobackup.engine.journal import read_journal
from xobackup.engine.limits.bandwidth import MIB, Timetable
from xobackup.engine.limits.links import Link, Links
from xobackup.engine.limits.process import ProcessLimits
from xobackup.engine.mirror.job import MirrorJob, plan_mirror, refuse_bad, run_mirror
from xobackup.history.fold import fold
from xobackup.repository.repository import Repository
from xotest.lab import Lab


def target(name: str) -> RemoteTarget:
    return RemoteTarget(name=name, url=f"lab:{name}")


@pytest.fixture
def three(lab: Lab) -> Lab:
    """Three restore points on one remote; two others are empty."""
    for number in range(3):
        lab.write(0, number << 20, bytes([number + 1]) * 4096)
        lab.run()
    for name in ("offsite", "vault"):
        lab.remotes[name] = MemoryRemote(label=name, clock=lab.clock)
    return lab


def job(*targets: str, **more: object) -> MirrorJob:
    names = targets or ("offsite", "vault")
    return MirrorJob(name="copies", source=target("nas"), targets=tuple(map(target, names)), **more)  # type: ignore[arg-type]


def learned(lab: Lab) -> None:
    """What the copies must give back is what the originals did."""
    for name in ("offsite", "vault"):
        lab.expected |= {(name, point): one for (remote, point), one in lab.expected.items() if remote == "nas"}


def test_the_rate_of_a_remote_holds_for_its_copies(three: Lab) -> None:
    slow = ProcessLimits(remotes={"vault": Timetable(rate_bytes_s=1.0 * MIB)})
    began_s = three.clock.now_s()
    (vm,) = run_mirror(job("vault"), replace(three.world(), limits=slow)).vms
    assert vm.read_bytes >= 8 * MIB and three.clock.now_s() - began_s >= vm.read_bytes / MIB - 1
    began_s = three.clock.now_s()
    run_mirror(job("offsite"), replace(three.world(), limits=slow))
    assert three.clock.now_s() - began_s < 1, "it is of one remote"


def test_the_rate_of_the_link_to_the_source_holds_for_its_copies(three: Lab) -> None:
    line = Link(name="line", between=("paris", "lyon"), bandwidth=Timetable(rate_bytes_s=1.0 * MIB), transfers_max=1)
    far = ProcessLimits(links=Links(here="paris", sites={"nas": ("lyon",)}, links=(line,)))
    through, seen = far.room.through, []

    def watch(gates, cancel, **more):
        seen.append([gate.key for gate in gates])
        return through(gates, cancel, **more)

    far.room.through = watch  # type: ignore[method-assign]
    began_s = three.clock.now_s()
    (vm,) = run_mirror(job("vault"), replace(three.world(), limits=far)).vms
    assert vm.read_bytes >= 8 * MIB and three.clock.now_s() - began_s >= vm.read_bytes / MIB - 1
    assert seen == [["link line transfers"]] * 3, "a place for each restore point"


def test_every_target_gets_everything_and_the_next_run_only_what_is_new(three: Lab) -> None:
    report = run_mirror(job(), three.world())
    (vm,) = report.vms
    ids = [point.id for point in three.points()]
    assert report.outcome == "ok" and vm.points == {"offsite": ids[-1], "vault": ids[-1]} and vm.read_bytes > 0
    assert [point.id for point in three.points("vault")] == ids == [point.id for point in three.points("offsite")]
    learned(three)
    three.check()
    again = run_mirror(job(), three.world())
    assert again.outcome == "ok" and again.vms[0].read_bytes == 0 and again.vms[0].points == {}


def test_its_journal_is_that_of_any_run(three: Lab) -> None:
    run_mirror(job(verify=True), three.world())
    path = sorted((three.directory / "state" / "journal").glob("*.jsonl"))[-1]
    facts = fold(read_journal(path))
    assert facts is not None and (facts.verb, facts.job, facts.outcome) == ("mirror", "copies", "ok")
    (vm,) = facts.subjects.values()
    assert vm.name == "guest" and len(vm.points) == 6 and {phase.ok for phase in vm.phases} == {True}


def test_retention_of_its_own_at_the_targets(three: Lab) -> None:
    ids = [point.id for point in three.points()]
    run_mirror(job("offsite", rule=Rule(newest=2)), three.world())
    assert [point.id for point in three.points("offsite")] == ids[1:]
    three.write(0, 5 << 20, b"x")
    three.run(remotes=(target("nas"),))
    run_mirror(job("offsite", rule=Rule(newest=2)), three.world())
    assert [point.id for point in three.points("offsite")] == [point.id for point in three.points()][-2:]
    learned(three)
    three.check(remotes=("nas", "offsite"))


def test_a_target_that_is_away_keeps_no_other_from_its_copy(three: Lab) -> None:
    away = errors.Unavailable("lab:offsite", "", "it does not answer", transient=False)
    three.remotes["offsite"] = FaultyRemote(
        three.remotes["offsite"], Faults(Fault(error=lambda _remote, _name: away, operation="*"))
    )
    report = run_mirror(job(), three.world())
    assert report.outcome == "some-failed" and report.vms[0].points.keys() == {"vault"}
    assert "it does not answer" in report.vms[0].reason or "it does not answer" in report.problems[0]
    assert len(three.points("vault")) == 3


def test_a_vm_that_cannot_be_listed_keeps_no_other_from_its_copy(three: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = "99999999-9999-4999-8999-999999999999"
    real_vms, real_points = Repository.vms, Repository.points

    def points(self: Repository, vm: str, *more: object, **fields: object) -> object:
        if vm == broken:
            raise errors.Unavailable("lab:nas", "", "its listing fails", transient=False)
        return real_points(self, vm, *more, **fields)

    monkeypatch.setattr(Repository, "vms", lambda self: [broken, *real_vms(self)])
    monkeypatch.setattr(Repository, "points", points)
    report = run_mirror(job("vault"), three.world())
    assert {vm.uuid: str(vm.outcome) for vm in report.vms} == {broken: "failed", three.vm_uuid: "ok"}
    plans = {plan.vm: plan.problem for plan in plan_mirror(job("vault"), three.world())}
    assert "its listing fails" in plans[broken] and plans[three.vm_uuid] == ""


def test_a_source_that_is_away_fails_the_run_and_deletes_nothing(three: Lab) -> None:
    run_mirror(job(), three.world())
    away = errors.Unavailable("lab:nas", "", "it does not answer", transient=False)
    source = three.remotes["nas"]
    three.remotes["nas"] = FaultyRemote(source, Faults(Fault(error=lambda _remote, _name: away, operation="*")))
    report = run_mirror(job(rule=Rule(newest=1)), three.world())
    assert report.outcome == "failed" and "remote nas" in report.problems[0] and not report.vms
    assert three.journal.of(events.Failed)[-1].remote == "nas"
    assert len(three.points("vault")) == 3


def test_a_run_that_is_cancelled_goes_on_the_next_time(three: Lab) -> None:
    three.cancel = CancelToken()
    three.cancel.cancel("SIGTERM")
    report = run_mirror(job(), three.world())
    assert report.outcome == "cancelled" and three.points("vault") == []
    three.cancel = CancelToken()
    assert run_mirror(job(), three.world()).outcome == "ok"
    assert len(three.points("vault")) == 3


def test_only_some_vms(three: Lab) -> None:
    assert run_mirror(job(vms=("gu*",)), three.world()).vms
    nobody = run_mirror(job(vms=("other",)), three.world())
    assert nobody.outcome == "failed" and "no VM there is called other" in nobody.problems[0]


def test_the_plan_touches_nothing(three: Lab) -> None:
    plans = list(plan_mirror(job(rule=Rule(newest=2)), three.world()))
    assert [(plan.target, len([one for one in plan.choices if not one.reason])) for plan in plans] == [
        ("offsite", 2), ("vault", 2),
    ]  # fmt: skip
    assert three.points("offsite") == []


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(UsageError, match="is one of its remotes"):
        refuse_bad(job("nas"))
    twice = job("offsite")
    same = replace(twice, targets=(twice.targets[0], RemoteTarget(name="x", url=twice.targets[0].url)))
    with pytest.raises(UsageError, match="the same place"):
        refuse_bad(same)

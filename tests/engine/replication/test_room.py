"""A target without room: what certainly does not fit is refused before anything is made, the rest is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from xobackup.engine import events
from xobackup.engine.run import plan_job
from xobackup.engine.space.judge import SpaceCheck
from xobackup.simpool import SimPool, SrSpec
from xotest.lab import MIB, Lab, only
from xotest.two_pools import TARGET_POOL, TwoPools

SPEC = replace(TARGET_POOL, srs=(SrSpec(name="thick", type="lvm"), SrSpec(name="thin", type="nfs")))


@pytest.fixture
def other(tmp_path: Path) -> Iterator[SimPool]:
    with SimPool.start(tmp_path / "other", spec=SPEC, seed=7) as started:
        yield started


def at(lab: Lab, other: SimPool, sr: str, *, free_mib: int) -> TwoPools:
    other.fill_sr(other.sr_named(sr), free_bytes=free_mib * MIB)
    return TwoPools(lab, other, sr=sr)


def planned(two: TwoPools) -> tuple[str, ...]:
    return plan_job(two.lab.job(targets=(two.sr_target(),), remotes=()), two.lab.world()).warnings


@pytest.mark.parametrize("mode", ["delta", "full"])
def test_new_volumes_that_do_not_fit_cost_the_remote_nothing(lab: Lab, other: SimPool, mode: str) -> None:
    lab.with_settings(mode=mode)
    two = at(lab, other, "thick", free_mib=12)
    told = "SR thick has 12.0 MiB free of"
    (warning,) = planned(two)
    assert warning.startswith(f"target dr1: {told}")
    assert "it is left out of VMs that find no room; free space" in warning
    before = {cls: set(other.model.records(cls)) for cls in ("VM", "VDI")}
    vm = only(two.run(expect="failed", remotes=lab.job().remotes))
    assert set(vm.points) == {"nas"} and told in vm.errors[0]
    assert "new disks need 14.0 MiB there (thick provisioning)" in vm.errors[0]
    assert "replica_retention" in lab.journal.of(events.Failed)[-1].hint
    assert before == {cls: set(other.model.records(cls)) for cls in before}
    two = at(lab, other, "thick", free_mib=500)
    assert planned(two) == ()
    assert set(only(two.run(remotes=lab.job().remotes)).points) == {"nas", "dr1"}
    two.lab.check()


def test_what_a_restore_point_may_need_is_only_told(lab: Lab, other: SimPool) -> None:
    two = at(lab, other, "thick", free_mib=500)
    two.run()
    other.fill_sr(other.sr_named("thick"), free_bytes=13 * MIB)
    assert "the restore point may need 14.0 MiB (thick provisioning)" in planned(two)[0]
    assert "left out" not in planned(two)[0]


def test_blocks_that_may_not_fit_are_told_or_refused_before_they_are_sent(lab: Lab, other: SimPool) -> None:
    two = at(lab, other, "thin", free_mib=500)
    two.run()
    points = two.points()
    lab.write(0, 0, b"n" * (6 * MIB))
    two = TwoPools(lab, other, sr="thin", expected=two.expected)
    other.fill_sr(other.sr_named("thin"), free_bytes=3 * MIB)
    lab.pool.call("SR.scan", lab.pool.default_sr)
    assert "are to come" in planned(two)[0] and "left out" not in planned(two)[0]
    lab.with_settings(space_check=SpaceCheck.REFUSE)
    sent = len(other.journal.entries("PUT /import_raw_vdi"))
    vm = only(two.run(expect="failed"))
    assert "disk system: 6.0 MiB are to come, SR thin has 3.0 MiB free" in vm.errors[0]
    assert len(other.journal.entries("PUT /import_raw_vdi")) == sent, "nothing of it was sent"
    assert [one.uuid for one in two.points()] == [one.uuid for one in points]
    two.check()
    two.assert_tidy()
    lab.with_settings(space_check=SpaceCheck.WARN)
    vm = only(two.run(expect="failed"))
    assert any("are to come, SR thin has" in told for told in vm.warnings) and "is full" in vm.errors[0]
    other.toolstack.stores[other.sr_named("thin")].foreign_bytes = 0
    assert only(two.run()).deltas == 2
    two.check()
    two.assert_tidy()

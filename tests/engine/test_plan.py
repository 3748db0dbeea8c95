"""A plan is pure, complete and explains itself."""

import json

from xobackup.engine.base import RemoteTip
from xobackup.engine.job import DiskRule, Settings
from xobackup.engine.plan import RunPlan, VmPlan, as_data, limit_fulls, no_disks, plan_vm
from xobackup.engine.select import Why
from xotest.views import MIB, a_disk, a_job, a_snapshot, a_vm, uid

TIP = RemoteTip(snapshot_uuid=uid("s1"), virtual_size_bytes=16 * MIB, known=True)


def test_a_vms_plan_lists_routes_skipped_disks_and_sizes() -> None:
    disks = (a_disk("root", snapshots=(a_snapshot(),)), a_disk("data", userdevice="1"), a_disk("tmp [NOBAK]"))
    tips = {uid("root"): {"nas": TIP}, uid("data"): {"nas": RemoteTip()}}
    plan = plan_vm(a_job(), a_vm(disks=disks), tips)
    assert [(d.disk.name, d.routes[0].delta) for d in plan.disks] == [("root", True), ("data", False)]
    assert [one.name for one in plan.skipped_disks] == ["tmp [NOBAK]"]
    assert plan.estimated_bytes == 4 * MIB + 16 * MIB
    assert not plan.unexpected_full and not plan.refusal


def test_a_vm_being_migrated_is_refused() -> None:
    plan = plan_vm(a_job(), a_vm(current_operations=("pool_migrate",), disks=(a_disk(),)), {})
    assert plan.refusal == "it is being migrated"


def test_an_unhealthy_chain_is_refused_unless_the_check_is_off() -> None:
    vm = a_vm(disks=(a_disk(uncoalesced=2),))
    assert plan_vm(a_job(), vm, {}).refusal.startswith("unhealthy VDI chain: disk root on SR Local storage has 2")
    assert not plan_vm(a_job(settings=Settings(check_chains=False)), vm, {}).refusal
    assert not plan_vm(a_job(settings=Settings(uncoalesced_max=2)), vm, {}).refusal


def test_an_unhealthy_disk_that_is_left_out_does_not_matter() -> None:
    vm = a_vm(disks=(a_disk(), a_disk("odd", uncoalesced=9)))
    assert not plan_vm(a_job(exclude_disks=(DiskRule(name="odd"),)), vm, {}).refusal


def test_only_a_vm_all_of_whose_disks_are_left_out_is_skipped() -> None:
    assert no_disks(plan_vm(a_job(), a_vm(), {})) is None, "one that has none is saved as it is"
    excluded = plan_vm(a_job(), a_vm(disks=(a_disk("x [NOBAK]"),)), {})
    assert no_disks(excluded).why is Why.NO_DISKS and "excluded" in no_disks(excluded).reason
    assert no_disks(plan_vm(a_job(), a_vm(disks=(a_disk(),)), {})) is None


def fulls(*names: str) -> tuple[VmPlan, ...]:
    tips = {uid("root"): {"nas": RemoteTip(known=True)}}
    return tuple(plan_vm(a_job(), a_vm(name, disks=(a_disk(),)), tips) for name in names)


def test_more_unexpected_fulls_than_allowed_refuses_them_all() -> None:
    plans = fulls("a", "b", "c")
    assert limit_fulls(plans, None) == frozenset()
    assert limit_fulls(plans, 3) == frozenset()
    assert limit_fulls(plans, 2) == {uid("a"), uid("b"), uid("c")}
    first_runs = (plan_vm(a_job(), a_vm(disks=(a_disk(),)), {uid("root"): {"nas": RemoteTip()}}),)
    assert limit_fulls(first_runs, 0) == frozenset()


def test_a_plan_is_json() -> None:
    left_out = no_disks(plan_vm(a_job(), a_vm(disks=(a_disk("x [NOBAK]"),)), {}))
    assert left_out is not None
    plan = RunPlan(job="nightly", vms=fulls("a"), skipped=(left_out,))
    data = json.loads(json.dumps(as_data(plan)))
    route = data["vms"][0]["disks"][0]["routes"][0]
    assert route["mode"] == "full" and route["full"] == "remote-empty" and not route["expected"]
    assert data["skipped"][0]["why"] == "no-disks"

"""Which VMs and disks a job means, and why others are left out."""

import pytest

from xobackup.engine.job import DiskRule, Selector, VmRule
from xobackup.engine.select import Why, judge_vm, select_disks, select_vms
from xotest.views import MIB, a_disk, a_job, a_vm, uid


def why(selector: Selector, **vm: object) -> Why | None:
    verdict = judge_vm(a_job(selector=selector), a_vm(**vm))
    return verdict.why if verdict else None


def rules(*include: VmRule, exclude: tuple[VmRule, ...] = ()) -> Selector:
    return Selector(include=include, exclude=exclude)


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        (rules(), True),
        (rules(VmRule()), True),
        (rules(VmRule(uuid=uid("web"))), True),
        (rules(VmRule(uuid=uid("other"))), False),
        (rules(VmRule(name="w*")), True),
        (rules(VmRule(name="W*")), False),
        (rules(VmRule(name="db*"), VmRule(name="web")), True),
        (rules(VmRule(tag="prod")), True),
        (rules(VmRule(tag="test")), False),
        (rules(VmRule(tag="prod", name="db*")), False),
        (rules(VmRule(uuid=uid("other")), VmRule(tag="prod")), True),
        (rules(VmRule(pool="lab")), True),
        (rules(VmRule(pool="dr")), False),
        (rules(VmRule(power_state="Running")), True),
        (rules(VmRule(power_state="Halted")), False),
        (rules(exclude=(VmRule(uuid=uid("web")),)), False),
        (rules(exclude=(VmRule(name="we?"),)), False),
        (rules(exclude=(VmRule(tag="prod"),)), False),
        (rules(exclude=(VmRule(tag="prod", power_state="Halted"),)), True),
        (rules(VmRule(name="web"), exclude=(VmRule(tag="prod"),)), False),
    ],
)
def test_rules_choose_as_documented(selector: Selector, chosen: bool) -> None:
    assert (why(selector, name="web", tags=("prod",)) is None) is chosen


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"is_control_domain": True}, Why.CONTROL_DOMAIN),
        ({"is_snapshot": True, "is_template": True}, Why.SNAPSHOT),
        ({"is_template": True}, Why.TEMPLATE),
        ({"tags": ("xo:no-bak",)}, Why.NO_BACKUP_TAG),
        ({"tags": ("xo:no-bak=too big",)}, Why.NO_BACKUP_TAG),
        ({"tags": ("xo:no-bakery",)}, None),
    ],
)
def test_what_is_never_backed_up(fields: dict[str, object], expected: Why | None) -> None:
    assert why(rules(VmRule(uuid=uid("web"))), **fields) is expected


def test_a_replica_of_this_job_is_left_out_but_not_one_of_another() -> None:
    job = a_job()
    blocked = {"start": "replica", "start_on": "replica"}
    own = a_vm(other_config={"xo:backup:job": job.id}, blocked_operations=blocked)
    foreign = a_vm(other_config={"xo:backup:job": uid("else")}, blocked_operations=blocked)
    started = a_vm(other_config={"xo:backup:job": job.id})
    assert judge_vm(job, own).why is Why.OWN_REPLICA
    assert judge_vm(job, foreign) is None
    assert judge_vm(job, started) is None


def test_a_uuid_no_pool_has_is_reported_as_expected_by_the_operator() -> None:
    selection = select_vms(a_job(selector=rules(VmRule(uuid=uid("gone")))), [a_vm()])
    assert selection.chosen == ()
    missing = next(one for one in selection.skipped if one.why is Why.NOT_FOUND)
    assert missing.matched and uid("gone") in missing.reason


def test_every_skipped_vm_has_a_reason_and_the_chosen_are_sorted() -> None:
    vms = [a_vm("b"), a_vm("a"), a_vm("c", is_template=True), a_vm("d", tags=("no",))]
    selection = select_vms(a_job(selector=rules(exclude=(VmRule(tag="no"),))), vms)
    assert [vm.name for vm in selection.chosen] == ["a", "b"]
    assert [(one.name, one.reason) for one in selection.skipped] == [
        ("c", "it is a template"),
        ("d", "it is excluded by the rule tag no"),
    ]


@pytest.mark.parametrize(
    ("rule", "disk", "reason"),
    [
        (DiskRule(uuid=uid("x")), a_disk("swap [NOBAK]"), "its name contains [NOBAK]"),
        (DiskRule(uuid=uid("root")), a_disk(), f"it is excluded by the rule uuid {uid('root')}"),
        (DiskRule(name="ro*"), a_disk(), "it is excluded by the rule name ro*"),
        (DiskRule(tag="scratch"), a_disk(tags=("scratch",)), "it is excluded by the rule tag scratch"),
        (DiskRule(sr="Local storage"), a_disk(), "it is excluded by the rule sr Local storage"),
        (DiskRule(sr=uid("sr")), a_disk(), f"it is excluded by the rule sr {uid('sr')}"),
        (DiskRule(device="0", name="r*"), a_disk(), "it is excluded by the rule name r* and device 0"),
        (DiskRule(device="1", name="r*"), a_disk(), ""),
        (
            DiskRule(larger_than_bytes=16 * MIB - 1),
            a_disk(),
            "it is excluded by the rule larger than 16.0 MiB",
        ),
        (DiskRule(larger_than_bytes=16 * MIB), a_disk(), ""),
        (DiskRule(name="data*"), a_disk(), ""),
    ],
)
def test_disks_are_left_out_with_a_reason(rule: DiskRule, disk, reason: str) -> None:
    selection = select_disks([rule], [disk])
    assert [one.reason for one in selection.skipped] == ([reason] if reason else [])
    assert bool(selection.chosen) is (not reason)


def test_disks_come_in_the_order_of_their_devices() -> None:
    disks = [a_disk("c", userdevice="10"), a_disk("b", userdevice="2"), a_disk("a", userdevice="0")]
    assert [disk.name for disk in select_disks([], disks).chosen] == ["a", "b", "c"]

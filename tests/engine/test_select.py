"""Which VMs and disks a job means, and why others are left out."""

import pytest
from xotest.views import MIB, a_disk, a_job, a_vm, uid

from xobackup.engine.job import DiskRules, Selector
from xobackup.engine.select import Why, judge_vm, select_disks, select_vms


def why(selector: Selector, **vm: object) -> Why | None:
    verdict = judge_vm(a_job(selector=selector), a_vm(**vm))
    return verdict.why if verdict else None


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        (Selector(), True),
        (Selector(uuids=(uid("web"),)), True),
        (Selector(uuids=(uid("other"),)), False),
        (Selector(names=("w*",)), True),
        (Selector(names=("W*",)), False),
        (Selector(names=("db*", "web")), True),
        (Selector(tags=("prod",)), True),
        (Selector(tags=("test",)), False),
        (Selector(uuids=(uid("other"),), tags=("prod",)), True),
        (Selector(pools=("lab",)), True),
        (Selector(pools=("dr",)), False),
        (Selector(power_states=("Running", "Paused")), True),
        (Selector(power_states=("Halted",)), False),
        (Selector(exclude_uuids=(uid("web"),)), False),
        (Selector(exclude_names=("we?",)), False),
        (Selector(exclude_tags=("prod",)), False),
        (Selector(names=("web",), exclude_tags=("prod",)), False),
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
    assert why(Selector(uuids=(uid("web"),)), **fields) is expected


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
    selection = select_vms(a_job(selector=Selector(uuids=(uid("gone"),))), [a_vm()])
    assert selection.chosen == ()
    missing = next(one for one in selection.skipped if one.why is Why.NOT_FOUND)
    assert missing.matched and uid("gone") in missing.reason


def test_every_skipped_vm_has_a_reason_and_the_chosen_are_sorted() -> None:
    vms = [a_vm("b"), a_vm("a"), a_vm("c", is_template=True), a_vm("d", tags=("no",))]
    selection = select_vms(a_job(selector=Selector(exclude_tags=("no",))), vms)
    assert [vm.name for vm in selection.chosen] == ["a", "b"]
    assert [(one.name, one.reason) for one in selection.skipped] == [
        ("c", "it is a template"),
        ("d", "it has the excluded tag no"),
    ]


@pytest.mark.parametrize(
    ("rules", "disk", "reason"),
    [
        (DiskRules(), a_disk("swap [NOBAK]"), "its name contains [NOBAK]"),
        (DiskRules(exclude_uuids=(uid("root"),)), a_disk(), "its uuid is excluded"),
        (DiskRules(exclude_names=("ro*",)), a_disk(), "its name matches the excluded ro*"),
        (DiskRules(exclude_tags=("scratch",)), a_disk(tags=("scratch",)), "it has the excluded tag scratch"),
        (DiskRules(exclude_srs=("Local storage",)), a_disk(), "it lies on the excluded SR Local storage"),
        (DiskRules(exclude_srs=(uid("sr"),)), a_disk(), f"it lies on the excluded SR {uid('sr')}"),
        (DiskRules(larger_than_bytes=16 * MIB - 1), a_disk(), "its 16777216 bytes exceed the limit of 16777215"),
        (DiskRules(larger_than_bytes=16 * MIB), a_disk(), ""),
        (DiskRules(exclude_names=("data*",)), a_disk(), ""),
    ],
)
def test_disks_are_left_out_with_a_reason(rules: DiskRules, disk, reason: str) -> None:
    selection = select_disks(rules, [disk])
    assert [one.reason for one in selection.skipped] == ([reason] if reason else [])
    assert bool(selection.chosen) is (not reason)


def test_disks_come_in_the_order_of_their_devices() -> None:
    disks = [a_disk("c", userdevice="10"), a_disk("b", userdevice="2"), a_disk("a", userdevice="0")]
    assert [disk.name for disk in select_disks(DiskRules(), disks).chosen] == ["a", "b", "c"]

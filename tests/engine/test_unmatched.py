"""Rules that match nothing are told, unless they mean nothing this time."""

from xobackup.engine.job import DiskRule, Selector, VmRule
from xobackup.engine.unmatched import unmatched_rules
from xotest.views import MIB, a_disk, a_job, a_vm, uid

VMS = [
    a_vm("web", tags=("prod",), host=(uid("h1"), "host-1"), disks=(a_disk("root"),)),
    a_vm("old", disks=(a_disk("swap"),)),
    a_vm("template", is_template=True, tags=("golden",)),
]


def test_every_rule_that_matches_is_silent() -> None:
    job = a_job(
        selector=Selector(include=(VmRule(tag="prod"),), exclude=(VmRule(name="o*"), VmRule(host="host-1"))),
        exclude_disks=(DiskRule(name="root"), DiskRule(larger_than_bytes=MIB)),
    )
    assert unmatched_rules(job, VMS, VMS[:1]) == ()


def test_every_rule_that_does_not_is_told_once() -> None:
    job = a_job(
        selector=Selector(
            include=(VmRule(tag="golden"), VmRule(uuid=uid("gone"))), exclude=(VmRule(name="x*", host="host-9"),)
        ),
        exclude_disks=(DiskRule(name="swap"), DiskRule(name="swap"), DiskRule(larger_than_bytes=1 << 40)),
    )
    assert unmatched_rules(job, VMS, VMS[:1]) == (
        "no VM matches the rule tag golden (vms.include)",
        "no VM matches the rule name x* and host host-9 (vms.exclude)",
        "no disk of a chosen VM matches the rule name swap (disks.exclude)",
        "no disk of a chosen VM matches the rule larger than 1.0 TiB (disks.exclude)",
    )


def test_a_narrowed_job_says_nothing() -> None:
    assert unmatched_rules(a_job(narrowed=True, exclude_disks=(DiskRule(name="swap"),)), VMS, VMS[:1]) == ()

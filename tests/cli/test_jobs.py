"""A job narrowed to some VMs: never more than the job selects."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from xobackup.cli.jobs import job_of, narrowed
from xobackup.config.model import Configuration
from xobackup.engine.job import Selector, Siblings, VmRule
from xobackup.engine.select import vm_matches
from xobackup.engine.view import VmView

UUID = "aaaaaaaa-0000-4000-8000-000000000001"
OTHER = "aaaaaaaa-0000-4000-8000-000000000002"


def narrow(*rules: VmRule, vms: list[str]) -> tuple[VmRule, ...]:
    return narrowed(Selector(include=rules), vms).include


def test_a_name_is_taken_literally() -> None:
    assert narrow(VmRule(tag="prod"), vms=["web"]) == (VmRule(tag="prod", name="web"),)
    assert narrow(VmRule(name="*"), vms=["w*[1]"]) == (VmRule(name="w[*][[]1]"),)


def test_rules_that_cannot_match_are_gone() -> None:
    assert narrow(VmRule(name="web*"), vms=["db"]) == ()
    assert narrow(VmRule(uuid=UUID), vms=[OTHER]) == ()


def test_a_uuid_joins_the_other_keys_of_a_rule() -> None:
    assert narrow(VmRule(name="web*", tag="prod"), VmRule(uuid=UUID), vms=[UUID.upper()]) == (
        VmRule(name="web*", tag="prod", uuid=UUID),
        VmRule(uuid=UUID),
    )


def test_exclusions_stay() -> None:
    exclude = (VmRule(tag="no"),)
    assert narrowed(Selector(include=(VmRule(name="*"),), exclude=exclude), ["web"]).exclude == exclude


NAMES = st.sampled_from(["web", "web-1", "w[1]", "*", "", "db"])
RULES = st.builds(VmRule, name=st.sampled_from(["", "*", "web*", "w[[]1]", "db"]), uuid=st.sampled_from(["", UUID]))


@given(rules=st.lists(RULES, min_size=1), wanted=st.lists(st.one_of(NAMES, st.just(UUID)), min_size=1), name=NAMES)
def test_a_vm_matches_the_narrowed_rules_when_it_matches_the_job_and_is_wanted(
    rules: list[VmRule], wanted: list[str], name: str
) -> None:
    vm = view(name)
    before = any(vm_matches(rule, vm) for rule in rules)
    after = any(vm_matches(rule, vm) for rule in narrow(*rules, vms=[one for one in wanted if one]))
    assert after == (before and (name in [one for one in wanted if one] or UUID in wanted))


def view(name: str) -> VmView:
    from dataclasses import MISSING, fields

    given: dict[str, object] = {"uuid": UUID, "name": name}
    for one in fields(VmView):
        if one.name not in given and one.default is MISSING and one.default_factory is MISSING:
            given[one.name] = False if one.type in (bool, "bool") else () if "tuple" in str(one.type) else ""
    return VmView(**given)  # type: ignore[arg-type]


def test_schedules_of_one_job_leave_each_others_snapshots() -> None:
    """Jobs with one id share bases and snapshots on the pool; what each keeps is known to all."""
    common = {"id": UUID, "pool": "p", "vms": {"include": [{"name": "*"}]}}
    jobs = {
        "daily": {**common, "schedule_id": OTHER, "remotes": ["r"], "snapshot_retention": 3},
        "hourly": {**common, "snapshot_retention": 24},
        "alone": {**common, "id": OTHER, "remotes": ["r"]},
    }
    tables = {
        "pools": {"p": {"url": "https://h", "password": "x"}},
        "remotes": {"r": {"url": "file:///r"}},
        "jobs": jobs,
    }
    configuration = Configuration.model_validate(tables)
    hourly = job_of(configuration, "hourly", with_secrets=False)
    daily = job_of(configuration, "daily", with_secrets=False)
    assert hourly.siblings == Siblings(snapshot_retention={OTHER: 3}, need_bases=True)
    assert daily.siblings == Siblings(snapshot_retention={hourly.schedule_id: 24}, need_bases=False)
    assert job_of(configuration, "alone", with_secrets=False).siblings == Siblings()

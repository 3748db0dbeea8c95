"""What is whose, and what becomes of it: on records alone."""

from __future__ import annotations

from typing import Any

import pytest

from xobackup.clock import utc
from xobackup.engine import keys
from xobackup.engine.active import Active
from xobackup.engine.leftovers.claim import STALE_S, claims_of, text_of
from xobackup.engine.leftovers.clean import REMOVERS
from xobackup.engine.leftovers.find import FINDERS, find
from xobackup.engine.leftovers.judge import Fate, Kind, Leftover, Seen
from xobackup.engine.restore.records import IMPORTING
from xobackup.xapi.values import format_time

NOW_S = 1_800_000_000.0
JOB, RUN = "job-1", "run-1"
Record = dict[str, Any]


def claim(run: str = RUN, *, age_s: float = 60.0, job: str = JOB, kind: str = "backup", turn: int = 0) -> Record:
    active = Active(run_id=run, job_id=job, job="", pool_uuid="", vm_uuid="", since_s=0.0, kind=kind)
    return {keys.claim_key(run, turn): text_of(active, NOW_S - age_s)}


def vm(name: str = "web", **fields: Any) -> Record:
    return {"uuid": f"uuid of {name}", "name_label": name, "power_state": "Running", "other_config": {}, **fields}


def snapshot(name: str, **fields: Any) -> Record:
    moment = format_time(utc(NOW_S - 7200))
    return vm(name, is_a_snapshot=True, snapshot_of="web", snapshot_time=moment, **fields)


def seen(**fields: Any) -> Seen:
    return Seen(**{"tasks": {}, "vdis": {}, "vbds": {}, "vms": {"web": vm()}, "now_s": NOW_S, **fields})


def only(found: list[Leftover]) -> Leftover:
    assert len(found) == 1, found
    return found[0]


TEMPORARY = snapshot(keys.temporary_name(JOB, RUN))


@pytest.mark.parametrize(
    ("claims", "known", "fate"),
    [
        ({}, {}, Fate.REMOVE),
        (claim("another"), {}, Fate.REMOVE),
        (claim(), {}, Fate.LIVES),
        (claim(age_s=STALE_S - 1), {}, Fate.LIVES),
        (claim(age_s=STALE_S + 1), {}, Fate.REMOVE),
        ({**claim(age_s=STALE_S + 1), **claim(turn=1)}, {}, Fate.LIVES),
        (claim(age_s=-86400), {}, Fate.LIVES),
        ({keys.claim_key(RUN, 0): "{"}, {}, Fate.LIVES),
        ({keys.claim_key(RUN, 0): '{"beat": [1]}'}, {}, Fate.LIVES),
        (claim(), {"dead": {RUN: "it died here"}}, Fate.REMOVE),
        ({}, {"living": {RUN}}, Fate.LIVES),
    ],
)
def test_a_temporary_snapshot_goes_when_its_run_is_over(claims: Record, known: Record, fate: Fate) -> None:
    vms = {"web": vm(other_config=claims), "snap": TEMPORARY}
    found = [one for one in find(seen(vms=vms, **known)) if one.kind is Kind.SNAPSHOT]
    assert only(found).fate is fate and only(found).reason and only(found).age_s == 7200


def test_what_is_not_ours_is_not_even_listed() -> None:
    vms = {
        "web": vm(
            blocked_operations={"migrate_send": "VM migration is blocked during backup", "start": "by a human"},
            other_config={"xo:backup:job": JOB, "xobackup:active": "no run", "xobackup:active:run": "no turn"},
        ),
        "xo": snapshot("xo-backup-temp-snapshot-name"),
        "xo's": snapshot("[XO Backup] web", other_config={keys.JOB: JOB, keys.VM: "uuid of web"}),
        "human": snapshot("before the update"),
        "almost": snapshot("xobackup-temp-snapshot of mine, keep it"),
    }
    tasks = {"t": {"name_label": "[XO] exporting", "created": "19990101T00:00:00Z"}, "e": {"name_label": "xobackup"}}
    assert find(seen(vms=vms, tasks=tasks)) == []


def test_a_good_base_is_no_leftover() -> None:
    config = {keys.JOB: JOB, keys.RUN: RUN, keys.VM: "uuid of web", keys.EXPORTED: "true"}
    base = snapshot("[xobackup nightly] web", other_config=config, VBDs=["b"])
    known: Record = {"vbds": {"b": {"VDI": "d"}}, "vdis": {"d": {"is_a_snapshot": True, "other_config": config}}}
    assert find(seen(vms={"web": vm(), "base": base}, **known)) == []


def test_a_base_whose_disks_are_gone_goes_unless_somebody_may_be_removing_it() -> None:
    config = {keys.JOB: JOB, keys.RUN: RUN, keys.VM: "uuid of web", keys.EXPORTED: "true"}
    base = snapshot("[xobackup nightly] web", other_config=config, VBDs=["b"])
    assert only(find(seen(vms={"web": vm(), "base": base}))).fate is Fate.REMOVE
    found = find(seen(vms={"web": vm(other_config=claim("run-2")), "base": base}))
    assert [(one.kind, one.fate) for one in found] == [(Kind.SNAPSHOT, Fate.LIVES), (Kind.MARK, Fate.LIVES)]


@pytest.mark.parametrize("known", [{}, {"dead": {RUN: "it died here"}}])
def test_a_named_snapshot_is_left_to_its_job(known: Record) -> None:
    config = {keys.JOB: JOB, keys.RUN: RUN, keys.VM: "uuid of web"}
    found = find(seen(vms={"web": vm(), "base": snapshot("named", other_config=config)}, **known))
    assert only(found).fate is Fate.JOB_DECIDES and only(found).job_id == JOB


def test_a_block_goes_when_no_run_of_its_job_lives() -> None:
    blocked = {"pool_migrate": keys.blocked_text(JOB)}

    def fate(config: Record, **known: Any) -> Fate:
        vms = {"web": vm(blocked_operations=blocked, other_config=config)}
        return only([one for one in find(seen(vms=vms, **known)) if one.kind is Kind.BLOCK]).fate

    assert fate({}) is Fate.REMOVE
    assert fate(claim()) is Fate.LIVES
    assert fate(claim(job="another job")) is Fate.REMOVE
    assert fate({**claim(age_s=9999), **claim("second")}) is Fate.LIVES
    assert fate(claim(age_s=9999)) is Fate.REMOVE
    assert fate(claim(), dead={RUN: "it died here"}) is Fate.REMOVE


def test_a_task_goes_when_its_run_is_over_or_nobody_has_heard_of_it_for_a_day() -> None:
    def fate(age_s: float = 60, vms: Record | None = None, **known: Any) -> Fate:
        task = {"name_label": keys.task_label(RUN, "export"), "created": format_time(utc(NOW_S - age_s))}
        found = find(seen(tasks={"task": task}, vms=vms or {"web": vm()}, **known))
        return only([one for one in found if one.kind is Kind.TASK]).fate

    assert fate() is Fate.OPERATOR
    assert fate(age_s=90_000) is Fate.REMOVE
    assert fate(vms={"web": vm(other_config=claim())}) is Fate.LIVES
    assert fate(vms={"web": vm(other_config=claim(age_s=9999))}) is Fate.REMOVE
    assert fate(vms={"a": vm("a", other_config=claim(age_s=9999)), "b": vm("b", other_config=claim())}) is Fate.LIVES
    assert fate(dead={RUN: "it died here"}) is Fate.REMOVE
    assert fate(age_s=90_000, living={RUN}) is Fate.LIVES


def test_a_task_that_has_ended_is_xapis_to_forget() -> None:
    task = {"name_label": keys.task_label(RUN, "export"), "status": "failure"}
    assert find(seen(tasks={"task": task})) == []
    assert only(find(seen(tasks={"task": task}, dead={RUN: "it died here"}))).fate is Fate.REMOVE


RESTORED = {"other_config": {keys.RUN: RUN}, "blocked_operations": {"start": IMPORTING}, "power_state": "Halted"}


def test_a_half_restored_vm_goes_with_its_disks_only_when_its_restore_is_certainly_over() -> None:
    def fates(power_state: str = "Halted", config: Record | None = None, **known: Any) -> dict[Kind, Fate]:
        made = {**RESTORED, "power_state": power_state, "other_config": {keys.RUN: RUN, **(config or {})}}
        vdi = {"uuid": "d", "name_label": "d", "other_config": {keys.RUN: RUN}, "VBDs": ["b"]}
        found = find(seen(vms={"new": vm("new", **made)}, vdis={"d": vdi}, vbds={"b": {"VM": "new"}}, **known))
        return {one.kind: one.fate for one in found if one.kind is not Kind.MARK}

    assert fates() == {Kind.VM: Fate.OPERATOR, Kind.VDI: Fate.OPERATOR}
    assert fates(dead={RUN: "died"}) == {Kind.VM: Fate.REMOVE, Kind.VDI: Fate.REMOVE}
    assert fates(config=claim(kind="restore")) == {Kind.VM: Fate.LIVES, Kind.VDI: Fate.LIVES}
    assert fates(config=claim(kind="restore", age_s=9999)) == {Kind.VM: Fate.REMOVE, Kind.VDI: Fate.REMOVE}
    assert fates("Running", dead={RUN: "died"})[Kind.VM] is Fate.OPERATOR


def test_a_vm_that_xapi_has_just_made_of_an_archive_has_a_claim_only() -> None:
    of_the_snapshot = {keys.JOB: JOB, keys.RUN: "run of the backup"}
    config = {**claim(kind="restore", age_s=9999), **of_the_snapshot}
    vdi = {"uuid": "d", "other_config": of_the_snapshot, "VBDs": ["b"]}
    made = vm("new", power_state="Halted", other_config=config)
    found = find(seen(vms={"new": made}, vdis={"d": vdi}, vbds={"b": {"VM": "new"}}))
    assert [one.kind for one in found] == [Kind.VM, Kind.MARK] and found[0].fate is Fate.REMOVE
    assert found[0].run_id == RUN


def test_a_restored_vm_only_loses_its_marks() -> None:
    made = vm("new", other_config={keys.RUN: RUN}, blocked_operations={})
    vdi = {"uuid": "d", "other_config": {keys.RUN: RUN}, "VBDs": ["b"]}
    found = find(
        seen(vms={"new": made}, vdis={"d": vdi}, vbds={"b": {"VM": "new"}}, dead={RUN: "died after its last step"})
    )
    assert (only(found).kind, only(found).key) == (Kind.MARK, keys.RUN)


def test_the_memory_of_a_restored_vm_is_no_leftover() -> None:
    made = vm("new", power_state="Suspended", suspend_VDI="m")
    memory = {"uuid": "m", "other_config": {keys.RUN: RUN}, "VBDs": []}
    known: Record = {"vms": {"new": made}, "vdis": {"m": memory}, "dead": {RUN: "died after its last step"}}
    assert find(seen(**known)) == []


def test_copies_that_somebody_made_of_what_is_ours_are_his() -> None:
    config = {keys.JOB: JOB, keys.RUN: RUN, keys.CONTENT_KEY: "x", keys.VM: "uuid of web"}
    copy = {"uuid": "c", "name_label": "copy", "other_config": config, "VBDs": []}
    clone = vm("clone", other_config=config, power_state="Halted")
    attached = {"uuid": "r", "other_config": {keys.RUN: RUN}, "VBDs": ["b"]}
    vbds = {"b": {"VM": "web"}}
    vms = {"web": vm(), "clone": clone}
    assert find(seen(vms=vms, vdis={"c": copy, "r": attached}, vbds=vbds, dead={RUN: "died"})) == []


def test_a_control_domain_lets_go_of_disks_of_runs_that_are_known_to_be_dead_only() -> None:
    vdi = {"uuid": "s", "is_a_snapshot": True, "other_config": {keys.RUN: RUN, keys.JOB: JOB, keys.VM: "uuid of web"}}
    mine = {"uuid": "filled", "other_config": {}}
    vms = {"web": vm(), "dom0": vm("dom0", is_control_domain=True)}
    vbds = {"b": {"VM": "dom0", "VDI": "s", "uuid": "b"}, "m": {"VM": "dom0", "VDI": "m", "uuid": "m"}}
    known: Record = {"vms": vms, "vdis": {"s": vdi, "m": mine}, "vbds": vbds}
    assert find(seen(**known)) == []
    assert only(find(seen(**known, dead={RUN: "died"}))).ref == "s"
    assert only(find(seen(**known, dead={"fill": "died"}, filled={"filled": "fill"}))).ref == "m"


def test_a_living_claim_is_listed_and_left() -> None:
    found = find(seen(vms={"web": vm(other_config=claim())}))
    assert (only(found).kind, only(found).fate) == (Kind.MARK, Fate.LIVES)


def test_a_claim_copied_by_a_snapshot_is_no_claim() -> None:
    assert find(seen(vms={"web": vm(), "human": snapshot("before the update", other_config=claim(age_s=9999))})) == []


def test_claims_read_back_as_they_were_written() -> None:
    found = claims_of({**claim(age_s=100), **claim(age_s=50, turn=1), **claim("other", job="j2"), "x": "y"})
    read = {(run, one.job_id, one.age_s(NOW_S)) for run, one in found.items()}
    assert read == {(RUN, JOB, 50), ("other", "j2", 60)}
    assert found[RUN].host and found[RUN].pid > 0


def test_every_kind_is_found_and_can_be_removed() -> None:
    assert set(REMOVERS) == set(Kind) and len(FINDERS) == len(Kind)


@pytest.mark.parametrize("odd", [None, 5, [], {"other_config": None, "blocked_operations": []}, {"name_label": 7}])
def test_odd_records_are_no_trouble(odd: Any) -> None:
    record = odd if isinstance(odd, dict) else {"uuid": odd, "other_config": odd, "VBDs": odd, "is_a_snapshot": odd}
    records = {"x": record}
    assert find(Seen(tasks=records, vdis=records, vbds=records, vms=records, now_s=NOW_S)) == []

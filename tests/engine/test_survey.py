"""From XAPI's records to what decisions see: tolerant of what records lack, strict about whose snapshot it is."""

from typing import Any

from xobackup.engine import keys
from xobackup.engine.survey import Survey
from xotest.views import MIB, a_job, uid

JOB = a_job().id


def records(**changes: dict[str, dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """One VM ``v`` with a disk ``d`` on SR ``s``, its VM snapshot ``vs`` holding the snapshot disk ``ds``."""
    marks = {keys.JOB: JOB, keys.VM: uid("v"), keys.DATETIME: "20260101T00:00:00Z", keys.EXPORTED: "true"}
    found: dict[str, dict[str, dict[str, Any]]] = {
        "pool": {"P": {"uuid": uid("pool")}},
        "VM": {
            "OpaqueRef:v": {"uuid": uid("v"), "name_label": "web", "power_state": "Running"},
            "OpaqueRef:vs": {"uuid": uid("vs"), "name_label": "snap", "is_a_snapshot": True, "is_a_template": True},
            "OpaqueRef:dom0": {"uuid": uid("dom0"), "is_control_domain": True},
        },
        "VBD": {
            "OpaqueRef:b": {"VM": "OpaqueRef:v", "VDI": "OpaqueRef:d", "type": "Disk", "userdevice": "0"},
            "OpaqueRef:bs": {"VM": "OpaqueRef:vs", "VDI": "OpaqueRef:ds", "type": "Disk", "userdevice": "0"},
            "OpaqueRef:cd": {"VM": "OpaqueRef:v", "VDI": "OpaqueRef:iso", "type": "CD", "userdevice": "3"},
            "OpaqueRef:e": {"VM": "OpaqueRef:v", "VDI": "OpaqueRef:NULL", "type": "Disk", "empty": True},
        },
        "VDI": {
            "OpaqueRef:d": vdi("d"),
            "OpaqueRef:ds": {**vdi("ds"), "is_a_snapshot": True, "snapshot_of": "OpaqueRef:d", "other_config": marks},
        },
        "SR": {"OpaqueRef:s": {"uuid": uid("sr"), "name_label": "Local"}},
    }
    for cls, extra in changes.items():
        for ref, record in extra.items():
            found[cls][ref] = {**found[cls].get(ref, {}), **record}
    return found


def vdi(name: str, *, managed: bool = True, parent: str = "") -> dict[str, Any]:
    return {
        "uuid": uid(name),
        "name_label": name,
        "SR": "OpaqueRef:s",
        "virtual_size": 8 * MIB,
        "physical_utilisation": MIB,
        "managed": managed,
        "sm_config": {"vhd-parent": uid(parent)} if parent else {},
    }


def see(**changes: dict[str, dict[str, Any]]):
    return Survey(pool="lab", records=records(**changes)).vm_view(uid("v"))


def test_a_vm_is_seen_with_its_disks_and_their_snapshots() -> None:
    vm = see()
    (disk,) = vm.disks
    (snapshot,) = disk.snapshots
    assert (disk.name, disk.sr_name, disk.virtual_size_bytes, disk.problem) == ("d", "Local", 8 * MIB, "")
    assert snapshot.vdi_uuid == uid("ds") and snapshot.job_id == JOB and snapshot.exported and snapshot.usable
    assert snapshot.vm_snapshot_ref == "OpaqueRef:vs"


def test_a_vm_that_is_gone_is_none() -> None:
    assert Survey(pool="lab", records=records()).vm_view(uid("nobody")) is None


def test_a_disk_that_points_nowhere_or_lost_its_data_is_a_problem_not_an_omission() -> None:
    dangling = {"OpaqueRef:b": {"VDI": "OpaqueRef:gone"}}
    assert "not in the pool's database" in see(VBD=dangling).disks[0].problem
    assert "missing" in see(VDI={"OpaqueRef:d": {"missing": True}}).disks[0].problem


def test_a_disk_attached_twice_is_one_disk() -> None:
    again = {"OpaqueRef:b2": {"VM": "OpaqueRef:v", "VDI": "OpaqueRef:d", "type": "Disk", "userdevice": "1"}}
    assert len(see(VBD=again).disks) == 1


def test_a_snapshot_marked_for_another_vm_or_copied_is_not_ours() -> None:
    marks = records()["VDI"]["OpaqueRef:ds"]["other_config"]
    for changed in ({**marks, keys.VM: uid("other")}, {**marks, keys.COPY_OF: uid("x")}, {}):
        assert see(VDI={"OpaqueRef:ds": {"other_config": changed}}).disks[0].snapshots[0].job_id == ""


def test_a_snapshot_is_usable_only_when_it_is_there_and_on_nothing_but_its_own_snapshot() -> None:
    def usable(**changes: dict[str, dict[str, Any]]) -> bool:
        return see(**changes).disks[0].snapshots[0].usable

    def held_by(vm: str) -> dict[str, dict[str, Any]]:
        return {"OpaqueRef:x": {"VM": f"OpaqueRef:{vm}", "VDI": "OpaqueRef:ds", "type": "Disk"}}

    assert usable() and usable(VBD=held_by("dom0"))
    assert not usable(VBD=held_by("v"))
    assert not usable(VDI={"OpaqueRef:ds": {"missing": True}})
    assert not usable(VDI={"OpaqueRef:ds": {"managed": False}})
    orphan = {"OpaqueRef:bs": {"VDI": "OpaqueRef:NULL"}}
    assert usable(VBD=orphan) and see(VBD=orphan).disks[0].snapshots[0].vm_snapshot_ref == ""


def test_a_purged_snapshot_is_one_without_data_and_tracking_is_known_where_the_host_knows_it() -> None:
    disk = see().disks[0]
    assert disk.cbt is None and disk.snapshots[0].has_data and not disk.snapshots[0].cbt
    purged = {"OpaqueRef:ds": {"type": "cbt_metadata", "cbt_enabled": True}, "OpaqueRef:d": {"cbt_enabled": False}}
    disk = see(VDI=purged).disks[0]
    assert disk.cbt is False and not disk.snapshots[0].has_data
    assert disk.snapshots[0].cbt and disk.snapshots[0].usable


def test_links_that_wait_to_be_coalesced_are_counted() -> None:
    def count(*chain: tuple[str, str]) -> int:
        """Unmanaged disks and their parents, root first; the live disk hangs on the last."""
        extra = {f"OpaqueRef:{name}": vdi(name, managed=False, parent=parent) for name, parent in chain}
        last = chain[-1][0] if chain else ""
        return see(VDI={**extra, "OpaqueRef:d": vdi("d", parent=last)}).disks[0].uncoalesced

    assert count() == 0
    assert count(("b1", "")) == 0
    assert count(("b1", ""), ("b2", "b1")) == 1
    assert count(("b1", ""), ("b2", "b1"), ("b3", "b2")) == 2


def test_a_base_with_a_snapshot_beside_cannot_be_coalesced_and_does_not_count() -> None:
    extra = {
        "OpaqueRef:b1": vdi("b1", managed=False),
        "OpaqueRef:b2": vdi("b2", managed=False, parent="b1"),
        "OpaqueRef:d": vdi("d", parent="b2"),
        "OpaqueRef:ds": {**records()["VDI"]["OpaqueRef:ds"], "sm_config": {"vhd-parent": uid("b1")}},
    }
    assert see(VDI=extra).disks[0].uncoalesced == 0


def test_a_loop_of_parents_ends() -> None:
    loop = {
        "OpaqueRef:b1": vdi("b1", managed=False, parent="b2"),
        "OpaqueRef:b2": vdi("b2", managed=False, parent="b1"),
    }
    assert see(VDI={**loop, "OpaqueRef:d": vdi("d", parent="b1")}).disks[0].uncoalesced > 0


def test_records_that_lack_fields_or_hold_nonsense_do_not_stop_the_view() -> None:
    odd = {"OpaqueRef:d": {"virtual_size": "no number", "tags": None, "sm_config": "text", "SR": "OpaqueRef:NULL"}}
    disk = see(VDI=odd).disks[0]
    assert disk.virtual_size_bytes == 0 and disk.tags == () and disk.sr_uuid == ""
    marks = {keys.CHAIN_LENGTH: "nine", keys.VM: uid("v")}
    assert see(VDI={"OpaqueRef:ds": {"other_config": marks}}).disks[0].snapshots[0].chain_length == 0

"""VMs: the order of the checks, snapshots, clones, starting and stopping."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from xobackup.simpool import Options, PoolSpec, SimPool
from xobackup.simpool.vm_rules import POWER
from xotest.simclient import RpcFailure, SimClient

NULL = "OpaqueRef:NULL"


@pytest.fixture
def vm(pool: SimPool) -> str:
    return pool.vm_named("guest")


@pytest.fixture
def idle(pool: SimPool) -> str:
    return pool.vm_named("idle")


def failure(client: SimClient, method: str, *params: object) -> tuple[str, list[str]]:
    with pytest.raises(RpcFailure) as caught:
        client.call(method, *params)
    return caught.value.code, caught.value.params


def members(**changes: Any) -> dict[str, Any]:
    """What Xen Orchestra sends to VM.create at a restore."""
    return {
        "user_version": 1,
        "is_a_template": False,
        "affinity": NULL,
        "memory_static_min": 0,
        "memory_dynamic_min": 1 << 30,
        "memory_dynamic_max": 1 << 30,
        "memory_static_max": 1 << 30,
        "VCPUs_params": {},
        "VCPUs_max": 1,
        "VCPUs_at_startup": 1,
        "actions_after_shutdown": "destroy",
        "actions_after_reboot": "restart",
        "actions_after_crash": "restart",
        "PV_bootloader": "",
        "PV_kernel": "",
        "PV_ramdisk": "",
        "PV_args": "",
        "PV_bootloader_args": "",
        "PV_legacy_args": "",
        "HVM_boot_policy": "BIOS order",
        "HVM_boot_params": {},
        "platform": {},
        "PCI_bus": "",
        "other_config": {},
        "recommendations": "",
        "name_label": "made",
        **changes,
    }


class TestCreate:
    def test_a_new_vm_is_halted_with_metrics_and_a_seed(self, client: SimClient) -> None:
        record = client.call("VM.get_record", client.call("VM.create", members(uuid="ignored")))
        assert (record["power_state"], record["domid"], record["guest_metrics"]) == ("Halted", -1, NULL)
        assert record["domain_type"] == "hvm" and record["uuid"] != "ignored"
        assert record["other_config"]["mac_seed"]
        assert client.call("VM_metrics.get_record", record["metrics"])["VCPUs_number"] == 1

    @pytest.mark.parametrize("name", [name for name in members() if name != "name_label"])
    def test_every_required_member_is_required(self, name: str, client: SimClient) -> None:
        wanted = members()
        del wanted[name]
        assert failure(client, "VM.create", wanted) == ("Dispatcher_FieldNotFound", [name])

    def test_memory_limits_must_be_in_order(self, client: SimClient, idle: str) -> None:
        wrong = members(memory_dynamic_min=2 << 30)
        assert failure(client, "VM.create", wrong) == ("MEMORY_CONSTRAINT_VIOLATION_ORDER", [])
        assert failure(client, "VM.set_memory_limits", idle, 4, 3, 2, 1)[0] == "MEMORY_CONSTRAINT_VIOLATION_ORDER"
        client.call("VM.set_memory_limits", idle, 0, 4 << 30, 1 << 30, 2 << 30)
        record = client.call("VM.get_record", idle)
        assert (record["memory_static_max"], record["memory_dynamic_max"]) == (4 << 30, 2 << 30)


class TestOrderOfChecks:
    def test_a_blocked_operation_comes_first_with_its_reason(self, client: SimClient, vm: str) -> None:
        client.call("VM.add_to_blocked_operations", vm, "start", "Backup in progress")
        assert failure(client, "VM.start", vm, False, False) == ("OPERATION_BLOCKED", [vm, "Backup in progress"])

    def test_the_power_state_names_what_was_expected_in_lower_case(self, client: SimClient, vm: str) -> None:
        assert failure(client, "VM.destroy", vm) == ("VM_BAD_POWER_STATE", [vm, "halted, suspended", "running"])
        assert failure(client, "VM.clone", vm, "x") == ("VM_BAD_POWER_STATE", [vm, "halted", "running"])

    def test_a_running_operation_is_in_the_way(self, client: SimClient, vm: str, pool: SimPool) -> None:
        pool.model.set_key("VM", vm, "current_operations", "OpaqueRef:t", "pool_migrate")
        found = failure(client, "VM.snapshot", vm, "x")
        assert found == ("OTHER_OPERATION_IN_PROGRESS", ["VM", vm, "pool_migrate", "OpaqueRef:t"])
        pool.model.set_key("VM", vm, "current_operations", "OpaqueRef:u", "export")
        found = failure(client, "VM.snapshot", vm, "x")
        assert found[1][2:] == ["{pool_migrate,export}", "{OpaqueRef:t,OpaqueRef:u}"]

    def test_snapshots_may_overlap_snapshots(self, client: SimClient, vm: str, pool: SimPool) -> None:
        pool.model.set_key("VM", vm, "current_operations", "OpaqueRef:t", "checkpoint")
        assert client.call("VM.snapshot", vm, "x")

    def test_templates_and_snapshots_do_not_start(self, client: SimClient, vm: str, pool: SimPool) -> None:
        template = pool.vm_named("template")
        assert failure(client, "VM.start", template, False, False) == ("VM_IS_TEMPLATE", [template, "start"])
        snapshot = client.call("VM.snapshot", vm, "x")
        assert failure(client, "VM.start", snapshot, False, False) == ("VM_IS_SNAPSHOT", [snapshot, "start"])
        client.call("VM.set_is_a_template", snapshot, False)
        assert failure(client, "VM.start", snapshot, False, False) == ("VM_IS_SNAPSHOT", [snapshot, "start"])

    def test_revert_wants_a_snapshot(self, client: SimClient, idle: str) -> None:
        assert failure(client, "VM.revert", idle) == ("ONLY_REVERT_SNAPSHOT", [])

    def test_the_control_domain_is_left_alone(self, client: SimClient, pool: SimPool) -> None:
        dom0 = pool.toolstack.control_domain(pool.toolstack.master)
        assert failure(client, "VM.snapshot", dom0, "x")[0] == "OPERATION_NOT_ALLOWED"

    def test_a_disk_reset_on_boot_forbids_snapshots(self, client: SimClient, idle: str, pool: SimPool) -> None:
        client.call("VDI.set_on_boot", pool.vdis_of(idle)[0], "reset")
        expected = ("VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION", [])
        assert failure(client, "VM.snapshot", idle, "x") == expected

    def test_allowed_operations_follow_the_state_but_not_what_is_blocked(self, client: SimClient, idle: str) -> None:
        assert "start" in client.call("VM.get_allowed_operations", idle)
        client.call("VM.add_to_blocked_operations", idle, "start", "no")
        assert "start" in client.call("VM.get_allowed_operations", idle)
        client.call("VM.update_allowed_operations", idle)
        assert "start" not in client.call("VM.get_allowed_operations", idle)
        client.call("VM.remove_from_blocked_operations", idle, "start")
        client.call("VM.start", idle, False, False)
        allowed = client.call("VM.get_allowed_operations", idle)
        assert "hard_shutdown" in allowed and "start" not in allowed

    def test_every_operation_is_one_of_the_model(self, pool: SimPool) -> None:
        assert set(POWER) <= set(pool.model.model["VM"].enums["vm_operations"])


class TestLife:
    def test_starting_plugs_everything_and_stopping_unplugs_it(self, client: SimClient, idle: str) -> None:
        client.call("VM.start", idle, False, False)
        record = client.call("VM.get_record", idle)
        assert (record["power_state"], record["domid"] > 0) == ("Running", True)
        vbd = client.call("VBD.get_record", record["VBDs"][0])
        assert (vbd["currently_attached"], vbd["device"]) == (True, "xvda")
        assert client.call("VIF.get_currently_attached", record["VIFs"][0]) is True
        assert client.call("VM_guest_metrics.get_record", record["guest_metrics"])["PV_drivers_detected"] is True
        disk = client.call("VDI.get_record", vbd["VDI"])
        assert disk["sm_config"][f"host_{record['resident_on']}"] == "RW"
        assert idle in client.call("host.get_resident_VMs", record["resident_on"])
        client.call("VM.clean_shutdown", idle)
        record = client.call("VM.get_record", idle)
        assert (record["power_state"], record["resident_on"], record["guest_metrics"]) == ("Halted", NULL, NULL)
        assert client.call("VBD.get_currently_attached", record["VBDs"][0]) is False
        assert not any(key.startswith("host_") for key in client.call("VDI.get_sm_config", vbd["VDI"]))
        assert client.call("VM_guest_metrics.get_all_records").keys().isdisjoint({record["guest_metrics"]})

    def test_a_disk_somebody_else_writes_to_keeps_a_vm_from_starting(
        self, client: SimClient, idle: str, vm: str, pool: SimPool
    ) -> None:
        held = pool.vdis_of(vm)[0]
        client.call("VBD.create", vbd_of(idle, held, "7"))
        assert failure(client, "VM.start", idle, False, False) == ("VDI_IN_USE", [held])
        assert client.call("VM.get_power_state", idle) == "Halted"
        own = client.call("VM.get_VBDs", idle)
        assert not any(client.call("VBD.get_currently_attached", vbd) for vbd in own)

    def test_no_host_sees_the_repository(self, client: SimClient, idle: str, pool: SimPool) -> None:
        with pool.model.lock:
            pool.model.update("PBD", pool.model.get("SR", pool.default_sr)["PBDs"][0], currently_attached=False)
        assert failure(client, "VM.start", idle, False, False) == ("VM_REQUIRES_SR", [idle, pool.default_sr])

    def test_destroying_a_vm_leaves_disks_and_snapshots(self, client: SimClient, idle: str, pool: SimPool) -> None:
        disk = pool.vdis_of(idle)[0]
        first = client.call("VM.snapshot", idle, "one")
        second = client.call("VM.snapshot", idle, "two")
        client.call("VM.destroy", idle)
        assert client.call("VDI.get_VBDs", disk) == []
        for snapshot, parent in ((first, NULL), (second, first)):
            record = client.call("VM.get_record", snapshot)
            assert (record["snapshot_of"], record["parent"]) == (NULL, parent)


class TestSnapshot:
    def test_the_record_of_a_snapshot(self, client: SimClient, vm: str) -> None:
        client.call("VM.add_to_other_config", vm, "xo:backup:job", "j")
        client.call("VM.add_to_other_config", vm, "default_template", "true")
        client.call("VM.add_to_blocked_operations", vm, "migrate_send", "backup")
        live = client.call("VM.get_record", vm)
        snapshot = client.call("VM.snapshot", vm, "xo-backup-temp-snapshot-name")
        record = client.call("VM.get_record", snapshot)
        assert (record["is_a_template"], record["is_a_snapshot"], record["snapshot_of"]) == (True, True, vm)
        assert (record["power_state"], record["resident_on"], record["parent"]) == ("Halted", NULL, NULL)
        assert record["snapshot_time"] > "2020" and record["blocked_operations"] == {}
        assert record["other_config"]["xo:backup:job"] == "j"
        assert record["other_config"]["mac_seed"] == live["other_config"]["mac_seed"]
        assert "default_template" not in record["other_config"]
        assert record["snapshot_info"]["power-state-at-snapshot"] == "Running"
        for field in ("tags", "name_description", "platform", "memory_static_max", "VCPUs_max"):
            assert record[field] == live[field]
        after = client.call("VM.get_record", vm)
        assert (after["parent"], after["snapshots"]) == (snapshot, [snapshot])
        assert client.call("VM.get_children", snapshot) == [vm]
        assert client.call("VM.get_parent", client.call("VM.snapshot", vm, "next")) == snapshot

    def test_disks_are_snapshotted_cds_keep_their_image_and_macs_stay(self, client: SimClient, vm: str) -> None:
        snapshot = client.call("VM.snapshot", vm, "s")
        mine, theirs = devices(client, vm), devices(client, snapshot)
        assert mine.keys() == theirs.keys() == {"0", "1", "3"}
        for device in ("0", "1"):
            disk = client.call("VDI.get_record", theirs[device]["VDI"])
            assert (disk["snapshot_of"], disk["is_a_snapshot"]) == (mine[device]["VDI"], True)
            assert theirs[device]["currently_attached"] is False and "owner" in theirs[device]["other_config"]
        assert theirs["3"]["VDI"] == mine["3"]["VDI"] and theirs["3"]["type"] == "CD"
        macs = [
            [client.call("VIF.get_MAC", vif) for vif in client.call("VM.get_VIFs", one)] for one in (vm, snapshot)
        ]
        assert macs[0] == macs[1]

    def test_ignored_disks_are_left_out(self, client: SimClient, vm: str, pool: SimPool) -> None:
        first, second = pool.vdis_of(vm)
        snapshot = client.call("VM.snapshot", vm, "s", [second])
        assert [client.call("VDI.get_snapshot_of", vdi) for vdi in pool.vdis_of(snapshot)] == [first]

    def test_an_older_host_refuses_the_third_parameter(self, tmp_path: Path, spec: PoolSpec) -> None:
        options = Options(snapshot_takes_ignore_vdis=False)
        with SimPool.start(tmp_path, spec=spec, options=options) as pool, SimClient(pool) as client:
            guest = pool.vm_named("guest")
            code = "MESSAGE_PARAMETER_COUNT_MISMATCH"
            assert failure(client, "VM.snapshot", guest, "s", []) == (code, ["VM.snapshot", "2", "3"])
            assert client.call("VM.snapshot", guest, "s")

    def test_a_failure_rolls_back_and_is_the_disks(self, client: SimClient, vm: str, pool: SimPool) -> None:
        store = pool.toolstack.stores[pool.default_sr]
        before = (sorted(pool.model.refs("VDI")), sorted(pool.model.refs("VM")))
        store.physical_size = store.used_bytes + 9000  # room for one disk's children, not for two
        expected = ("SR_BACKEND_FAILURE_44", ["", "There is insufficient space", ""])
        assert failure(client, "VM.snapshot", vm, "s") == expected
        kept = [ref for ref in pool.model.refs("VDI") if pool.model.get("VDI", ref)["managed"]]
        assert (sorted(kept), sorted(pool.model.refs("VM"))) == before
        assert client.call("VM.get_parent", vm) == NULL

    def test_a_chain_too_long(self, client: SimClient, idle: str, pool: SimPool) -> None:
        disk = pool.vdis_of(idle)[0]
        for number in range(29):
            pool.write_disk(disk, 512 * number, b"x", force=True)
            client.call("VM.snapshot", idle, "s")
        pool.write_disk(disk, 0, b"y", force=True)
        expected = ("SR_BACKEND_FAILURE_109", ["", "The snapshot chain is too long", ""])
        assert failure(client, "VM.snapshot", idle, "s") == expected

    def test_what_a_snapshot_allows(self, client: SimClient, vm: str) -> None:
        snapshot = client.call("VM.snapshot", vm, "s")
        allowed = set(client.call("VM.get_allowed_operations", snapshot))
        assert allowed == {"revert", "clone", "copy", "export", "destroy", "metadata_export"}


class TestCopies:
    def test_a_clone_is_independent(self, client: SimClient, idle: str, pool: SimPool) -> None:
        pool.write_disk(pool.vdis_of(idle)[0], 100, b"shared", force=True)
        clone = client.call("VM.clone", idle, "twin")
        mine, theirs = client.call("VM.get_record", idle), client.call("VM.get_record", clone)
        assert theirs["other_config"]["mac_seed"] != mine["other_config"]["mac_seed"]
        assert (theirs["is_a_snapshot"], theirs["snapshot_of"], theirs["parent"]) == (False, NULL, NULL)
        disk, copy = pool.vdis_of(idle)[0], pool.vdis_of(clone)[0]
        assert client.call("VDI.get_is_a_snapshot", copy) is False
        pool.write_disk(copy, 0, b"own", force=True)
        assert pool.disk_bytes(disk, 100, 6) == pool.disk_bytes(copy, 100, 6) == b"shared"
        assert pool.disk_bytes(disk, 0, 3) == bytes(3)
        for vdi in (disk, copy):
            assert pool.disk_sha256(vdi) == pool.expected_sha256(vdi)

    def test_a_clone_of_a_snapshot_is_a_template(self, client: SimClient, vm: str) -> None:
        clone = client.call("VM.clone", client.call("VM.snapshot", vm, "s"), "from snapshot")
        record = client.call("VM.get_record", clone)
        assert (record["is_a_template"], record["is_a_snapshot"]) == (True, False)

    def test_a_copy_shares_nothing(self, client: SimClient, idle: str, pool: SimPool) -> None:
        pool.write_disk(pool.vdis_of(idle)[0], 1 << 20, b"copied", force=True)
        copy = client.call("VM.copy", idle, "copy", NULL)
        vdi = pool.vdis_of(copy)[0]
        assert "vhd-parent" not in client.call("VDI.get_sm_config", vdi)
        assert pool.disk_sha256(vdi) == pool.disk_sha256(pool.vdis_of(idle)[0]) == pool.expected_sha256(vdi)

    def test_reverting_replaces_the_disks(self, client: SimClient, idle: str, pool: SimPool) -> None:
        old = pool.vdis_of(idle)[0]
        pool.write_disk(old, 0, b"before", force=True)
        snapshot = client.call("VM.snapshot", idle, "s")
        pool.write_disk(old, 0, b"after!", force=True)
        client.call("VM.revert", snapshot)
        new = pool.vdis_of(idle)[0]
        assert new != old and not pool.model.exists("VDI", old)
        assert pool.disk_bytes(new, 0, 6) == b"before"
        assert client.call("VDI.get_snapshot_of", pool.vdis_of(snapshot)[0]) == new
        assert client.call("VM.get_parent", idle) == snapshot


def test_vtpms_are_copied_and_their_contents_can_be_read(client: SimClient, idle: str) -> None:
    vtpm = client.call("VTPM.create", idle, False)
    client.call("VTPM.set_contents", vtpm, "c2VjcmV0")
    assert failure(client, "VTPM.create", idle, False) == ("VTPM_MAX_AMOUNT_REACHED", ["1"])
    snapshot = client.call("VM.snapshot", idle, "s")
    copied = client.call("VM.get_VTPMs", snapshot)
    assert [client.call("VTPM.get_contents", one) for one in copied] == ["c2VjcmV0"]
    client.call("VTPM.destroy", vtpm)
    assert client.call("VM.get_VTPMs", idle) == []


def test_free_devices(client: SimClient, vm: str) -> None:
    assert client.call("VM.get_allowed_VBD_devices", vm)[:3] == ["2", "4", "5"]
    assert client.call("VM.get_allowed_VIF_devices", vm)[0] == "1"


def devices(client: SimClient, vm: str) -> dict[str, dict[str, Any]]:
    records = [client.call("VBD.get_record", vbd) for vbd in client.call("VM.get_VBDs", vm)]
    return {record["userdevice"]: record for record in records}


def vbd_of(vm: str, vdi: str, device: str, **changes: Any) -> dict[str, Any]:
    return {
        "VM": vm,
        "VDI": vdi,
        "userdevice": device,
        "bootable": False,
        "mode": "RW",
        "type": "Disk",
        "empty": False,
        "other_config": {},
        "qos_algorithm_type": "",
        "qos_algorithm_params": {},
        **changes,
    }


def test_rebooting_and_resetting(client: SimClient, vm: str, pool: SimPool) -> None:
    before = client.call("VM.get_guest_metrics", vm)
    client.call("VM.clean_reboot", vm)
    assert client.call("VM.get_power_state", vm) == "Running" and client.call("VM.get_guest_metrics", vm) != before
    client.call("VM.power_state_reset", vm)
    record = client.call("VM.get_record", vm)
    assert (record["power_state"], record["resident_on"]) == ("Halted", "OpaqueRef:NULL")


def test_ranges_of_memory(client: SimClient, idle: str) -> None:
    client.call("VM.set_memory_static_range", idle, 256 << 20, 2 << 30)
    client.call("VM.set_memory_dynamic_range", idle, 512 << 20, 1 << 30)
    record = client.call("VM.get_record", idle)
    limits = [record[f"memory_{name}"] >> 20 for name in ("static_min", "dynamic_min", "dynamic_max", "static_max")]
    assert limits == [256, 512, 1024, 2048]
    with pytest.raises(RpcFailure, match="MEMORY_CONSTRAINT_VIOLATION_ORDER"):
        client.call("VM.set_memory_dynamic_range", idle, 1 << 30, 4 << 30)

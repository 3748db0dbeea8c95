"""Disks and their attachments: checks in their order, sizes, copies."""

from __future__ import annotations

from typing import Any

import pytest

from xobackup.simpool import SimPool
from xotest.simclient import RpcFailure, SimClient

BLOCK = 2 << 20
NULL = "OpaqueRef:NULL"


@pytest.fixture
def guest(pool: SimPool) -> str:
    return pool.vm_named("guest")


@pytest.fixture
def live(pool: SimPool, guest: str) -> str:
    return pool.vdis_of(guest)[0]


@pytest.fixture
def idle(pool: SimPool) -> str:
    """A disk that no running VM holds."""
    return pool.vdis_of(pool.vm_named("idle"))[0]


def failure(client: SimClient, method: str, *params: object) -> tuple[str, list[str]]:
    with pytest.raises(RpcFailure) as caught:
        client.call(method, *params)
    return caught.value.code, caught.value.params


def disk_of(pool: SimPool, **changes: Any) -> dict[str, Any]:
    return {
        "SR": pool.default_sr,
        "virtual_size": BLOCK,
        "type": "user",
        "sharable": False,
        "read_only": False,
        "other_config": {},
        **changes,
    }


def vbd_of(vm: str, vdi: str, **changes: Any) -> dict[str, Any]:
    return {
        "VM": vm,
        "VDI": vdi,
        "userdevice": "autodetect",
        "bootable": False,
        "mode": "RW",
        "type": "Disk",
        "empty": False,
        "other_config": {},
        "qos_algorithm_type": "",
        "qos_algorithm_params": {},
        **changes,
    }


class TestCreate:
    @pytest.mark.parametrize(("asked", "made"), [(1, BLOCK), (BLOCK, BLOCK), (BLOCK + 1, 2 * BLOCK)])
    def test_sizes_are_rounded_up_to_blocks(self, asked: int, made: int, client: SimClient, pool: SimPool) -> None:
        vdi = client.call("VDI.create", disk_of(pool, virtual_size=asked, name_label="n"))
        record = client.call("VDI.get_record", vdi)
        assert (record["virtual_size"], record["location"], record["managed"]) == (made, record["uuid"], True)
        assert record["physical_utilisation"] < 1 << 20
        assert vdi in client.call("SR.get_VDIs", pool.default_sr)

    @pytest.mark.parametrize("size", [0, -1, (2040 << 30) + 1])
    def test_impossible_sizes(self, size: int, client: SimClient, pool: SimPool) -> None:
        text = "VDI Invalid size [opterr=VDI size must be between 1 MB and 2088960 MB]"
        assert failure(client, "VDI.create", disk_of(pool, virtual_size=size)) == (
            "SR_BACKEND_FAILURE_79",
            ["", text, ""],
        )

    def test_only_known_keys_of_sm_config_pass(self, client: SimClient, pool: SimPool) -> None:
        vdi = client.call("VDI.create", disk_of(pool, sm_config={"vhd-parent": "x", "image-format": "vhd"}))
        assert client.call("VDI.get_sm_config", vdi) == {"image-format": "vhd"}

    def test_an_iso_library_takes_no_disks(self, client: SimClient, pool: SimPool) -> None:
        library = pool.sr_named("ISO library")
        assert failure(client, "VDI.create", disk_of(pool, SR=library)) == ("SR_OPERATION_NOT_SUPPORTED", [library])

    def test_an_unplugged_repository(self, client: SimClient, pool: SimPool) -> None:
        pbd = client.call("SR.get_PBDs", pool.default_sr)[0]
        pool.model.update("PBD", pbd, currently_attached=False)
        assert failure(client, "VDI.create", disk_of(pool)) == ("SR_NOT_ATTACHED", [pool.default_sr])
        pool.model.destroy("PBD", pbd)
        assert failure(client, "VDI.create", disk_of(pool)) == ("SR_HAS_NO_PBDS", [pool.default_sr])

    def test_a_full_repository(self, client: SimClient, pool: SimPool) -> None:
        pool.toolstack.stores[pool.default_sr].physical_size = 0
        assert failure(client, "VDI.create", disk_of(pool))[0] == "SR_BACKEND_FAILURE_44"

    def test_metadata_disks_cannot_be_made(self, client: SimClient, pool: SimPool) -> None:
        expected = ("VDI_INCOMPATIBLE_TYPE", ["", "cbt_metadata"])
        assert failure(client, "VDI.create", disk_of(pool, type="cbt_metadata")) == expected


class TestChecks:
    @pytest.mark.parametrize("operation", ["destroy", "forget", "update", "resize"])
    def test_an_attached_disk_is_in_use(self, operation: str, client: SimClient, live: str) -> None:
        params = [1 << 40] if operation == "resize" else []
        assert failure(client, f"VDI.{operation}", live, *params) == ("VDI_IN_USE", [live, operation])

    def test_copying_is_refused_only_by_a_writer(self, client: SimClient, live: str, guest: str) -> None:
        assert failure(client, "VDI.copy", live, NULL) == ("VDI_IN_USE", [live, "copy"])

    def test_attached_disks_may_be_snapshotted_and_cloned(self, client: SimClient, live: str) -> None:
        assert client.call("VDI.snapshot", live) and client.call("VDI.clone", live, {})

    def test_a_running_operation_is_in_the_way(self, client: SimClient, idle: str, pool: SimPool) -> None:
        pool.model.set_key("VDI", idle, "current_operations", "OpaqueRef:t", "resize")
        expected = ("OTHER_OPERATION_IN_PROGRESS", ["VDI", idle, "resize", "OpaqueRef:t"])
        assert failure(client, "VDI.destroy", idle) == expected

    def test_a_busy_vbd_is_in_the_way(self, client: SimClient, idle: str, pool: SimPool) -> None:
        vbd = pool.model.get("VDI", idle)["VBDs"][0]
        pool.model.set_key("VBD", vbd, "current_operations", "OpaqueRef:t", "attach")
        expected = ("OTHER_OPERATION_IN_PROGRESS", ["VDI", idle, "attach", "OpaqueRef:t"])
        assert failure(client, "VDI.destroy", idle) == expected

    def test_hidden_nodes_are_not_managed(self, client: SimClient, live: str) -> None:
        client.call("VDI.snapshot", live)
        base = client.call("VDI.get_by_uuid", client.call("VDI.get_sm_config", live)["vhd-parent"])
        record = client.call("VDI.get_record", base)
        assert (record["name_label"], record["managed"], record["read_only"]) == ("base copy", False, True)
        for operation in ("destroy", "snapshot", "clone"):
            assert failure(client, f"VDI.{operation}", base) == ("VDI_NOT_MANAGED", [base])

    def test_sharable_disks_are_not_snapshotted(self, client: SimClient, idle: str) -> None:
        client.call("VDI.set_sharable", idle, True)
        assert failure(client, "VDI.snapshot", idle) == ("VDI_IS_SHARABLE", [idle])

    def test_metadata_disks_allow_little(self, client: SimClient, idle: str, pool: SimPool) -> None:
        pool.model.update("VDI", idle, type="cbt_metadata")
        assert failure(client, "VDI.clone", idle) == ("VDI_INCOMPATIBLE_TYPE", [idle, "cbt_metadata"])
        client.call("VDI.destroy", idle)

    def test_images_lack_the_features(self, client: SimClient, pool: SimPool) -> None:
        library = pool.sr_named("ISO library")
        image = client.call("SR.get_VDIs", library)[0]
        assert failure(client, "VDI.clone", image) == ("SR_OPERATION_NOT_SUPPORTED", [library])

    def test_allowed_operations_show_only_what_xapi_shows(self, client: SimClient, live: str, idle: str) -> None:
        assert set(client.call("VDI.get_allowed_operations", live)) == {"clone", "snapshot"}
        shown = {"clone", "copy", "resize", "snapshot", "destroy", "forget", "update", "generate_config"}
        assert set(client.call("VDI.get_allowed_operations", idle)) == shown

    def test_changed_block_tracking_is_not_there_yet(self, client: SimClient, live: str) -> None:
        assert client.call("VDI.get_cbt_enabled", live) is False
        assert client.call("VDI.get_nbd_info", live) == []


class TestSnapshots:
    def test_the_records_around_a_snapshot(self, client: SimClient, live: str, pool: SimPool) -> None:
        client.call("VDI.add_to_other_config", live, "k", "v")
        before = client.call("VDI.get_record", live)
        snapshot = client.call("VDI.snapshot", live)
        after, made = client.call("VDI.get_record", live), client.call("VDI.get_record", snapshot)
        assert (after["uuid"], after["snapshots"]) == (before["uuid"], [snapshot])
        assert after["sm_config"]["vhd-parent"] == made["sm_config"]["vhd-parent"]
        assert (made["snapshot_of"], made["is_a_snapshot"], made["managed"]) == (live, True, True)
        for field in ("name_label", "name_description", "type", "other_config", "virtual_size", "tags", "on_boot"):
            assert made[field] == before[field]
        assert made["physical_utilisation"] < before["physical_utilisation"]

    def test_a_snapshot_of_a_snapshot_points_to_it(self, client: SimClient, live: str) -> None:
        first = client.call("VDI.snapshot", live)
        second = client.call("VDI.snapshot", first)
        assert client.call("VDI.get_snapshot_of", second) == first

    def test_a_clone_of_a_snapshot_is_no_snapshot(self, client: SimClient, live: str) -> None:
        clone = client.call("VDI.clone", client.call("VDI.snapshot", live))
        assert client.call("VDI.get_is_a_snapshot", clone) is False
        assert client.call("VDI.get_snapshot_of", clone) == NULL

    def test_snapshots_survive_their_disk(self, client: SimClient, idle: str, pool: SimPool) -> None:
        pool.write_disk(idle, 5, b"kept", force=True)
        snapshot = client.call("VDI.snapshot", idle)
        client.call("VDI.destroy", idle)
        assert client.call("VDI.get_snapshot_of", snapshot) == NULL
        pool.gc()
        assert pool.disk_bytes(snapshot, 5, 4) == b"kept"

    def test_destroying_takes_the_vbds_along(self, client: SimClient, idle: str, pool: SimPool) -> None:
        client.call("VDI.destroy", idle)
        assert client.call("VM.get_VBDs", pool.vm_named("idle")) == []
        assert failure(client, "VDI.get_record", idle) == ("HANDLE_INVALID", ["VDI", idle])

    def test_sizes_of_the_repository_follow(self, client: SimClient, pool: SimPool, live: str) -> None:
        client.call("VDI.snapshot", live)
        record = client.call("SR.get_record", pool.default_sr)
        disks = [client.call("VDI.get_record", vdi) for vdi in record["VDIs"]]
        assert record["virtual_allocation"] == sum(disk["virtual_size"] for disk in disks if disk["managed"])
        assert record["physical_utilisation"] == sum(disk["physical_utilisation"] for disk in disks)


class TestResizeAndCopy:
    def test_growing(self, client: SimClient, idle: str, pool: SimPool) -> None:
        pool.write_disk(idle, 0, b"data", force=True)
        client.call("VDI.resize", idle, 9 * BLOCK - 5)
        assert client.call("VDI.get_virtual_size", idle) == 9 * BLOCK
        assert pool.disk_sha256(idle) == pool.expected_sha256(idle)

    def test_shrinking(self, client: SimClient, idle: str) -> None:
        text = "VDI Invalid size [opterr=shrinking not allowed]"
        assert failure(client, "VDI.resize", idle, 1) == ("SR_BACKEND_FAILURE_79", ["", text, ""])

    def test_a_copy_is_full_and_no_snapshot(self, client: SimClient, live: str, pool: SimPool) -> None:
        snapshot = client.call("VDI.snapshot", live)
        copy = client.call("VDI.copy", snapshot, pool.default_sr)
        record = client.call("VDI.get_record", copy)
        assert (record["is_a_snapshot"], record["sm_config"]) == (False, {})
        assert pool.disk_sha256(copy) == pool.disk_sha256(snapshot) == pool.expected_sha256(copy)

    def test_copying_into_another_disk(self, client: SimClient, idle: str, pool: SimPool) -> None:
        pool.write_disk(idle, 100, b"payload", force=True)
        small = client.call("VDI.create", disk_of(pool))
        expected = ("VDI_TOO_SMALL", [small, str(2 * BLOCK)])
        assert failure(client, "VDI.copy", idle, NULL, NULL, small) == expected
        target = client.call("VDI.create", disk_of(pool, virtual_size=2 * BLOCK))
        assert client.call("VDI.copy", idle, NULL, NULL, target) == target
        assert pool.disk_bytes(target, 100, 7) == b"payload"

    def test_copying_with_a_base_writes_only_what_differs(self, client: SimClient, idle: str, pool: SimPool) -> None:
        pool.write_disk(idle, 0, b"old", force=True)
        base = client.call("VDI.snapshot", idle)
        pool.write_disk(idle, BLOCK, b"new", force=True)
        newer = client.call("VDI.snapshot", idle)
        target = client.call("VDI.create", disk_of(pool, virtual_size=2 * BLOCK))
        client.call("VDI.copy", newer, NULL, base, target)
        assert pool.disk_bytes(target, 0, 3) == bytes(3)
        assert pool.disk_bytes(target, BLOCK, 3) == b"new"


class TestVbds:
    def test_devices(self, client: SimClient, guest: str, idle: str, pool: SimPool) -> None:
        assert failure(client, "VBD.create", vbd_of(guest, idle, userdevice="0")) == ("DEVICE_ALREADY_EXISTS", ["0"])
        assert failure(client, "VBD.create", vbd_of(guest, idle, userdevice="z")) == ("INVALID_DEVICE", ["z"])
        vbd = client.call("VBD.create", vbd_of(guest, idle))
        assert client.call("VBD.get_userdevice", vbd) == "2"

    def test_modes(self, client: SimClient, guest: str, live: str, pool: SimPool) -> None:
        image = client.call("SR.get_VDIs", pool.sr_named("ISO library"))[0]
        assert failure(client, "VBD.create", vbd_of(guest, image, type="CD")) == ("VBD_CDS_MUST_BE_READONLY", [])
        assert failure(client, "VBD.create", vbd_of(guest, image)) == ("VDI_READONLY", [image])

    def test_plugging(self, client: SimClient, guest: str, idle: str, live: str, pool: SimPool) -> None:
        vbd = client.call("VBD.create", vbd_of(guest, idle))
        assert failure(client, "VBD.unplug", vbd) == ("DEVICE_ALREADY_DETACHED", [vbd])
        client.call("VBD.plug", vbd)
        assert failure(client, "VBD.plug", vbd) == ("DEVICE_ALREADY_ATTACHED", [vbd])
        code, params = failure(client, "VBD.destroy", vbd)
        assert code == "OPERATION_NOT_ALLOWED" and "still attached to" in params[0]
        client.call("VBD.unplug", vbd)
        client.call("VBD.destroy", vbd)
        halted = pool.vm_named("idle")
        other = client.call("VM.get_VBDs", halted)[0]
        assert failure(client, "VBD.plug", other) == ("VM_BAD_POWER_STATE", [halted, "running", "halted"])

    def test_one_writer_at_a_time(self, client: SimClient, guest: str, live: str) -> None:
        vbd = client.call("VBD.create", vbd_of(guest, live, mode="RO"))
        assert failure(client, "VBD.plug", vbd) == ("VDI_IN_USE", [live])

    def test_cds_are_ejected_and_inserted(self, client: SimClient, guest: str, pool: SimPool) -> None:
        drive = next(vbd for vbd in client.call("VM.get_VBDs", guest) if client.call("VBD.get_type", vbd) == "CD")
        image = client.call("VBD.get_VDI", drive)
        assert failure(client, "VBD.insert", drive, image) == ("VBD_NOT_EMPTY", [drive])
        client.call("VBD.eject", drive)
        assert failure(client, "VBD.eject", drive) == ("VBD_IS_EMPTY", [drive])
        client.call("VBD.insert", drive, image)
        assert client.call("VBD.get_empty", drive) is False


class TestVifs:
    def vif(self, pool: SimPool, vm: str, **changes: Any) -> dict[str, Any]:
        return {
            "VM": vm,
            "network": pool.model.refs("network")[0],
            "device": "4",
            "MAC": "AA:BB:CC:00:11:22",
            "MTU": 1500,
            "other_config": {},
            "qos_algorithm_type": "",
            "qos_algorithm_params": {},
            **changes,
        }

    def test_given_macs_are_kept_in_lower_case_and_empty_ones_made(self, client: SimClient, pool: SimPool) -> None:
        vm = pool.vm_named("idle")
        given = client.call("VIF.create", self.vif(pool, vm))
        assert client.call("VIF.get_MAC", given) == "aa:bb:cc:00:11:22"
        made = client.call("VIF.get_record", client.call("VIF.create", self.vif(pool, vm, device="5", MAC="")))
        assert made["MAC_autogenerated"] is True and int(made["MAC"][:2], 16) & 3 == 2
        assert failure(client, "VIF.create", self.vif(pool, vm, device="6", MAC="nonsense")) == (
            "MAC_INVALID",
            ["nonsense"],
        )
        assert failure(client, "VIF.create", self.vif(pool, vm)) == ("DEVICE_ALREADY_EXISTS", ["4"])

    def test_attached_ones_are_not_destroyed(self, client: SimClient, pool: SimPool) -> None:
        vif = client.call("VM.get_VIFs", pool.vm_named("guest"))[0]
        assert failure(client, "VIF.destroy", vif)[0] == "OPERATION_NOT_ALLOWED"
        client.call("VIF.unplug", vif)
        client.call("VIF.destroy", vif)
        assert client.call("VM.get_VIFs", pool.vm_named("guest")) == []


def test_networks_for_block_devices_exclude_each_other(client: SimClient, pool: SimPool) -> None:
    network = pool.model.refs("network")[0]
    client.call("network.add_purpose", network, "nbd")
    expected = ("NETWORK_INCOMPATIBLE_PURPOSES", ["insecure_nbd", "nbd"])
    assert failure(client, "network.add_purpose", network, "insecure_nbd") == expected
    client.call("network.remove_purpose", network, "nbd")
    assert client.call("network.get_purpose", network) == []


class TestForgotten:
    def test_a_scan_finds_what_lies_there(self, client: SimClient, idle: str, pool: SimPool) -> None:
        before = pool.disk_sha256(idle)
        uuid = client.call("VDI.get_uuid", idle)
        client.call("VDI.forget", idle)
        client.call("SR.scan", pool.default_sr)
        found = client.call("VDI.get_by_uuid", uuid)
        record = client.call("VDI.get_record", found)
        assert (record["name_label"], record["managed"], record["location"]) == ("", True, uuid)
        assert pool.disk_sha256(found) == before

    def test_it_can_be_introduced_with_a_name_and_once(self, client: SimClient, idle: str, pool: SimPool) -> None:
        uuid = client.call("VDI.get_uuid", idle)
        client.call("VDI.forget", idle)
        rest: tuple[Any, ...] = ({}, {}, True, 0, 0, "OpaqueRef:NULL", False, "19700101T00:00:00Z", "OpaqueRef:NULL")
        given = ("again", "", pool.default_sr, "user", False, False, {"key": "value"})
        found = client.call("VDI.introduce", uuid, *given, uuid, *rest)
        record = client.call("VDI.get_record", found)
        assert (record["uuid"], record["name_label"], record["other_config"]) == (uuid, "again", {"key": "value"})
        assert record["virtual_size"] == 4 << 20
        with pytest.raises(RpcFailure, match="LOCATION_NOT_UNIQUE"):
            client.call("VDI.introduce", uuid, *given, uuid, *rest)
        with pytest.raises(RpcFailure, match="VDI_MISSING"):
            client.call("VDI.introduce", uuid, *given, "elsewhere", *rest)

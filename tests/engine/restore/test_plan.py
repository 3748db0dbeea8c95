"""What a restore will create: every choice by rule or as asked, and mistakes found before anything is touched."""

from dataclasses import replace

import pytest

from xobackup.engine import keys
from xobackup.engine.errors import UsageError
from xobackup.engine.restore.plan import Site, VmRequest, plan_vm_restore
from xobackup.engine.restore.records import IMPORTING
from xobackup.repository.metadata import PointDisk, RestorePoint
from xotest.views import MIB, uid

SR_A, SR_B = "OpaqueRef:sr-a", "OpaqueRef:sr-b"
SITE = Site(
    default_sr=SR_B,
    srs={
        SR_A: {"uuid": uid("sr-a"), "name_label": "fast"},
        SR_B: {"uuid": uid("sr-b"), "name_label": "slow"},
        "OpaqueRef:sr-iso": {"uuid": uid("sr-iso"), "name_label": "images", "content_type": "iso"},
    },
    networks={
        "OpaqueRef:lan": {"uuid": uid("lan"), "name_label": "LAN", "PIFs": ["OpaqueRef:p0"]},
        "OpaqueRef:dmz": {"uuid": uid("dmz"), "name_label": "DMZ", "PIFs": ["OpaqueRef:p7"]},
        "OpaqueRef:int": {"uuid": uid("int"), "name_label": "internal", "PIFs": []},
    },
    pifs={"OpaqueRef:p0": {"VLAN": -1}, "OpaqueRef:p7": {"VLAN": 7}},
)


def point(**extras: object) -> RestorePoint:
    disks = tuple(
        PointDisk(
            vdi_ref=f"OpaqueRef:{name}",
            vdi_uuid=uid(f"snap {name}"),
            live_vdi_uuid=uid(name),
            name_label=name,
            userdevice=device,
            virtual_size=8 * MIB,
            path=f"vdis/j/{uid(name)}/20260101T000000Z.vhd",
            differencing=False,
        )
        for device, name in (("1", "data"), ("0", "root"))
    )
    config = {keys.CONTENT_KEY: "x", "keep": "me"}
    metadata = {
        "vm": {"uuid": uid("vm"), "name_label": "web", "other_config": {"mac_seed": "s", keys.JOB: "j"}},
        "vdis": {disk.vdi_ref: {"$SR$uuid": uid("sr-a"), "other_config": config} for disk in disks},
        "vbds": {"OpaqueRef:vbd": {"VDI": "OpaqueRef:root", "bootable": True, "mode": "RW"}},
        "vifs": {
            "OpaqueRef:vif": {
                "device": "0",
                "MAC": "aa:bb",
                "$network$uuid": uid("gone"),
                "$network$name_label": "LAN",
                "$network$VLAN": -1,
            }
        },
    }
    return RestorePoint(
        id="20260101T000000Z",
        vm_uuid=uid("vm"),
        vm_name="web",
        timestamp_ms=1_767_225_600_000,
        mode="delta",
        job_id="j",
        schedule_id="s",
        size=0,
        disks=disks,
        metadata={**metadata, **extras},
    )


def plan(request: VmRequest | None = None, *, of: RestorePoint | None = None, site: Site = SITE):
    return plan_vm_restore(
        of or point(), request or VmRequest(), site, remote="nas", restored_at="today", run_id="run"
    )


def test_disks_go_where_they_were_in_the_order_of_their_devices() -> None:
    found = plan()
    assert [(disk.disk.name_label, disk.sr_ref, disk.vbd["bootable"]) for disk in found.disks] == [
        ("root", SR_A, True),
        ("data", SR_A, False),
    ]
    assert found.warnings == () and found.size_bytes == 16 * MIB


def test_a_missing_sr_means_the_default_with_a_warning_or_an_error_without_one() -> None:
    only_b = Site(default_sr=SR_B, srs={SR_B: SITE.srs[SR_B]}, networks=SITE.networks, pifs=SITE.pifs)
    found = plan(site=only_b)
    assert {disk.sr_ref for disk in found.disks} == {SR_B} and len(found.warnings) == 2
    with pytest.raises(UsageError, match="no default SR"):
        plan(site=Site(default_sr="OpaqueRef:NULL", srs={SR_B: SITE.srs[SR_B]}, networks={}, pifs={}))


def test_srs_are_as_asked_by_any_name_of_the_disk() -> None:
    request = VmRequest(sr="slow", disk_srs={"root": uid("sr-a"), "1": None})
    assert [(disk.disk.name_label, disk.sr_ref) for disk in plan(request).disks] == [("root", SR_A)]
    by_uuid = VmRequest(disk_srs={uid("data"): "slow"})
    assert {disk.disk.name_label: disk.sr_ref for disk in plan(by_uuid).disks} == {"root": SR_A, "data": SR_B}


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (VmRequest(sr="nowhere"), "SR 'nowhere': no such"),
        (VmRequest(sr="images"), "disk root: SR 'images' holds ISO images"),
        (VmRequest(disk_srs={"swap": "fast"}), "disk 'swap': restore point .* has no such disk"),
        (VmRequest(networks={"5": "LAN"}), "NIC '5'"),
        (VmRequest(networks={"0": "WAN"}), "network 'WAN': no such"),
    ],
)
def test_mistakes_are_named(request_: VmRequest, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        plan(request_)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("dmz", "LAN", -1), "DMZ"),
        (("gone", "DMZ", 7), "DMZ"),
        (("gone", "internal", None), "internal"),
        (("gone", "renamed", 7), "DMZ"),
        (("gone", "renamed", -1), None),
        (("gone", "renamed", 9), None),
        (("gone", "DMZ", -1), "DMZ"),
    ],
)
def test_a_network_is_found_by_uuid_vlan_and_name(labels: tuple[str, str, int | None], expected: str | None) -> None:
    uuid, name, vlan = labels
    vif = {"device": "0", "MAC": "aa", "$network$uuid": uid(uuid), "$network$name_label": name}
    if vlan is not None:
        vif["$network$VLAN"] = vlan
    found = plan(of=point(vifs={"OpaqueRef:v": vif}))
    assert [nic.network_name for nic in found.nics] == ([expected] if expected else [])
    assert bool(found.warnings) is (expected is None)


def test_nics_are_as_asked() -> None:
    assert plan(VmRequest(networks={"aa:bb": "DMZ"})).nics[0].network_name == "DMZ"
    assert plan(VmRequest(networks={"LAN": uid("int")})).nics[0].network_name == "internal"
    left_out = plan(VmRequest(networks={"0": None}))
    assert left_out.nics == () and left_out.warnings == ()


def test_marks_of_backups_do_not_come_back_and_the_start_is_blocked_until_the_end() -> None:
    found = plan()
    assert found.vm["other_config"] == {"mac_seed": "s", keys.RUN: "run"}
    assert found.disks[0].vdi["other_config"] == {"keep": "me", keys.RUN: "run"}
    blocked = ("start", "start_on", "resume", "resume_on")
    assert found.vm["blocked_operations"] == dict.fromkeys(blocked, IMPORTING)
    assert found.vm["name_label"].startswith("[Importing…] web") and found.name == "web (20260101T000000Z)"


def test_blocks_that_others_had_set_come_back_but_not_those_of_backups_and_starts() -> None:
    blocked = {
        "start": "replica",
        "destroy": "precious",
        "pool_migrate": keys.blocked_text("j"),
        "migrate_send": "VM migration is blocked during backup",
    }
    vm = {**point().metadata["vm"], "blocked_operations": blocked}
    assert plan(of=point(vm=vm)).blocked_operations == {"destroy": "precious"}


def test_new_macs_drop_the_seed_too() -> None:
    found = plan(VmRequest(new_macs=True))
    assert found.nics[0].vif["MAC"] == "" and "mac_seed" not in found.vm["other_config"]


def test_an_incomplete_record_is_filled_with_what_a_pool_insists_on() -> None:
    assert plan().vm["VCPUs_max"] == 1 and plan().vm["HVM_boot_policy"] == "BIOS order"


def test_a_point_without_a_vm_cannot_become_one() -> None:
    with pytest.raises(UsageError, match="does not describe a VM"):
        plan(of=point(vm=None))


QCOW2 = {"type": "nfs", "supported_image_formats": ["vhd", "qcow2"]}


def huge_point() -> RestorePoint:
    of = point()
    return replace(of, disks=tuple(replace(disk, virtual_size=4 << 40) for disk in of.disks))


def typed(kind: str, pbds: dict[str, dict[str, str]] | None = None) -> Site:
    srs = {ref: {**sr, "type": kind if ref == SR_B else "ext"} for ref, sr in SITE.srs.items()}
    records = {ref: {"SR": ref, "device_config": config} for ref, config in (pbds or {}).items()}
    return replace(SITE, srs=srs, drivers={"OpaqueRef:sm": QCOW2}, pbds=records)


def test_a_disk_larger_than_a_vhd_becomes_qcow2_where_the_sr_can() -> None:
    found = plan(VmRequest(sr="slow"), of=huge_point(), site=typed("nfs"))
    assert [disk.vdi["sm_config"] for disk in found.disks] == [{"image-format": "qcow2"}] * 2
    assert [disk.vdi["sm_config"] for disk in plan(VmRequest(sr="slow"), site=typed("nfs")).disks] == [{}, {}]


@pytest.mark.parametrize(
    ("request_", "site", "hint"),
    [
        (VmRequest(sr="fast"), typed("nfs"), "in this pool: slow"),
        (VmRequest(), typed("nfs"), "in this pool: slow"),
        (VmRequest(sr="slow"), typed("lvm"), "in this pool: none"),
        (VmRequest(sr="slow"), SITE, "in this pool: none"),
        (VmRequest(sr="slow"), typed("nfs", {SR_B: {"preferred-image-formats": "vhd"}}), "in this pool: none"),
    ],
)
def test_a_disk_larger_than_a_vhd_goes_to_no_sr_that_keeps_vhds_only(request_, site: Site, hint: str) -> None:
    with pytest.raises(UsageError, match=r"4096 GiB are more .* \(2040 GiB\), and SR") as caught:
        plan(request_, of=huge_point(), site=site)
    assert hint in caught.value.hint

"""What a VM is besides its disks comes back byte for byte; VMs that have no disks are saved as well."""

from collections.abc import Callable

import pytest

from xobackup.engine.full.described import with_disks
from xobackup.engine.job import FULL
from xobackup.engine.restore.plan import VmRequest
from xobackup.engine.restore.vm import Restored, plan_restore, restore_vm
from xotest.lab import Lab, only

Make = Callable[..., Lab]


def restored(lab: Lab) -> Restored:
    world, repository = lab.world(), lab.repository()
    session = world.connect(lab.address)
    try:
        plan = plan_restore(world, session, with_disks(repository, lab.points()[-1]), VmRequest(), remote="nas")
        return restore_vm(world, session, repository, plan)
    finally:
        session.close()


@pytest.mark.parametrize("mode", ["delta", FULL])
def test_firmware_secure_boot_and_the_virtual_tpm_come_back_byte_for_byte(make_lab: Make, mode: str) -> None:
    lab = make_lab(uefi=True, vtpm=True, cd_drive=True)
    model, contents = lab.pool.model, lab.pool.toolstack.vtpm_contents
    model.update("VM", lab.vm, bios_strings={"bios-vendor": "Xen", "system-serial-number": "42", "hp-rombios": ""})
    before = model.get("VM", lab.vm)
    assert len(before["NVRAM"]["EFI-variables"]) > 20_000 and len(contents[before["VTPMs"][0]]) > 3_000
    lab.with_settings(mode=mode)
    lab.run()
    made = restored(lab)
    after = model.get("VM", made.vm_ref)
    for field in ("NVRAM", "HVM_boot_params", "HVM_boot_policy", "platform", "domain_type"):
        assert after[field] == before[field], field
    assert after["bios_strings"]["system-serial-number"] == "42"
    assert [contents[ref] for ref in after["VTPMs"]] == [contents[ref] for ref in before["VTPMs"]]
    drives = [model.get("VBD", ref) for ref in after["VBDs"] if model.get("VBD", ref)["type"] == "CD"]
    assert len(drives) == 1 and (drives[0]["empty"] or mode == FULL) and not made.warnings
    assert drives[0]["userdevice"] == "3"


def test_a_vm_without_a_cd_drive_gets_none(lab: Lab) -> None:
    lab.run()
    made = restored(lab)
    vbds = [lab.pool.model.get("VBD", ref) for ref in lab.pool.model.get("VM", made.vm_ref)["VBDs"]]
    assert [vbd["type"] for vbd in vbds] == ["Disk"]


@pytest.mark.parametrize("mode", ["delta", FULL])
def test_a_vm_without_disks_is_saved_and_comes_back(make_lab: Make, mode: str) -> None:
    lab = make_lab(disks=(), cd_drive=True, uefi=True)
    lab.with_settings(mode=mode, retention=2)
    for _ in range(3):
        assert not only(lab.run()).warnings
    assert len(lab.points()) == 2 and not lab.snapshots(), "nothing continues from its snapshot"
    lab.check()
    lab.assert_tidy()
    point = lab.points()[-1]
    assert point.disks == () and point.metadata["mode"] == mode
    if mode == "delta":
        assert point.metadata["vhds"] == {} and point.size == 0
    assert not lab.repository().verify(lab.vm_uuid).problems
    before = lab.pool.model.get("VM", lab.vm)
    after = lab.pool.model.get("VM", restored(lab).vm_ref)
    assert after["NVRAM"] == before["NVRAM"] and after["memory_static_max"] == before["memory_static_max"]
    assert len(after["VIFs"]) == len(before["VIFs"])
    lab.pool.call("VM.start", lab.pool.vm_named(after["name_label"]), False, False)


def test_a_disk_that_is_added_later_begins_with_a_full(make_lab: Make) -> None:
    lab = make_lab(disks=())
    lab.run()
    other = lab.pool.call(
        "VDI.create",
        {
            "SR": lab.pool.default_sr,
            "name_label": "new",
            "virtual_size": 4 << 20,
            "type": "user",
            "sharable": False,
            "read_only": False,
            "other_config": {},
        },
    )
    lab.pool.call(
        "VBD.create",
        {
            "VM": lab.vm,
            "VDI": other,
            "userdevice": "0",
            "bootable": True,
            "mode": "RW",
            "type": "Disk",
            "empty": False,
            "unpluggable": True,
            "other_config": {},
            "qos_algorithm_type": "",
            "qos_algorithm_params": {},
        },
    )
    vm = only(lab.run())
    assert vm.fulls == 1 and len(lab.points()) == 2
    lab.check()

from __future__ import annotations

import pytest

from xobackup.xapi.errors import OperatorProblem, ProtocolError
from xobackup.xapi.leftovers import release, vbds_of
from xobackup.xapi.session import Session
from xotest.scripted_xapi import Fail, ScriptedXapi

VDI = "OpaqueRef:vdi"


@pytest.fixture
def vbds(host: ScriptedXapi) -> dict[str, str]:
    """The disk's VBDs and the VM each is on; ``dom0`` is the control domain."""
    present = {"old": "dom0", "guest": "vm"}
    host.methods["VDI.get_VBDs"] = lambda _vdi: list(present)
    host.methods["VBD.get_VM"] = lambda ref: present[ref]
    host.methods["VM.get_is_control_domain"] = lambda vm: vm == "dom0"
    host.methods["VBD.unplug"] = lambda _ref: ""
    host.methods["VBD.destroy"] = lambda ref: present.pop(ref) and ""
    return present


def test_only_new_vbds_on_control_domains_are_removed(session: Session, vbds: dict[str, str]) -> None:
    before = vbds_of(session, VDI)
    vbds["new"] = "dom0"
    vbds["guest2"] = "vm"
    assert release(session, VDI, before=before, wait_s=0) == ["new"]
    assert set(vbds) == {"old", "guest", "guest2"}


def test_the_host_gets_time_to_do_it_itself(host: ScriptedXapi, session: Session, vbds: dict[str, str]) -> None:
    before = vbds_of(session, VDI)
    host.queue("VDI.get_VBDs", ["old", "new"], ["old"])
    vbds["new"] = "dom0"
    assert release(session, VDI, before=before, wait_s=5) == []
    assert host.called("VBD.unplug") == []


@pytest.mark.parametrize("code", ["DEVICE_ALREADY_DETACHED", "HANDLE_INVALID"])
def test_what_was_removed_meanwhile_is_fine(
    host: ScriptedXapi, session: Session, vbds: dict[str, str], code: str
) -> None:
    vbds["new"] = "dom0"
    host.queue("VBD.unplug", Fail(code, "VBD", "new"))
    removed = release(session, VDI, before=["old", "guest"], wait_s=0)
    assert removed == (["new"] if code == "DEVICE_ALREADY_DETACHED" else [])


def test_a_vbd_that_does_not_come_off_is_an_error(host: ScriptedXapi, session: Session, vbds: dict[str, str]) -> None:
    vbds["new"] = "dom0"
    host.queue("VBD.unplug", Fail("DEVICE_DETACH_REJECTED", "VBD", "new", "in use"))
    with pytest.raises(OperatorProblem):
        release(session, VDI, before=["old", "guest"], wait_s=0)
    assert "new" in vbds


def test_a_disk_that_is_gone_has_no_leftovers(host: ScriptedXapi, session: Session) -> None:
    host.queue("VDI.get_VBDs", Fail("HANDLE_INVALID", "VDI", VDI))
    assert release(session, VDI, wait_s=0) == []


def test_an_odd_answer_is_a_protocol_error(host: ScriptedXapi, session: Session) -> None:
    host.queue("VDI.get_VBDs", 5)
    with pytest.raises(ProtocolError):
        vbds_of(session, VDI)

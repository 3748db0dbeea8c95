from __future__ import annotations

from xobackup.xapi.naming import with_names
from xobackup.xapi.session import Session
from xotest.scripted_xapi import Drop, Fail, ScriptedXapi

VM = "OpaqueRef:00000000-0000-4000-8000-000000000001"
VDI = "OpaqueRef:00000000-0000-4000-8000-000000000002"


def served(host: ScriptedXapi) -> None:
    names = {"VM": {VM: "web"}, "VDI": {VDI: "data"}}

    def of(cls: str, ref: str, value: str) -> str:
        if ref not in names.get(cls, {}):
            raise Fail("HANDLE_INVALID", cls, ref)
        return value or names[cls][ref]

    for cls in ("VM", "VDI", "SR", "host", "network", "VBD", "pool"):
        host.methods[f"{cls}.get_uuid"] = lambda ref, cls=cls: of(cls, ref, f"uuid-of-{cls}")
        host.methods[f"{cls}.get_name_label"] = lambda ref, cls=cls: of(cls, ref, "")


def test_a_reference_with_its_class_becomes_a_name(host: ScriptedXapi, session: Session) -> None:
    served(host)
    told = with_names(session, f"VM.start: VM_BAD_POWER_STATE (VM {VM}, expected halted, found running)")
    assert told == "VM.start: VM_BAD_POWER_STATE (VM web (uuid-of-VM), expected halted, found running)"


def test_a_reference_without_its_class_is_looked_for(host: ScriptedXapi, session: Session) -> None:
    served(host)
    assert with_names(session, f"class VDI, object {VDI}, twice {VDI}").count("data (uuid-of-VDI)") == 2


def test_what_is_gone_stays_a_reference(host: ScriptedXapi, session: Session) -> None:
    served(host)
    gone = VM.replace("1", "9")
    assert with_names(session, f"VM {gone}") == f"VM {gone}"


def test_a_pool_that_cannot_be_asked_changes_nothing(host: ScriptedXapi, session: Session) -> None:
    host.queue("VM.get_uuid", Drop())
    assert with_names(session, f"VM {VM} and VM {VM}") == f"VM {VM} and VM {VM}"
    assert host.called("VM.get_uuid") == [[session.reference(), VM]]

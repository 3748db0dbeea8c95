from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from xobackup.xapi.errors import BadRecord, FullNeeded
from xobackup.xapi.nbd.errors import NbdNotOffered
from xobackup.xapi.nbd.target import Families, NbdMode, get_nbd_info, nbd_mode, parse_nbd_info, target_source
from xobackup.xapi.session import Session
from xobackup.xapi.vm_records import NetworkRecord
from xotest.scripted_xapi import Fail, ScriptedXapi

REF = "OpaqueRef:vdi"


def info(address: str, **changes: Any) -> dict[str, Any]:
    return {
        "exportname": "/5b1c?session_id=OpaqueRef:secret",
        "address": address,
        "port": 10809,
        "cert": "-----BEGIN CERTIFICATE-----\n",
        "subject": "host",
        **changes,
    }


def test_targets_are_typed_and_ipv4_comes_first() -> None:
    found = [info("2001:db8::1"), info("192.0.2.1"), info("192.0.2.2", port="10810"), info("192.0.2.1")]
    targets = parse_nbd_info(found, vdi=REF)
    assert [target.server for target in targets] == ["192.0.2.1:10809", "192.0.2.2:10810", "[2001:db8::1]:10809"]
    assert targets[0].export_name.startswith("/5b1c") and targets[0].subject == "host"
    assert "secret" not in repr(targets) and "BEGIN" not in repr(targets)


@pytest.mark.parametrize(
    ("families", "servers"),
    [
        (Families.ANY, ["192.0.2.1:10809", "[fe80::1%eth0]:10809"]),
        (Families.IPV4, ["192.0.2.1:10809"]),
        (Families.IPV6, ["[fe80::1%eth0]:10809"]),
    ],
)
def test_an_address_family_can_be_chosen(families: Families, servers: list[str]) -> None:
    found = parse_nbd_info([info("[fe80::1%eth0]"), info("192.0.2.1")], vdi=REF, families=families)
    assert [target.server for target in found] == servers


def test_nothing_is_no_nbd_and_no_error() -> None:
    assert parse_nbd_info([], vdi=REF) == []


@pytest.mark.parametrize(
    "found",
    [
        None,
        {},
        "x",
        [1],
        [info("")],
        [info("a", port=0)],
        [info("a", port=True)],
        [info("a", port="x")],
        [info("a", port=-1)],
        [info("a", port=70000)],
        [info("a", port="١٢")],
        [info("a", exportname="")],
        [info("a", exportname="x" * 5000)],
        [info("a", exportname=3)],
        [info("a", cert=None)],
    ],
)
def test_what_is_no_target_is_a_bad_record(found: Any) -> None:
    with pytest.raises(BadRecord):
        parse_nbd_info(found, vdi=REF)


def test_the_pool_is_asked_each_time(host: ScriptedXapi, session: Session) -> None:
    host.queue("VDI.get_nbd_info", [info("192.0.2.1")], [info("192.0.2.2")], [], [])
    source = target_source(session, REF)
    assert [source()[0].address, source()[0].address] == ["192.0.2.1", "192.0.2.2"]
    with pytest.raises(NbdNotOffered) as caught:
        source()
    assert "purpose nbd" in str(caught.value.hint)
    assert get_nbd_info(session, REF) == []


def test_metadata_has_no_servers(host: ScriptedXapi, session: Session) -> None:
    host.queue("VDI.get_nbd_info", Fail("VDI_INCOMPATIBLE_TYPE", REF, "cbt_metadata"))
    with pytest.raises(FullNeeded):
        get_nbd_info(session, REF)


@dataclass
class Net:
    purpose: tuple[str, ...]


@pytest.mark.parametrize(
    ("purposes", "mode"),
    [
        ([], NbdMode.OFF),
        ([(), ("other",)], NbdMode.OFF),
        ([(), ("nbd",)], NbdMode.TLS),
        ([("insecure_nbd",)], NbdMode.PLAIN),
        ([("insecure_nbd",), ("nbd",)], NbdMode.CONFLICT),
    ],
)
def test_the_purposes_of_the_networks_say_how_the_servers_speak(
    purposes: list[tuple[str, ...]], mode: NbdMode
) -> None:
    assert nbd_mode(cast("list[NetworkRecord]", [Net(purpose) for purpose in purposes])) == mode

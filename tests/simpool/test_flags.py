"""What the command line says about a pool, as data; and clear refusals."""

from __future__ import annotations

from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xobackup.simpool import SimPool
from xobackup.simpool.fault_rules import KINDS, parse_fault
from xobackup.simpool.flags import BadFlag, make_spec, parse_size, parse_sr, parse_vm
from xobackup.simpool.spec import GIB, MIB, PoolSpec
from xotest.simclient import RpcFailure, SimClient


def spec_of(hosts: int = 1, **given: object) -> PoolSpec:
    defaults: dict[str, object] = {"down": (), "srs": (), "vms": (), "nbd": "", "ipv6": False}
    return make_spec(hosts=hosts, **{**defaults, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "size"), [("8G", 8 * GIB), ("512m", 512 * MIB), ("4096", 4096), ("2T", 2048 * GIB)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_a_repository_with_everything() -> None:
    sr = parse_sr("fast=lvm,size=10G,used=9G,hosts=0+2,read-only")
    assert (sr.name, sr.type, sr.physical_size, sr.foreign_bytes) == ("fast", "lvm", 10 * GIB, 9 * GIB)
    assert sr.hosts == (0, 2) and sr.read_only
    assert parse_sr("plain=nfs").hosts is None and parse_sr("plain=nfs").formats == ()
    assert parse_sr("big=nfs,formats=qcow2+vhd").formats == ("qcow2", "vhd")
    assert parse_sr("nobody's=nfs,hosts=").hosts == ()


def test_a_vm_with_everything() -> None:
    vm = parse_vm("web=8M+4M,filled=6M,sr=fast,tag=prod+big,halted,cd")
    assert [(disk.size_bytes, disk.filled_bytes, disk.sr) for disk in vm.disks] == [
        (8 * MIB, 6 * MIB, "fast"),
        (4 * MIB, 4 * MIB, "fast"),
    ]
    assert (vm.tags, vm.power_state, vm.cd_drive) == (("prod", "big"), "Halted", True)


@pytest.mark.parametrize(
    ("parse", "text", "words"),
    [
        (parse_size, "8 apples", "K, M, G or T"),
        (parse_sr, "noname", "NAME=TYPE"),
        (parse_sr, "a=zfs", "found 'zfs'"),
        (parse_sr, "a=ext,colour=red", "found colour"),
        (parse_sr, "a=ext,hosts=one", "found 'one'"),
        (parse_sr, "a=ext,formats=vmdk", "formats of vhd, qcow2, found 'vmdk'"),
        (parse_sr, "a=ext,formats=", "formats of vhd, qcow2, found ''"),
        (parse_vm, "a=", "NAME=SIZE"),
        (parse_vm, "a=8M,paused", "found paused"),
        (parse_fault, "explode VM.snapshot", "found 'explode'"),
        (parse_fault, "", "found ''"),
        (parse_fault, "fail VM.snapshot", "fail METHOD CODE"),
        (parse_fault, "delay VM.snapshot soon", "delay METHOD SECONDS"),
        (parse_fault, "break export 1M gently", "error|drop|end|lie|stall|silence"),
        (parse_fault, "linger dump 3", "linger export|import|export_vm|nbd SECONDS"),
        (parse_fault, "fail 'VM.snapshot", "words as in a shell"),
    ],
)
def test_a_refusal_names_what_was_expected(parse, text: str, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadFlag) as caught:
        parse(text)
    assert repr(text) in str(caught.value) and words in str(caught.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"down": ["host-1"]}, "host-2"),
        ({"srs": ["a=ext", "a=nfs"]}, "a name of its own"),
        ({"srs": ["a=ext,hosts=2"]}, "hosts from 0 to 1"),
        ({"srs": ["a=iso"], "vms": ["v=8M"]}, "there is none"),
        ({"vms": ["v=8M,sr=elsewhere"]}, "Local storage"),
    ],
)
def test_parts_must_fit_each_other(given: dict[str, object], words: str) -> None:
    with pytest.raises(BadFlag, match=words):
        spec_of(2, **given)


@given(st.text(max_size=40))
def test_any_text_is_taken_or_refused_clearly(text: str) -> None:
    for parse in (parse_size, parse_sr, parse_vm, parse_fault):
        try:
            parse(text)
        except BadFlag as error:
            assert repr(text) in str(error) or error.what == "size"


def test_the_pool_is_what_was_asked_for(tmp_path: Path) -> None:
    spec = spec_of(
        3, down=["host-3"], srs=["shared=nfs", "two=ext,hosts=1"], vms=["a=4M,filled=1M", "b=4M,sr=two,halted"]
    )
    with SimPool.start(tmp_path, spec=spec) as pool, SimClient(pool) as client:
        records = client.call("VM.get_all_records")
        assert {"a", "b"} <= {record["name_label"] for record in records.values()}
        assert client.get("/export_raw_vdi", vdi=pool.vdis_of(pool.vm_named("b"))[0]).status == 302
        lives = [record["live"] for record in client.call("host_metrics.get_all_records").values()]
        assert sorted(lives) == [False, True, True]


def test_a_reopened_pool_has_the_hosts_it_was_made_with(tmp_path: Path) -> None:
    with SimPool.start(tmp_path, spec=spec_of(2, srs=["two=ext,hosts=1"], vms=["a=4M"])):
        pass
    with SimPool.start(tmp_path) as pool, SimClient(pool) as client:
        assert len(pool.servers) == 2
        answer = client.get("/export_raw_vdi", vdi=pool.vdis_of(pool.vm_named("a"))[0])
        location = next(line for line in answer.lines if line.startswith("Location"))
        assert pool.servers[1].address in location


RULES = {
    "fail": "fail VM.get_uuid VDI_IN_USE x destroy times=2",
    "lose": "lose VM.get_uuid",
    "delay": "delay VM.get_uuid 0.001 times=1",
    "expire": "expire VM.get_uuid",
    "break": "break export 1M end",
    "linger": "linger export 0.01",
    "vanish": "vanish Async.VM.snapshot",
    "cbt": "cbt",
    "restart": "restart VM.get_uuid",
    "master": "master VM.get_uuid host-2",
    "down": "down VM.get_uuid host-2",
    "full": "full VM.get_uuid 'Local storage' 1M",
}


def test_every_kind_of_fault_has_words() -> None:
    assert set(RULES) == set(KINDS)


@pytest.mark.parametrize("kind", ["fail", "lose", "delay", "expire", "restart", "master", "down", "full"])
def test_a_rule_happens_when_its_call_arrives(kind: str, tmp_path: Path) -> None:
    with SimPool.start(tmp_path, spec=spec_of(2)) as pool:
        parse_fault(RULES[kind]).plan(pool)
        vm = pool.vm_named("web")
        for _ in range(2):
            with suppress(RpcFailure, OSError, HTTPException), SimClient(pool) as client:
                client.call("VM.get_uuid", vm)
        assert pool.faults.unfired() == []
        if kind == "master":
            assert pool.toolstack.master == pool.host_server("host-2").host
        if kind == "down":
            assert not pool.toolstack.is_live(pool.host_server("host-2").host)
        if kind == "full":
            record = pool.model.get("SR", pool.sr_named("Local storage"))
            assert record["physical_size"] - record["physical_utilisation"] <= MIB


@pytest.mark.parametrize("kind", ["break", "linger", "vanish", "cbt"])
def test_a_rule_for_what_happens_later(kind: str, pool: SimPool, client: SimClient) -> None:
    parse_fault(RULES[kind]).plan(pool)
    vdi = pool.vdis_of(pool.vm_named("guest"))[0]
    client.call("VDI.enable_cbt", vdi)
    task = client.call("Async.VM.snapshot", pool.vm_named("guest"), "s")
    try:
        client.wait(task)
    except RpcFailure as failure:
        assert kind == "vanish" and failure.code == "HANDLE_INVALID"
    body = client.get("/export_raw_vdi", vdi=vdi, format="raw").body
    assert (len(body) < pool.model.get("VDI", vdi)["virtual_size"]) == (kind == "break")
    assert pool.faults.unfired() == []


def test_a_session_can_expire_when_a_transfer_begins(pool: SimPool, client: SimClient) -> None:
    parse_fault("expire 'GET /export_raw_vdi'").plan(pool)
    task = client.call("task.create", "export", "")
    vdi = pool.vdis_of(pool.vm_named("guest"))[0]
    assert client.get("/export_raw_vdi", vdi=vdi, task_id=task).status == 401
    assert pool.model.get("task", task)["status"] == "pending"

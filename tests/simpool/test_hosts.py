"""Pools of several hosts, and several pools: who answers, who sends elsewhere, who is down."""

from __future__ import annotations

import http.client
import ssl
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from xobackup.simpool import DiskSpec, HostSpec, PoolSpec, SimPool, SrSpec, VmSpec
from xotest.simclient import RpcFailure, SimClient

MIB = 1 << 20


@pytest.fixture
def spec() -> PoolSpec:
    disk = DiskSpec(size_bytes=4 * MIB, filled_bytes=MIB)
    return PoolSpec(
        hosts=(HostSpec(name="one"), HostSpec(name="two"), HostSpec(name="three")),
        srs=(
            SrSpec(name="everywhere", type="nfs"),
            SrSpec(name="on two", hosts=(1,)),
            SrSpec(name="nowhere", hosts=()),
        ),
        vms=(
            VmSpec(name="guest", disks=(disk,)),
            VmSpec(
                name="local",
                disks=(DiskSpec(size_bytes=4 * MIB, filled_bytes=MIB, sr="on two"),),
                power_state="Halted",
            ),
        ),
    )


def ask(pool: SimPool, name: str, method: str, *params: Any) -> Any:
    """An XML-RPC call to one host."""
    server = pool.host_server(name)
    context = ssl.create_default_context(cafile=pool.ca_pem_path)
    link = http.client.HTTPSConnection(server.where.address, server.where.port, context=context, timeout=20)
    try:
        link.request("POST", "/", xmlrpc.client.dumps(params, method))
        return xmlrpc.client.loads(link.getresponse().read())[0][0]
    finally:
        link.close()


def fetch(pool: SimPool, url: str, path: str) -> http.client.HTTPResponse:
    where = urlsplit(url)
    context = ssl.create_default_context(cafile=pool.ca_pem_path)
    link = http.client.HTTPSConnection(where.hostname or "", where.port, context=context, timeout=20)
    link.request("GET", path)
    return link.getresponse()


def test_a_member_names_its_master_whatever_it_is_asked(pool: SimPool, client: SimClient) -> None:
    expected = {"Status": "Failure", "ErrorDescription": ["HOST_IS_SLAVE", pool.server_address]}
    assert ask(pool, "two", "session.login_with_password", pool.username, pool.password) == expected
    assert ask(pool, "three", "pool.get_all", client.session) == expected
    assert "VM.start" in ask(pool, "two", "system.listMethods")


def test_every_host_has_an_address_of_its_own_in_the_records(pool: SimPool) -> None:
    addresses = [record["address"] for record in pool.model.records("host").values()]
    assert addresses == [pool.host_server(name).address for name in ("one", "two", "three")]
    assert len(set(addresses)) == 3


def test_a_transfer_is_sent_to_the_host_that_sees_the_repository(pool: SimPool, client: SimClient) -> None:
    vdi = pool.vdis_of(pool.vm_named("local"))[0]
    task = client.call("task.create", "export", "")
    answer = client.get("/export_raw_vdi", vdi=vdi, task_id=task)
    location = next(line.partition(": ")[2] for line in answer.lines if line.startswith("Location"))
    assert answer.status == 302 and urlsplit(location).netloc == pool.host_server("two").address
    assert client.call("task.get_status", task) == "pending"
    found = fetch(pool, location, location.partition(urlsplit(location).netloc)[2])
    assert found.status == 200 and found.read() == pool.disk_bytes(vdi)
    assert client.wait(task)["status"] == "success"
    dom0 = pool.toolstack.control_domain(pool.host_server("two").host)
    assert pool.model.get("VM", dom0)["is_control_domain"]


def test_the_disk_is_held_by_the_control_domain_of_the_host_that_reads(pool: SimPool, client: SimClient) -> None:
    vdi = pool.vdis_of(pool.vm_named("guest"))[0]
    snapshot = client.call("VDI.snapshot", vdi)
    pool.faults.linger("export", 5.0)
    path = f"/export_raw_vdi?vdi={snapshot}&session_id={client.session}"
    assert fetch(pool, f"https://{pool.host_server('three').address}", path).read() == pool.disk_bytes(snapshot)
    with pool.model.lock:
        holders = [pool.model.get("VBD", vbd)["VM"] for vbd in pool.model.get("VDI", snapshot)["VBDs"]]
    assert holders == [pool.toolstack.control_domain(pool.host_server("three").host)]


def test_a_repository_that_nobody_sees_is_an_error(pool: SimPool, client: SimClient) -> None:
    record = {"SR": pool.sr_named("nowhere"), "virtual_size": MIB, "type": "user", "sharable": False}
    with pytest.raises(RpcFailure, match="SR_HAS_NO_PBDS"):
        client.call("VDI.create", {**record, "read_only": False, "other_config": {}})


class TestDown:
    def test_a_member_that_is_down_refuses_and_is_not_sent_to(self, pool: SimPool, client: SimClient) -> None:
        server = pool.host_server("two")
        server.go_down()
        with pytest.raises(ConnectionRefusedError):
            ask(pool, "two", "system.listMethods")
        metrics = client.call("host.get_metrics", server.host)
        assert client.call("host_metrics.get_live", metrics) is False
        answer = client.get("/export_raw_vdi", vdi=pool.vdis_of(pool.vm_named("local"))[0])
        assert answer.status == 500
        with pytest.raises(RpcFailure, match="VM_REQUIRES_SR"):
            client.call("VM.start", pool.vm_named("local"), False, False)

    def test_it_comes_back_where_it_was(self, pool: SimPool, client: SimClient) -> None:
        server = pool.host_server("two")
        before = server.address
        server.go_down()
        server.come_back()
        assert server.address == before
        assert ask(pool, "two", "pool.get_all", client.session)["ErrorDescription"][0] == "HOST_IS_SLAVE"
        assert client.get("/export_raw_vdi", vdi=pool.vdis_of(pool.vm_named("local"))[0]).status == 302

    def test_a_host_can_be_down_from_the_start(self, tmp_path: Path) -> None:
        spec = PoolSpec(hosts=(HostSpec(name="one"), HostSpec(name="two", down=True)), vms=())
        with SimPool.start(tmp_path, spec=spec) as pool, pytest.raises(ConnectionRefusedError):
            ask(pool, "two", "system.listMethods")


def test_another_master_ends_sessions_and_answers_from_then_on(pool: SimPool, client: SimClient) -> None:
    client.call("pool.designate_new_master", pool.host_server("two").host)
    expected = ["HOST_IS_SLAVE", pool.host_server("two").address]
    assert ask(pool, "one", "pool.get_all", client.session)["ErrorDescription"] == expected
    assert ask(pool, "two", "pool.get_all", client.session)["ErrorDescription"][0] == "SESSION_INVALID"
    login = ask(pool, "two", "session.login_with_password", pool.username, pool.password)
    assert ask(pool, "two", "pool.get_master", login["Value"], pool.toolstack.pool)["Status"] == "Success"


@pytest.fixture
def second(tmp_path: Path) -> Iterator[SimPool]:
    with SimPool.start(tmp_path / "second", spec=PoolSpec(name="second", password="other", vms=()), seed=2) as pool:
        yield pool


def test_two_pools_in_one_process_know_nothing_of_each_other(
    pool: SimPool, client: SimClient, second: SimPool
) -> None:
    with SimClient(second) as other:
        with pytest.raises(RpcFailure, match="SESSION_INVALID"):
            other.raw_call("pool.get_all", client.session)
        for cls in ("VM", "VDI", "SR", "host", "pool"):
            mine, theirs = client.call(f"{cls}.get_all_records"), other.call(f"{cls}.get_all_records")
            assert not set(mine) & set(theirs)
            assert not {record["uuid"] for record in mine.values()} & {record["uuid"] for record in theirs.values()}
        source = pool.vdis_of(pool.vm_named("guest"))[0]
        body = client.get("/export_raw_vdi", vdi=client.call("VDI.snapshot", source), format="vhd").body
        disk = {"SR": second.default_sr, "virtual_size": 4 * MIB, "type": "user", "sharable": False}
        target = other.call("VDI.create", {**disk, "read_only": False, "other_config": {}})
        task = other.call("task.create", "import", "")
        other.put("/import_raw_vdi", body, vdi=target, format="vhd", task_id=task)
        assert other.wait(task)["status"] == "success"
        assert second.disk_sha256(target) == pool.disk_sha256(source)

"""The NBD server: what a host's answers, refuses, and holds meanwhile."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from xobackup.simpool import Failure, HostSpec, Options, PoolSpec, SimPool, SrSpec
from xotest.nbdclient import Closed, NbdClient
from xotest.simclient import RpcFailure, SimClient

MIB = 1 << 20
POLICY, UNSUPPORTED, INVALID, TLS_REQUIRED = (0x80000000 | number for number in (2, 1, 3, 5))


@pytest.fixture
def spec(spec: PoolSpec) -> PoolSpec:
    return replace(spec, nbd="nbd")


@pytest.fixture
def vdi(pool: SimPool) -> str:
    return pool.vdis_of(pool.vm_named("guest"))[0]


def info(client: SimClient, vdi: str) -> dict[str, Any]:
    found = client.call("VDI.get_nbd_info", vdi)
    assert len(found) == 1
    return dict(found[0])


def name_of(client: SimClient, vdi: str) -> str:
    return str(info(client, vdi)["exportname"])


@contextlib.contextmanager
def plain(pool: SimPool) -> Iterator[None]:
    network = pool.model.refs("network")[0]
    pool.call("network.remove_purpose", network, "nbd")
    pool.call("network.add_purpose", network, "insecure_nbd")
    yield


def wait_until_free(client: SimClient, vdi: str) -> None:
    """Until the control domain has let go of the disk."""
    deadline, database = time.monotonic() + 20, client.pool.model
    dom0 = client.pool.toolstack.control_domain(client.pool.toolstack.master)
    while any(True for _ in database.where("VBD", VM=dom0, VDI=vdi)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


class TestNegotiation:
    def test_the_greeting_is_fixed_newstyle_and_tls_comes_first(
        self, pool: SimPool, client: SimClient, vdi: str
    ) -> None:
        with NbdClient(pool) as nbd:
            assert nbd.greeting == b"NBDMAGICIHAVEOPT\0\3"
            nbd.flags()
            assert nbd.option(7) == TLS_REQUIRED
            assert nbd.option(3) == TLS_REQUIRED
            assert nbd.option(5, b"x") == INVALID
            nbd.start_tls()
            assert nbd.option(7) == UNSUPPORTED and nbd.option(8) == UNSUPPORTED
            assert nbd.option(3) == POLICY
            assert nbd.export(name_of(client, vdi)) == (8 * MIB, 3)

    def test_the_zeroes_are_left_out_when_both_agree(self, pool: SimPool, client: SimClient, vdi: str) -> None:
        with NbdClient(pool) as nbd:
            nbd.flags(3).start_tls()
            assert nbd.export(name_of(client, vdi), zeroes=False) == (8 * MIB, 3)
            assert nbd.read_at(0, 512) == pool.disk_bytes(vdi, 0, 512)

    def test_abort_is_acknowledged(self, pool: SimPool) -> None:
        with NbdClient(pool) as nbd:
            nbd.flags()
            assert nbd.option(2) == 1
            with pytest.raises(Closed):
                nbd.read(1)

    def test_a_name_without_tls_is_closed_without_a_word(self, pool: SimPool, client: SimClient, vdi: str) -> None:
        with NbdClient(pool) as nbd, pytest.raises(Closed):
            nbd.flags().export(name_of(client, vdi))

    @pytest.mark.parametrize("damage", ["session", "vdi", "no query", "empty", "iso"])
    def test_a_wrong_name_is_closed_without_a_word(
        self, pool: SimPool, client: SimClient, vdi: str, damage: str
    ) -> None:
        good = name_of(client, vdi)
        image = next(record["uuid"] for record in pool.model.records("VDI").values() if record["read_only"])
        wrong = {
            "session": good[:-3] + "abc",
            "vdi": "/0" + good[2:],
            "no query": good.partition("?")[0],
            "empty": "",
            "iso": f"/{image}?session_id={client.session}",
        }[damage]
        with NbdClient(pool) as nbd, pytest.raises(Closed):
            nbd.flags().start_tls().export(wrong)

    def test_junk_is_closed(self, pool: SimPool) -> None:
        with NbdClient(pool) as nbd:
            nbd.flags().sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            with pytest.raises(Closed):
                nbd.read(1)

    def test_sixteen_connections_and_no_more(self, pool: SimPool, client: SimClient, vdi: str) -> None:
        with contextlib.ExitStack() as stack:
            many = [stack.enter_context(NbdClient(pool)) for _ in range(16)]
            with pytest.raises(Closed):
                NbdClient(pool)
            many[0].close()
            deadline = time.monotonic() + 20
            while pool.nbd.connections == 16:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            with NbdClient(pool) as nbd:
                assert nbd.flags().start_tls().export(name_of(client, vdi))[0] == 8 * MIB


class TestPurposes:
    def test_insecure_is_plain_and_knows_no_tls(self, pool: SimPool, client: SimClient, vdi: str) -> None:
        with plain(pool), NbdClient(pool) as nbd:
            assert nbd.flags().option(5) == UNSUPPORTED
            assert nbd.export(name_of(client, vdi)) == (8 * MIB, 3)
            assert nbd.read_at(0, MIB) == pool.disk_bytes(vdi, 0, MIB)

    def test_no_purpose_is_no_server_and_no_error(self, pool: SimPool, client: SimClient, vdi: str) -> None:
        network = pool.model.refs("network")[0]
        client.call("network.remove_purpose", network, "nbd")
        assert client.call("VDI.get_nbd_info", vdi) == []
        with pytest.raises(Closed):
            NbdClient(pool)

    def test_both_purposes_exclude_each_other(self, pool: SimPool, client: SimClient) -> None:
        network = pool.model.refs("network")[0]
        with pytest.raises(RpcFailure) as caught:
            client.call("network.add_purpose", network, "insecure_nbd")
        assert (caught.value.code, caught.value.params) == (
            "NETWORK_INCOMPATIBLE_PURPOSES",
            ["insecure_nbd", "nbd"],
        )
        with pytest.raises(RpcFailure, match="FIELD_TYPE_ERROR"):
            client.call("network.add_purpose", network, "other")
        pool.model.update("network", network, purpose=["nbd", "insecure_nbd"])
        with pytest.raises(Closed):
            NbdClient(pool)

    def test_the_info_names_address_certificate_and_its_subject(
        self, pool: SimPool, client: SimClient, vdi: str
    ) -> None:
        found = info(client, vdi)
        uuid = pool.model.get("VDI", vdi)["uuid"]
        assert found == {
            "exportname": f"/{uuid}?session_id={client.session}",
            "address": "127.0.0.1",
            "port": pool.nbd.port,
            "cert": pool.ca_pem_path.read_text(),
            "subject": "simulated-host",
        }

    def test_only_hosts_that_have_the_repository_are_named(self, tmp_path: Path) -> None:
        spec = PoolSpec(
            hosts=(HostSpec(name="one"), HostSpec(name="two"), HostSpec(name="three")),
            srs=(SrSpec(name="shared", type="nfs", hosts=(0, 2)),),
            nbd="nbd",
        )
        with SimPool.start(tmp_path, spec=spec) as pool, SimClient(pool) as client:
            vdi = pool.vdis_of(pool.vm_named("web"))[0]
            found = client.call("VDI.get_nbd_info", vdi)
            ports = [pool.host_server(name).where.nbd_port for name in ("one", "two", "three")]
            assert [one["port"] for one in found] == [ports[0], ports[2]]
            with NbdClient(pool, ports[2]) as nbd:
                assert nbd.flags().start_tls().export(found[0]["exportname"])[0] > 0
            with NbdClient(pool, ports[1]) as nbd, pytest.raises(Closed):
                nbd.flags().start_tls().export(found[0]["exportname"])


class TestTransmission:
    @pytest.fixture
    def nbd(self, pool: SimPool, client: SimClient, vdi: str) -> Iterator[NbdClient]:
        with NbdClient(pool) as nbd:
            nbd.flags().start_tls().export(name_of(client, vdi))
            yield nbd

    def test_reads_of_any_offset_and_length(self, pool: SimPool, vdi: str, nbd: NbdClient) -> None:
        whole = pool.disk_bytes(vdi)
        for offset, length in ((0, 1), (511, 2), (0, 8 * MIB), (2 * MIB - 7, 4099), (8 * MIB - 1, 1)):
            assert nbd.read_at(offset, length) == whole[offset : offset + length]

    def test_answers_come_in_the_order_of_the_requests(self, pool: SimPool, vdi: str, nbd: NbdClient) -> None:
        sent = [nbd.send_request(0, index * 4096, 4096) for index in range(50)]
        assert [nbd.reply(4096)[0] for _ in sent] == sent

    @pytest.mark.parametrize(
        ("kind", "offset", "length", "error"),
        [(0, 8 * MIB, 512, 22), (0, 8 * MIB - 511, 512, 22), (0, 0, 0, 22), (3, 0, 0, 22), (6, 0, 512, 22)],
    )
    def test_what_cannot_be_done_is_an_error_and_no_end(
        self, nbd: NbdClient, kind: int, offset: int, length: int, error: int
    ) -> None:
        nbd.send_request(kind, offset, length)
        assert nbd.reply(0)[1] == error
        assert nbd.read_at(0, 512)

    def test_a_write_is_swallowed_and_refused(self, pool: SimPool, vdi: str, nbd: NbdClient) -> None:
        before = pool.disk_sha256(vdi)
        nbd.send_request(1, 0, 512)
        nbd.sock.sendall(b"x" * 512)
        assert nbd.reply(0)[1] == 1
        assert nbd.read_at(0, 512) and pool.disk_sha256(vdi) == before

    def test_the_control_domain_holds_the_disk_meanwhile(
        self, pool: SimPool, client: SimClient, vdi: str, nbd: NbdClient
    ) -> None:
        dom0 = pool.toolstack.control_domain(pool.toolstack.master)
        owners = [client.call("VBD.get_VM", vbd) for vbd in client.call("VDI.get_VBDs", vdi)]
        assert owners.count(dom0) == 1
        nbd.send_request(2, 0, 0)
        with pytest.raises(Closed):
            nbd.read(1)
        wait_until_free(client, vdi)

    def test_a_snapshot_being_read_cannot_be_destroyed(self, pool: SimPool, client: SimClient, vdi: str) -> None:
        snapshot = client.call("VDI.snapshot", vdi)
        with NbdClient(pool) as nbd:
            nbd.flags().start_tls().export(name_of(client, snapshot))
            with pytest.raises(RpcFailure) as caught:
                client.call("VDI.destroy", snapshot)
            assert (caught.value.code, caught.value.params) == ("VDI_IN_USE", [snapshot, "destroy"])
        wait_until_free(client, snapshot)
        client.call("VDI.destroy", snapshot)

    def test_a_disk_is_read_whole_while_the_collector_works(self, pool: SimPool, client: SimClient, vdi: str) -> None:
        first = client.call("VDI.snapshot", vdi)
        pool.write_disk(vdi, MIB, b"\x07" * 70_000)
        second = client.call("VDI.snapshot", vdi)
        expected = pool.disk_bytes(second)
        with NbdClient(pool) as nbd:
            nbd.flags().start_tls().export(name_of(client, second))
            assert nbd.read_at(0, MIB) == expected[:MIB]
            client.call("VDI.destroy", first)
            pool.gc()
            assert nbd.read_at(0, 8 * MIB) == expected


class TestFaults:
    def test_a_planned_break_drops_the_connection(self, pool: SimPool, client: SimClient, vdi: str) -> None:
        pool.faults.break_transfer("nbd", after_bytes=MIB)
        with NbdClient(pool) as nbd:
            nbd.flags().start_tls().export(name_of(client, vdi))
            assert nbd.read_at(0, MIB)
            nbd.send_request(0, MIB, 512)
            with pytest.raises(Closed):
                nbd.reply(512)
        assert pool.faults.unfired() == []

    def test_a_planned_error_is_one_failed_read(self, pool: SimPool, client: SimClient, vdi: str) -> None:
        pool.faults.break_transfer("nbd", after_bytes=0, how="error")
        with NbdClient(pool) as nbd:
            nbd.flags().start_tls().export(name_of(client, vdi))
            nbd.send_request(0, 0, 512)
            assert nbd.reply(512)[1] == 5
            assert nbd.read_at(0, 512) == pool.disk_bytes(vdi, 0, 512)

    def test_a_slow_cable_delays_answers_without_holding_them_back(
        self, pool: SimPool, client: SimClient, vdi: str
    ) -> None:
        pool.faults.slow("nbd", latency_s=0.25)
        with NbdClient(pool) as nbd:
            nbd.flags().start_tls().export(name_of(client, vdi))
            started = time.monotonic()
            for index in range(40):
                nbd.send_request(0, index * 4096, 4096)
            answers = [nbd.reply(4096)[2] for index in range(40)]
            took = time.monotonic() - started
        assert b"".join(answers) == pool.disk_bytes(vdi, 0, 40 * 4096)
        assert 0.25 <= took < 40 * 0.25

    def test_requests_and_answers_may_cross_on_one_secured_connection(
        self, pool: SimPool, client: SimClient, vdi: str
    ) -> None:
        pool.faults.slow("nbd", latency_s=0.02)
        whole, length = pool.disk_bytes(vdi), 2 * MIB
        with NbdClient(pool) as nbd:
            nbd.flags().start_tls().export(name_of(client, vdi))
            offsets = [(index * 3 % 4) * length for index in range(60)]
            sent = 0
            for answered, offset in enumerate(offsets):
                while sent < min(len(offsets), answered + 16):
                    nbd.send_request(0, offsets[sent], length)
                    sent += 1
                assert nbd.reply(length)[2] == whole[offset : offset + length]

    def test_a_narrow_cable_takes_its_time(self, pool: SimPool, client: SimClient, vdi: str) -> None:
        pool.faults.slow("nbd", bytes_per_s=4.0 * MIB)
        with NbdClient(pool) as nbd:
            nbd.flags().start_tls().export(name_of(client, vdi))
            started = time.monotonic()
            assert nbd.read_at(0, MIB) == pool.disk_bytes(vdi, 0, MIB)
            assert time.monotonic() - started >= 0.2


def test_a_closing_pool_does_not_wait_for_its_clients(tmp_path: Path, spec: PoolSpec) -> None:
    pool = SimPool.start(tmp_path, spec=spec, options=Options(nbd_connections_max=2))
    vdi = pool.vdis_of(pool.vm_named("guest"))[0]
    with SimClient(pool) as client, NbdClient(pool) as nbd:
        nbd.flags().start_tls().export(name_of(client, vdi))
        pool.close()
        with pytest.raises(Closed):
            nbd.read(1)
    with pytest.raises(Failure):
        pool.toolstack.sessions.check("none")


def test_hosts_with_ipv6_name_it_after_the_other_and_serve_there(tmp_path: Path, spec: PoolSpec) -> None:
    hosts = (HostSpec(name="one", ipv6=True), HostSpec(name="two", ipv6=True))
    shared = replace(spec, hosts=hosts, srs=(SrSpec(name="shared", type="nfs"),))
    with SimPool.start(tmp_path, spec=shared) as pool, SimClient(pool) as client:
        vdi = pool.vdis_of(pool.vm_named("guest"))[0]
        found = client.call("VDI.get_nbd_info", vdi)
        assert [one["address"] for one in found] == ["127.0.0.1", "::1"] * 2
        assert found[0]["port"] == found[1]["port"] != found[2]["port"]
        with NbdClient(pool, address="::1") as nbd:
            nbd.flags().start_tls()
            assert nbd.export(found[1]["exportname"]) == (8 * MIB, 3)
            assert nbd.read_at(0, 512) == pool.disk_bytes(vdi, 0, 512)

"""GET /export_raw_vdi: the exact stream, the order of the checks, and errors that come too late."""

from __future__ import annotations

import subprocess
import time
import uuid
from pathlib import Path

import pytest

from vhd.bat import Bat
from vhd.check import check_file
from vhd.file import VhdFile
from vhd.footer import unpack_footer
from vhd.header import unpack_header
from xobackup.simpool import DiskSpec, HostSpec, Options, PoolSpec, SimPool, SrSpec, VmSpec
from xobackup.simpool.storage.store import SrStore
from xotest.path_file import PathFile
from xotest.programs import need
from xotest.simclient import Answer, RpcFailure, SimClient

BLOCK = 2 << 20
STORED = 512 + BLOCK
FULL = b"\xff" * 512


@pytest.fixture
def live(pool: SimPool) -> str:
    return pool.vdis_of(pool.vm_named("guest"))[0]


def snapshot(pool: SimPool, vdi: str) -> str:
    return str(pool.call("VDI.snapshot", vdi))


def store_of(pool: SimPool, vdi: str) -> SrStore:
    store = pool.toolstack.store_of(vdi)
    assert store is not None
    return store


def blocks_of(body: bytes) -> dict[int, bytes]:
    header = unpack_header(body[512:1536], "stream")
    bat = Bat.unpack(body[2048:], header.table_entries)
    assert all(body[bat[i] * 512 : bat[i] * 512 + 512] == FULL for i in bat.allocated())
    return {i: body[bat[i] * 512 + 512 : bat[i] * 512 + STORED] for i in bat.allocated()}


class TestStream:
    def test_a_full_export_byte_for_byte(self, pool: SimPool, client: SimClient, live: str) -> None:
        pool.write_disk(live, 3 * BLOCK + 512, b"tail")
        vdi = snapshot(pool, live)
        body = client.get("/export_raw_vdi", vdi=vdi, format="vhd").body
        footer, header = unpack_footer(body[:512], "stream"), unpack_header(body[512:1536], "stream")
        assert body[:512] == body[-512:]
        assert (footer.creator, footer.creator_version, footer.creator_os) == (b"caml", 1, bytes(4))
        assert (footer.timestamp, footer.disk_type, footer.features, footer.hidden) == (0, 3, 2, 0)
        assert footer.current_size_bytes == footer.original_size_bytes == 4 * BLOCK
        assert (header.table_offset, header.table_entries) == (2048, 4)
        assert body[1536:2048] == bytes(512)
        blocks = blocks_of(body)
        assert len(body) == 2048 + 512 + len(blocks) * STORED + 512
        positions = [int.from_bytes(body[2048 + 4 * i : 2052 + 4 * i], "big") for i in sorted(blocks)]
        assert positions == [5 + n * STORED // 512 for n in range(len(blocks))]  # packed, ascending
        for index, data in blocks.items():
            assert data == pool.disk_bytes(vdi, index * BLOCK, BLOCK)
        assert set(blocks) >= {0, 3}
        again = client.get("/export_raw_vdi", vdi=vdi, format="vhd").body
        assert unpack_footer(again[:512], "again").uuid != footer.uuid

    def test_a_delta_has_the_blocks_written_since_and_names_the_base(
        self, pool: SimPool, client: SimClient, live: str
    ) -> None:
        base = snapshot(pool, live)
        same = pool.disk_bytes(live, 0, 1024)
        pool.write_disk(live, 0, same)  # rewritten with the same bytes: still a block of the delta
        pool.write_disk(live, 2 * BLOCK + 700, b"changed")
        newer = snapshot(pool, live)
        body = client.get("/export_raw_vdi/", vdi=newer, base=base, format="vhd").body
        footer, header = unpack_footer(body[:512], "stream"), unpack_header(body[512:1536], "stream")
        assert footer.disk_type == 4
        blocks = blocks_of(body)
        assert set(blocks) == {0, 2}
        assert all(data == pool.disk_bytes(newer, index * BLOCK, BLOCK) for index, data in blocks.items())
        store, name = store_of(pool, base), pool.model.get("VDI", base)["uuid"]
        assert header.parent_uuid == store.node(name).footer.uuid
        assert header.parent_uuid not in (uuid.UUID(name), uuid.UUID(int=0))
        sr = pool.model.get("SR", pool.default_sr)["uuid"]
        path = f"/run/sr-mount/{sr}/{name}.vhd"
        assert header.parent_name == path and header.parent_timestamp > 0
        locator = header.locators[0]
        assert (locator.code, locator.data_space, locator.data_offset) == (b"MacX", 1, 1536)
        assert locator.data_length == len("file://" + path) and not any(other.used for other in header.locators[1:])
        assert body[1536:2048] == bytes(512)  # announced and never written

    def test_an_unchanged_disk_gives_an_empty_delta(self, pool: SimPool, client: SimClient, live: str) -> None:
        base = snapshot(pool, live)
        body = client.get("/export_raw_vdi", vdi=snapshot(pool, live), base=base, format="vhd").body
        assert blocks_of(body) == {} and len(body) == 3072

    def test_an_unrelated_base_gives_everything(self, pool: SimPool, client: SimClient, live: str) -> None:
        other = pool.vdis_of(pool.vm_named("guest"))[1]
        pool.write_disk(other, 4 * BLOCK, b"elsewhere")
        body = client.get("/export_raw_vdi", vdi=snapshot(pool, live), base=snapshot(pool, other), format="vhd").body
        assert {0, 1} <= set(blocks_of(body))

    def test_zero_blocks_that_were_written_are_sent(self, pool: SimPool, client: SimClient, live: str) -> None:
        pool.write_disk(live, 3 * BLOCK, bytes(4096))
        body = client.get("/export_raw_vdi", vdi=snapshot(pool, live), format="vhd").body
        assert blocks_of(body)[3] == bytes(BLOCK)

    def test_a_delta_across_a_grown_disk(self, pool: SimPool, client: SimClient) -> None:
        idle = pool.vdis_of(pool.vm_named("idle"))[0]
        pool.write_disk(idle, 0, b"before", force=True)
        base = snapshot(pool, idle)
        pool.call("VDI.resize", idle, 10 * BLOCK)
        pool.write_disk(idle, 9 * BLOCK, b"after", force=True)
        newer = snapshot(pool, idle)
        body = client.get("/export_raw_vdi", vdi=newer, base=base, format="vhd").body
        assert set(blocks_of(body)) == {9}
        assert unpack_footer(body[:512], "s").current_size_bytes == 10 * BLOCK

    def test_raw_is_exactly_the_disk(self, pool: SimPool, client: SimClient, live: str) -> None:
        vdi = snapshot(pool, live)
        answer = client.get("/export_raw_vdi", vdi=pool.model.get("VDI", vdi)["uuid"])
        assert answer.header("content-type") == "application/octet-stream"
        assert answer.body == pool.disk_bytes(vdi)

    def test_raw_with_a_base_has_zeros_for_what_did_not_change(
        self, pool: SimPool, client: SimClient, live: str
    ) -> None:
        base = snapshot(pool, live)
        pool.write_disk(live, BLOCK, b"x")
        answer = client.get("/export_raw_vdi", vdi=snapshot(pool, live), base=base, format="raw")
        assert answer.body[:BLOCK] == bytes(BLOCK)
        assert answer.body[BLOCK : 2 * BLOCK] == pool.disk_bytes(live, BLOCK, BLOCK)

    def test_an_image_is_zeros_in_both_formats(self, pool: SimPool, client: SimClient) -> None:
        image = client.call("SR.get_VDIs", pool.sr_named("ISO library"))[0]
        assert client.get("/export_raw_vdi", vdi=image).body == bytes(4 << 20)
        assert blocks_of(client.get("/export_raw_vdi", vdi=image, format="vhd").body) == {}

    def test_qemu_reads_the_stream(self, pool: SimPool, client: SimClient, live: str, tmp_path: Path) -> None:
        program = need("qemu-img")
        vdi = snapshot(pool, live)
        stored, raw = tmp_path / "disk.vhd", tmp_path / "disk.raw"
        stored.write_bytes(client.get("/export_raw_vdi", vdi=vdi, format="vhd").body)
        source = f"driver=vpc,force_size_calc=current_size,file.filename={stored}"
        subprocess.run([program, "convert", "--image-opts", source, "-O", "raw", str(raw)], check=True)
        assert raw.read_bytes() == pool.disk_bytes(vdi)

    def test_our_reader_takes_a_full_stream_and_complains_of_nothing(
        self, pool: SimPool, client: SimClient, live: str, tmp_path: Path
    ) -> None:
        stored = tmp_path / "disk.vhd"
        stored.write_bytes(client.get("/export_raw_vdi", vdi=snapshot(pool, live), format="vhd").body)
        file = PathFile(stored)
        assert check_file(file, data=True) == []
        assert VhdFile.open(file).virtual_size_bytes == 4 * BLOCK
        file.close()


class TestChecks:
    def test_the_head_is_hand_written(self, pool: SimPool, client: SimClient, live: str) -> None:
        task = client.call("task.create", "export", "")
        vdi = snapshot(pool, live)
        answer = client.get("/export_raw_vdi/", vdi=vdi, format="VHD", task_id=task)
        assert answer.lines == [
            "HTTP/1.1 200 OK",
            "Connection: close",
            "Cache-Control: no-cache, no-store",
            f"task-id:{task}",
            "content-type:application/vhd",
            f'content-disposition: attachment; filename="{pool.model.get("VDI", vdi)["uuid"]}.vhd"',
        ]
        record = client.wait(task)
        assert (record["status"], record["progress"], record["result"]) == ("success", 1.0, "")

    def test_without_a_task_the_handler_makes_one(self, pool: SimPool, client: SimClient, live: str) -> None:
        task = client.get("/export_raw_vdi", vdi=live, format="vhd").header("task-id")
        assert task is not None and client.wait(task)["status"] == "success"

    def test_parameters_may_come_as_cookies(self, pool: SimPool, client: SimClient, live: str) -> None:
        for separator in ("; ", "&"):
            cookie = separator.join((f"session_id={client.session}", f"vdi={live}", "format=vhd"))
            assert client.exchange("GET", "/export_raw_vdi", {}, {"Cookie": cookie}).status == 200

    def test_basic_authorization(self, client: SimClient, live: str) -> None:
        good = {"Authorization": "Basic cm9vdDpzaW11bGF0ZWQ="}
        assert client.exchange("GET", "/export_raw_vdi", {"vdi": live}, good).status == 200
        bad = {"Authorization": "Basic cm9vdDpub3BlCg=="}
        assert client.exchange("GET", "/export_raw_vdi", {"vdi": live}, bad).status == 401

    @pytest.mark.parametrize("session", ["OpaqueRef:gone", None])
    def test_a_bad_session_is_401_and_leaves_the_task_pending(
        self, session: str | None, client: SimClient, live: str
    ) -> None:
        task = client.call("task.create", "export", "")
        query = {"vdi": live, "task_id": task} | ({"session_id": session} if session else {})
        answer = client.exchange("GET", "/export_raw_vdi", query, {})
        assert answer.status_line == "HTTP/1.1 401 Unauthorised"
        assert (answer.header("www-authenticate") or "").startswith("Basic realm=")
        assert client.call("task.get_status", task) == "pending"

    @pytest.mark.parametrize(
        ("vdi", "text"),
        [(None, b"Missing vdi query parameter"), ("OpaqueRef:no", b"HANDLE_INVALID"), ("no-uuid", b"UUID_INVALID")],
    )
    def test_no_such_disk_is_500_and_leaves_the_task_pending(
        self, vdi: str | None, text: bytes, client: SimClient
    ) -> None:
        task = client.call("task.create", "export", "")
        answer = client.get("/export_raw_vdi", task_id=task, **({"vdi": vdi} if vdi else {}))
        assert answer.status == 500 and text in answer.body
        assert client.call("task.get_status", task) == "pending"

    def test_an_unknown_format_is_404_and_fails_the_task(self, client: SimClient, live: str) -> None:
        task = client.call("task.create", "export", "")
        answer = client.get("/export_raw_vdi", vdi=live, format="floppy", task_id=task)
        assert answer.status_line == "HTTP/1.0 404 Not Found"
        assert client.wait(task)["error_info"] == ["INTERNAL_ERROR", "Unknown format floppy"]

    def test_a_repository_of_another_host_redirects_there(self, tmp_path: Path) -> None:
        spec = PoolSpec(
            hosts=(HostSpec(name="one"), HostSpec(name="two", address="192.0.2.2")),
            srs=(SrSpec(name="local"), SrSpec(name="remote", hosts=(1,))),
            vms=(VmSpec(name="far", disks=(DiskSpec(size_bytes=BLOCK, sr="remote"),), power_state="Halted"),),
        )
        with SimPool.start(tmp_path, spec=spec) as pool, SimClient(pool) as client:
            task = client.call("task.create", "export", "")
            vdi = pool.vdis_of(pool.vm_named("far"))[0]
            answer = client.get("/export_raw_vdi/", vdi=vdi, format="vhd", task_id=task)
            assert answer.status_line == "HTTP/1.1 302 Found" and answer.body == b""
            location = answer.header("location") or ""
            assert location.startswith("https://192.0.2.2/export_raw_vdi/?session_id=")
            assert f"task_id={task.replace(':', '%3A')}" in location
            assert client.call("task.get_status", task) == "pending"


def late_failure(client: SimClient, answer: Answer, task: str) -> list[str]:
    """The error that landed in the body of a 200; returns the task's."""
    assert answer.status == 200
    at = answer.body.index(b"HTTP/1.1 500 Internal Error\r\n")
    assert (
        b"content-type: text/html\r\nconnection: close\r\ncache-control: no-cache, no-store\r\n" in answer.body[at:]
    )
    record = client.wait(task)
    assert record["status"] == "failure"
    return list(record["error_info"])


class TestLateErrors:
    def export(self, client: SimClient, **query: str) -> tuple[Answer, str]:
        task = client.call("task.create", "export", "")
        return client.get("/export_raw_vdi", format="vhd", task_id=task, **query), task

    @pytest.mark.parametrize(("base", "code"), [("OpaqueRef:no", "HANDLE_INVALID"), ("gone", "UUID_INVALID")])
    def test_a_base_that_is_gone(self, base: str, code: str, client: SimClient, live: str) -> None:
        answer, task = self.export(client, vdi=live, base=base)
        assert answer.body.startswith(b"HTTP/1.1 500")
        assert late_failure(client, answer, task) == [code, "VDI", base]

    def test_a_base_without_data(self, pool: SimPool, client: SimClient, live: str) -> None:
        base = snapshot(pool, live)
        pool.model.update("VDI", base, type="cbt_metadata")
        answer, task = self.export(client, vdi=snapshot(pool, live), base=base)
        assert late_failure(client, answer, task) == ["VDI_INCOMPATIBLE_TYPE", base, "cbt_metadata"]

    def test_a_base_that_is_no_vhd(self, pool: SimPool, client: SimClient, live: str) -> None:
        image = client.call("SR.get_VDIs", pool.sr_named("ISO library"))[0]
        answer, task = self.export(client, vdi=live, base=image)
        code, text = late_failure(client, answer, task)
        assert code == "INTERNAL_ERROR" and "base VDI is not a vhd; cannot compute differences" in text
        answer, task = self.export(client, vdi=image, base=live)
        assert "Cannot compute differences on non-VHD images" in late_failure(client, answer, task)[1]

    def test_a_disk_too_large_for_vhd(self, pool: SimPool, client: SimClient, live: str) -> None:
        pool.model.update("VDI", live, virtual_size=(2040 << 30) + BLOCK)
        answer, task = self.export(client, vdi=live)
        assert late_failure(client, answer, task) == ["VDI_TOO_LARGE", live, "2190433320960"]

    def test_a_planned_error_inside_the_data(self, pool: SimPool, client: SimClient, live: str) -> None:
        pool.faults.break_transfer("export", after_bytes=3_000_000, how="error")
        answer, task = self.export(client, vdi=live)
        assert answer.body.index(b"HTTP/1.1 500") == 3_000_000
        assert late_failure(client, answer, task) == ["VDI_IO_ERROR", "Device I/O errors"]
        assert pool.faults.unfired() == []

    @pytest.mark.parametrize("how", ["drop", "end", "lie"])
    def test_planned_breaks(self, how: str, pool: SimPool, client: SimClient, live: str) -> None:
        pool.faults.break_transfer("export", after_bytes=1_000_000, how=how)  # type: ignore[arg-type]
        answer, task = self.export(client, vdi=live)
        assert len(answer.body) <= 1_000_000
        if how != "drop":  # a reset may swallow what was on its way
            assert len(answer.body) == 1_000_000
        assert client.wait(task)["status"] == ("success" if how == "lie" else "failure")

    def test_a_client_that_leaves_fails_the_task(self, pool: SimPool, client: SimClient) -> None:
        vdi = client.call("VDI.create", {**disk_of(pool), "virtual_size": 64 << 20})
        for offset in range(0, 64 << 20, BLOCK):
            pool.write_disk(vdi, offset, b"data", force=True)
        task = client.call("task.create", "export", "")
        with client.open_socket() as sock:
            target = f"/export_raw_vdi?vdi={vdi}&session_id={client.session}&task_id={task}"
            sock.sendall(f"GET {target} HTTP/1.1\r\n\r\n".encode())
            assert sock.recv(100)
        assert client.wait(task)["error_info"] == ["VDI_IO_ERROR", "Device I/O errors"]

    def test_cancelling_stops_the_stream(self, pool: SimPool, client: SimClient, live: str) -> None:
        task = client.call("task.create", "export", "")
        client.call("task.cancel", task)
        answer = client.get("/export_raw_vdi", vdi=live, format="vhd", task_id=task)
        assert answer.status == 200 and len(answer.body) < 2 * BLOCK
        record = client.wait(task)
        assert (record["status"], record["error_info"]) == ("cancelled", ["TASK_CANCELLED", task])


class TestControlDomain:
    def test_the_disks_are_held_for_a_moment_longer_than_the_stream(self, tmp_path: Path, spec: PoolSpec) -> None:
        with (
            SimPool.start(tmp_path, spec=spec, options=Options(dom0_linger_s=0.4)) as pool,
            SimClient(pool) as client,
        ):
            live = pool.vdis_of(pool.vm_named("guest"))[0]
            base, vdi = snapshot(pool, live), snapshot(pool, live)
            client.get("/export_raw_vdi", vdi=vdi, base=base, format="vhd")
            dom0 = pool.toolstack.control_domain(pool.toolstack.master)
            held = [client.call("VBD.get_record", vbd) for vbd in client.call("VM.get_VBDs", dom0)]
            assert {vbd["VDI"] for vbd in held} == {vdi, base}
            assert all(vbd["mode"] == "RO" and vbd["currently_attached"] for vbd in held)
            with pytest.raises(RpcFailure) as caught:
                client.call("VDI.destroy", vdi)
            assert (caught.value.code, caught.value.params) == ("VDI_IN_USE", [vdi, "destroy"])
            deadline = time.monotonic() + 10
            while client.call("VM.get_VBDs", dom0):
                assert time.monotonic() < deadline
            client.call("VDI.destroy", vdi)

    def test_a_failed_export_lets_go_too(self, pool: SimPool, client: SimClient, live: str) -> None:
        client.get("/export_raw_vdi", vdi=live, base="gone", format="vhd")
        dom0 = pool.toolstack.control_domain(pool.toolstack.master)
        deadline = time.monotonic() + 10
        while client.call("VM.get_VBDs", dom0):
            assert time.monotonic() < deadline


def disk_of(pool: SimPool) -> dict[str, object]:
    return {
        "SR": pool.default_sr,
        "virtual_size": BLOCK,
        "type": "user",
        "sharable": False,
        "read_only": False,
        "other_config": {},
    }

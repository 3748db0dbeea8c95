"""PUT /import_raw_vdi: forms that are refused, bodies that are applied, and the task that tells."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from xobackup.simpool import DiskSpec, HostSpec, PoolSpec, SimPool, SrSpec, VmSpec
from xotest.simclient import Answer, SimClient

BLOCK = 2 << 20
IO_ERROR = ["VDI_IO_ERROR", "Device I/O errors"]


@pytest.fixture
def live(pool: SimPool) -> str:
    return pool.vdis_of(pool.vm_named("guest"))[0]


@pytest.fixture
def target(pool: SimPool) -> str:
    return new_disk(pool, 8 << 20)


def new_disk(pool: SimPool, size: int) -> str:
    record = {
        "SR": pool.default_sr,
        "virtual_size": size,
        "type": "user",
        "sharable": False,
        "read_only": False,
        "other_config": {},
    }
    return str(pool.call("VDI.create", record))


def put(client: SimClient, body: bytes, vdi: str, **query: str) -> tuple[Answer, str]:
    task = client.call("task.create", "import", "")
    return client.put("/import_raw_vdi/", body, vdi=vdi, task_id=task, **query), task


def released(pool: SimPool, client: SimClient) -> None:
    """Wait until the control domain has let everything go."""
    dom0 = pool.toolstack.control_domain(pool.toolstack.master)
    deadline = time.monotonic() + 10
    while client.call("VM.get_VBDs", dom0):
        assert time.monotonic() < deadline


class TestVhd:
    def test_a_full_disk_comes_back(self, pool: SimPool, client: SimClient, live: str, target: str) -> None:
        body = client.get("/export_raw_vdi", vdi=live, format="vhd").body
        answer, task = put(client, body, target, format="vhd")
        assert answer.lines == [
            "HTTP/1.1 200 OK",
            "Connection: close",
            "Cache-Control: no-cache, no-store",
            f"task-id:{task}",
        ]
        assert answer.body == b""
        record = client.wait(task)
        assert (record["status"], record["result"]) == ("success", f"<value>{target}</value>")
        assert pool.disk_sha256(target) == pool.disk_sha256(live)

    def test_a_delta_is_applied_on_top_whatever_its_parent(
        self, pool: SimPool, client: SimClient, live: str, target: str
    ) -> None:
        base = pool.call("VDI.snapshot", live)
        pool.write_disk(live, 3 * BLOCK + 512, b"newer")
        newer = pool.call("VDI.snapshot", live)
        for query in ({"vdi": base}, {"vdi": newer, "base": base}):
            body = client.get("/export_raw_vdi", format="vhd", **query).body
            assert client.wait(put(client, body, target, format="vhd")[1])["status"] == "success"
            released(pool, client)
        assert pool.disk_sha256(target) == pool.disk_sha256(newer)

    def test_clear_sectors_leave_what_the_disk_holds(
        self, pool: SimPool, client: SimClient, live: str, target: str
    ) -> None:
        pool.write_disk(target, 0, b"\x11" * BLOCK, force=True)
        body = bytearray(client.get("/export_raw_vdi", vdi=live, format="vhd").body)
        first = int.from_bytes(body[2048:2052], "big") * 512
        body[first : first + 512] = b"\x80" + bytes(510) + b"\x01"  # the first and the last sector only
        assert client.wait(put(client, bytes(body), target, format="vhd")[1])["status"] == "success"
        block = pool.disk_bytes(target, 0, BLOCK)
        assert block[:512] == pool.disk_bytes(live, 0, 512)
        assert block[512:-512] == b"\x11" * (BLOCK - 1024)
        assert block[-512:] == pool.disk_bytes(live, BLOCK - 512, 512)

    def test_an_image_larger_than_the_disk(self, pool: SimPool, client: SimClient, live: str) -> None:
        small = new_disk(pool, BLOCK)
        body = client.get("/export_raw_vdi", vdi=live, format="vhd").body
        answer, task = put(client, body, small, format="vhd")
        assert answer.status == 200
        assert client.wait(task)["error_info"] == IO_ERROR

    @pytest.mark.parametrize("damage", ["cut", "no footer", "flipped", "garbage", "trailing"])
    def test_bad_streams_fail_in_the_task_only(
        self, damage: str, pool: SimPool, client: SimClient, live: str, target: str
    ) -> None:
        body = client.get("/export_raw_vdi", vdi=live, format="vhd").body
        bad = {
            "cut": body[:-BLOCK],
            "no footer": body[:-512],
            "flipped": body[:20] + bytes([body[20] ^ 1]) + body[21:],
            "garbage": b"garbage!" * 1000,
            "trailing": body + b"x" * 1024,
        }[damage]
        answer, task = put(client, bad, target, format="vhd")
        assert answer.status == 200
        assert client.wait(task)["error_info"] == IO_ERROR

    def test_a_length_that_promises_too_much_fails_when_the_client_stops(
        self, client: SimClient, live: str, target: str
    ) -> None:
        body = client.get("/export_raw_vdi", vdi=live, format="vhd").body
        task = client.call("task.create", "import", "")
        with client.open_socket() as sock:
            query = f"session_id={client.session}&task_id={task}&vdi={target}&format=vhd"
            head = f"PUT /import_raw_vdi/?{query} HTTP/1.1\r\nContent-Length: {1 << 50}\r\n\r\n"
            sock.sendall(head.encode())
            assert sock.recv(100).startswith(b"HTTP/1.1 200 OK")  # before a byte of the body was sent
            sock.sendall(body)
        assert client.wait(task)["error_info"] == IO_ERROR


class TestRaw:
    def test_a_raw_disk(self, pool: SimPool, client: SimClient, live: str, target: str) -> None:
        _, task = put(client, pool.disk_bytes(live), target, format="raw")
        assert client.wait(task)["status"] == "success"
        assert pool.disk_sha256(target) == pool.disk_sha256(live)

    def test_too_long(self, client: SimClient, target: str) -> None:
        assert client.wait(put(client, bytes((8 << 20) + 512), target)[1])["error_info"] == IO_ERROR

    def test_straight_into_a_repository(self, pool: SimPool, client: SimClient) -> None:
        uuid = pool.model.get("SR", pool.default_sr)["uuid"]
        answer = client.put("/import_raw_vdi", b"new" + bytes(509), sr_uuid=uuid)
        record = client.wait(answer.header("task-id") or "")
        made = record["result"].removeprefix("<value>").removesuffix("</value>")
        assert client.call("VDI.get_name_label", made) == "Imported VDI"
        assert pool.disk_bytes(made, 0, 4) == b"new\0"

    def test_private_framing(self, pool: SimPool, client: SimClient, target: str) -> None:
        def frame(offset: int, data: bytes) -> bytes:
            return offset.to_bytes(8, "little") + len(data).to_bytes(4, "little") + data

        body = frame(5 << 20, b"far") + frame(100, b"near") + bytes(12)
        assert client.wait(put(client, body, target, chunked="true")[1])["status"] == "success"
        assert pool.disk_bytes(target, 5 << 20, 3) == b"far" and pool.disk_bytes(target, 100, 4) == b"near"


class TestForms:
    @pytest.mark.parametrize(
        ("query", "headers", "status", "error"),
        [
            ({"format": "vhd"}, {"Transfer-Encoding": "chunked"}, 404, "Cannot handle encoding: chunked"),
            ({"format": "floppy"}, {}, 404, "Unknown format floppy"),
            ({"format": "vhd", "chunked": "1"}, {}, 404, "Cannot handle chunked VHD"),
        ],
    )
    def test_refused_before_the_body(
        self,
        query: dict[str, str],
        headers: dict[str, str],
        status: int,
        error: str,
        client: SimClient,
        target: str,
    ) -> None:
        task = client.call("task.create", "import", "")
        answer = client.put("/import_raw_vdi", b"0\r\n\r\n", headers, vdi=target, task_id=task, **query)
        assert (answer.status, answer.status_line[:8]) == (status, "HTTP/1.0")
        assert client.wait(task)["error_info"] == ["INTERNAL_ERROR", error]

    def test_neither_disk_nor_repository(self, client: SimClient) -> None:
        task = client.call("task.create", "import", "")
        assert client.put("/import_raw_vdi", b"x", task_id=task).status == 400
        assert client.wait(task)["error_info"] == ["VDI_MISSING"]

    def test_a_vhd_straight_into_a_repository(self, client: SimClient, pool: SimPool) -> None:
        task = client.call("task.create", "import", "")
        answer = client.put("/import_raw_vdi", b"x", task_id=task, sr_id=pool.default_sr, format="vhd")
        assert answer.status == 400
        text = "Importing a VHD directly into an SR not yet supported"
        assert client.wait(task)["error_info"] == ["INTERNAL_ERROR", text]

    def test_a_bad_session_leaves_the_task_pending(self, client: SimClient, target: str) -> None:
        task = client.call("task.create", "import", "")
        query = {"vdi": target, "task_id": task, "session_id": "OpaqueRef:no"}
        assert client.exchange("PUT", "/import_raw_vdi", query, {"Content-Length": "3"}, b"abc").status == 401
        assert client.call("task.get_status", task) == "pending"

    def test_an_unknown_disk_is_500(self, client: SimClient) -> None:
        answer = client.put("/import_raw_vdi", b"x", vdi="OpaqueRef:no")
        assert answer.status == 500 and b"HANDLE_INVALID" in answer.body

    def test_the_empty_probe_is_harmless(self, pool: SimPool, client: SimClient, live: str, target: str) -> None:
        answer = client.put("/import_raw_vdi/", b"", vdi=target, format="vhd")
        assert answer.status == 200
        assert client.call("VDI.get_VBDs", target) == []
        body = client.get("/export_raw_vdi", vdi=live, format="vhd").body
        assert client.wait(put(client, body, target, format="vhd")[1])["status"] == "success"
        assert pool.disk_sha256(target) == pool.disk_sha256(live)

    def test_the_probe_learns_of_a_redirect(self, tmp_path: Path) -> None:
        spec = PoolSpec(
            hosts=(HostSpec(name="one"), HostSpec(name="two", address="192.0.2.2")),
            srs=(SrSpec(name="local"), SrSpec(name="remote", hosts=(1,))),
            vms=(VmSpec(name="far", disks=(DiskSpec(size_bytes=BLOCK, sr="remote"),), power_state="Halted"),),
        )
        with SimPool.start(tmp_path, spec=spec) as pool, SimClient(pool) as client:
            answer = client.put("/import_raw_vdi/", b"", vdi=pool.vdis_of(pool.vm_named("far"))[0], format="vhd")
            assert answer.status == 302
            assert (answer.header("location") or "").startswith("https://192.0.2.2/import_raw_vdi/?")

    def test_a_disk_in_use_is_refused_late(self, client: SimClient, live: str) -> None:
        answer, task = put(client, b"x" * 512, live, format="raw")
        assert answer.status == 200
        assert client.wait(task)["error_info"] == ["VDI_IN_USE", live]


class TestFaults:
    @pytest.mark.parametrize("how", ["drop", "error"])
    def test_planned_breaks(self, how: str, pool: SimPool, client: SimClient, live: str, target: str) -> None:
        body = client.get("/export_raw_vdi", vdi=live, format="vhd").body
        pool.faults.break_transfer("import", after_bytes=1_000_000, how=how)  # type: ignore[arg-type]
        task = client.call("task.create", "import", "")
        try:
            client.put("/import_raw_vdi", body, vdi=target, format="vhd", task_id=task)
        except OSError:
            assert how == "drop"
        assert client.wait(task)["error_info"] == IO_ERROR
        assert pool.faults.unfired() == []

    def test_a_repository_that_fills_up(self, pool: SimPool, client: SimClient, live: str, target: str) -> None:
        body = client.get("/export_raw_vdi", vdi=live, format="vhd").body
        store = pool.toolstack.stores[pool.default_sr]
        store.physical_size = store.used_bytes + BLOCK
        assert client.wait(put(client, body, target, format="vhd")[1])["error_info"] == IO_ERROR

    def test_the_disk_is_held_a_moment_longer(self, pool: SimPool, client: SimClient, live: str, target: str) -> None:
        pool.faults.linger("import", 0.5)
        body = client.get("/export_raw_vdi", vdi=live, format="vhd").body
        client.wait(put(client, body, target, format="vhd")[1])
        held = [client.call("VBD.get_record", vbd) for vbd in client.call("VDI.get_VBDs", target)]
        assert [(vbd["mode"], vbd["currently_attached"]) for vbd in held] == [("RW", True)]
        released(pool, client)

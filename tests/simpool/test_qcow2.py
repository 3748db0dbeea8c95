"""Disks in qcow2: who may have them, how large they get, and how they travel."""

from __future__ import annotations

import base64
import random
from pathlib import Path

import pytest

from vhd.block import BLOCK_BYTES, BufferPool
from vhd.qcow2.emit import Qcow2Emitter
from vhd.stream import VhdStream
from xobackup.simpool import DiskSpec, Options, PoolSpec, SimPool, SrSpec, VmSpec
from xotest.memory_file import MemoryFile
from xotest.nbdclient import NbdClient
from xotest.qcow2_images import begun, check_image, emitted, mapped, qemu_img, raw_image, reader
from xotest.simclient import RpcFailure, SimClient
from xotest.sparse_disk import SparseDisk, letters

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
CLUSTER = 1 << 16


@pytest.fixture
def spec() -> PoolSpec:
    """A VM with a small disk and one of 4 TiB, both qcow2, on one of three repositories."""
    disks = (
        DiskSpec(name="small", size_bytes=6 * MIB + CLUSTER, filled_bytes=2 * MIB),
        DiskSpec(name="huge", size_bytes=4 * TIB, filled_bytes=2 * MIB),
    )
    return PoolSpec(
        srs=(
            SrSpec(name="qcow2", type="nfs", formats=("qcow2",)),
            SrSpec(name="either", type="nfs", formats=("vhd", "qcow2")),
            SrSpec(name="vhd", type="ext"),
            SrSpec(name="unsaid", type="nfs"),
        ),
        vms=(VmSpec(name="guest", disks=disks),),
        nbd="nbd",
    )


@pytest.fixture
def small(pool: SimPool) -> str:
    return pool.vdis_of(pool.vm_named("guest"))[0]


@pytest.fixture
def huge(pool: SimPool) -> str:
    return pool.vdis_of(pool.vm_named("guest"))[1]


def create(client: SimClient, sr: str, size: int, **config: str) -> str:
    record = {"SR": client.pool.sr_named(sr), "virtual_size": size, "type": "user", "sharable": False}
    given = {"image-format" if key == "format" else key: value for key, value in config.items()}
    record |= {"read_only": False, "other_config": {}, "name_label": "new", "sm_config": given}
    return str(client.call("VDI.create", record))


def refused(client: SimClient, *arguments: object, **config: str) -> str:
    with pytest.raises(RpcFailure) as caught:
        create(client, *arguments, **config)  # type: ignore[arg-type]
    return " ".join([caught.value.code, *caught.value.params])


def format_of(client: SimClient, vdi: str) -> str:
    return str(client.call("VDI.get_sm_config", vdi).get("image-format", ""))


class TestMaking:
    @pytest.mark.parametrize(
        ("sr", "size", "config", "found"),
        [
            ("qcow2", MIB, {}, "qcow2"),
            ("qcow2", 16 * TIB, {}, "qcow2"),
            ("either", 2040 * GIB, {}, ""),
            ("either", 2041 * GIB, {}, "qcow2"),
            ("either", MIB, {"format": "qcow2"}, "qcow2"),
            ("unsaid", MIB, {}, ""),
            ("unsaid", 3 * TIB, {"format": "qcow2"}, "qcow2"),
            ("vhd", MIB, {"format": "vhd"}, "vhd"),
        ],
    )
    def test_what_a_new_disk_becomes(
        self, client: SimClient, sr: str, size: int, config: dict[str, str], found: str
    ) -> None:
        assert format_of(client, create(client, sr, size, **config)) == found

    @pytest.mark.parametrize(
        ("sr", "size", "config", "words"),
        [
            ("vhd", 2041 * GIB, {}, "SR_BACKEND_FAILURE_79  VDI Invalid size [opterr="),
            ("unsaid", 2041 * GIB, {}, "SR_BACKEND_FAILURE_79"),
            ("vhd", MIB, {"format": "qcow2"}, "SR_BACKEND_FAILURE_78"),
            ("qcow2", MIB, {"format": "vhd"}, "SR_BACKEND_FAILURE_78"),
            ("qcow2", 16 * TIB + 1, {}, "SR_BACKEND_FAILURE_79"),
        ],
    )
    def test_what_no_disk_becomes(
        self, client: SimClient, sr: str, size: int, config: dict[str, str], words: str
    ) -> None:
        assert refused(client, sr, size, **config).startswith(words)

    def test_the_driver_and_the_pbds_say_so(self, client: SimClient) -> None:
        drivers = {one["type"]: one["supported_image_formats"] for one in client.call("SM.get_all_records").values()}
        assert (drivers["nfs"], drivers["ext"], drivers["iso"]) == (["vhd", "qcow2"], ["vhd"], [])
        sr = client.pool.sr_named("either")
        pbds = [one for one in client.call("PBD.get_all_records").values() if one["SR"] == sr]
        assert [one["device_config"]["preferred-image-formats"] for one in pbds] == ["vhd,qcow2"]

    def test_4_tib_take_no_room(self, pool: SimPool, client: SimClient, huge: str) -> None:
        node = pool.toolstack.stores[pool.default_sr].node(pool.model.get("VDI", huge)["uuid"])
        assert node.path.stat().st_blocks * 512 < 8 * MIB
        snapshot = client.call("VDI.snapshot", huge)
        paths = [pool.toolstack.stores[pool.default_sr].directory.glob("*.vhd")]
        assert sum(path.stat().st_blocks * 512 for found in paths for path in found) < 24 * MIB
        assert client.call("VDI.get_virtual_size", snapshot) == 4 * TIB

    def test_older_hosts_know_nothing_of_it(self, tmp_path: Path) -> None:
        spec = PoolSpec(
            srs=(SrSpec(name="qcow2", type="nfs", formats=("qcow2",)),), vms=(VmSpec(name="guest", disks=()),)
        )
        options = Options.of_release("8.2")
        with SimPool.start(tmp_path / "old", spec=spec, options=options) as pool, SimClient(pool) as client:
            vdi = create(client, "qcow2", MIB)
            assert format_of(client, vdi) == ""
            assert "supported_image_formats" not in next(iter(client.call("SM.get_all_records").values()))
            assert client.get("/export_raw_vdi", vdi=vdi, format="qcow2").status == 404
            assert client.put("/import_raw_vdi", b"x", vdi=vdi, format="qcow2").status == 404

    def test_a_disk_grows_past_what_a_vhd_can_be(self, pool: SimPool, client: SimClient) -> None:
        vdi = create(client, "qcow2", 2040 * GIB)
        pool.write_disk(vdi, 2039 * GIB, b"before", force=True)
        client.call("VDI.resize", vdi, 3 * TIB)
        pool.write_disk(vdi, 3 * TIB - 5, b"after", force=True)
        assert pool.disk_bytes(vdi, 2039 * GIB, 6) == b"before"
        assert pool.disk_bytes(vdi, 3 * TIB - 5, 5) == b"after"
        plain = create(client, "vhd", MIB)
        with pytest.raises(RpcFailure, match="SR_BACKEND_FAILURE_79"):
            client.call("VDI.resize", plain, 3 * TIB)

    def test_a_reopened_pool_still_has_them(self, tmp_path: Path, spec: PoolSpec) -> None:
        with SimPool.start(tmp_path / "again", spec=spec) as pool:
            huge = pool.vdis_of(pool.vm_named("guest"))[1]
            pool.write_disk(huge, 3 * TIB, b"far out")
            client_resize = pool.call("VDI.snapshot", huge)
        with SimPool.start(tmp_path / "again", spec=spec) as pool, SimClient(pool) as client:
            assert pool.disk_bytes(client_resize, 3 * TIB, 7) == b"far out"
            assert pool.disk_bytes(huge, 2 * TIB, 4) == bytes(4)
            begun(MemoryFile(client.get("/export_raw_vdi", vdi=client_resize, format="qcow2").body))


class TestExport:
    def test_qemu_finds_the_same_disk(self, tmp_path: Path, pool: SimPool, client: SimClient, small: str) -> None:
        pool.write_disk(small, 6 * MIB + 100, b"the end")
        snapshot = client.call("VDI.snapshot", small)
        pool.write_disk(small, 0, b"later")
        answer = client.get("/export_raw_vdi", vdi=snapshot, format="qcow2")
        assert answer.header("content-type") == "application/x-qemu-disk"
        (tmp_path / "a.qcow2").write_bytes(answer.body)
        check_image(tmp_path / "a.qcow2")
        assert raw_image(tmp_path / "a.qcow2") == pool.disk_bytes(snapshot)
        assert client.get("/export_raw_vdi", vdi=snapshot, format="raw").body == pool.disk_bytes(snapshot)

    def test_4_tib_are_as_long_as_what_is_there(
        self, tmp_path: Path, pool: SimPool, client: SimClient, huge: str
    ) -> None:
        pool.write_disk(huge, 4 * TIB - 3, b"end")
        snapshot = client.call("VDI.snapshot", huge)
        body = client.get("/export_raw_vdi", vdi=snapshot, format="qcow2").body
        (tmp_path / "a.qcow2").write_bytes(body)
        check_image(tmp_path / "a.qcow2")
        assert mapped(tmp_path / "a.qcow2")[-1] == (4 * TIB - CLUSTER, CLUSTER)
        assert begun(MemoryFile(body)).block_list()[-1] == 4 * TIB // BLOCK_BYTES - 1
        task = client.call("task.create", "export", "")
        client.get("/export_raw_vdi", vdi=snapshot, format="vhd", task_id=task)
        assert client.wait(task)["error_info"] == ["VDI_TOO_LARGE", snapshot, str(2040 * GIB)]

    def test_a_small_one_comes_as_a_vhd_too(self, pool: SimPool, client: SimClient, small: str) -> None:
        pool.write_disk(small, 4 * MIB, bytes(MIB))
        snapshot = client.call("VDI.snapshot", small)
        stream = VhdStream(
            reader(MemoryFile(client.get("/export_raw_vdi", vdi=snapshot, format="vhd").body)), name="s"
        )
        stream.begin()
        buffers = BufferPool(1)
        found = {}
        for block in stream.blocks(buffers):
            found[block.index] = bytes(block.buffer.data)
            buffers.release(block.buffer)
        assert stream.virtual_size_bytes == 8 * MIB and 2 not in found
        assert {index: pool.disk_bytes(snapshot, index * BLOCK_BYTES, BLOCK_BYTES) for index in found} == found

    @pytest.mark.parametrize("kind", ["vhd", "qcow2", "raw"])
    def test_differences_cannot_be_had(self, pool: SimPool, client: SimClient, small: str, kind: str) -> None:
        first, second = client.call("VDI.snapshot", small), client.call("VDI.snapshot", small)
        task = client.call("task.create", "export", "")
        client.get("/export_raw_vdi", vdi=second, base=first, format=kind, task_id=task)
        code, text = client.wait(task)["error_info"]
        assert code == "INTERNAL_ERROR" and "Cannot compute differences on non-VHD images" in text

    def test_changes_and_nbd_work_as_for_any_disk(self, pool: SimPool, client: SimClient, huge: str) -> None:
        client.call("VDI.enable_cbt", huge)
        first = client.call("VDI.snapshot", huge)
        pool.write_disk(huge, 3 * TIB, b"changed")
        second = client.call("VDI.snapshot", huge)
        changes = begun_bits(client.call("VDI.list_changed_blocks", first, second))
        assert changes == [3 * TIB // CLUSTER]
        with NbdClient(pool) as connection:
            name = client.call("VDI.get_nbd_info", second)[0]["exportname"]
            assert connection.flags().start_tls().export(name)[0] == 4 * TIB
            assert connection.read_at(3 * TIB, 7) == b"changed"


class TestImport:
    def test_what_qemu_wrote(self, tmp_path: Path, pool: SimPool, client: SimClient) -> None:
        data = random.Random(3).randbytes(3 * MIB) + bytes(2 * MIB) + b"tail" * 128
        (tmp_path / "a.raw").write_bytes(data)
        qemu_img("convert", "-f", "raw", "-O", "qcow2", tmp_path / "a.raw", tmp_path / "a.qcow2")
        vdi = create(client, "qcow2", len(data))
        assert self.put(client, vdi, (tmp_path / "a.qcow2").read_bytes()) == "success"
        assert pool.disk_bytes(vdi, 0, len(data)) == data

    @pytest.mark.parametrize("sr", ["qcow2", "vhd"])
    def test_what_we_write(self, pool: SimPool, client: SimClient, sr: str) -> None:
        vdi = create(client, sr, 8 * MIB)
        pool.write_disk(vdi, 0, b"x" * 3 * MIB, force=True)
        disk = SparseDisk(virtual_size_bytes=8 * MIB, blocks={1: letters(2, 1)})
        assert self.put(client, vdi, emitted(disk).data()) == "success"
        assert pool.disk_bytes(vdi, 0, 2 * MIB) == b"x" * 2 * MIB, "what is not in the image stays"
        assert pool.disk_bytes(vdi, 2 * MIB, 2 * MIB) == letters(2, 1).ljust(2 * MIB, b"\0")

    def test_into_4_tib(self, pool: SimPool, client: SimClient) -> None:
        vdi = create(client, "qcow2", 4 * TIB)
        last = 4 * TIB // BLOCK_BYTES - 1
        disk = SparseDisk(virtual_size_bytes=4 * TIB, blocks={0: letters(1, 0), last: letters(32, last)})
        assert self.put(client, vdi, emitted(disk).data()) == "success"
        assert pool.disk_bytes(vdi, last * BLOCK_BYTES) == letters(32, last)

    @pytest.mark.parametrize(
        ("damage", "size"),
        [(lambda body: body[:-1], MIB * 4), (lambda body: b"junk" + body[4:], MIB * 4), (lambda body: body, MIB * 2)],
        ids=["cut", "no image", "too large"],
    )
    def test_what_fails(self, client: SimClient, damage, size: int) -> None:  # type: ignore[no-untyped-def]
        body = emitted(SparseDisk(virtual_size_bytes=4 * MIB, blocks={1: b"x"})).data()
        assert self.put(client, create(client, "qcow2", size), damage(body)) == "failure"

    @staticmethod
    def put(client: SimClient, vdi: str, body: bytes) -> str:
        task = client.call("task.create", "import", "")
        client.put("/import_raw_vdi", body, vdi=vdi, format="qcow2", task_id=task)
        return str(client.wait(task)["status"])


def begun_bits(text: str) -> list[int]:
    """The numbers of the bits that are set."""
    raw = base64.b64decode(text)
    return [8 * at + bit for at, byte in enumerate(raw) if byte for bit in range(8) if byte & 0x80 >> bit]


def test_the_emitter_s_own_length_is_what_is_announced() -> None:
    disk = SparseDisk(virtual_size_bytes=4 * MIB, blocks={1: b"x"})
    assert Qcow2Emitter(disk).length_bytes == emitted(disk).size()

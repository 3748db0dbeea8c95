"""curl against the simulated pool: transfers as an operator makes them by hand, certificates checked."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from xobackup.simpool import DiskSpec, HostSpec, PoolSpec, SimPool, SrSpec, VmSpec
from xotest.programs import need
from xotest.simclient import SimClient

MIB = 1 << 20


@pytest.fixture
def spec() -> PoolSpec:
    disk = DiskSpec(size_bytes=8 * MIB, filled_bytes=3 * MIB)
    return PoolSpec(
        hosts=(HostSpec(name="one"), HostSpec(name="two")),
        srs=(SrSpec(name="shared", type="nfs"), SrSpec(name="of two", hosts=(1,))),
        vms=(
            VmSpec(name="guest", disks=(disk,), power_state="Halted"),
            VmSpec(name="far", disks=(DiskSpec(size_bytes=4 * MIB, filled_bytes=MIB, sr="of two"),)),
        ),
    )


class Curl:
    """curl with the pool's certificate as its only anchor."""

    def __init__(self, pool: SimPool, directory: Path) -> None:
        self.pool, self.directory = pool, directory

    def __call__(self, *words: str, host: str = "") -> tuple[dict[str, Any], bytes]:
        """What curl says about the transfer (``-w``) and the body; ``words`` end with path and query."""
        *options, target = words
        body = self.directory / "body"
        url = f"https://{host or self.pool.server_address}{target}"
        fixed = [
            "-sS",
            "--cacert",
            str(self.pool.ca_pem_path),
            "-o",
            str(body),
            "-w",
            "%{json}",
            "--globoff",
            "-H",
            "Expect:",
        ]
        done = subprocess.run(
            [need("curl"), *fixed, *options, url], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout), body.read_bytes() if body.exists() else b""


@pytest.fixture
def curl(pool: SimPool, tmp_path: Path) -> Iterator[Curl]:
    yield Curl(pool, tmp_path)


def login(pool: SimPool) -> str:
    return f"{pool.username}:{pool.password}"


def test_a_call_by_hand(pool: SimPool, curl: Curl) -> None:
    call = {"jsonrpc": "2.0", "method": "session.login_with_password", "params": [pool.username, pool.password]}
    told, body = curl("-H", "Content-Type: application/json", "-d", json.dumps({**call, "id": 1}), "/jsonrpc")
    assert told["http_code"] == 200 and told["content_type"] == "application/json"
    assert json.loads(body)["result"].startswith("OpaqueRef:")


def test_without_the_certificate_nothing_is_said(pool: SimPool) -> None:
    done = subprocess.run([need("curl"), "-sS", f"{pool.url}/"], capture_output=True, text=True, check=False)
    assert done.returncode == 60 and "certificate" in done.stderr


def test_a_disk_is_exported_as_a_vhd_that_qemu_reads(pool: SimPool, curl: Curl, tmp_path: Path) -> None:
    vdi = pool.vdis_of(pool.vm_named("guest"))[0]
    told, body = curl("-u", login(pool), f"/export_raw_vdi?vdi={vdi}&format=vhd")
    assert told["http_code"] == 200 and told["content_type"] == "application/vhd"
    (tmp_path / "disk.vhd").write_bytes(body)
    options = "driver=vpc,force_size_calc=current_size,file.driver=file,file.filename=disk.vhd"
    command = [need("qemu-img"), "convert", "--image-opts", options.replace("disk.vhd", str(tmp_path / "disk.vhd"))]
    subprocess.run([*command, "-O", "raw", str(tmp_path / "disk.raw")], check=True, timeout=60)
    assert (tmp_path / "disk.raw").read_bytes() == pool.disk_bytes(vdi)


def test_a_disk_is_imported_and_its_task_says_so(
    pool: SimPool, client: SimClient, curl: Curl, tmp_path: Path
) -> None:
    source = pool.vdis_of(pool.vm_named("guest"))[0]
    content = tmp_path / "content.raw"
    content.write_bytes(pool.disk_bytes(source))
    disk = {"SR": pool.default_sr, "virtual_size": 8 * MIB, "type": "user", "sharable": False, "read_only": False}
    target, task = client.call("VDI.create", {**disk, "other_config": {}}), client.call("task.create", "by hand", "")
    query = f"vdi={target}&task_id={task}&session_id={client.session}"
    told, _ = curl("-T", str(content), f"/import_raw_vdi?{query}")
    assert told["http_code"] == 200
    record = client.wait(task)
    assert record["status"] == "success" and record["result"] == f"<value>{target}</value>"
    assert pool.disk_sha256(target) == pool.disk_sha256(source)


def test_a_body_of_unknown_length_is_refused_and_its_task_fails(
    pool: SimPool, client: SimClient, curl: Curl, tmp_path: Path
) -> None:
    (tmp_path / "content").write_bytes(bytes(MIB))
    target, task = pool.vdis_of(pool.vm_named("guest"))[0], client.call("task.create", "by hand", "")
    query = f"vdi={target}&task_id={task}&session_id={client.session}"
    told, _ = curl("-T", str(tmp_path / "content"), "-H", "Transfer-Encoding: chunked", f"/import_raw_vdi?{query}")
    assert told["http_code"] == 404
    assert client.wait(task)["error_info"] == ["INTERNAL_ERROR", "Cannot handle encoding: chunked"]


def test_a_redirect_is_followed_to_the_host_that_sees_the_disk(pool: SimPool, client: SimClient, curl: Curl) -> None:
    vdi = pool.vdis_of(pool.vm_named("far"))[0]
    frozen = client.call("VDI.snapshot", vdi)
    told, _ = curl(f"/export_raw_vdi?vdi={frozen}&session_id={client.session}")
    assert told["http_code"] == 302 and told["redirect_url"].startswith(
        f"https://{pool.host_server('two').address}/export_raw_vdi?vdi="
    )
    told, body = curl("-L", f"/export_raw_vdi?vdi={frozen}&session_id={client.session}")
    assert told["http_code"] == 200 and told["num_redirects"] == 1
    assert body == pool.disk_bytes(vdi)


def test_an_upload_follows_a_redirect(pool: SimPool, client: SimClient, curl: Curl, tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.write_bytes(b"sent twice" * 100_000)
    disk = {"SR": pool.sr_named("of two"), "virtual_size": 4 * MIB, "type": "user", "sharable": False}
    target = client.call("VDI.create", {**disk, "read_only": False, "other_config": {}})
    told, _ = curl("-L", "-T", str(content), f"/import_raw_vdi?vdi={target}&session_id={client.session}")
    assert told["http_code"] == 200 and told["num_redirects"] == 1
    assert pool.disk_bytes(target, 0, 1_000_000) == content.read_bytes()


def test_metadata_has_a_length_and_is_an_archive(pool: SimPool, client: SimClient, curl: Curl) -> None:
    vm = client.call("VM.get_uuid", pool.vm_named("guest"))
    told, body = curl("-u", login(pool), f"/export_metadata?uuid={vm}")
    assert told["http_code"] == 200 and told["http_version"] == "1" and told["size_download"] == len(body)
    with tarfile.open(fileobj=BytesIO(body)) as archive:
        assert archive.getnames() == ["ova.xml"]


def test_metadata_of_nothing_is_an_error_at_once(pool: SimPool, curl: Curl) -> None:
    told, body = curl("-u", login(pool), "/export_metadata?uuid=00000000-0000-4000-8000-000000000000")
    assert told["http_code"] == 500 and b"UUID_INVALID" in body


def test_the_database_is_xml_and_its_dry_run_is_accepted(
    pool: SimPool, client: SimClient, curl: Curl, tmp_path: Path
) -> None:
    told, body = curl("-u", login(pool), "/pool/xmldbdump")
    assert told["http_code"] == 200 and not told["content_type"]
    names = [row.get("name__label") for row in ElementTree.fromstring(body).findall("./table[@name='VM']/row")]
    assert {"guest", "far"} <= set(names)
    (tmp_path / "dump").write_bytes(body)
    task = client.call("task.create", "dry run", "")
    query = f"dry_run=true&task_id={task}&session_id={client.session}"
    told, _ = curl("-T", str(tmp_path / "dump"), f"/pool/xmldbdump?{query}")
    assert told["http_code"] == 200 and client.wait(task)["status"] == "success"


def test_a_wrong_password_is_told_as_such(pool: SimPool, curl: Curl) -> None:
    told, _ = curl("-u", "root:wrong", "/pool/xmldbdump")
    assert told["http_code"] == 401

"""nbdinfo, nbdcopy and qemu-img (through libnbd) over ``nbds://``: clients that nobody here wrote."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from xobackup.simpool import PoolSpec, SimPool
from xotest.programs import need
from xotest.simclient import SimClient

MIB = 1 << 20


class Target:
    """A disk of the pool with the ways to name it."""

    def __init__(self, pool: SimPool, info: dict[str, Any], vdi: str, directory: Path) -> None:
        self.pool, self.info, self.vdi, self.directory = pool, info, vdi, directory
        directory.mkdir()
        (directory / "ca-cert.pem").write_text(info["cert"])

    @property
    def uri(self) -> str:
        name = quote(self.info["exportname"], safe="")
        return f"nbds://localhost:{self.info['port']}/{name}?tls-certificates={self.directory}"


@pytest.fixture
def target(tmp_path: Path, spec: PoolSpec) -> Iterator[Target]:
    with SimPool.start(tmp_path / "pool", spec=replace(spec, nbd="nbd")) as pool, SimClient(pool) as client:
        vdi = client.call("VDI.snapshot", pool.vdis_of(pool.vm_named("guest"))[0])
        yield Target(pool, client.call("VDI.get_nbd_info", vdi)[0], vdi, tmp_path / "tls")


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nbdinfo_describes_the_export(target: Target) -> None:
    found = json.loads(run(need("nbdinfo"), "--json", target.uri))
    export = found["exports"][0]
    assert found["protocol"] == "newstyle-fixed" and found["TLS"] is True
    assert export["export-size"] == 8 * MIB and export["is_read_only"] is True
    assert export["export-name"] == target.info["exportname"]


def test_nbdcopy_reads_every_byte(target: Target, tmp_path: Path) -> None:
    run(need("nbdcopy"), target.uri, str(tmp_path / "disk.raw"))
    assert (tmp_path / "disk.raw").read_bytes() == target.pool.disk_bytes(target.vdi)


def test_a_certificate_that_is_not_the_given_one_is_refused(target: Target) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "simulated-host")])
    start, end = datetime(2020, 1, 1, tzinfo=UTC), datetime(2049, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(other.public_key())
    made = builder.serial_number(1).not_valid_before(start).not_valid_after(end).sign(other, hashes.SHA256())
    (target.directory / "ca-cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    done = subprocess.run([need("nbdinfo"), target.uri], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0 and "handshake" in done.stderr.lower()


def qemu(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([need("qemu-img"), *words], capture_output=True, text=True, timeout=120, check=False)


def test_qemu_itself_gives_up_at_a_refused_list_as_with_a_real_host(target: Target) -> None:
    """It asks for a list when it may not choose an export by GO, which hosts do not know, and a list is refused."""
    image = f"driver=nbd,host=localhost,port={target.info['port']},export={target.info['exportname']},tls-creds=tls"
    secret = f"tls-creds-x509,id=tls,endpoint=client,dir={target.directory}"
    found = qemu("info", "--object", secret, "--image-opts", image)
    assert found.returncode != 0 and "Denied by server for option 3 (list)" in found.stderr


def test_qemu_reads_every_byte_through_libnbd(target: Target, tmp_path: Path) -> None:
    """As with a real host: nbdkit opens the export by its name, qemu-img speaks to nbdkit."""
    copied = tmp_path / "disk.raw"
    command = f'{need("qemu-img")} convert -f raw -O raw "$uri" {copied}'
    where = ("hostname=localhost", f"port={target.info['port']}", f"export={target.info['exportname']}")
    secured = ("tls=require", f"tls-certificates={target.directory}")
    run(need("nbdkit"), "-U", "-", "--readonly", "nbd", *where, *secured, "--run", command)
    assert copied.read_bytes() == target.pool.disk_bytes(target.vdi)

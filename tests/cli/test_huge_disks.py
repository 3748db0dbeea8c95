"""A disk of 4 TiB from the command line: what is told, what is refused, and what comes back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from xobackup.simpool import DiskSpec, PoolSpec, SrSpec, VmSpec
from xotest.qcow2_images import check_image, mapped
from xotest.site import MIB, PASSWORD, Site, site_at

TIB = 1 << 40
SPEC = PoolSpec(
    password=PASSWORD,
    srs=(SrSpec(name="big", type="nfs", formats=("qcow2",)), SrSpec(name="plain")),
    vms=(
        VmSpec(
            name="archive",
            disks=(DiskSpec(name="archive", size_bytes=4 * TIB, filled_bytes=2 * MIB),),
            tags=("prod",),
        ),
    ),
    nbd="nbd",
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_at(tmp_path_factory.mktemp("huge"), SPEC) as made:
        made.write("archive", 0, b"far out", 3 * TIB)
        yield made


def test_without_nbd_plan_and_run_refuse_it_alike(site: Site) -> None:
    site.configure('nbd = "off"')
    words = "disk archive: not nbd-full: the job says nbd = off; not stream-full: a disk of 4096 GiB is larger than"
    (plan,) = site.xobackup("plan", "--json").of("plan")
    assert plan["vms"][0]["refusal"].startswith(words)
    assert words in site.xobackup("run", code=1).err
    assert not site.pool.model.get("VM", site.pool.vm_named("archive"))["snapshots"]
    site.configure()


def test_there_and_back(site: Site) -> None:
    assert "full" in site.xobackup("plan").out
    site.xobackup("run")
    site.write("archive", 0, b"again", 2 * TIB)
    told = site.xobackup("run").out
    assert "cbt-nbd" in told and "not " not in told, "nothing better was there to be told of"
    assert "4.0 TiB" in site.xobackup("backups", "show", "archive", "--remote", "nas").out
    assert "no damage" in site.xobackup("verify", "--remote", "nas").out
    path = site.directory / "disk.qcow2"
    site.xobackup("restore", "disk", "archive", "-r", "nas", "-d", "0", "-o", path)
    check_image(path)
    assert {2 * TIB, 3 * TIB} <= {start for start, _ in mapped(path)}
    common = ("restore", "vm", "archive", "-r", "nas", "-p", "sim", "--new-macs")
    refused = site.xobackup(*common, "--sr", "plain", code=2)
    assert (
        "SR plain takes no qcow2 disks" in refused.err
        and "hint: name an SR that does; in this pool: big" in refused.err
    )
    (restored,) = site.xobackup(*common, "--json").of("restored")
    (vdi,) = site.pool.vdis_of(site.pool.call("VM.get_by_uuid", restored["vm"]))
    assert site.pool.disk_bytes(vdi, 3 * TIB, 7) == b"far out"
    assert site.pool.disk_bytes(vdi, 2 * TIB, 5) == b"again"
    too_large = site.xobackup(
        "restore", "disk", "archive", "-r", "nas", "-d", "0", "-o", path.with_suffix(".vhd"), code=2
    )
    assert "do not fit into a VHD, which holds 2040 GiB at most" in too_large.err

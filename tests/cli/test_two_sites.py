"""A mirror between two sites that reach each other by a relay only: from the command line, with real processes."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
import sqlalchemy as sa

from xobackup.workers import schema
from xobackup.workers.opening import open_board
from xotest.bad_line import BadLine
from xotest.site import Site, finish
from xotest.two_sites import JOB, LYON, PARIS, TwoSites, free_port

KEY = "k" * 32


@pytest.fixture
def sites(shared: Site, tmp_path: Path) -> TwoSites:
    """Lyon has backups, Paris an empty directory."""
    lyon, paris = tmp_path / "lyon", tmp_path / "paris"
    shutil.copytree(shared.repository, lyon)
    paris.mkdir()
    made = TwoSites(directory=tmp_path, lyon=lyon, paris=paris)
    made.configure()
    return made


def encrypt(sites: TwoSites, shared: Site) -> None:
    """Lyon's repository is one of which only Lyon has the key."""
    shutil.rmtree(sites.lyon)
    sites.lyon.mkdir()
    sites.key = KEY
    sites.configure()
    sites.xobackup("mirror", shared.repository, "nas-lyon", at=LYON)


def assert_copied(sites: TwoSites, shared: Site) -> None:
    """Every disk of every VM reads back from Paris as it is, byte by byte."""
    sites.xobackup("verify", "--remote", "nas-paris", at=PARIS)
    for vm, disks in (("web", 2), ("db", 1)):
        points = sites.xobackup("backups", "show", vm, "-r", "nas-paris", "--json", at=PARIS).of("restore-point")
        assert len(points) == 2
        for disk in range(disks):
            raw = sites.directory / f"{vm}-{disk}.raw"
            sites.xobackup("restore", "disk", vm, "-r", "nas-paris", "-d", str(disk), "-o", raw, at=PARIS)
            assert hashlib.sha256(raw.read_bytes()).hexdigest() == shared.disk_sha256(vm, disk)


def test_each_site_does_what_it_reaches_and_one_story_is_told(sites: TwoSites, shared: Site) -> None:
    encrypt(sites, shared)
    told = sites.xobackup("plan", "copies").out
    assert (
        "no worker lives that reaches nas-paris, and no worker with a relay lives that reaches nas-lyon"
        in " ".join(told.split())
    )
    for site in (PARIS, LYON):
        sites.worker(site)
    way = "site paris is nearest to nas-paris; nas-lyon through the relay at lyon"
    plan = sites.xobackup("plan", "copies")
    assert way in " ".join(plan.out.split()) and "nas-lyon is not reached from here" in " ".join(plan.out.split())
    report = sites.xobackup("run", "copies", "--json").of("report")[0]
    assert report["outcome"] == "ok" and {vm["name"] for vm in report["vms"]} == {"web", "db"}
    assert all(vm["points"]["nas-paris"] and vm["mode"] == "mirror" and vm["deltas"] for vm in report["vms"])
    journal = sites.journal()
    assert {one["site"] for one in journal if one["kind"] == "taken-by-worker" and one["vm"]} == {PARIS}
    assert {one["site"] for one in journal if one["kind"] == "taken-by-worker" and not one["vm"]} == {LYON}
    assert [one["reason"] for one in journal if one["kind"] == "handed-out" and one["vm"]] == [way] * 2
    assert sum(one["kind"] == "point-published" for one in journal) == 4, {one["kind"] for one in journal}
    assert "copies" in sites.xobackup("history", "list").out
    shown = " ".join(sites.xobackup("workers").out.split())
    assert sites.relay_of(LYON) and "relay at" in shown
    again = sites.xobackup("run", "copies", "--json").of("report")[0]
    assert again["outcome"] == "ok" and not any(vm["read_bytes"] for vm in again["vms"])
    sites.drain()
    assert_copied(sites, shared)


def test_where_one_site_reaches_both_there_is_no_relay(sites: TwoSites, shared: Site) -> None:
    text = sites.config(PARIS).read_text()
    both = text.replace('sites = ["lyon"]', 'sites = ["lyon", "paris"]')
    both = re.sub(r'url = "file://[^"]*/not/reached/lyon"', f'url = "file://{sites.lyon}"', both)
    sites.config(PARIS).write_text(both)
    control = sites.config("control")
    control.write_text(control.read_text().replace('sites = ["lyon"]', 'sites = ["lyon", "paris"]'))
    sites.worker(PARIS)
    assert "through" not in sites.xobackup("plan", "copies").out
    assert sites.xobackup("run", "copies", "--json").of("report")[0]["outcome"] == "ok"
    sites.drain()
    assert_copied(sites, shared)


def test_narrowed_filtered_and_with_retention_of_its_own(sites: TwoSites) -> None:
    sites.job = JOB + "retention = 1\nverify = true\n"
    sites.configure()
    for site in (PARIS, LYON):
        sites.worker(site)
    report = sites.xobackup("run", "copies", "--vm", "web", "--json").of("report")[0]
    assert [vm["name"] for vm in report["vms"]] == ["web"]
    points = sites.xobackup("backups", "show", "web", "-r", "nas-paris", "--json", at=PARIS).of("restore-point")
    assert len(points) == 1
    gone = sites.xobackup("run", "copies", "--vm", "nobody", "--json", code=1).of("report")[0]
    assert gone["problems"] == ["remote nas-lyon: no VM there is called nobody"]
    sites.drain()


def test_damage_at_the_source_is_found_on_the_way_and_told(sites: TwoSites, shared: Site) -> None:
    path = max(
        sites.lyon.glob(f"xo-vm-backups/{shared.uuid('db')}/vdis/*/*/*.vhd"), key=lambda one: one.stat().st_size
    )
    raw = bytearray(path.read_bytes())
    raw[-100_000] ^= 1
    path.write_bytes(raw)
    for site in (PARIS, LYON):
        sites.worker(site)
    report = sites.xobackup("run", "copies", "--json", code=3).of("report")[0]
    assert {vm["name"]: vm["outcome"] for vm in report["vms"]} == {"web": "ok", "db": "failed"}
    examined = [one for one in sites.journal() if one["kind"] == "examined"]
    assert examined and examined[0]["remote"] == "nas-lyon"
    sites.drain()


def behind(sites: TwoSites, line: BadLine) -> None:
    """Lyon's relay is reached through the line."""
    sites.relays[LYON] = f'address = "{line.address}"'


def test_a_line_that_is_cut_and_slow(sites: TwoSites, shared: Site) -> None:
    with BadLine("127.0.0.1", 1, bytes_s=8e6) as line:
        behind(sites, line)
        sites.configure()
        text = sites.config(LYON).read_text()
        port = free_port()
        sites.config(LYON).write_text(text.replace('listen = "127.0.0.1:0"', f'listen = "127.0.0.1:{port}"'))
        line.lead_to("127.0.0.1", port)
        for site in (PARIS, LYON):
            sites.worker(site)
        line.cut_every(3_000_000)
        report = sites.xobackup("run", "copies", "--json").of("report")[0]
        assert report["outcome"] == "ok" and line.cuts >= 3, line.cuts
        sites.drain()
    assert_copied(sites, shared)


def test_a_relay_is_killed_in_the_middle_and_another_one_takes_over(sites: TwoSites, shared: Site) -> None:
    ports = [free_port(), free_port()]
    with BadLine("127.0.0.1", ports[0], bytes_s=4e6) as line:
        behind(sites, line)
        sites.configure()
        plain = sites.config(LYON).read_text().replace('"127.0.0.1:0"', f'"127.0.0.1:{ports[0]}"')
        sites.config(LYON).write_text(plain)
        sites.worker(PARIS)
        first = sites.worker(LYON)
        run = sites.start("run", "copies", "--json")
        line.wait_passed(600_000)
        os.kill(first.pid, signal.SIGKILL)
        first.communicate()
        sites.processes.remove(first)
        sites.config(LYON).write_text(
            plain.replace(str(ports[0]), str(ports[1])).replace(line.address, f"127.0.0.1:{ports[1]}")
        )
        sites.worker(LYON)
        done = finish(run, timeout_s=120)
        assert done.of("report")[0]["outcome"] == "ok", done
        sites.drain()
    assert_copied(sites, shared)


def pass_a_minute(sites: TwoSites, pid: int) -> None:
    """For the lease and the locks of the dead."""
    board = open_board(f"sqlite:///{sites.directory}/engine.db")
    with board.writing() as connection:
        old = sa.update(schema.workers).where(schema.workers.c.pid == pid)
        connection.execute(old.values(seen=schema.workers.c.seen - 60))
    board.close()
    for lock in (sites.paris / "xo-vm-backups").glob("*.lock"):
        past = lock.stat().st_mtime - 60
        os.utime(lock, (past, past))


def test_a_worker_is_killed_in_the_middle_and_another_one_takes_over(sites: TwoSites, shared: Site) -> None:
    port = free_port()
    with BadLine("127.0.0.1", port, bytes_s=4e6) as line:
        behind(sites, line)
        sites.configure()
        text = sites.config(LYON).read_text()
        sites.config(LYON).write_text(text.replace('listen = "127.0.0.1:0"', f'listen = "127.0.0.1:{port}"'))
        for site in (LYON, PARIS):
            sites.worker(site)
        run = sites.start("run", "copies", "--json")
        line.wait_passed(2_000_000)
        dead = sites.processes.pop()
        os.kill(dead.pid, signal.SIGKILL)
        dead.communicate()
        pass_a_minute(sites, dead.pid)
        sites.worker(PARIS)
        done = finish(run, timeout_s=120)
        assert done.of("report")[0]["outcome"] == "ok", done
        kinds = [one["kind"] for one in sites.journal()]
        assert "worker-lost" in kinds
        sites.drain()
    assert_copied(sites, shared)


def test_a_relay_wants_a_site(sites: TwoSites) -> None:
    sites.config(LYON).write_text(sites.config(LYON).read_text().replace('site = "lyon"\n', ""))
    assert "of which site it is" in sites.xobackup("worker", at=LYON, code=2).err


@pytest.mark.parametrize(("lines", "told"), [
    ('listen = "8483"', "expected host:port"),
    ('listen = "0.0.0.0:99999"', "expected host:port"),
    ('listen = "0.0.0.0:1"\naddress = "lyon"', "expected host:port"),
    ('listen = "0.0.0.0:1"\nremotes = ["nowhere"]', "there is no remote 'nowhere'"),
    ('address = "lyon:1"', "listen"),
])  # fmt: skip
def test_a_relay_that_cannot_be_is_refused(sites: TwoSites, lines: str, told: str) -> None:
    text = sites.config(LYON).read_text()
    begin, end = text.index("[engine.relay]"), text.index("[remotes")
    sites.config(LYON).write_text(f"{text[:begin]}[engine.relay]\n{lines}\n{text[end:]}")
    assert told in sites.xobackup("config", "check", at=LYON, code=2).err

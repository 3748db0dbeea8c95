"""What the kernel says is mounted, read as it says it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotes.errors import NotSupported, RemoteError, Unavailable
from remotes.mounts import Mount, SystemMounter, mount_of, mounted_at, mounts, parse_mountinfo
from xotest.mounts import tmpfs

MOUNTINFO = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:27 / /mnt rw shared:9 master:3 - tmpfs none rw
41 30 0:41 / /mnt/nas rw,relatime - nfs4 10.0.0.5:/export/my\040backups rw,vers=4.2,soft
42 30 0:42 / /mnt/with\040space\011tab rw - cifs //nas/share rw
43 41 0:43 / /mnt/nas rw - xfs /dev/sdb1 rw
broken
44 22 0:44
"""


def test_points_sources_and_kinds_are_read_with_their_escapes() -> None:
    found = {mount.point: mount for mount in parse_mountinfo(MOUNTINFO)}
    assert list(found) == ["/", "/mnt", "/mnt/nas", "/mnt/with space\ttab"]
    assert found["/mnt/with space\ttab"] == Mount(point="/mnt/with space\ttab", source="//nas/share", kind="cifs")
    assert found["/mnt/with space\ttab"].network and not found["/"].network


def test_a_path_lies_on_the_deepest_mount_above_it_and_of_two_at_one_point_on_the_last() -> None:
    found = parse_mountinfo(MOUNTINFO)
    assert mount_of("/mnt/nas/backups/x", found) == Mount(point="/mnt/nas", source="/dev/sdb1", kind="xfs")
    assert mount_of("/mnt/nassau", found) == Mount(point="/mnt", source="none", kind="tmpfs")
    assert mount_of("/srv", found) == Mount(point="/", source="/dev/sda1", kind="ext4")
    assert mounted_at("/mnt/nas/backups", found) is None and mounted_at("/mnt", found) is not None
    assert mount_of("/srv", []) is None and mounted_at("/", []) is None


def test_another_machines_file_system_is_known_without_asking_it() -> None:
    found = parse_mountinfo(MOUNTINFO.replace("43 41", "broken"))
    mount = mount_of("/mnt/nas/link/../x", found)
    assert mount is not None and mount.source == "10.0.0.5:/export/my backups" and mount.network


def test_a_link_to_a_mount_leads_there(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/proc")
    mount = mounted_at(tmp_path / "link")
    assert mount is not None and mount.kind == "proc"


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    parse_mountinfo(text)


def test_a_real_mount_is_seen_and_gone_again() -> None:
    with tmpfs(1 << 20) as point:
        found = mounted_at(point)
        assert found is not None and found.kind == "tmpfs" and found in mounts()
    assert mounted_at(point) is None


@pytest.mark.parametrize(
    ("mount", "error", "told"),
    [
        (Mount(point="/nonexistent", source="none", kind="tmpfs"), Unavailable, "mount failed: .*nonexistent"),
        (
            Mount(point="/mnt", source="none", kind="no-such-kind"),
            Unavailable,
            "mount failed: mount: /mnt: ",
        ),
    ],
)
def test_what_mount_says_is_told(mount: Mount, error: type[RemoteError], told: str) -> None:
    with pytest.raises(error, match=told):
        SystemMounter().mount(mount, "", shown="nfs://nas:/a")
    with pytest.raises(Unavailable, match=r"umount failed: .*nonexistent"):
        SystemMounter().unmount("/nonexistent", shown="nfs://nas:/a")


def test_a_program_that_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remotes.mounts._search_path", lambda: "/nonexistent")
    with pytest.raises(NotSupported, match=r"mount\.nfs is not installed .*nfs-common"):
        SystemMounter().mount(Mount(point="/mnt", source="nas:/a", kind="nfs4"), "", shown="nfs://nas:/a")
    with pytest.raises(NotSupported, match="umount: no such file"):
        SystemMounter().unmount("/mnt", shown="nfs://nas:/a")


def test_a_mount_that_never_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "umount"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr("remotes.mounts._search_path", lambda: f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(Unavailable, match=r"umount did not end within 0\.2 s: the server does not answer"):
        SystemMounter(timeout_s=0.2).unmount("/mnt", shown="nfs://nas:/a")

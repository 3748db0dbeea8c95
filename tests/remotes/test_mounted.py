"""A mount of our own: shared, unmounted by the last, found again after a crash, never mistaken. By real mounts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from remotes.errors import RemoteError, Unavailable
from remotes.mounted import MountedRemote, mounts_directory, point_name
from remotes.mounts import Mount, SystemMounter, mounted_at
from xotest.mounts import loop


@pytest.fixture
def image(tmp_path: Path) -> str:
    """An ext4 in a file: what NFS exports are elsewhere. The kernel says a loop device where a server would stand."""
    with loop(16 << 20) as made:
        made.unmount()
        device = subprocess.run(["losetup", "-f", "--show", made.image], capture_output=True, text=True, check=True)
        source = device.stdout.strip()
        try:
            yield source
        finally:
            subprocess.run(["losetup", "-d", source], check=True)
            made.mount()


def mounted(source: str, directory: Path, *, options: str = "") -> MountedRemote:
    return MountedRemote(source=source, kind="ext4", options=options, shown="nfs://nas:/a", directory=directory)


def point_of(source: str, directory: Path, *, options: str = "") -> Path:
    return directory / point_name(source, options)


def test_it_is_mounted_used_and_unmounted(image: str, tmp_path: Path) -> None:
    remote = mounted(image, tmp_path / "mounts")
    point = point_of(image, tmp_path / "mounts")
    assert mounted_at(point) is not None and remote.path == point and remote.url == "nfs://nas:/a"
    remote.put("a/b", b"data")
    remote.close()
    assert mounted_at(point) is None and list(point.iterdir()) == []
    remote.close()
    again = mounted(image, tmp_path / "mounts")
    assert again.get("a/b") == b"data"
    again.close()


def test_the_last_one_unmounts(image: str, tmp_path: Path) -> None:
    one, two = mounted(image, tmp_path / "mounts"), mounted(image, tmp_path / "mounts")
    one.close()
    two.put("name", b"data")
    assert mounted_at(two.path) is not None
    two.close()
    assert mounted_at(two.path) is None


def test_a_mount_that_a_killed_process_left_is_used_and_unmounted(image: str, tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from remotes.mounted import MountedRemote;"
        "MountedRemote(source=sys.argv[1], kind='ext4', options='', shown='x', directory=Path(sys.argv[2]));"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    died = subprocess.run([sys.executable, "-c", code, image, str(tmp_path / "mounts")], check=False)
    assert died.returncode == -9 and mounted_at(point_of(image, tmp_path / "mounts")) is not None
    remote = mounted(image, tmp_path / "mounts")
    remote.put("name", b"data")
    remote.close()
    assert mounted_at(remote.path) is None


def test_something_else_at_the_mount_point_is_refused_and_left_alone(image: str, tmp_path: Path) -> None:
    point = point_of(image, tmp_path / "mounts")
    point.mkdir(parents=True)
    SystemMounter().mount(Mount(point=str(point), source="none", kind="tmpfs"), "size=1m", shown="x")
    try:
        with pytest.raises(Unavailable, match=rf"expected {image} at .*, found none \(tmpfs\)"):
            mounted(image, tmp_path / "mounts")
        found = mounted_at(point)
        assert found is not None and found.kind == "tmpfs"
    finally:
        SystemMounter().unmount(str(point), shown="x")


def test_a_mount_that_is_lost_meanwhile_never_writes_into_the_directory_below(image: str, tmp_path: Path) -> None:
    remote = mounted(image, tmp_path / "mounts")
    subprocess.run(["umount", "-l", remote.path], check=True)
    remote.put("name", b"data")  # the open root still is the lost file system
    assert list(remote.path.iterdir()) == []
    remote.close()
    again = mounted(image, tmp_path / "mounts")
    assert again.get("name") == b"data"
    again.close()


def test_what_cannot_be_mounted_leaves_nothing_held(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    for _ in range(2):
        with pytest.raises(Unavailable, match="mount failed"):
            mounted("/dev/nonexistent", tmp_path / "mounts")
    assert mounted_at(point_of("/dev/nonexistent", tmp_path / "mounts")) is None


def test_a_mount_point_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RemoteError, match=r"cannot make the mount point .*: not a directory"):
        mounted("nas:/a", tmp_path / "file" / "mounts")


def test_names_of_points_tell_a_person_and_never_meet() -> None:
    assert point_name("nas.lan:/export/../a b", "ro").startswith("nas.lan-export-..-a-b-")
    assert len({point_name("nas:/a", "x"), point_name("nas:/a", "y"), point_name("nas:/b", "x")}) == 3
    assert "/" not in point_name("[::1]:/" + "x/" * 500, "") and len(point_name("[::1]:/" + "x/" * 500, "")) < 100


def test_where_mount_points_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert mounts_directory() == Path("/run/user/1000/xobackup/mounts")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert mounts_directory() == Path("/run/xobackup/mounts")
    monkeypatch.setenv("XOBACKUP_MOUNTS", "/elsewhere")
    assert mounts_directory() == Path("/elsewhere")

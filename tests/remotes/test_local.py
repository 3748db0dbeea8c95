"""What is particular to a directory of this machine: the system's errors, links, modes, a root that goes away."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from remotes import errors, posix
from remotes.contract import Kind
from remotes.local import LocalRemote
from xotest.mounts import loop, tmpfs

PIECE = bytes(range(256)) * 256  # 64 KiB


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[LocalRemote]:
    made = LocalRemote(tmp_path)
    yield made
    made.close()


def names_in(path: Path) -> list[str]:
    return sorted(os.listdir(path))


def test_a_missing_root_is_refused_and_made_only_when_asked(tmp_path: Path) -> None:
    with pytest.raises(errors.Unavailable, match="does not exist") as caught:
        LocalRemote(tmp_path / "a/b")
    assert not caught.value.transient
    assert names_in(tmp_path) == []
    made = LocalRemote(tmp_path / "a/b", create_root=True)
    made.put("x", b"1")
    assert (tmp_path / "a/b/x").read_bytes() == b"1"
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o700
    made.close()


def test_a_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(errors.NotADirectory):
        LocalRemote(tmp_path / "file")


def test_a_deleted_root_is_not_an_empty_remote(tmp_path: Path) -> None:
    root = tmp_path / "root"
    remote = LocalRemote(root, create_root=True)
    remote.put("vm/point.json", b"{}")
    shutil.rmtree(root)
    for action in (
        lambda: remote.list("vm"),
        lambda: remote.get("vm/point.json"),
        lambda: remote.put("vm/x", b""),
        lambda: remote.make_directory("vm"),
        lambda: remote.delete("vm", missing_ok=True),
        lambda: remote.delete_tree("vm"),
        lambda: remote.create("a"),
    ):
        with pytest.raises(errors.Unavailable, match="was deleted"):
            action()
    assert not root.exists()
    with contextlib.suppress(errors.Unavailable):
        assert remote.list("") == []
    remote.close()


def test_an_unmounted_root_is_not_the_empty_directory_below() -> None:
    with loop(16 << 20) as mounted:
        remote = LocalRemote(mounted.path)
        remote.put("object", b"kept")
        subprocess.run(["umount", "-l", mounted.path], check=True)
        assert remote.get("object") == b"kept"
        remote.put("other", b"kept too")
        assert names_in(mounted.path) == []
        remote.close()
        mounted.mount()
        assert (mounted.path / "other").read_bytes() == b"kept too"


def test_a_closed_remote_says_so(tmp_path: Path) -> None:
    remote = LocalRemote(tmp_path)
    remote.close()
    remote.close()
    with pytest.raises(errors.Unavailable, match="closed"):
        remote.list("")
    with pytest.raises(errors.Unavailable, match="closed"):
        remote.put("a", b"")


def test_a_full_file_system_is_no_space_and_keeps_the_old_content() -> None:
    with tmpfs(1 << 20) as path:
        remote = LocalRemote(path)
        remote.put("object", b"old")
        with pytest.raises(errors.NoSpace) as caught:
            remote.put("object", PIECE * 32)
        assert caught.value.name == "object"
        assert not caught.value.transient
        assert remote.get("object") == b"old"
        assert names_in(path) == ["object"], "the temporary file was left"
        usage = remote.usage()
        assert usage
        assert usage.free_bytes > 900_000
        with contextlib.closing(remote.create("file")) as file, pytest.raises(errors.NoSpace):
            for index in range(32):
                file.write_at(index * len(PIECE), PIECE)
        remote.close()


def test_a_full_disk_is_no_space_at_the_latest_in_sync() -> None:
    with loop(16 << 20) as mounted:
        remote = LocalRemote(mounted.path)
        with contextlib.closing(remote.create("file")) as file, pytest.raises(errors.NoSpace):
            for index in range(512):
                file.write_at(index * len(PIECE), PIECE)
                file.written(index * len(PIECE), len(PIECE))
            file.sync()
        remote.delete("file")
        remote.put("object", b"fits again")
        remote.close()


def test_a_file_system_without_inodes_is_no_space() -> None:
    with tmpfs(1 << 20, options="nr_inodes=4") as path:
        remote = LocalRemote(path)
        with pytest.raises(errors.NoSpace):
            for number in range(10):
                remote.make_directory(f"directory {number}")
        remote.close()


def test_a_read_only_file_system_is_read_only() -> None:
    with tmpfs(1 << 20) as path:
        (path / "directory").mkdir()
        (path / "object").write_bytes(b"old")
        subprocess.run(["mount", "-o", "remount,ro", path], check=True)
        remote = LocalRemote(path)
        for action in (
            lambda: remote.put("object", b"new"),
            lambda: remote.put("new/object", b"new"),
            lambda: remote.create("file"),
            lambda: remote.update("object"),
            lambda: remote.delete("object"),
            lambda: remote.rename("object", "other"),
            lambda: remote.make_directory("other"),
            lambda: remote.delete_tree("directory"),
            lambda: remote.touch("object"),
        ):
            with pytest.raises(errors.ReadOnly):
                action()
        remote.make_directory("directory")
        assert remote.get("object") == b"old"
        remote.close()


def test_a_dead_disk_is_unavailable_and_never_empty() -> None:
    with loop(16 << 20) as mounted:
        remote = LocalRemote(mounted.path)
        remote.put("directory/object", b"content")
        file = remote.update("directory/object")
        mounted.die()
        for action in (
            lambda: remote.put("directory/object", b"new"),
            lambda: remote.delete_tree("directory"),
            lambda: file.write_at(0, PIECE),
            file.sync,
        ):
            with pytest.raises(errors.Unavailable) as caught:
                action()
            assert not caught.value.transient
        with contextlib.suppress(errors.Unavailable):  # what the kernel still remembers may be listed
            assert [entry.name for entry in remote.list("directory")] == ["object"]
        file.close()
        remote.close()


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Without root's right to do everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_refusing_file_system_is_access_denied(remote: LocalRemote) -> None:
    remote.path.chmod(0o555)
    (remote.path / "closed").mkdir(mode=0o000)
    (remote.path / "secret").write_bytes(b"kept")
    (remote.path / "secret").chmod(0o000)
    remote.path.chmod(0o555)
    with nobody():
        for action in (
            lambda: remote.put("object", b""),
            lambda: remote.put("closed/object", b""),
            lambda: remote.list("closed"),
            lambda: remote.get("secret"),
            lambda: remote.update("secret"),
            lambda: remote.delete("secret"),
            lambda: remote.delete_tree("closed"),
            lambda: remote.make_directory("other"),
        ):
            with pytest.raises(errors.AccessDenied):
                action()
    remote.path.chmod(0o755)
    (remote.path / "closed").chmod(0o700)
    assert names_in(remote.path) == ["closed", "secret"]


@pytest.mark.parametrize(
    ("code", "wanted", "transient"),
    [
        (errno.ENOSPC, errors.NoSpace, False),
        (errno.EDQUOT, errors.NoSpace, False),
        (errno.EROFS, errors.ReadOnly, False),
        (errno.EACCES, errors.AccessDenied, False),
        (errno.EPERM, errors.AccessDenied, False),
        (errno.EIO, errors.Unavailable, False),
        (errno.ESTALE, errors.Unavailable, True),
        (errno.ETIMEDOUT, errors.Unavailable, True),
        (errno.EHOSTDOWN, errors.Unavailable, True),
        (errno.ENAMETOOLONG, errors.InvalidName, False),
        (errno.EFBIG, errors.NotSupported, False),
        (errno.EXDEV, errors.Unavailable, False),
    ],
)
def test_an_error_of_the_system_becomes_the_remotes(code: int, wanted: type, transient: bool) -> None:
    found = posix.translate(OSError(code, os.strerror(code)), "file:///r", "a/b")
    assert type(found) is wanted
    assert found.transient is transient
    assert (found.remote, found.name) == ("file:///r", "a/b")
    assert "a/b" in str(found)


def test_root_that_is_denied_hears_of_squashing(monkeypatch: pytest.MonkeyPatch) -> None:
    for user, hinted in ((0, True), (1000, False)):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        found = posix.translate(OSError(errno.EACCES, "denied"), "file:///r", "a")
        assert isinstance(found, errors.AccessDenied) and ("root_squash" in str(found.hint)) is hinted


def test_nothing_is_deleted_through_a_link(remote: LocalRemote, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "precious").write_bytes(b"kept")
    (remote.path / "tree/deep").mkdir(parents=True)
    (remote.path / "tree/deep/link").symlink_to(outside)
    (remote.path / "link").symlink_to(outside)
    remote.delete_tree("tree")
    for action in (
        lambda: remote.delete_tree("link"),
        lambda: remote.delete("link/precious"),
        lambda: remote.remove_directory("link/below"),
        lambda: remote.delete_tree("link/below"),
    ):
        with pytest.raises(errors.Unavailable, match="link"):
            action()
    assert names_in(outside) == ["precious"]
    assert names_in(remote.path) == ["link"]
    remote.delete("link")
    assert names_in(outside) == ["precious"]


def test_links_are_read_through(remote: LocalRemote, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "object").write_bytes(b"content")
    (remote.path / "vm").symlink_to(outside)
    (remote.path / "dangling").symlink_to("nowhere")
    assert remote.get("vm/object") == b"content"
    remote.put("vm/other", b"other")
    assert (outside / "other").read_bytes() == b"other"
    kinds = {entry.name: entry.kind for entry in remote.list("")}
    assert kinds == {"vm": Kind.DIRECTORY, "dangling": Kind.FILE}
    with pytest.raises(errors.NotFound):
        remote.get("dangling")


def test_what_is_no_file_is_never_waited_for(remote: LocalRemote) -> None:
    os.mkfifo(remote.path / "pipe")
    for action in (remote.get, remote.update):
        with pytest.raises(errors.NotSupported, match="regular file"):
            action("pipe")
    assert [entry.name for entry in remote.list("")] == ["pipe"]


def test_what_nfs_leaves_of_open_deleted_files_is_not_listed(remote: LocalRemote) -> None:
    for base in (".nfs000000000a3b5c7d00000001", ".nfsroot", ".hidden"):
        (remote.path / base).write_bytes(b"")
    assert [entry.name for entry in remote.list("")] == [".hidden", ".nfsroot"]


def test_a_listing_that_fails_in_the_middle_raises(remote: LocalRemote, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        remote.put(f"x/{number}", b"")
    genuine = os.scandir

    @contextlib.contextmanager
    def failing(descriptor: int) -> Iterator[Iterator[os.DirEntry[str]]]:
        def some() -> Iterator[os.DirEntry[str]]:
            with genuine(descriptor) as entries:
                yield next(entries)
                yield next(entries)
            raise OSError(errno.ESTALE, "stale file handle")

        yield some()

    monkeypatch.setattr(os, "scandir", failing)
    with pytest.raises(errors.Unavailable) as caught:
        remote.list("x")
    assert caught.value.transient
    with pytest.raises(errors.Unavailable):
        remote.delete_tree("x")
    monkeypatch.undo()
    assert len(remote.list("x")) == 3, "a failed listing deletes nothing"


def test_modes_are_those_asked_for(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        default = LocalRemote(tmp_path / "a", create_root=True)
        default.put("directory/object", b"")
        assert (tmp_path / "a/directory").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "a/directory/object").stat().st_mode & 0o777 == 0o644
        shared = LocalRemote(tmp_path / "b", create_root=True, directory_mode=0o750, file_mode=0o640)
        shared.put("directory/object", b"")
        shared.create("directory/file").close()
        assert (tmp_path / "b/directory").stat().st_mode & 0o777 == 0o750
        assert (tmp_path / "b/directory/object").stat().st_mode & 0o777 == 0o640
        assert (tmp_path / "b/directory/file").stat().st_mode & 0o777 == 0o640
        default.close()
        shared.close()
    finally:
        os.umask(before)


def refuse(code: int) -> Callable[..., None]:
    def refused(*_args: object, **_kwargs: object) -> None:
        raise OSError(code, os.strerror(code))

    return refused


@pytest.mark.parametrize("without", [["renameat2"], ["renameat2", "link"]], ids=["NFS", "neither"])
def test_a_file_system_without_an_exclusive_rename_is_worked_around(
    remote: LocalRemote, monkeypatch: pytest.MonkeyPatch, without: list[str]
) -> None:
    monkeypatch.setattr(posix, "_renameat2", refuse(errno.EINVAL))
    if "link" in without:
        monkeypatch.setattr(os, "link", refuse(errno.EOPNOTSUPP))
    remote.put("object", b"1", replace=False)
    with pytest.raises(errors.AlreadyExists):
        remote.put("object", b"2", replace=False)
    remote.make_directory("directory/sub")
    remote.rename("directory", "moved")
    remote.rename("object", "moved/object")
    remote.make_directory("other")
    for old, new in (("moved", "other"), ("moved/object", "other")):
        with pytest.raises(errors.AlreadyExists):
            remote.rename(old, new)
    assert remote.get("moved/object") == b"1"
    assert names_in(remote.path) == ["moved", "other"]
    assert names_in(remote.path / "moved") == ["object", "sub"]


def test_a_short_write_is_noticed(remote: LocalRemote, monkeypatch: pytest.MonkeyPatch) -> None:
    remote.put("object", b"old")
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: len(data))
    with pytest.raises(errors.Unavailable, match="expected 3 bytes written, found 0"):
        remote.put("object", b"new")
    monkeypatch.undo()
    assert remote.get("object") == b"old"
    assert names_in(remote.path) == ["object"]


def test_a_tree_too_deep_to_be_ours_is_not_deleted(remote: LocalRemote) -> None:
    (remote.path / "/".join(["d"] * 299)).mkdir(parents=True)
    (remote.path / "/".join(["d"] * 300)).write_bytes(b"")
    with pytest.raises(errors.Unavailable, match="deeper"):
        remote.delete_tree("d")
    assert remote.get("/".join(["d"] * 300)) == b""
    shutil.rmtree(remote.path / "d")

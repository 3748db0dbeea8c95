"""Backups of our own: whole or not there, the newest kept, every byte proven, nothing placed elsewhere."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotes.contract import Remote
from remotes.memory import MemoryRemote
from xobackup.clock import FakeClock
from xobackup.own import publishing
from xobackup.own.errors import Damaged, NothingThere, OwnError
from xobackup.own.fetching import fetch
from xobackup.own.keeping import doomed, expire
from xobackup.own.layout import directory, manifest_name, part_name, stamp_of
from xobackup.own.listing import Found, choose, look, machines, read_manifest
from xobackup.own.manifest import Manifest, Piece, pack, unpack
from xobackup.own.packing import Member, state_members, write_archive
from xobackup.own.placing import place
from xobackup.own.publishing import publish
from xotest.sweep import sweep

DAY = 86_400.0
NOW = 1_790_000_000.0


def manifest(now_s: float, machine: str = "vault") -> Manifest:
    return Manifest(machine=machine, stamp=stamp_of(now_s), program="1", secrets=False, pieces=())


def test_a_power_cut_costs_no_backup_and_leaves_none_that_is_not_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "PIECE_BYTES", 400)
    archive = tmp_path / "archive"
    archive.write_bytes(random.Random(7).randbytes(1000))
    prepared = MemoryRemote(clock=FakeClock())
    for day in range(2):
        publish(prepared, archive, manifest(NOW + day * DAY))
    later = itertools.count(2)

    def run(remote: Remote) -> None:
        now_s = NOW + next(later) * DAY
        publish(remote, archive, manifest(now_s))
        expire(remote, "vault", keep=2, now_s=now_s)

    def check(remote: Remote) -> None:
        found = look(remote, "vault").complete
        assert len(found) >= 2, "the last good ones are never the price of the next one"
        for stamp in found[-2:]:
            fetch(remote, read_manifest(remote, "vault", stamp), tmp_path / "back")
            assert (tmp_path / "back").read_bytes() == archive.read_bytes()

    def finished(remote: Remote) -> None:
        found = look(remote, "vault")
        assert len(found.complete) == 2 and set(found.complete) <= set(found.parts)

    assert sweep(prepared.snapshot, run, check, finished) > 8


def test_what_goes_and_what_stays() -> None:
    stamps = [stamp_of(NOW + day * DAY) for day in range(5)]
    parts = {stamp: (part_name(stamp, 0),) for stamp in stamps}
    found = Found(complete=tuple(stamps[:4]), parts=parts)
    now_s = NOW + 4 * DAY
    gone = doomed(found, keep=3, now_s=now_s)
    assert gone == [manifest_name(stamps[0]), part_name(stamps[0], 0)], (
        "a manifest first; the unfinished one is young"
    )
    unfinished = Found(complete=(stamps[0], stamps[3]), parts=parts)
    assert doomed(unfinished, keep=9, now_s=now_s) == [part_name(stamps[1], 0), part_name(stamps[2], 0)]
    assert doomed(found, keep=1, now_s=NOW - 30 * DAY) == [], "a clock that was wrong: which are the newest?"
    assert doomed(Found(complete=(), parts=parts), keep=1, now_s=now_s) == []


def test_a_file_whose_name_is_no_time_is_left_alone_and_keeps_nothing_from_its_end() -> None:
    remote = MemoryRemote(clock=FakeClock())
    odd = [f"{directory('vault')}/20269931T000000Z.json", f"{directory('vault')}/20269931T000000Z.tar.gz.0000"]
    stamps = [stamp_of(NOW + day * DAY) for day in range(3)]
    for name in (*odd, *(f"{directory('vault')}/{manifest_name(stamp)}" for stamp in stamps)):
        remote.put(name, b"x", replace=False)
    assert look(remote, "vault").complete == tuple(stamps)
    assert expire(remote, "vault", keep=1, now_s=NOW + 2 * DAY) == [manifest_name(stamp) for stamp in stamps[:2]]
    assert all(remote.get(name) == b"x" for name in odd)


def test_what_is_meant_and_what_is_damaged(tmp_path: Path) -> None:
    remote = MemoryRemote(clock=FakeClock())
    with pytest.raises(NothingThere, match="holds no backup of a configuration"):
        choose(remote, None, "latest")
    (tmp_path / "a").write_bytes(b"x" * 99)
    for machine, day in (("vault", 0), ("vault", 1), ("other", 0)):
        publish(remote, tmp_path / "a", manifest(NOW + day * DAY, machine))
    assert machines(remote) == ["other", "vault"]
    with pytest.raises(NothingThere, match="other, vault"):
        choose(remote, None, "latest")
    assert choose(remote, "vault", "latest") == ("vault", stamp_of(NOW + DAY))
    with pytest.raises(NothingThere, match="is not one backup of vault"):
        choose(remote, "vault", "2026")
    with pytest.raises(OwnError, match="the name of this machine"):
        directory("../x")
    name = f"{directory('vault')}/{part_name(stamp_of(NOW), 0)}"
    remote.put(name, b"y" * 99)
    with pytest.raises(Damaged, match="is not what was written"):
        fetch(remote, read_manifest(remote, "vault", stamp_of(NOW)), tmp_path / "b")


@given(st.binary(max_size=200) | st.just(pack(manifest(0))).map(lambda raw: raw.replace(b"1", b"9")))
def test_a_manifest_of_any_bytes_is_read_or_refused(raw: bytes) -> None:
    try:
        unpack(raw, "x.json")
    except Damaged:
        return


def test_a_manifest_reads_back() -> None:
    one = Manifest(
        machine="m", stamp="s", program="1", secrets=True, pieces=(Piece(size=1, sha256="a"),), elsewhere={"f": "/x"}
    )
    assert unpack(pack(one).replace(b"{", b'{"new field": 1,', 1), "x") == one


def test_no_name_in_an_archive_leads_out_of_its_place() -> None:
    members = {
        "config/xobackup.toml": "/etc/x/xobackup.toml",
        "config/xobackup.d/a.toml": "/etc/x/xobackup.d/a.toml",
        "config/../../root/.ssh/authorized_keys": None,
        "config//etc/passwd": None,
        "state/health/1.json": "/var/lib/x/health/1.json",
        "state/../x": None,
        "files/0000": "/etc/x/key",
        "files/0001": None,
        "files/0002": None,
        "files/0003": None,
        "other": None,
    }
    elsewhere = {"files/0000": "/etc/x/key", "files/0001": "/root/.profile", "files/0002": "/etc/x/../../root/y"}
    places = {"config": Path("/etc/x/xobackup.toml"), "state": Path("/var/lib/x")}
    found = place(members, elsewhere, **places, root=None, trusted=False)
    assert {one.member: one.path and str(one.path) for one in found} == members
    assert all(one.why_not for one in found if one.path is None)
    trusted = place(["files/0001", "files/0002"], elsewhere, **places, root=Path("/look"), trusted=True)
    assert [one.path for one in trusted] == [Path("/look/root/.profile"), None]


def test_what_of_a_state_directory_is_kept(tmp_path: Path) -> None:
    for name in (
        *("schedules.json", "health/a.json", "history.db", "history.db-wal", "serve.lock", ".x.part"),
        *("journal/1.jsonl", "active/1.json", "dr/plan/journal/1.json", ".own-backup/archive"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "link").symlink_to("/etc/passwd")
    members = list(state_members(tmp_path, [tmp_path / "history.db"]))
    assert [one.name for one in members] == [
        "state/schedules.json", "state/dr/plan/journal/1.json", "state/health/a.json",
    ]  # fmt: skip
    gone = Member(name="state/gone", content=tmp_path / "gone")
    write_archive(tmp_path / "archive", [*members, gone], mtime=0)
    assert (tmp_path / "archive").stat().st_mode & 0o777 == 0o600

"""Backups of pools in a repository: published whole or not at all, kept by count, verified, cleaned."""

from __future__ import annotations

import json

import pytest

from remotes import errors
from remotes.contract import Capabilities
from remotes.memory import MemoryRemote
from xobackup.clock import FakeClock
from xobackup.repository.errors import BadMetadata, BadName, Encrypted, RepositoryError
from xobackup.repository.pools.backups import PoolBackups
from xobackup.repository.pools.layout import PARTS
from xobackup.repository.pools.point import PoolPoint
from xobackup.repository.repository import Repository
from xotest.pool_dumps import POOL, SCHEDULE, draft, dump_of
from xotest.sweep import sweep, sweep_errors
from xotest.xo_rules import assert_nothing, assert_pools_conformant, pool_points

START_S = 1_790_000_000.0
OTHER = "eeeeeeee-0000-4000-8000-00000000000f"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START_S)


@pytest.fixture
def remote(clock: FakeClock) -> MemoryRemote:
    return MemoryRemote(clock=clock)


@pytest.fixture
def backups(remote: MemoryRemote, clock: FakeClock) -> PoolBackups:
    return PoolBackups(remote, clock=clock)


def save(
    backups: PoolBackups, clock: FakeClock, *, after_s: float = 60, note: str = "", pool: str = POOL
) -> PoolPoint:
    clock.advance(after_s)
    data = dump_of(pool=pool, note=note)
    with backups.begin(draft(clock.now_s(), pool=pool), run="run") as writer:
        for start in range(0, len(data), 500):
            writer.write(data[start : start + 500])
        return writer.publish()


class Objects(MemoryRemote):
    """A remote that takes objects in one piece and renames nothing."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            random_access=False,
            atomic_rename=False,
            exclusive_directories=False,
            range_copy=False,
            durable=False,
            hierarchical=False,
        )

    def create(self, name):
        raise errors.NotSupported(self.url, name, "no files here")

    def rename(self, old, new, *, replace=False):
        raise errors.NotSupported(self.url, old, "no renames here")


@pytest.mark.parametrize("kind", [MemoryRemote, Objects])
def test_a_backup_is_listed_verified_and_what_xen_orchestra_writes(
    kind: type[MemoryRemote], clock: FakeClock
) -> None:
    backups = PoolBackups(kind(clock=clock), clock=clock)
    point = save(backups, clock, note="first")
    assert backups.points().points == (point,) and backups.points().problems == ()
    verdict = backups.verify(point)
    assert verdict.good and verdict.with_digest
    assert verdict.summary is not None and [vm.name for vm in verdict.summary.vms] == ["web", "db"]
    assert backups.remote.get(point.data) == dump_of(note="first")
    assert assert_pools_conformant(backups.remote) == [point.directory]
    assert backups.clean_plan() == []
    assert [entry.name for entry in backups.remote.list("")] == [".xobackup", "xo-pool-metadata-backups"]


@pytest.mark.parametrize("kind", [MemoryRemote, Objects])
def test_retention_counts_whole_backups_of_one_pool_by_one_schedule(
    kind: type[MemoryRemote], clock: FakeClock
) -> None:
    backups = PoolBackups(kind(clock=clock), clock=clock)
    points = [save(backups, clock) for _ in range(4)]
    other = save(backups, clock, pool=OTHER)
    backups.remote.put(f"{points[0].directory[:-16]}20990101T000000Z/data", b"half of one")
    assert backups.expire(SCHEDULE, POOL, 2, run="r") == points[:2]
    assert backups.of_schedule(SCHEDULE, POOL).points == tuple(points[2:])
    assert backups.points(pool=OTHER).points == (other,)
    assert backups.expire(SCHEDULE, POOL, 2, run="r") == []
    assert not [entry.name for entry in backups.remote.list(".xobackup") if entry.name == "pool-metadata"] or not [
        f for f in backups.clean_plan() if f.problem.code == "pool-part"
    ]


def test_a_second_is_used_once_and_names_grow(backups: PoolBackups, clock: FakeClock) -> None:
    first = save(backups, clock)
    with pytest.raises(RepositoryError, match="a backup of this second"):
        backups.begin(draft(clock.now_s()), run="run")
    with pytest.raises(RepositoryError, match="is newer: names must grow"):
        backups.begin(draft(clock.now_s() - 5), run="run")
    with (
        backups.begin(draft(clock.now_s() + 1), run="a") as one,
        backups.begin(draft(clock.now_s() + 1), run="b") as two,
    ):
        for writer in (one, two):
            writer.write(dump_of())
        won = one.publish()
        with pytest.raises(RepositoryError, match="a backup of this second"):
            two.publish()
    assert backups.points().points == (first, won) and backups.verify(won).good


def test_what_is_given_up_leaves_nothing(backups: PoolBackups, clock: FakeClock) -> None:
    with backups.begin(draft(clock.now_s()), run="run") as writer:
        writer.write(b"half")
    assert backups.points().points == () and pool_points(backups.remote) == []
    assert backups.clean_plan() == []


def test_a_draft_that_cannot_be_read_back_is_not_begun_or_published(backups: PoolBackups, clock: FakeClock) -> None:
    with pytest.raises(BadName):
        backups.begin(draft(clock.now_s(), pool="../../etc"), run="run")
    with pytest.raises(BadMetadata):
        backups.begin(
            draft(clock.now_s(), pool=POOL).__class__(**fields(clock, pool={"uuid": POOL, "x": {1}})), run="r"
        )
    assert pool_points(backups.remote) == []


def fields(clock: FakeClock, **changes: object) -> dict[str, object]:
    one = draft(clock.now_s())
    names = ("job_id", "job_name", "schedule_id", "schedule_name", "timestamp_ms", "pool", "master")
    return {**{name: getattr(one, name) for name in names}, **changes}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda raw: raw[:-40], "pool-dump"),
        (lambda raw: raw.replace(b"host-0", b"hOst-0"), "pool-digest"),
        (lambda raw: raw.replace(POOL.encode(), OTHER.encode()), "pool-uuid"),
        (lambda raw: b"PK\x03\x04 no XML", "pool-dump"),
    ],
)
def test_damage_is_found(backups: PoolBackups, clock: FakeClock, change, code: str) -> None:
    point = save(backups, clock)
    backups.remote.put(point.data, change(backups.remote.get(point.data)))
    verdict = backups.verify(point)
    assert code in [problem.code for problem in verdict.problems] and verdict.damaged and not verdict.good


def test_without_its_digest_the_structure_decides(backups: PoolBackups, clock: FakeClock) -> None:
    point = save(backups, clock)
    backups.remote.delete_tree(".xobackup")
    verdict = backups.verify(point)
    assert verdict.good and not verdict.with_digest


def test_what_cannot_be_read_is_not_damage(clock: FakeClock) -> None:
    class Deaf(MemoryRemote):
        deaf = False

        def open(self, name):
            if self.deaf:
                raise errors.Unavailable(self.url, name, "no answer", transient=True)
            return super().open(name)

        def get(self, name, *, limit_bytes=None):
            if self.deaf:
                raise errors.Unavailable(self.url, name, "no answer", transient=True)
            return super().get(name, limit_bytes=limit_bytes)

    remote = Deaf(clock=clock)
    backups = PoolBackups(remote, clock=clock)
    point = save(backups, clock)
    remote.deaf = True
    assert [problem.severity for problem in backups.verify(point).problems] == ["unknown"]
    listing = backups.points()
    assert listing.points == () and [problem.severity for problem in listing.problems] == ["unknown"]
    assert backups.expire(SCHEDULE, POOL, 1, run="r") == []
    assert [f.action for f in backups.clean_plan() if f.problem.severity == "unknown"] == ["none"]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"{", "metadata-invalid"),
        (b"[]", "metadata-invalid"),
        (json.dumps({"pool": {"uuid": OTHER}, "timestamp": 1}).encode(), "pool-uuid"),
        (json.dumps({"pool": {"uuid": POOL}, "timestamp": "x"}).encode(), "metadata-invalid"),
    ],
)
def test_a_description_that_is_none_is_told_and_can_be_put_aside(
    backups: PoolBackups, clock: FakeClock, raw: bytes, code: str
) -> None:
    good = save(backups, clock)
    bad = save(backups, clock)
    backups.remote.put(f"{bad.directory}/metadata.json", raw)
    listing = backups.points()
    assert listing.points == (good,) and [problem.code for problem in listing.problems] == [code]
    assert not any(finding.certain for finding in backups.clean_plan()), "somebody may be writing it"
    clock.advance(7200)
    (finding,) = backups.clean_plan()
    assert finding.certain and finding.action == "quarantine"
    assert backups.clean_apply([finding]).done == [finding]
    assert assert_pools_conformant(backups.remote) == [good.directory]
    (kept,) = backups.remote.list(".xobackup/quarantine/pools")
    moved = f".xobackup/quarantine/pools/{kept.name}/{SCHEDULE}/{POOL}/{bad.id}/data"
    assert backups.remote.get(moved) == dump_of(), "the dump itself may be all that is left"


def test_a_dead_part_is_deleted_and_a_living_one_is_not(backups: PoolBackups, clock: FakeClock) -> None:
    backups.remote.put(f"{PARTS}/{SCHEDULE}/{POOL}/20260101T000000Z.dead.part/data", b"<database>")
    clock.advance(7200)
    backups.remote.put(f"{PARTS}/{SCHEDULE}/{POOL}/20260101T000000Z.alive.part/data", b"<database>")
    assert [f.problem.path.split(".")[-2] for f in backups.clean_parts(SCHEDULE, POOL)] == ["dead"]
    (left,) = backups.clean_plan()
    assert not left.certain and "alive" in left.problem.path
    assert backups.clean_apply([left]).done == []


def test_the_storages_clock_decides_when_a_part_is_dead(remote: MemoryRemote, clock: FakeClock) -> None:
    fast = PoolBackups(remote, clock=FakeClock(START_S + 86_400))
    remote.put(f"{PARTS}/{SCHEDULE}/{POOL}/20260101T000000Z.alive.part/data", b"<database>")
    planned = fast.clean_plan()
    assert [finding.certain for finding in planned] == [True], "by our clock, which is wrong"
    report = fast.clean_apply(planned)
    assert report.done == [] and report.left == planned


def test_digests_without_a_backup_are_litter(backups: PoolBackups, clock: FakeClock) -> None:
    point, other = save(backups, clock), save(backups, clock)
    backups.remote.delete_tree(point.directory)
    findings = backups.clean_plan()
    assert [finding.problem.path for finding in findings] == [point.digest]
    backups.clean_apply(findings)
    assert backups.clean_plan() == [] and backups.verify(other).with_digest


def test_an_encrypted_remote_is_refused(remote: MemoryRemote, clock: FakeClock) -> None:
    remote.put("encryption.json", b'{"algorithm":"chacha20-poly1305"}')
    with pytest.raises(Encrypted):
        Repository(remote, clock=clock).pools()


class World:
    """Two backups, a third on its way, retention two."""

    def __init__(self) -> None:
        self.clock = FakeClock(START_S)
        self.remote = MemoryRemote(clock=self.clock)
        self.first = [save(PoolBackups(self.remote, clock=self.clock), self.clock) for _ in range(2)]

    def build(self) -> MemoryRemote:
        return self.remote.snapshot()

    def run(self, remote: MemoryRemote) -> None:
        backups = PoolBackups(remote, clock=self.clock)
        backups.clean_parts(SCHEDULE, POOL)
        save(backups, self.clock, note="new")
        backups.expire(SCHEDULE, POOL, 2, run="run")

    def check(self, remote: MemoryRemote) -> None:
        backups = PoolBackups(remote, clock=self.clock)
        points = assert_pools_conformant(remote)
        assert len(points) >= 2, "the last good ones are never the price of the next one"
        assert all(backups.verify(point).good for point in backups.points().points)
        assert_nothing(remote)

    def finished(self, remote: MemoryRemote) -> None:
        assert len(pool_points(remote)) == 2
        backups = PoolBackups(remote, clock=self.clock)
        self.clock.advance(7200)
        backups.clean_apply(backups.clean_plan())
        assert backups.clean_plan() == []


def test_the_power_is_cut_at_every_change() -> None:
    world = World()
    assert sweep(world.build, world.run, world.check, world.finished) > 10


def test_the_storage_fails_once_at_every_change() -> None:
    world = World()
    assert sweep_errors(world.build, world.run, world.check, world.finished) >= 10

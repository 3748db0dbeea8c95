"""Stores that stop letting us in, cut objects short, or list only a part: told clearly, and nothing is lost by it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from vhd.errors import VhdError
from xobackup.engine import events
from xobackup.engine.restore.files import restore_to_file
from xobackup.simpool import SimPool
from xotest.lab import SMALL, Lab
from xotest.s3.faults import FaultyS3
from xotest.s3.memory import MemoryS3, refused


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with SimPool.start(tmp_path / "pool", spec=SMALL) as pool:
        lab = Lab(tmp_path, pool)
        lab.with_settings(retention=2)
        yield lab


def stored(lab: Lab, runs: int, **options: int) -> MemoryS3:
    """A store with the restore points of so many runs."""
    store = MemoryS3(lab.clock, **options)
    lab.remotes["nas"] = store.remote()
    for number in range(runs):
        lab.write(0, number * 512, b"changed")
        lab.run()
    return store


def backups(store: MemoryS3) -> set[str]:
    """The keys of disks and restore points."""
    return {key for key in store.objects if "/.xobackup/" not in key and not key.endswith("cache.json.gz")}


def goes_on(lab: Lab, store: MemoryS3) -> None:
    lab.remotes["nas"] = store.remote()
    lab.check(finished=False)
    lab.run()
    lab.check()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_credentials_that_expire_in_the_middle_cost_no_restore_point(lab: Lab, share: float) -> None:
    store = stored(lab, 3)
    old = {point.id for point in lab.points()}
    before, after = (sum(used.requests.values()) for used in lab.journal.of(events.StorageUsed)[-2:])
    last = int((after - before) * share)
    error = refused(400, "ExpiredToken", "The provided token has expired.")
    lab.remotes["nas"] = store.remote(lambda _: FaultyS3(store, lambda number, _: error if number > last else None))
    lab.write(0, 4096, b"more")
    report = lab.run(expect=None)
    assert report.outcome != "ok"
    told = str(Lab.why(report))
    assert "expired" in told, told
    lab.remotes["nas"] = store.remote()
    there = {point.id for point in lab.points()}
    assert len(there & old) >= 1 and len(there) >= 2, "retention counts only what was published"
    goes_on(lab, store)


def test_a_listing_of_which_only_the_beginning_comes_deletes_nothing(lab: Lab) -> None:
    store = stored(lab, 2, page=3)
    before, denied = backups(store), refused(403, "AccessDenied", "Access Denied")

    class Partly(FaultyS3):
        def list_objects_v2(self, **parameters: object) -> object:
            if "ContinuationToken" in parameters:
                raise denied
            return store.list_objects_v2(**parameters)  # type: ignore[arg-type]

    lab.remotes["nas"] = store.remote(lambda _: Partly(store))
    lab.write(0, 4096, b"more")
    report = lab.run(expect=None)
    assert report.outcome != "ok" and "Access Denied" in str(Lab.why(report))
    assert before <= backups(store)
    goes_on(lab, store)


@pytest.mark.parametrize("left", [0, 0.5, 0.99])
def test_an_object_cut_short_is_named_and_left_where_it_is(lab: Lab, tmp_path: Path, left: float) -> None:
    store = stored(lab, 1)
    point = lab.points()[0]
    disk = point.disks[0]
    key = next(key for key in sorted(store.objects) if f"/{disk.live_vdi_uuid}/" in key and "/blocks/" in key)
    whole = store.objects[key]
    store.objects[key] = replace(whole, body=whole.body[: int(len(whole.body) * left)])
    before = backups(store)
    path = tmp_path / "disk.raw"
    with pytest.raises(VhdError, match="/blocks/0/0"):
        restore_to_file(lab.world(), lab.repository(), point, disk, path)
    assert not path.exists()
    found = lab.repository().verify(lab.vm_uuid).problems
    assert found and any("blocks/0/0" in str(one) or "block 0" in str(one) for one in found), found
    assert backups(store) == before
    store.objects[key] = whole
    goes_on(lab, store)

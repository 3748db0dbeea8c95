import pytest

from remotes.contract import Kind
from remotes.errors import NotFound, Unavailable
from xobackup.clock import FakeClock
from xobackup.repository.findings import Action
from xotest.backups import JOB, START_S, VM, Guest, live_uuid, memory_remote

ROOT = f"xo-vm-backups/{VM}"
LINEAGE = f"{ROOT}/vdis/{JOB}/{live_uuid(0)}"
OTHER = f"{ROOT}/vdis/{JOB}/99999999-0000-4000-8000-000000000001"


@pytest.fixture(params=[False, True], ids=["files", "directories"])
def guest(request):
    return Guest(FakeClock(START_S), ["AB-", "-C-"], vhd_directory=request.param)


@pytest.fixture
def remote(guest):
    return memory_remote(guest.clock)


@pytest.fixture
def points(guest, remote):
    found = [guest.back_up(remote)]
    for letter in "DE":
        guest.write(0, f"-{letter}-")
        found.append(guest.back_up(remote))
    return found


def plan_of(guest, remote):
    return {finding.problem.path: finding for finding in guest.repository(remote).clean_plan(VM)}


def apply(guest, remote, wanted=None):
    with guest.repository(remote).lock(VM) as directory:
        return directory.clean_apply(wanted)


def there(remote, path):
    try:
        remote.stat(path)
    except NotFound:
        return False
    return True


def disk(guest, point):
    return f"{point}.alias.vhd" if guest.options["vhd_directory"] else f"{point}.vhd"


def test_a_clean_repository_has_no_findings(guest, remote, points):
    assert plan_of(guest, remote) == {}
    assert apply(guest, remote).done == []


def test_leftovers_are_deleted_on_request_and_only_then(guest, remote, points):
    names = [
        f"{ROOT}/.20260101T000001Z.json.0123456789abcdef.tmp",
        f"{LINEAGE}/.20300101T000000Z.vhd.part",
        f"{LINEAGE}/.x.0123456789abcdef.tmp",
    ]
    for name in names:
        remote.put(name, b"x")
    remote.put(f"{LINEAGE}/.20300101T000000Z.alias.vhd.part/blocks/0/1", b"x")
    found = plan_of(guest, remote)
    assert {finding.action for finding in found.values()} == {Action.DELETE}
    assert set(found) == {*names, f"{LINEAGE}/.20300101T000000Z.alias.vhd.part"}
    assert all(there(remote, name) for name in found)
    one = found[names[1]]
    assert [finding.problem.path for finding in apply(guest, remote, [one]).done] == [names[1]]
    assert there(remote, names[0]) and not there(remote, names[1])
    assert len(apply(guest, remote).done) == 3
    assert plan_of(guest, remote) == {}
    guest.check(remote, litter=False, merges=False)


def test_disks_nobody_names_are_deleted_tip_first(guest, remote, points):
    for point in points[1:]:
        remote.delete(f"{ROOT}/{point}.json")
    found = [f for f in guest.repository(remote).clean_plan(VM) if f.action is Action.DELETE]
    orphans = [finding.problem.path for finding in found if finding.problem.code == "disk-orphan"]
    assert len(orphans) == 4
    assert orphans[0].endswith(disk(guest, points[2])) and orphans[1].endswith(disk(guest, points[1]))
    assert plan_of(guest, remote)[f"{ROOT}/cache.json.gz"].action is Action.REBUILD
    apply(guest, remote)
    assert guest.check(remote, litter=False, merges=False) == points[:1]
    apply(guest, remote)  # the digests of what is gone
    assert plan_of(guest, remote) == {}


def test_whole_directories_nobody_names_are_set_aside_not_deleted(guest, remote, points):
    remote.put(f"{OTHER}/20200101T000000Z.vhd", b"somebody's disk")
    found = plan_of(guest, remote)[OTHER]
    assert (found.action, found.certain, found.problem.code) == (
        Action.QUARANTINE,
        True,
        "vdi-directory-unreferenced",
    )
    report = apply(guest, remote)
    assert not there(remote, OTHER)
    kept = f"{report.quarantine}/{OTHER.removeprefix(ROOT + '/')}/20200101T000000Z.vhd"
    assert remote.get(kept) == b"somebody's disk"
    assert report.quarantine.startswith(f".xobackup/quarantine/{VM}/")
    guest.check(remote, litter=False, merges=False)


def test_an_empty_directory_is_removed(guest, remote, points):
    remote.make_directory(OTHER)
    assert plan_of(guest, remote)[OTHER].action is Action.DELETE
    apply(guest, remote)
    assert not there(remote, OTHER)


def test_a_broken_disk_that_points_need_is_left_alone(guest, remote, points):
    path = f"{LINEAGE}/{disk(guest, points[1])}"
    remote.put(path, b"rubbish")
    found = plan_of(guest, remote)
    assert (found[path].problem.code, found[path].action) == ("disk-broken", Action.NONE)
    assert points[1] in found[path].reason and points[2] in found[path].reason
    for point in points[1:]:
        incomplete = found[f"{ROOT}/{point}.json"]
        assert (incomplete.problem.code, incomplete.action) == ("point-incomplete", Action.NONE)
        assert "1 of its disks can still be restored" in incomplete.reason
    before = remote.snapshot()
    assert apply(guest, remote).done == []
    assert [e.name for e in remote.list(LINEAGE)] == [e.name for e in before.list(LINEAGE)]
    repository = guest.repository(remote)
    assert repository.open_disk(repository.point(VM, points[2]), live_uuid(1)).virtual_size_bytes


def test_a_broken_disk_that_no_point_needs_is_set_aside(guest, remote, points):
    path = f"{LINEAGE}/20300101T000000Z.vhd"
    remote.put(path, b"rubbish")
    found = plan_of(guest, remote)[path]
    assert (found.action, found.certain) == (Action.QUARANTINE, True)
    report = apply(guest, remote)
    assert not there(remote, path)
    assert remote.get(f"{report.quarantine}/{path.removeprefix(ROOT + '/')}") == b"rubbish"
    assert plan_of(guest, remote) == {}


def test_a_point_of_which_nothing_is_left_is_set_aside(guest, remote, points):
    for number in (0, 1):
        remote.delete(f"{ROOT}/vdis/{JOB}/{live_uuid(number)}/{disk(guest, points[2])}")
    found = plan_of(guest, remote)[f"{ROOT}/{points[2]}.json"]
    assert (found.action, found.certain) == (Action.QUARANTINE, True)
    report = apply(guest, remote)
    assert there(remote, f"{report.quarantine}/{points[2]}.json")
    assert guest.check(remote) == points[:2]


def test_with_one_unreadable_json_nothing_of_the_vm_is_deleted(guest, remote, points):
    remote.put(f"{ROOT}/{points[1]}.json", b"{ cut off")
    remote.delete(f"{ROOT}/{points[0]}.json")
    remote.put(f"{LINEAGE}/.20300101T000000Z.vhd.part", b"x")
    remote.put(f"{OTHER}/20200101T000000Z.vhd", b"somebody's disk")
    before = {name for name in _all(remote) if not name.endswith("cache.json.gz")}
    wanted = guest.repository(remote).clean_plan(VM)
    deleting = [finding for finding in wanted if finding.action in (Action.DELETE, Action.QUARANTINE)]
    assert deleting and not any(finding.certain for finding in deleting)
    report = apply(guest, remote)
    assert {finding.action for finding in report.done} <= {Action.REBUILD}
    assert {name for name in _all(remote) if not name.endswith("cache.json.gz")} == before
    with guest.repository(remote).lock(VM) as directory:
        merged = directory.merge()
        assert {refusal.code for refusal in merged.refusals} >= {"listing-uncertain"}
        assert [step.kind for step in merged.steps] == ["litter"], "a part is ours whatever the JSON says"
    assert there(remote, f"{LINEAGE}/{disk(guest, points[0])}")


def test_a_json_of_another_name_counts_as_a_doubt(guest, remote, points):
    remote.rename(f"{ROOT}/{points[2]}.json", f"{ROOT}/renamed by hand.json")
    with guest.repository(remote).lock(VM) as directory:
        assert {refusal.code for refusal in directory.merge().refusals} == {"listing-uncertain"}
    assert there(remote, f"{LINEAGE}/{disk(guest, points[2])}")


def test_a_listing_that_fails_deletes_nothing(guest, remote, points):
    class Sick(type(remote)):
        def list(self, directory):
            if directory == LINEAGE:
                raise Unavailable(self.url, directory, "input/output error", transient=False)
            return super().list(directory)

    remote.put(f"{ROOT}/vdis/{JOB}/{live_uuid(1)}/.20300101T000000Z.vhd.part", b"x")
    remote.delete(f"{ROOT}/{points[0]}.json")
    remote.__class__ = Sick
    before = remote.snapshot()
    report = apply(guest, remote)
    assert {finding.action for finding in report.done} <= {Action.REBUILD}
    with guest.repository(remote).lock(VM) as directory, pytest.raises(Unavailable):
        directory.merge()
    name = f"{ROOT}/vdis/{JOB}/{live_uuid(1)}"
    assert {e.name for e in before.list(name) if e.name.endswith(".vhd")} == {
        e.name for e in remote.list(name) if e.name.endswith(".vhd")
    }


def test_foreign_files_are_shown_and_left(guest, remote, points):
    remote.put(f"{ROOT}/notes.txt", b"mine")
    remote.put(f"{LINEAGE}/notes.txt", b"mine")
    found = plan_of(guest, remote)
    assert found[f"{ROOT}/notes.txt"].action is Action.NONE
    assert "Xen Orchestra will delete it" in found[f"{ROOT}/notes.txt"].reason
    assert found[f"{LINEAGE}/notes.txt"].action is Action.NONE
    apply(guest, remote)
    assert remote.get(f"{ROOT}/notes.txt") == remote.get(f"{LINEAGE}/notes.txt") == b"mine"


def test_an_image_without_its_point_is_set_aside(guest, remote, points):
    remote.put(f"{ROOT}/20200101T000000Z.xva", b"an image")
    report = apply(guest, remote)
    assert remote.get(f"{report.quarantine}/20200101T000000Z.xva") == b"an image"


def test_a_fork_is_shown_and_never_merged(guest, remote, points):
    lost = remote.get(f"{ROOT}/{points[2]}.json")
    with guest.repository(remote).lock(VM) as directory:
        directory.delete_points([points[2]])
        directory.merge()
    guest.bases = [[base[1]] for base in guest.bases]
    saved = remote.snapshot()
    guest.back_up(remote)
    # the deleted disk comes back from the dead: a second child of the same parent
    for number in (0, 1):
        lineage = f"{ROOT}/vdis/{JOB}/{live_uuid(number)}"
        before = {e.name for e in saved.list(lineage)}
        new = next(e.name for e in remote.list(lineage) if e.name.endswith(".vhd") and e.name not in before)
        twin = f"20300101T000000Z{'.alias.vhd' if guest.options['vhd_directory'] else '.vhd'}"
        remote.put(f"{lineage}/{twin}", remote.get(f"{lineage}/{new}"))
    assert lost
    remote.delete(f"{ROOT}/{points[0]}.json")
    with guest.repository(remote).lock(VM) as directory:
        report = directory.merge()
    assert report.merges == 0 and {refusal.code for refusal in report.refusals} == {"fork"}
    assert "fork" in {f.problem.code for f in guest.repository(remote).clean_plan(VM)}


def _all(remote, path=""):
    for entry in remote.list(path):
        name = f"{path}/{entry.name}" if path else entry.name
        if entry.kind is Kind.DIRECTORY:
            yield from _all(remote, name)
        elif not name.startswith((".xobackup/locks", ".xobackup/leases")):
            yield name

"""``backups``: what is listed is what is there; nothing is deleted without ``--yes``."""

from __future__ import annotations

import pytest

from xotest.site import Site, xobackup


def test_list_names_vms_sorted_with_their_newest_points(shared: Site) -> None:
    told = shared.xobackup("backups", "list").out
    assert told.index("db") < told.index("web")
    assert "scratch" not in told
    newest = shared.xobackup("backups", "list", "--vm", "web", "--json").of("vm")[0]
    assert newest["name"] == "web" and newest["points"] == 2 and newest["uuid"] == shared.uuid("web")
    assert newest["oldest_ms"] < newest["newest_ms"] and newest["size_bytes"] > 3 << 20


def test_list_by_url_needs_no_configuration(shared: Site) -> None:
    for url in (f"file://{shared.repository}", str(shared.repository)):
        result = xobackup("backups", "list", "--remote", url)
        assert result.code == 0 and "web" in result.out


def test_list_of_an_empty_directory_says_so(site: Site) -> None:
    assert "no backups on nas" in site.xobackup("backups", "list", "--remote", "nas").out


def test_a_vm_named_has_to_be_on_one_remote_not_on_all(copied: Site) -> None:
    copied.configure(remotes='["nas", "other"]')
    copied.other.mkdir()
    assert "web" in copied.xobackup("backups", "show", "web").out
    error = copied.xobackup("backups", "show", "nobody", code=2).err
    assert "there is no VM 'nobody'" in error and "hint: see `xobackup backups list`" in error


def test_a_remote_that_is_not_there_does_not_hide_the_others(copied: Site) -> None:
    copied.configure(remotes='["other", "nas"]')
    result = copied.xobackup("backups", "list", code=6)
    assert "web" in result.out
    assert f"file://{copied.other}: the directory of the remote does not exist" in result.err
    assert "hint: is the storage mounted?" in result.err


def test_show_lists_points_with_modes_and_disks_in_order(shared: Site) -> None:
    records = shared.xobackup("backups", "show", "web", "--remote", "nas", "--json").of("restore-point")
    assert [sorted(disk["delta"] for disk in point["disks"]) for point in records] == [[False] * 2, [True] * 2]
    assert [point["id"] for point in records] == sorted(point["id"] for point in records)
    told = shared.xobackup("backups", "show", shared.uuid("web"), "--remote", "nas").out
    assert told.index("web system") < told.index("web data")
    assert all(point["id"] in told for point in records)


def test_two_vms_of_one_name_need_the_uuid(copied: Site) -> None:
    db, web = copied.uuid("db"), copied.uuid("web")
    for cache in copied.repository.rglob("cache.json.gz"):
        cache.unlink()
    for path in (copied.repository / "xo-vm-backups" / db).glob("*.json"):
        path.write_text(path.read_text().replace('"name_label":"db"', '"name_label":"web"'))
    error = copied.xobackup("backups", "show", "web", "--remote", "nas", code=2).err
    assert "2 VMs are called 'web'" in error and db in error and web in error and "hint: give the uuid" in error


@pytest.mark.parametrize("as_json", [False, True])
def test_delete_only_says_what_it_would_do(copied: Site, as_json: bool) -> None:
    before = sorted(copied.repository.rglob("*"))
    result = copied.xobackup("backups", "delete", "web", "latest", "-r", "nas", *(["--json"] if as_json else []))
    if as_json:
        assert [record["kind"] for record in result.records] == ["would-delete"]
    else:
        assert "nothing was deleted; add --yes" in result.out
    assert sorted(copied.repository.rglob("*")) == before


def test_delete_takes_a_point_away_and_merge_reclaims_its_blocks(copied: Site) -> None:
    oldest = copied.xobackup("backups", "show", "web", "-r", "nas", "--json").of("restore-point")[0]["id"]
    (deleted,) = copied.xobackup("backups", "delete", "web", oldest, "-r", "nas", "--yes", "--json").of("deleted")
    assert deleted["point"] == oldest
    left = copied.xobackup("backups", "show", "web", "-r", "nas", "--json").of("restore-point")
    assert len(left) == 1 and left[0]["id"] != oldest
    would = copied.xobackup("merge", "--dry-run", "-r", "nas", "--json").of("step")
    assert [step["done"] for step in would] == [False, False]
    assert len(copied.xobackup("merge", "-r", "nas", "--json").of("step")) == 2
    assert "nothing to merge" in copied.xobackup("merge", "-r", "nas").out
    copied.xobackup("verify", "-r", "nas")


def test_points_that_match_nothing_or_too_much_are_refused(copied: Site) -> None:
    error = copied.xobackup("backups", "delete", "web", "1999", "-r", "nas", "--yes", code=2).err
    assert "VM web: '1999' is no restore point (newest: 2" in error
    error = copied.xobackup("backups", "delete", "web", "2", "-r", "nas", "--yes", code=2).err
    assert "'2' matches several restore points" in error


def test_a_damaged_point_is_told_and_the_others_are_listed(copied: Site) -> None:
    for cache in copied.repository.rglob("cache.json.gz"):
        cache.unlink()
    newest = max((copied.repository / "xo-vm-backups" / copied.uuid("web")).glob("*.json"))
    newest.write_bytes(b"{ broken")
    result = copied.xobackup("backups", "list", "-r", "nas", code=5)
    assert "web" in result.out and newest.name in result.err and "hint: see `xobackup clean`" in result.err

"""``verify`` and ``clean``: damage ends with its own exit code, and nothing is touched without being asked."""

from __future__ import annotations

import shutil

import pytest

from xotest.site import Site


def test_a_whole_repository(shared: Site) -> None:
    told = shared.xobackup("verify").out
    assert "4 restore points, 6 disks" in told and "no damage found" in told
    (coverage,) = shared.xobackup("verify", "--json").of("coverage")
    assert coverage["blocks"] == coverage["read"] == coverage["compared"] == coverage["with_digest"] > 0
    assert coverage["damaged"] == [] or not coverage["damaged"]


def test_a_share_reads_less_and_zero_only_the_structure(shared: Site) -> None:
    (none,) = shared.xobackup("verify", "--percent", "0", "--json").of("coverage")
    (half,) = shared.xobackup("verify", "--percent", "50", "--seed", "3", "--json").of("coverage")
    assert none["read"] == 0 and 0 < half["read"] < half["blocks"] == none["blocks"]


def test_one_vm_its_latest_or_some_points(shared: Site) -> None:
    points = [point["id"] for point in shared.xobackup("backups", "show", "web", "--json").of("restore-point")]

    def verified(*options: str) -> list[str]:
        (coverage,) = shared.xobackup("verify", *options, "--json").of("coverage")
        return sorted(str(point).rsplit("/", 1)[-1] for point in coverage["points"])

    assert verified("--vm", "web") == points
    assert verified("--vm", "web", "--latest") == points[-1:]
    assert verified("--vm", "web", "--point", points[0]) == points[:1]
    assert len(verified("--latest")) == 2
    assert "--point needs --vm" in shared.xobackup("verify", "--point", points[0], code=2).err


@pytest.mark.parametrize("as_json", [False, True])
def test_changed_data_is_damage_naming_file_and_points(copied: Site, as_json: bool) -> None:
    copied.damage("db")
    result = copied.xobackup("verify", *(["--json"] if as_json else []), code=5)
    assert "finding of damage" in result.err and "hint: `xobackup clean`" in result.err
    newest = copied.xobackup("backups", "show", "db", "--json").of("restore-point")[-1]["id"]
    if as_json:
        (problem,) = result.of("problem")
        assert problem["severity"] == "damage" and problem["path"].endswith(".vhd")
        assert any(newest in point for point in problem["points"])
    else:
        assert ".vhd" in result.out and newest in result.out and "no damage found" not in result.out
    copied.xobackup("verify", "--vm", "web")


def test_a_broken_footer_is_damage_without_reading_data(copied: Site) -> None:
    copied.damage("db", offset=-400)
    copied.damage("db", offset=100)
    copied.xobackup("verify", "--percent", "0", code=5)


def test_clean_finds_nothing_in_a_clean_repository(shared: Site) -> None:
    assert "nothing to clean" in shared.xobackup("clean").out
    assert shared.xobackup("clean", "--json").out == ""


def test_clean_lists_first_and_acts_only_when_asked(copied: Site) -> None:
    newest = max((copied.repository / "xo-vm-backups" / copied.uuid("db")).glob("*.json"))
    newest.unlink()
    orphan = max(copied.vdi_paths("db"))
    foreign = copied.repository / "xo-vm-backups" / copied.uuid("web") / "notes.txt"
    foreign.write_bytes(b"whose is this?")
    before = sorted(copied.repository.rglob("*"))
    told = copied.xobackup("clean").out
    assert "would delete" in told and orphan.name in told and "would rebuild" in told
    assert "left alone" in told and "notes.txt" in told and "nothing was touched; add --apply" in told
    assert sorted(copied.repository.rglob("*")) == before
    found = copied.xobackup("clean", "--json").of("finding")
    assert all(one["state"] == "found" and one["reason"] and one["message"] for one in found)
    done = copied.xobackup("clean", "--apply").out
    assert f"{orphan.name}: " in done and "deleted " in done and "left alone" in done
    assert not orphan.exists() and foreign.exists()
    copied.xobackup("verify")
    copied.xobackup("clean", "--apply")  # the digests of the orphan
    assert "nothing is proposed: what is listed is left alone" in copied.xobackup("clean").out


def test_slices_are_remembered_and_told(copied: Site) -> None:
    shutil.rmtree(copied.repository / ".xobackup" / "verified", ignore_errors=True)
    told = copied.xobackup("verify", "--coverage").out
    assert "0.0% of " in told and "never" in told
    first = copied.xobackup("verify", "--slice", "40%").out
    assert "no damage found" in first
    (total,) = copied.xobackup("verify", "--coverage", "--json").of("total-coverage")
    assert 0 < total["recent"] < total["blocks"] and total["recent"] + total["never"] == total["blocks"]
    copied.xobackup("verify", "--slice", "40%")
    copied.xobackup("verify", "--slice", "40%")
    records = copied.xobackup("verify", "--coverage", "--json").of("vm-coverage")
    assert all(record["never"] == 0 and record["oldest_s"] for record in records)
    copied.xobackup("verify", "--slice", "1/3", "--vm", "web")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--slice", "x"), "expected a share like 2% or a part like 3/30, found 'x'"),
        (("--slice", "9/3"), "expected a part from 1/n to n/n"),
        (("--slice", "2%", "--percent", "5"), "one of --slice and --percent"),
    ],
)
def test_slices_that_mean_nothing(shared: Site, arguments: tuple[str, ...], told: str) -> None:
    assert told in shared.xobackup("verify", *arguments, code=2).err


def test_images_of_full_backups_take_their_turn(site: Site) -> None:
    site.configure('mode = "full"')
    site.xobackup("run")
    assert "2 full backups: " in site.xobackup("verify", "--slice", "1%").out
    records = site.xobackup("verify", "--coverage", "--json").of("vm-coverage")
    assert [(record["images"], record["images_recent"]) for record in records] == [(1, 1), (1, 1)]
    image = max(site.repository.glob(f"xo-vm-backups/{site.uuid('db')}/*.xva"))
    raw = bytearray(image.read_bytes())
    raw[len(raw) // 2] ^= 1
    image.write_bytes(raw)
    site.xobackup("verify", code=5)
    by_name = {record["name"]: record for record in site.xobackup("verify", "--coverage", "--json").of("vm-coverage")}
    assert (by_name["db"]["images_never"], by_name["web"]["images_never"]) == (1, 0)

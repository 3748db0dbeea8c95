"""The verdicts on what Xen Orchestra wrote, and on every damage whose outcome was observed with its own packages."""

from __future__ import annotations

import gzip
import json

import pytest

from remotes.local import LocalRemote
from xotest import golden
from xotest.damage import copy_of, patched, with_footer, with_header
from xotest.xo_rules import DecryptedTree, Merge, assert_conformant, assert_nothing, chainable, checklist, judge
from xotest.xo_rules.disks import Broken
from xotest.xo_rules.restoring import disk_sha256

VM = "aaaaaaaa-0000-4000-8000-000000000001"
JOB = "bbbbbbbb-0000-4000-8000-000000000001"
ROOT = f"xo-vm-backups/{VM}"
DISK = [f"{ROOT}/vdis/{JOB}/11111111-0000-4000-8000-00000000000{n}" for n in (1, 2)]
WHOLE = [name for name in golden.NAMES if not name.startswith("interrupted") and name != "encrypted"]


def ts(day: int) -> str:
    return f"202601{day:02}T030000Z"


def paths(deletions) -> set[str]:
    return {deletion.path for deletion in deletions}


@pytest.mark.parametrize("name", WHOLE)
def test_it_leaves_alone_what_it_wrote_itself(name):
    assert_nothing(golden.pristine(name).root)
    assert_nothing(copy_of(name))
    assert_conformant(copy_of(name))
    assert not judge(copy_of(name)).cache_rewrite


def test_it_leaves_an_encrypted_repository_alone():
    tree = DecryptedTree(golden.pristine("encrypted").root, golden.ENCRYPTION_KEY)
    assert_nothing(tree)
    assert_conformant(tree)


@pytest.mark.parametrize(("name", "ending"), [("interrupted-file", ".vhd"), ("interrupted-directory", ".alias.vhd")])
def test_it_resumes_the_interrupted_merge_and_does_the_other_disks(name, ending):
    verdict = judge(copy_of(name))
    chains = [tuple(f"{disk}/{ts(day)}{ending}" for day in (1, 2)) for disk in DISK]
    assert verdict.merges == [Merge(chains[0], resuming=True), Merge(chains[1], resuming=False)]
    assert not verdict.deletes and not verdict.broken
    with pytest.raises(AssertionError, match="resuming"):
        assert_nothing(copy_of(name))
    assert_nothing(copy_of(name), allow_merges=True)


def test_an_interrupted_merge_without_its_state_loses_the_chain():
    """Why a merge must write its state first and drop it last."""
    tree = copy_of("interrupted-file")
    root = f"{DISK[0]}/{ts(1)}.vhd"
    tree[root] = patched(tree[root], len(tree[root]) - 512, b"bitmap of an appended block ")
    assert_nothing(tree, allow_merges=True)
    del tree[f"{DISK[0]}/.{ts(1)}.vhd.merge.json"]
    assert len([path for path in paths(judge(tree).losses) if path.endswith(".json")]) == 4


def test_a_state_that_runs_ahead_of_the_root_is_noticed():
    tree = copy_of("interrupted-file")
    state = f"{DISK[0]}/.{ts(1)}.vhd.merge.json"
    tree[state] = json.dumps({**json.loads(tree[state]), "currentBlock": 8}).encode()
    child = tree[f"{DISK[0]}/{ts(2)}.vhd"]
    merged = {i for i in range(8) if child[1536 + 4 * i : 1540 + 4 * i] != b"\xff" * 4}
    root = tree[f"{DISK[0]}/{ts(1)}.vhd"]
    absent = {i for i in merged if root[1536 + 4 * i : 1540 + 4 * i] == b"\xff" * 4}
    assert bool(judge(tree).broken) == bool(absent)
    first = min(merged)
    tree[f"{DISK[0]}/{ts(1)}.vhd"] = patched(root, 1536 + 4 * first, b"\xff" * 4)
    assert any("not got them" in reason for _, reason in judge(tree).broken)


def test_files_it_does_not_know_are_deleted_at_the_root_only():
    tree = copy_of("file")
    unknown = {"notes.txt": b"x", ".ours": b"x", "bad.json": b"{", "other.json": b'{"mode":"other"}'}
    kept = {"sub/x": b"x", "x.cache.json.gz": b"x", f"vdis/{JOB}/{DISK[0][-36:]}/digest.xxh3": b"x"}
    tree |= {f"{ROOT}/{name}": data for name, data in (unknown | kept).items()}
    verdict = judge(tree)
    assert paths(verdict.deletes) == {f"{ROOT}/{name}" for name in unknown}
    assert any("sub: unknown directory" in warning for warning in verdict.warnings)
    assert paths(verdict.litter) == {f"{ROOT}/notes.txt", f"{ROOT}/.ours"}


def test_a_truncated_disk_costs_its_point_all_later_ones_and_the_other_disk():
    tree = copy_of("file")
    name = f"{DISK[0]}/{ts(3)}.vhd"
    tree[name] = tree[name][: len(tree[name]) // 2]
    verdict = judge(tree)
    assert paths(verdict.losses) == {f"{ROOT}/{ts(day)}.json" for day in (3, 4, 5)} | {
        f"{disk}/{ts(day)}.vhd" for disk in DISK for day in (3, 4, 5)
    }
    assert {path for path, _ in verdict.broken} == {f"{DISK[0]}/{ts(day)}.vhd" for day in (3, 4, 5)}
    assert not verdict.litter and verdict.cache_rewrite


def test_a_flipped_byte_of_data_is_not_noticed():
    run = golden.pristine("file").runs[0]
    tree = copy_of("file")
    name = f"{DISK[0]}/{ts(1)}.vhd"
    tree[name] = patched(tree[name], 2048 + 512 + 5000, bytes([tree[name][2048 + 512 + 5000] ^ 1]))
    assert_nothing(tree)
    point = f"{ROOT}/{ts(1)}.json"
    assert disk_sha256(tree, point, run.disks[0].snapshot_uuid) != run.disks[0].sha256
    assert disk_sha256(tree, point, run.disks[1].snapshot_uuid) == run.disks[1].sha256


def test_a_zeroed_parent_uuid_ends_the_deltas_and_nothing_else():
    tree = copy_of("file")
    name = f"{DISK[0]}/{ts(3)}.vhd"
    base = "22222222-0000-4000-8000-000000000040"
    assert chainable(tree, VM, JOB, DISK[0][-36:], base)
    tree[name] = with_header(tree[name], 40, bytes(16))
    assert_nothing(tree)
    assert not chainable(tree, VM, JOB, DISK[0][-36:], base)
    disk = golden.pristine("file").runs[4].disks[0]
    assert disk_sha256(tree, f"{ROOT}/{ts(5)}.json", disk.snapshot_uuid) == disk.sha256
    assert any("parent uuid" in text for text in checklist(tree))


def test_a_fork_is_destroyed_when_the_root_is_merged():
    tree = copy_of("file")
    for disk in DISK:
        name = f"{disk}/{ts(3)}.vhd"
        tree[name] = with_header(tree[name], 64, f"{ts(1)}.vhd".encode("utf-16-be"))
    assert_nothing(tree)  # a fork alone is not even warned about as long as nothing is merged
    assert any("second child" in text for text in judge(tree).warnings)
    del tree[f"{ROOT}/{ts(1)}.json"]
    verdict = judge(tree)
    assert {merge.chain for merge in verdict.merges} == {tuple(f"{d}/{ts(n)}.vhd" for n in (1, 2)) for d in DISK}
    assert [path for path, _ in verdict.broken] == [f"{disk}/{ts(3)}.vhd" for disk in DISK]


def test_a_missing_block_object_is_not_noticed_until_it_is_read():
    tree = copy_of("directory")
    block = next(name for name in tree if "/data/20260101T030000Z.vhd/blocks/" in name)
    del tree[block]
    assert_nothing(tree)
    assert any("are missing" in text for text in checklist(tree))
    run = golden.pristine("directory").runs[0]
    with pytest.raises(Broken, match="is missing"):
        disk_sha256(tree, f"{ROOT}/{ts(1)}.json", run.disks[0].snapshot_uuid)


def test_an_alias_to_nowhere_costs_its_point_and_all_later_ones():
    tree = copy_of("directory")
    tree[f"{DISK[1]}/{ts(4)}.alias.vhd"] = b"data/nowhere.vhd"
    verdict = judge(tree)
    points = {path for path in paths(verdict.losses) if path.endswith(".json")}
    assert points == {f"{ROOT}/{ts(day)}.json" for day in (4, 5)}
    assert {f"{disk}/{ts(day)}.alias.vhd" for disk in DISK for day in (4, 5)} <= paths(verdict.losses)
    assert f"{DISK[1]}/data/{ts(4)}.vhd" in paths(verdict.litter)


def test_a_vhd_directory_without_alias_stops_everything():
    tree = copy_of("directory")
    data = f"{DISK[0]}/data/{ts(1)}.vhd/"
    tree |= {f"{DISK[0]}/bare.vhd/{n[len(data) :]}": tree[n] for n in list(tree) if n.startswith(data)}
    assert "without an alias" in judge(tree).aborts
    with pytest.raises(AssertionError, match="aborts"):
        assert_nothing(tree)


def test_a_disk_directory_no_point_names_is_left_for_ever():
    tree = copy_of("file")
    other = f"{ROOT}/vdis/{JOB}/11111111-0000-4000-8000-000000000009"
    tree[f"{other}/{ts(1)}.vhd"] = tree[f"{DISK[0]}/{ts(1)}.vhd"]
    assert any("named by no restore point" in text for text in assert_nothing(tree).warnings)


def test_a_full_backup_without_its_xva_is_dropped():
    tree = copy_of("full-and-pool")
    del tree[f"{ROOT}/{ts(3)}.xva"]
    assert paths(judge(tree).losses) == {f"{ROOT}/{ts(3)}.json", f"{ROOT}/{ts(3)}.xva.checksum"}


def test_a_damaged_xva_is_only_warned_about():
    tree = copy_of("full-and-pool")
    tree[f"{ROOT}/{ts(3)}.xva"] = tree[f"{ROOT}/{ts(3)}.xva"][:-512]
    assert any("no valid XVA" in text for text in assert_nothing(tree).warnings)


@pytest.mark.parametrize("name", ["file", "directory"])
def test_an_unpublished_disk_is_litter(name):
    """What a backup leaves that died before its metadata: the whole disks of the last run."""
    tree = copy_of(name)
    del tree[f"{ROOT}/{ts(5)}.json"]
    verdict = assert_nothing(tree, allow_litter=True)
    ending = "vhd" if name == "file" else "alias.vhd"
    assert paths(verdict.litter) == {f"{disk}/{ts(5)}.{ending}" for disk in DISK}
    with pytest.raises(AssertionError, match="litter"):
        assert_nothing(tree)


def test_a_half_written_disk_is_litter_and_breaks_nothing_else():
    tree = copy_of("file")
    tree[f"{DISK[0]}/{ts(6)}.vhd"] = tree[f"{DISK[0]}/{ts(5)}.vhd"][:70000]
    verdict = judge(tree)
    assert paths(verdict.deletes) == paths(verdict.litter) == {f"{DISK[0]}/{ts(6)}.vhd"}


def test_a_deleted_point_in_the_middle_means_a_merge_into_its_successor():
    tree = copy_of("file")
    del tree[f"{ROOT}/{ts(3)}.json"]
    verdict = assert_nothing(tree, allow_merges=True)
    assert [m.chain for m in verdict.merges] == [(f"{d}/{ts(3)}.vhd", f"{d}/{ts(4)}.vhd") for d in DISK]


def test_several_deleted_points_are_one_merge():
    tree = copy_of("file")
    for day in (1, 2, 3):
        del tree[f"{ROOT}/{ts(day)}.json"]
    chains = [merge.chain for merge in judge(tree).merges]
    assert chains == [tuple(f"{d}/{ts(n)}.vhd" for n in (1, 2, 3, 4)) for d in DISK]


def test_unlinking_the_target_before_the_rename_loses_the_point():
    """Why the merged disk must replace its target in one step."""
    tree = copy_of("interrupted-file")
    state = f"{DISK[0]}/.{ts(1)}.vhd.merge.json"
    tree[state] = json.dumps({**json.loads(tree[state]), "step": "cleanup"}).encode()
    del tree[f"{DISK[0]}/{ts(2)}.vhd"]
    assert f"{ROOT}/{ts(2)}.json" in paths(judge(tree).losses)


def test_the_state_of_a_finished_merge_is_litter():
    tree = copy_of("interrupted-file")
    tree[f"{DISK[0]}/{ts(2)}.vhd"] = with_footer(
        tree[f"{DISK[0]}/{ts(1)}.vhd"], 68, tree[f"{DISK[0]}/{ts(2)}.vhd"][68:84]
    )
    del tree[f"{DISK[0]}/{ts(1)}.vhd"]
    verdict = assert_nothing(tree, allow_merges=True, allow_litter=True)
    assert paths(verdict.litter) == {f"{DISK[0]}/.{ts(1)}.vhd.merge.json"}


@pytest.mark.parametrize("change", ["missing", "fewer", "garbage"])
def test_a_cache_that_cannot_mislead_is_harmless(change):
    tree = copy_of("file")
    name = f"{ROOT}/cache.json.gz"
    entries = json.loads(gzip.decompress(tree.pop(name)))
    if change == "fewer":
        entries.popitem()
        tree[name] = gzip.compress(json.dumps(entries).encode())
    elif change == "garbage":
        tree[name] = b"no gzip"
    assert assert_nothing(tree).cache_rewrite


def test_a_cache_with_the_right_number_of_wrong_entries_misleads():
    tree = copy_of("file")
    name = f"{ROOT}/cache.json.gz"
    entries = json.loads(gzip.decompress(tree[name]))
    wrong_keys = {key.removeprefix("/xo-vm-backups"): value for key, value in entries.items()}
    tree[name] = gzip.compress(json.dumps(wrong_keys).encode())
    assert all("no entry" in reason for _, reason in judge(tree).broken) and judge(tree).broken
    next(iter(entries.values()))["size"] = 1
    tree[name] = gzip.compress(json.dumps(entries).encode())
    assert any("wrong" in reason for _, reason in judge(tree).broken)


def test_a_file_among_the_vms_breaks_listings():
    tree = copy_of("file") | {
        "xo-vm-backups/readme.txt": b"x",
        f"xo-vm-backups/{VM}.lock": b"",
        "xo-vm-backups/.q": b"",
    }
    assert [path for path, _ in judge(tree).broken] == ["xo-vm-backups/readme.txt"]


def test_the_same_uuid_twice_is_a_warning():
    tree = copy_of("file")
    tree[f"{DISK[0]}/{ts(6)}.vhd"] = tree[f"{DISK[0]}/{ts(5)}.vhd"]
    verdict = judge(tree)
    assert any("same uuid" in text for text in verdict.warnings)
    assert not verdict.losses


@pytest.mark.parametrize("name", ["file", "directory", "interrupted-directory"])
def test_a_directory_a_mapping_and_a_remote_are_the_same_tree(name):
    root = golden.pristine(name).root
    verdicts = {str(judge(tree)) for tree in (root, copy_of(name), LocalRemote(root))}
    assert len(verdicts) == 1
    assert checklist(LocalRemote(root)) == checklist(root) == []

"""Which remote takes a VM: where its chain is, else by free space, with reasons."""

from __future__ import annotations

from typing import Any

import pytest

from xobackup.engine.placing.choice import Member, choose

GIB = 1 << 30


def members(**remotes: dict[str, Any]) -> list[Member]:
    return [Member(remote=name, **{"free_bytes": 10 * GIB, **fields}) for name, fields in remotes.items()]


@pytest.mark.parametrize(
    ("remotes", "chosen", "reason"),
    [
        ({"a": {"free_bytes": 5 * GIB}, "b": {"free_bytes": 9 * GIB}}, "b", "9.0 GiB free, the most"),
        ({"a": {"newest_ms": 7, "free_bytes": 1}, "b": {}}, "a", "its chain is there"),
        ({"a": {"newest_ms": 7}, "b": {"newest_ms": 8, "free_bytes": 1}}, "b", "its chain is there"),
        ({"a": {"given": 2}, "b": {"given": 1}}, "b", "as much as anywhere, and no more VMs"),
        ({"a": {}, "b": {}}, "a", "as much as anywhere"),
        ({"a": {"free_bytes": None}, "b": {}}, "b", "the most"),
        ({"a": {"free_bytes": None}, "b": {"fits": False}}, "a", "the remotes that do (b) may lack the room"),
        ({"a": {"free_bytes": None, "vms": 3}, "b": {"free_bytes": None, "vms": 2}}, "b", "none does; 2 VMs"),
        ({"a": {"fits": False, "free_bytes": 5}, "b": {"fits": False, "free_bytes": 6}}, "b", "may not fit"),
        ({"a": {"problem": "gone"}, "b": {}}, "b", "no other remote can take it"),
        ({"a": {"short": "a has 1 KiB free"}, "b": {"free_bytes": 1}}, "b", "no other remote can take it"),
        ({"a": {"newest_ms": 7, "free_bytes": 1}, "b": {"newest_ms": 7}}, "b", "its chain is there, as on a"),
        ({"a": {"continues": True, "free_bytes": 1}, "b": {}}, "a", "it can be continued there with deltas"),
    ],
)  # fmt: skip
def test_the_remote_and_why(remotes: dict[str, Any], chosen: str, reason: str) -> None:
    found = choose(members(**remotes), chained=True)
    assert found is not None and found.remote == chosen and reason in found.reason and not found.left


@pytest.mark.parametrize(
    ("trouble", "left"),
    [
        ({"problem": "no answer"}, "its chain is on remote a: no answer"),
        ({"short": "remote a has 1.0 MiB free"}, "its chain is on remote a: remote a has 1.0 MiB free"),
    ],
)
def test_a_chain_leaves_a_remote_that_is_gone_or_full_and_says_why(trouble: dict[str, Any], left: str) -> None:
    found = choose(members(a={"newest_ms": 9, **trouble}, b={"newest_ms": 3}, c={"free_bytes": 1}), chained=True)
    assert found is not None and (found.remote, found.left) == ("b", left)


def test_full_backups_have_no_chain_to_stay_with() -> None:
    found = choose(members(a={"newest_ms": 9, "free_bytes": 1}, b={}), chained=False)
    assert found is not None and (found.remote, found.left) == ("b", "")


def test_without_room_anywhere_the_chain_stays_or_the_vm_is_refused() -> None:
    full = members(a={"newest_ms": 9, "short": "full"}, b={"short": "full"})
    found = choose(full, chained=True)
    assert found is not None and found.remote == "a" and choose(full, chained=True, refuse=True) is None
    assert choose(members(a={"problem": "x"}, b={"problem": "y"}), chained=True) is None

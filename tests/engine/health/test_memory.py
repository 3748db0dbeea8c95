"""What was found is remembered by VM and restore point; what cannot be read is not known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from xobackup.engine.health.memory import TESTS_MAX, last_checks, points_tested, remember
from xobackup.engine.health.request import CheckResult, Step

VM = "3f0c1f3e-0000-4000-8000-000000000001"


def result(point: str, *, ok: bool = True, remote: str = "nas") -> CheckResult:
    return CheckResult(
        vm_uuid=VM,
        vm_name="web",
        point=point,
        remote=remote,
        pool="lab",
        sr="local",
        started_at="",
        ok=ok,
        reason="" if ok else "no guest tools",
        steps=(
            Step(name="restore", seconds=10.0),
            Step(name="boot", seconds=1.5),
            Step(name="guest tools", seconds=2),
        ),
        size_bytes=1,
        blocks_compared=1,
        removed=True,
    )


def test_each_restore_point_keeps_its_last_test_and_the_vm_its_last(tmp_path: Path) -> None:
    remember(tmp_path, result("a"), now_s=1.0)
    remember(tmp_path, result("b", ok=False), now_s=2.0)
    remember(tmp_path, result("a", ok=False), now_s=3.0)
    remember(tmp_path, result("a", remote="other"), now_s=4.0)
    known = points_tested(tmp_path, VM, "nas")
    assert [(point, test["ok"], test["checked_s"]) for point, test in known.items()] == [
        ("b", False, 2.0),
        ("a", False, 3.0),
    ]
    assert (known["a"]["boot_s"], known["a"]["rto_s"]) == (3.5, 13.5)
    assert last_checks(tmp_path)[VM]["checked_s"] == 4.0


def test_what_is_remembered_has_a_bound(tmp_path: Path) -> None:
    for number in range(TESTS_MAX + 3):
        remember(tmp_path, result(str(number)), now_s=float(number))
    known = points_tested(tmp_path, VM, "nas")
    assert len(known) == TESTS_MAX and "2" not in known and "3" in known


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"tests": 3}', '{"tests": [3, {"point": 1}, {"point": "a", "remote": "nas"}]}']
)
def test_a_damaged_file_is_no_test_and_is_replaced_by_the_next(tmp_path: Path, content: str) -> None:
    path = tmp_path / "health" / f"{VM}.json"
    path.parent.mkdir()
    path.write_text(content)
    assert points_tested(tmp_path, VM, "nas") == {} and last_checks(tmp_path) == {}
    remember(tmp_path, result("a"), now_s=1.0)
    assert list(points_tested(tmp_path, VM, "nas")) == ["a"]


def test_a_file_of_an_older_version_still_says_when_the_vm_was_checked(tmp_path: Path) -> None:
    old: dict[str, Any] = {"vm_uuid": VM, "checked_s": 5.0, "ok": True}
    (tmp_path / "health").mkdir()
    (tmp_path / "health" / f"{VM}.json").write_text(json.dumps(old))
    assert last_checks(tmp_path)[VM] == old and points_tested(tmp_path, VM, "nas") == {}

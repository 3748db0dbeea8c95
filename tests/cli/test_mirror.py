"""``xobackup mirror``: from one directory to another, a plan before, and nonsense refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from remotes.local import LocalRemote
from xobackup.cli.exits import Exit
from xobackup.cli.main import main
from xobackup.clock import FakeClock
from xotest.backups import START_S, Guest
from xotest.rot import flip_bit


def test_mirror_copies_plans_and_refuses_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    source, target = LocalRemote(tmp_path / "a"), LocalRemote(tmp_path / "b")
    guest = Guest(FakeClock(START_S))
    points = [guest.back_up(source)]
    guest.write(0, "-E--")
    points.append(guest.back_up(source))
    both = [f"file://{tmp_path}/a", f"file://{tmp_path}/b"]
    assert main(["mirror", *both, "--dry-run"]) == Exit.OK
    assert "2 restore points would be copied" in capsys.readouterr().out
    assert main(["mirror", *both, "--vm", "guest", "--verify", "--json"]) == Exit.OK
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["point"] for one in records if one.get("point")] == points
    assert guest.check(target) == points
    assert main(["mirror", both[0], both[0]]) == Exit.USAGE
    assert "same repository" in capsys.readouterr().err
    guest.write(0, "--F-")
    flip_bit(source, guest.back_up(source), 2)
    assert main(["mirror", *both]) == Exit.FAILED
    assert "digest differs" in capsys.readouterr().out
    assert guest.check(target) == points

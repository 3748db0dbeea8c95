"""Marks of living runs: kept by a crash, removed by everything else, never taken from the living."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from xobackup.engine.active import SUFFIX, Active, interrupted, marked_active

ACTIVE = Active(run_id="r", job_id="j", job="nightly", pool_uuid="p", vm_uuid="v", since_s=1.0)


def test_the_mark_is_there_while_inside_and_gone_after(tmp_path: Path) -> None:
    with marked_active(tmp_path, ACTIVE):
        assert len(list(tmp_path.iterdir())) == 1
        with interrupted(tmp_path) as found:
            assert found == []  # it lives
    assert list(tmp_path.iterdir()) == []


def test_an_exception_removes_the_mark(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), marked_active(tmp_path, ACTIVE):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_leaves_its_mark(tmp_path: Path) -> None:
    script = (
        "import os, signal\nfrom pathlib import Path\nfrom xobackup.engine.active import Active, marked_active\n"
        f"with marked_active(Path({str(tmp_path)!r}), Active(run_id='r', job_id='j', job='nightly', pool_uuid='p',"
        " vm_uuid='v', since_s=1.0)):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", script], env=environment, check=False).returncode == -9
    with interrupted(tmp_path) as found:
        assert [active for _, active in found] == [ACTIVE]
        with interrupted(tmp_path) as others:
            assert others == []  # one cleaner at a time
        found[0][0].unlink()
    with interrupted(tmp_path) as found:
        assert found == []


@pytest.mark.parametrize("content", [b"", b'{"run_id": "r"', b"[]", b'{"run_id": 5}', json.dumps({"x": 1}).encode()])
def test_a_torn_mark_means_nothing_was_touched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / f"r.v{SUFFIX}"
    path.write_bytes(content)
    with interrupted(tmp_path) as found:
        assert found == []
    assert not path.exists()


def test_no_directory_means_nothing_was_interrupted(tmp_path: Path) -> None:
    with interrupted(tmp_path / "none") as found:
        assert found == []

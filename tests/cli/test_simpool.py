"""``simpool``: a pool for anyone to try against; ends when asked, and is the same when it comes back."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from xotest.site import Result, finish, start, xobackup


def begun(directory: Path, *options: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    process = start("simpool", directory, "--port", "0", "--json", *options)
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


def ended(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> Result:
    process.send_signal(number)
    result = finish(process)
    assert result.code == 0 and "Traceback" not in result.err, result
    return result


def doctored(pool: dict[str, Any], directory: Path) -> Result:
    config = directory / "xobackup.toml"
    config.write_text(
        f'state_directory = "{directory / "state"}"\n[pools.sim]\nurl = "{pool["url"]}"\n'
        f'password = "{pool["password"]}"\ntls = {{ fingerprint = "{pool["fingerprint"]}" }}\n'
    )
    return xobackup("doctor", "-c", config)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_asked_to_stop_and_can_be_reopened(tmp_path: Path, number: int) -> None:
    process, pool = begun(tmp_path / "pool")
    try:
        assert pool["kind"] == "pool" and "web" in pool["vms"]
        result = doctored(pool, tmp_path)
        assert result.code == 0 and "pool sim: XCP-ng" in result.out
    finally:
        ended(process, number)
    process, again = begun(tmp_path / "pool", "--guests", "0.05")
    try:
        assert (again["vms"], again["fingerprint"]) == (pool["vms"], pool["fingerprint"])
    finally:
        ended(process)


def test_for_a_person_it_prints_what_to_put_into_a_configuration(tmp_path: Path) -> None:
    process = start("simpool", tmp_path / "pool", "--port", "0")
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(8)]
    ended(process)
    assert lines[0].startswith("simulated pool at https://127.0.0.1:")
    assert any(line.strip().startswith("tls = { fingerprint = ") for line in lines)


def test_a_port_in_use_is_a_clear_error(tmp_path: Path) -> None:
    process, pool = begun(tmp_path / "pool")
    try:
        port = pool["url"].rsplit(":", 1)[1]
        result = xobackup("simpool", tmp_path / "other", "--port", port)
        assert result.code == 1 and "Address already in use" in result.err and port in result.err
        assert "internal error" not in result.err
    finally:
        ended(process)

"""``simpool``: a pool for anyone to try against; ends when asked, and is the same when it comes back."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from xobackup.simpool.fault_rules import KINDS
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


def test_it_can_be_given_hosts_repositories_vms_and_trouble(tmp_path: Path) -> None:
    options = ["--hosts", "2", "--sr", "shared=nfs", "--vm", "tiny=4M,filled=1M,tag=prod", "--nbd", "nbd"]
    options += ["--fault", "fail VM.get_all_records TOO_BUSY", "--release", "8.2", "--latency-ms", "1"]
    process, pool = begun(tmp_path / "pool", *options)
    try:
        assert pool["vms"] == ["tiny"] and len(pool["hosts"]) == 2
        member = {**pool, "url": pool["hosts"][1]}
        result = doctored(member, tmp_path)
        assert "8.2" in result.out, "the master answered, asked for through a member"
    finally:
        ended(process)


def test_several_pools_in_one_process(tmp_path: Path) -> None:
    process, first = begun(tmp_path / "pool", "--pools", "2")
    try:
        assert process.stdout is not None
        second = json.loads(process.stdout.readline())
        assert second["name"] != first["name"] and second["url"] != first["url"]
        assert doctored(second, tmp_path).code == 0
    finally:
        ended(process)


@pytest.mark.parametrize(
    ("option", "value"), [("--sr", "a=floppy"), ("--vm", "a=big"), ("--fault", "boom"), ("--down", "host-9")]
)
def test_a_bad_option_is_a_usage_error(tmp_path: Path, option: str, value: str) -> None:
    result = xobackup("simpool", tmp_path / "pool", option, value)
    assert result.code == 2 and value.rpartition("=")[2] in result.err
    assert not (tmp_path / "pool").exists()


def test_its_page_lists_every_option_and_every_fault() -> None:
    page = (Path(__file__).parents[2] / "docs" / "simpool.md").read_text()
    listed = xobackup("simpool", "--help").out
    for option in set(re.findall(r"--[a-z][a-z0-9-]+", listed)) - {"--help", "--port", "--address", "--json"}:
        assert option in page, option
    for name, kind in KINDS.items():
        words = kind.words.replace("|", "\\|")
        assert f"| `{f'{name} {words}'.rstrip()}` | {kind.does} |" in page


def test_a_port_in_use_is_a_clear_error(tmp_path: Path) -> None:
    process, pool = begun(tmp_path / "pool")
    try:
        port = pool["url"].rsplit(":", 1)[1]
        result = xobackup("simpool", tmp_path / "other", "--port", port)
        assert result.code == 1 and "Address already in use" in result.err and port in result.err
        assert "internal error" not in result.err
    finally:
        ended(process)

"""No secret ever leaves: not on the terminal, not in JSON, journals, metadata, snapshots or crash reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from xotest.site import PASSWORD, Result, Site, xobackup

URL_SECRET = "AKIAVERYSECRETKEY"


def assert_silent(result: Result, *secrets: str) -> None:
    for secret in secrets:
        assert secret not in result.out and secret not in result.err


def test_the_password_is_nowhere(site: Site) -> None:
    commands: list[tuple[str, ...]] = [
        ("config", "check", "--secrets"),
        ("doctor",),
        ("plan",),
        ("run",),
        ("backups", "list"),
        ("backups", "show", "web"),
        ("restore", "vm", "web", "-r", "nas", "-p", "sim"),
    ]
    for command in commands:
        assert_silent(site.xobackup(*command), PASSWORD)
        assert_silent(site.xobackup(*command, "--json"), PASSWORD)
    kept = [path for root in (site.state, site.repository) for path in root.rglob("*") if path.is_file()]
    assert any(path.suffix == ".jsonl" for path in kept)
    for path in kept:
        assert PASSWORD.encode() not in path.read_bytes(), path
    for records in (site.pool.model.records("VM"), site.pool.model.records("VDI"), site.pool.model.records("task")):
        assert PASSWORD not in str(records)


def test_sessions_are_not_told_when_calls_fail(site: Site) -> None:
    site.pool.faults.fail_call("VM.snapshot*", "INTERNAL_ERROR", ["session_id=OpaqueRef:12345"], times=2)
    result = site.xobackup("run", "--json", code=1)
    assert "OpaqueRef:12345" not in result.out + result.err


@pytest.mark.parametrize(
    "url",
    [
        f"s3+http://{URL_SECRET}:{URL_SECRET}@127.0.0.1:1/bucket",
        f"smb://user:{URL_SECRET}@host/share",
        f"ftp://a:{URL_SECRET}@h",
        f"file:///dev/null/absent?encryptionKey=%22{URL_SECRET}%22",
    ],
)
def test_a_remotes_secret_is_not_in_an_error(url: str) -> None:
    for command in (["backups", "list", "-r", url], ["remote", "test", url], ["verify", "-r", url, "--json"]):
        result = xobackup(*command)
        assert result.code in (1, 2, 6) and result.err.startswith("error: ")
        assert_silent(result, URL_SECRET)


def test_a_crash_report_holds_no_values(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import tempfile

    from xobackup.engine import opening

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(opening, "survey", lambda *_: 1 / 0)
    assert_silent(site.xobackup("run", code=1), PASSWORD)
    (crash,) = tmp_path.glob("xobackup-crash-*.txt")
    assert PASSWORD not in crash.read_text() and site.pool.password not in crash.read_text()

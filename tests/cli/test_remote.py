"""``remote test``: every promise of a storage, asked for real; and nothing stays behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from xotest.site import Site, xobackup


@pytest.mark.slow
def test_a_good_directory_keeps_every_promise(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    result = xobackup("remote", "test", f"file://{tmp_path}", "--json")
    assert result.code == 0, result
    checks = result.of("check")
    assert len(checks) > 20 and all(check["ok"] for check in checks)
    assert result.of("capabilities") and result.of("usage")
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.txt"]


def test_a_remote_that_is_not_there(tmp_path: Path) -> None:
    result = xobackup("remote", "test", str(tmp_path / "absent"))
    assert result.code == 6 and "does not exist" in result.err and "hint: " in result.err


def test_an_unknown_name(shared: Site) -> None:
    error = shared.xobackup("remote", "test", "nsa", code=2).err
    assert "there is no remote 'nsa' (known: nas)" in error


def test_a_lost_mount_is_refused_until_the_new_remote_is_accepted(site: Site) -> None:
    site.xobackup("run", "nightly")
    aside = site.repository.with_name("aside")
    site.repository.rename(aside)
    site.repository.mkdir()
    for command, code in (("run", 1), ("plan", 6)):
        refused = site.xobackup(command, "nightly", code=code).err
        assert "found none at all" in refused and "is its storage mounted?" in refused
    assert "failed   remote nas: expected repository" in site.xobackup("doctor", code=6).out
    assert list(site.repository.iterdir()) == []
    told = site.xobackup("remote", "accept", "nas").out
    assert "nas: it was repository" in told and "no repository yet, with backups of 0 VMs" in told
    site.xobackup("run", "nightly")
    assert "xo-vm-backups" in {entry.name for entry in site.repository.iterdir()}
    site.xobackup("remote", "accept", "nas")
    assert "nothing that is remembered" in site.xobackup("remote", "accept", "nas").out


def test_a_damaged_identity_is_refused_kept_aside_and_given_anew(site: Site) -> None:
    site.xobackup("run", "nightly")
    identity = site.repository / ".xobackup" / "remote.json"
    identity.write_text('{"id": "torn')
    refused = site.xobackup("run", "nightly", code=1).err
    assert "remote.json: not JSON" in refused and "xobackup remote accept nas" in refused
    assert identity.read_text() == '{"id": "torn'
    assert "it is kept as .xobackup/remote.json.damaged" in site.xobackup("remote", "accept", "nas").out
    assert (site.repository / ".xobackup" / "remote.json.damaged").read_text() == '{"id": "torn'
    site.xobackup("run", "nightly")
    assert identity.exists()

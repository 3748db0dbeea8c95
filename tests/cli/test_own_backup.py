"""``xobackup self``: a machine whose /etc and /var/lib are empty is what it was; no secret lies about in clear."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest

from remotes.encryption.keytext import pack_key
from remotes.local import LocalRemote
from xobackup.cli.logs import Lines
from xobackup.cli.options import read_configuration
from xobackup.cli.serving.own import OwnBackups
from xobackup.cli.serving.works import Works
from xobackup.clock import FakeClock, SystemClock
from xotest.site import PASSWORD, Site, xobackup
from xotest.xo_rules import assert_conformant

KEY = pack_key(bytes(range(32)))
MORE = """
[remotes.safe]
url = "file://{safe}"
encryption = {{ mode = "xobackup", key = {{ file = "{key}" }} }}
[remotes.bucket]
url = "s3://AKIASECRETKEY:very%2Fsecret@store.example.com/bucket/dir"
[notify.chat]
webhook = "https://hooks.example.com/services/verysecretpath"
[web]
listen = ""
[web.users.admin]
password_hash = "$argon2id$v=19$m=1,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g"
[schedules.daily]
jobs = ["nightly"]
every = "1d"
[self]
remotes = ["nas", "safe"]
name = "vault"
keep = 2
"""
IN_CLEAR = (PASSWORD, KEY, "AKIASECRETKEY", "very%2Fsecret", "very/secret", "verysecretpath", "aGFzaGhhc2g")


@pytest.fixture
def prepared(copied: Site, tmp_path: Path) -> Site:
    """Its configuration in a directory of its own, a drop-in, a key file, and something to remember."""
    etc = tmp_path / "etc"
    (etc / "xobackup.d").mkdir(parents=True)
    (etc / "key").write_text(KEY)
    (etc / "key").chmod(0o600)
    (tmp_path / "safe").mkdir()
    text = f"# {PASSWORD}\n{copied.config.read_text()}"
    (etc / "xobackup.toml").write_text(text)
    (etc / "xobackup.d" / "more.toml").write_text(MORE.format(safe=tmp_path / "safe", key=etc / "key"))
    copied.config.unlink()
    copied.directory = etc
    site = copied
    config = etc / "xobackup.toml"
    for arguments in (
        ("remote", "encryption", "init", "safe"),
        ("schedules", "pause", "daily", "--reason", f"somebody wrote {PASSWORD} here"),
        ("web", "token", "create", "grafana"),
    ):
        result = xobackup(*arguments, "-c", config)
        assert result.code == 0, result
    return site


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(one.relative_to(directory)): one.read_bytes() for one in sorted(directory.rglob("*")) if one.is_file()
    }


def test_a_machine_is_back_in_an_empty_etc_and_var_lib(prepared: Site, tmp_path: Path) -> None:
    config, state = tmp_path / "etc" / "xobackup.toml", tmp_path / "state"
    safe, nas = tmp_path / "safe", tmp_path / "repository"
    assert xobackup("run", "--vm", "db", "-c", config).code == 0
    made = xobackup("self", "backup", "-c", config, "--json")
    assert made.code == 0, made
    kept = {one["remote"]: one for one in made.of("own-backup")}
    assert kept["safe"]["secrets"] and not kept["nas"]["secrets"]

    for path, raw in files(nas / ".xobackup" / "self").items():
        clear = gzip.decompress(raw) if path.endswith(".0000") else raw
        for secret in IN_CLEAR:
            assert secret.encode() not in raw + clear, (path, secret)
    assert_conformant(LocalRemote(str(nas)))
    assert not xobackup("clean", "--remote", "nas", "-c", config, "--json").of("finding")
    assert all(KEY.encode() not in raw and PASSWORD.encode() not in raw for raw in files(safe).values())

    etc, var = files(tmp_path / "etc"), files(state)
    key = shutil.copy(tmp_path / "etc" / "key", tmp_path / "key-from-the-safe")
    shutil.move(tmp_path / "etc", tmp_path / "lost-etc")
    shutil.move(state, tmp_path / "lost-state")
    url = f"file://{safe}"
    assert "Then its key is needed" in xobackup("self", "restore", "--remote", url, "-c", config).err
    encrypted = ("--remote", url, "--key-file", key, "-c", config)
    shown = xobackup("self", "restore", *encrypted)
    assert shown.code == 0 and "Nothing was changed" in shown.out and not config.exists()
    done = xobackup("self", "restore", *encrypted, "--yes")
    assert done.code == 0, done
    assert files(tmp_path / "etc") == etc
    assert (tmp_path / "etc" / "key").stat().st_mode & 0o777 == 0o600
    back = files(state)
    for name in ("paused.json", "web-tokens.json"):
        assert back[name] == var[name]
    assert "history.db" in back and xobackup("config", "check", "--secrets", "-c", config).code == 0
    runs = xobackup("history", "list", "-c", config, "--json")
    assert runs.code == 0 and len(runs.of("run")) == 1, "the history is back without a journal"
    assert xobackup("status", "-c", config).code == 0
    for name in (
        "paused.json",
        "history.db",
        "history.db-wal",
        "history.db-shm",
    ):  # as if cut off halfway
        (state / name).unlink(missing_ok=True)
    again = xobackup("self", "restore", *encrypted, "--yes")
    assert again.code == 0 and "1 file written, 1 run in the history" in again.out, again
    assert "is not empty" in xobackup("self", "restore", *encrypted, "--yes").err
    (state / "paused.json").write_text("{}")
    assert "there already, and not the same" in xobackup("self", "restore", *encrypted, "--yes").err


def test_without_encryption_it_says_what_has_to_be_done_by_hand(prepared: Site, tmp_path: Path) -> None:
    config = tmp_path / "etc" / "xobackup.toml"
    (tmp_path / "safe").rename(tmp_path / "away")
    part = xobackup("self", "backup", "-c", config)
    assert part.code == 3 and "safe: " in part.err and "nas: 20" in part.out, part
    look = tmp_path / "look"
    done = xobackup("self", "restore", "--remote", "nas", "--root", look, "--yes", "-c", config)
    assert done.code == 0, done
    for told in (
        f"to do: pools.sim.password: write the secret into {config.parent}/secrets/pools.sim.password",
        "to do: web.users.admin.password_hash: give a password again",
        "to do: remotes.bucket.url: give the secrets in it again",
        f"to do: remotes.safe.encryption.key: write the secret into {config.parent}/key",
    ):
        assert told in done.out
    there = look / str(config).lstrip("/")
    restored, before = read_configuration(there), read_configuration(config)
    assert restored.jobs == before.jobs and restored.schedules == before.schedules and restored.own == before.own
    assert restored.remotes["bucket"].url == "s3://***@store.example.com/bucket/dir"
    damaged = next((tmp_path / "repository" / ".xobackup" / "self" / "vault").glob("*.0000"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    refused = xobackup("self", "restore", "--remote", "nas", "--root", tmp_path / "other", "--yes", "-c", config)
    assert refused.code == 5 and "is not what was written" in refused.err and not (tmp_path / "other").exists()


def test_the_service_makes_them_when_it_is_time(
    copied: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = copied.config
    (tmp_path / "safe").mkdir()
    text = '[self]\nremotes = ["nas", "safe"]\nname = "vault"\nkeep = 2\n'
    config.write_text(f'{config.read_text()}[remotes.safe]\nurl = "file://{tmp_path}/safe"\n{text}')
    clock = FakeClock(SystemClock().now_s())
    works = Works(config, read_configuration(config), Lines())
    own = OwnBackups(works, Lines(), clock)
    place = tmp_path / "safe" / ".xobackup" / "self" / "vault"
    for hours, expected in ((0, 1), (23, 1), (2, 2), (24, 2)):  # of which two are kept
        clock.advance(hours * 3600)
        own.look()
        assert len(list(place.glob("*.json"))) == expected and works.own_backup == ""
    (tmp_path / "safe").rename(tmp_path / "away")
    clock.advance(25 * 3600)
    own.look()
    own.look()
    assert works.troubles["own backup"].startswith("configuration and history were not backed up: safe: ")
    assert capsys.readouterr().err.count("error: configuration and history were not backed up") == 1, "once"
    (tmp_path / "away").rename(tmp_path / "safe")
    own.look()
    assert works.troubles["own backup"] == ""

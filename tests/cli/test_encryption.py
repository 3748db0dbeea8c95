"""Encrypted remotes from the command line: made, used, refused; and a key is never shown."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from xotest import golden, xo_rules
from xotest.site import Site, xobackup

KEY = "aB3" * 10 + "xy"
OTHER = "z" * 32


def encrypted(site: Site, key: str = KEY, *lines: str, extra: str = "") -> None:
    url = f'url = "file://{site.repository}"'
    site.configure(*lines, replace=(url, f'{url}\nencryption = {{ key = "{key}"{extra} }}'))


def files_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_generated_key_has_32_characters_and_is_another_each_time() -> None:
    keys = {xobackup("remote", "encryption", "generate-key").out.strip() for _ in range(3)}
    assert len(keys) == 3 and all(len(key) == 32 and key.isalnum() for key in keys)
    (record,) = xobackup("remote", "encryption", "generate-key", "--json").of("key")
    assert len(record["key"]) == 32


def test_backups_are_encrypted_and_come_back(site: Site, tmp_path: Path) -> None:
    encrypted(site, KEY, "pool_metadata = true")
    told = site.xobackup("remote", "encryption", "status", "nas").out
    assert "not encrypted" in told and "the first backup will make it encrypted" in told
    assert "nothing is there yet" in site.xobackup("remote", "encryption", "check", "nas").out
    site.xobackup("run")
    site.pool.gc()
    site.write("web", 0, b"later" * 1000)
    expected = site.disk_sha256("web", 0)
    site.xobackup("run")
    assert json.loads((site.repository / "encryption.json").read_text()) == {"algorithm": "chacha20-poly1305"}
    for name, content in files_of(site.repository).items():
        assert name == "encryption.json" or not any(
            word in content for word in (b"web system", b"snapshot", b"xobxxh3", b"cxsparse")
        ), name
    tree = xo_rules.DecryptedTree(site.repository, KEY)
    xo_rules.assert_nothing(tree)
    xo_rules.assert_conformant(tree)
    assert xo_rules.assert_pools_conformant(tree)
    assert "no damage found" in site.xobackup("verify").out
    assert "the key is right" in site.xobackup("remote", "encryption", "check", "nas").out
    (status,) = site.xobackup("remote", "encryption", "status", "nas", "--json").of("encryption")
    assert status["encrypted"] and status["algorithm"] == "chacha20-poly1305" and status["key_given"]
    target = tmp_path / "web.raw"
    site.xobackup("restore", "disk", "web", "latest", "--remote", "nas", "--disk", "0", "--output", target)
    assert hashlib.sha256(target.read_bytes()).hexdigest() == expected
    (metadata,) = tree.list("xo-vm-backups").keys() & {site.uuid("web")}
    points = [json.loads(tree.read(name)) for name in xo_rules.points(tree, metadata)]
    assert [set(point["isVhdDifferencing"].values()) for point in points] == [{False}, {True}]


def test_a_full_backup_has_no_checksum_and_is_proven_all_the_same(site: Site, tmp_path: Path) -> None:
    encrypted(site, KEY, 'mode = "full"', extra=', algorithm = "aes-256-gcm"')
    site.xobackup("run")
    (image,) = site.repository.glob(f"xo-vm-backups/{site.uuid('db')}/*.xva")
    assert not list(site.repository.glob("xo-vm-backups/*/*.checksum"))
    tree = xo_rules.DecryptedTree(site.repository, KEY, "aes-256-gcm")
    xo_rules.assert_nothing(tree)
    told = site.xobackup("verify").out
    assert "2 full backups" in told and "2 compared with their checksums" in told and "no damage" in told
    target = tmp_path / "db.xva"
    site.xobackup("restore", "xva", "db", "latest", "--remote", "nas", "--output", target)
    name = f"xo-vm-backups/{site.uuid('db')}/{image.name}"
    assert target.read_bytes() == tree.read(name)
    raw = bytearray(image.read_bytes())
    raw[5000] ^= 1
    image.write_bytes(raw)
    told = site.xobackup("verify", "--vm", "db", code=5).out
    assert "it is not what was written: the authentication tag does not agree" in told
    site.xobackup("restore", "xva", "db", "latest", "--remote", "nas", "--output", tmp_path / "again.xva", code=5)
    assert not (tmp_path / "again.xva").exists()


@pytest.mark.parametrize(
    ("key", "told"), [(OTHER, "the key does not open metadata.json"), ("short", "expected 32 characters")]
)
def test_a_wrong_key_touches_nothing(site: Site, key: str, told: str) -> None:
    encrypted(site)
    site.xobackup("run", "--vm", "db")
    before = files_of(site.repository)
    encrypted(site, key)
    for command in (("backups", "list"), ("verify",), ("merge",), ("remote", "encryption", "check", "nas")):
        error = site.xobackup(*command, code=2).err
        assert told in error and "hint: " in error and OTHER not in error
    assert told in site.xobackup("run", code=1).err
    assert told in site.xobackup("doctor", code=6).out
    site.configure()
    assert "the remote is encrypted (chacha20-poly1305), which needs its key" in site.xobackup("verify", code=1).err
    assert "no key is configured for it" in site.xobackup("remote", "encryption", "status", "nas").out
    assert "no key is configured" in site.xobackup("remote", "encryption", "check", "nas", code=2).err
    assert files_of(site.repository) == before


def test_a_plain_repository_takes_no_key(copied: Site) -> None:
    before = files_of(copied.repository)
    encrypted(copied)
    error = copied.xobackup("verify", code=2).err
    assert "holds what is not encrypted" in error and "leave the key out" in error and KEY not in error
    copied.xobackup("run", code=1)
    assert files_of(copied.repository) == before


def test_the_key_comes_from_a_file_a_command_or_the_url(tmp_path: Path, site: Site) -> None:
    world = golden.unpack("encrypted", tmp_path / "golden")
    url = f"file://{world.root}?encryptionKey=%22{golden.ENCRYPTION_KEY}%22"
    listed = xobackup("backups", "list", "--remote", url)
    assert listed.code == 0 and "oracle vm" in listed.out and golden.ENCRYPTION_KEY not in listed.out
    secret = tmp_path / "key"
    secret.write_text(golden.ENCRYPTION_KEY + "\n")
    secret.chmod(0o600)
    old = f'url = "file://{site.repository}"'
    for key in (f'{{ file = "{secret}" }}', f'{{ command = ["cat", "{secret}"] }}'):
        site.configure(replace=(old, f'url = "file://{world.root}"\nencryption = {{ key = {key} }}'))
        assert "the key is right" in site.xobackup("remote", "encryption", "check", "nas").out
        site.xobackup("config", "check", "--secrets")
    secret.unlink()
    assert "remotes.nas.encryption.key" in site.xobackup("config", "check", "--secrets", code=2).err
    wrong = xobackup("backups", "list", "--remote", f"file://{world.root}?encryptionKey=1")
    assert wrong.code == 2 and "encryptionKey: expected a text" in wrong.err


def own(site: Site, secret: Path, *lines: str, extra: str = "") -> None:
    url = f'url = "file://{site.repository}"'
    encryption = f'encryption = {{ mode = "xobackup", key = {{ file = "{secret}" }}{extra} }}'
    site.configure(*lines, replace=(url, f"{url}\n{encryption}"))


def secret_file(path: Path, text: str) -> Path:
    path.write_text(text + "\n")
    path.chmod(0o600)
    return path


def new_key() -> str:
    return xobackup("remote", "encryption", "generate-key", "--mode", "xobackup").out.strip()


def test_our_own_mode_from_the_first_key_to_the_last(site: Site, tmp_path: Path) -> None:
    first = secret_file(tmp_path / "first", new_key())
    own(site, first, 'mode = "delta"')
    assert "the remote is not encrypted" in site.xobackup("run", code=1).err and files_of(site.repository) == {}
    told = site.xobackup("remote", "encryption", "init", "nas", "--label", "backup server").out
    assert "Xen Orchestra cannot read" in told and "remote key add nas --recovery" in told
    assert "expected an empty remote" in site.xobackup("remote", "encryption", "init", "nas", code=2).err
    site.xobackup("run")
    site.pool.gc()
    site.write("web", 0, b"later" * 1000)
    expected = site.disk_sha256("web", 0)
    site.xobackup("run")
    assert json.loads((site.repository / "encryption.json").read_text())["algorithm"] == "xobackup-1"
    filters = min(site.repository.glob("xo-vm-backups/*/vdis/*/*/data/*/chunk-filters.json"))
    assert filters.read_bytes()[:4] == b"XBE1"
    assert "warning  remote nas: it has one key" in site.xobackup("doctor").out
    added = site.xobackup("remote", "key", "add", "nas", "--recovery", "--label", "safe", "--json")
    (recovery,) = added.of("recovery-key")
    second = secret_file(tmp_path / "second", "a passphrase of the operator")
    site.xobackup("remote", "key", "rotate", "nas", "--file", second, "--label", "operator")
    assert "the key is none of the 2 of this remote" in site.xobackup("backups", "list", code=2).err
    own(site, second)
    listed = site.xobackup("remote", "key", "list", "nas", "--json").of("key")
    ids = {(key["type"], key["label"]): key["id"] for key in listed}
    assert set(ids) == {("recovery", "safe"), ("passphrase", "operator")}
    operator = ids["passphrase", "operator"]
    assert "is the one in use" in site.xobackup("remote", "key", "remove", "nas", operator, code=2).err
    target = tmp_path / "web.raw"
    own(site, secret_file(tmp_path / "paper", recovery["key"].lower().replace("-", " ")))
    site.xobackup("restore", "disk", "web", "latest", "--remote", "nas", "--disk", "0", "--output", target)
    assert hashlib.sha256(target.read_bytes()).hexdigest() == expected
    site.xobackup("remote", "key", "remove", "nas", operator)
    assert "no damage found" in site.xobackup("verify").out
    assert "the key is right" in site.xobackup("remote", "encryption", "check", "nas").out
    status = site.xobackup("remote", "encryption", "status", "nas").out
    assert "it has one key" in site.xobackup("doctor").out
    assert "own mode, which Xen Orchestra cannot read; 1 key" in status
    assert "own mode: Xen Orchestra cannot read it" in site.xobackup("doctor").out
    assert "own mode: Xen Orchestra cannot read it" in site.xobackup("plan").out


def test_blocks_exchanged_on_the_storage_are_noticed(site: Site, tmp_path: Path) -> None:
    own(site, secret_file(tmp_path / "key", new_key()), 'mode = "full"')
    site.xobackup("remote", "encryption", "init", "nas")
    site.xobackup("run")
    assert not list(site.repository.glob("xo-vm-backups/*/*.checksum"))
    one, other = sorted(site.repository.glob("xo-vm-backups/*/*.xva"))
    one.write_bytes(other.read_bytes())
    told = site.xobackup("verify", code=5).out
    assert re.search(r"it is not what was written: chunk \d+: the authentication tag does not agree", told)


def test_keys_are_never_given_on_the_command_line(site: Site, tmp_path: Path) -> None:
    own(site, secret_file(tmp_path / "key", new_key()))
    site.xobackup("remote", "encryption", "init", "nas")
    assert "exactly one of --file and --env" in site.xobackup("remote", "key", "rotate", "nas", code=2).err
    open_to_all = tmp_path / "open"
    open_to_all.write_text(new_key())
    open_to_all.chmod(0o644)
    assert (
        "can be read by everybody" in site.xobackup("remote", "key", "add", "nas", "--file", open_to_all, code=2).err
    )
    short = secret_file(tmp_path / "short", "short")
    error = site.xobackup("remote", "key", "add", "nas", "--file", short, code=2).err
    assert "a passphrase has at least 12 characters, found 5" in error
    site.configure()
    error = site.xobackup("remote", "key", "rotate", "nas", "--file", short, code=2).err
    assert "not configured with xobackup's own" in error
    assert "expected encryption" in site.xobackup("remote", "encryption", "init", "nas", code=2).err


@pytest.mark.parametrize("mode", ["directories", "xo", "xobackup"])
def test_a_damaged_block_is_never_restored(site: Site, tmp_path: Path, mode: str) -> None:
    url = f'url = "file://{site.repository}"'
    if mode == "directories":
        site.configure(replace=(url, f'{url}\nlayout = "directories"\ncompression = "none"'))
    elif mode == "xo":
        encrypted(site)
    else:
        own(site, secret_file(tmp_path / "key", new_key()))
        site.xobackup("remote", "encryption", "init", "nas")
    site.xobackup("run", "--vm", "db")
    block = max(
        site.repository.glob("xo-vm-backups/*/vdis/*/*/data/*/blocks/0/*"), key=lambda path: path.stat().st_size
    )
    raw = bytearray(block.read_bytes())
    raw[-500_000 if len(raw) > 600_000 else -20] ^= 1
    block.write_bytes(raw)
    target = tmp_path / "db.raw"
    result = site.xobackup("restore", "disk", "db", "latest", "-r", "nas", "--disk", "0", "--output", target, code=5)
    assert "not what was written" in result.err or "authentication tag does not agree" in result.err
    assert not target.exists()

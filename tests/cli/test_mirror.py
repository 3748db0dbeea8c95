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
from xotest.site import Site


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


def test_from_an_encrypted_remote_with_its_key_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    guest = Guest(FakeClock(START_S))
    remotes = {name: LocalRemote(_made(tmp_path / name)) for name in ("plain", "secret", "back")}
    points = [guest.back_up(remotes["plain"])]
    right, wrong = (_configured(tmp_path, key) for key in ("k" * 32, "w" * 32))
    assert main(["mirror", "plain", "secret", "--verify", "--config", right]) == Exit.OK
    assert (tmp_path / "secret" / "encryption.json").exists()
    assert main(["mirror", "secret", "back", "--config", wrong]) != Exit.OK
    assert "key" in capsys.readouterr().err
    assert not list((tmp_path / "back").glob("xo-vm-backups/*/*.json"))
    assert main(["mirror", "secret", "back", "--config", right]) == Exit.OK
    assert guest.check(remotes["back"]) == points


def test_into_directories_with_compressed_blocks(tmp_path: Path) -> None:
    guest = Guest(FakeClock(START_S))
    source, target = (LocalRemote(_made(tmp_path / name)) for name in ("plain", "packed"))
    points = [guest.back_up(source)]
    file = tmp_path / "packed.toml"
    file.write_text(
        f'state_directory = "{tmp_path}/state"\n[remotes.packed]\nurl = "file://{tmp_path}/packed"\n'
        'layout = "directories"\ncompression = "gzip"\n'
    )
    file.chmod(0o600)
    command = ["mirror", f"file://{tmp_path}/plain", "packed", "--verify", "--config", str(file)]
    assert main(command) == Exit.OK
    assert all("gzip" in each.read_text() for each in (tmp_path / "packed").rglob("chunk-filters.json"))
    guest.write(0, "-E--")
    points.append(guest.back_up(source))
    assert main(command) == Exit.OK
    assert guest.check(target) == points
    assert list((tmp_path / "packed").rglob("chunk-filters.json"))


def test_full_backups_travel_byte_for_byte_and_damaged_ones_do_not(site: Site) -> None:
    site.configure('mode = "full"')
    site.other.mkdir(exist_ok=True)
    url = f"file://{site.other}"
    site.xobackup("run", "--vm", "db")
    assert len(site.xobackup("mirror", "nas", url, "--verify", "--json").of("copied")) == 1
    one, two = (next(root.rglob("*.xva")) for root in (site.repository, site.other))
    data = bytearray(one.read_bytes())
    assert two.name == one.name and two.read_bytes() == data
    data[len(data) // 2] ^= 1
    one.write_bytes(data)
    third = _made(site.directory / "third")
    assert "its checksum differs" in site.xobackup("mirror", "nas", f"file://{third}", code=1).out
    assert not list(third.glob("xo-vm-backups/*/*.json")) and not list(third.rglob("*.xva"))


def _made(path: Path) -> Path:
    path.mkdir()
    return path


def _configured(root: Path, key: str) -> str:
    file = root / f"{key[0]}.toml"
    lines = [f'state_directory = "{root}/state"']
    for name in ("plain", "secret", "back"):
        lines += [f"[remotes.{name}]", f'url = "file://{root / name}"']
        lines += [f'encryption = {{ key = "{key}" }}'] if name == "secret" else []
    file.write_text("\n".join(lines))
    file.chmod(0o600)
    return str(file)

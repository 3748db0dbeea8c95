"""The support bundle: all that helps, no secret in any byte of it, and with ``--anonymous`` no name."""

from __future__ import annotations

import base64
import gzip
import json
import tarfile
import tempfile
from pathlib import Path
from urllib.parse import quote

import pytest

from xotest.site import PASSWORD, Site

SECRETS = {
    "inline": 'quote"back\\slash\tand-tab',
    "environment": "from-the-environment-ü",
    "file": "first line of it\nsecond line of it",
    "command": "printed-by-a-command",
    "argument": "printed-by-a-command",
    "webhook": "https://hooks.example.com/services/T0001/B0002/verysecretpath",
    "header": "Bearer abcdefghijklmnop",
    "bucket key": "AKIAHOSTILEKEY",
    "bucket secret": "buc/ket+secret=",
    "hash": "$argon2id$v=19$m=1,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g",
    "hook argument": "token-as-an-argument",
    "pool": PASSWORD,
}


@pytest.fixture
def hostile(copied: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Secrets of every kind in the configuration, and in whatever else gets into a bundle."""
    monkeypatch.setenv("XOBACKUP_TEST_SECRET", SECRETS["environment"])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    key = tmp_path / "key"
    key.write_text(SECRETS["file"] + "\n")
    key.chmod(0o600)
    bucket = f"s3://{SECRETS['bucket key']}:{quote(SECRETS['bucket secret'], safe='')}@store.example.com/bucket/dir"
    text = f"""
        [[jobs.nightly.hooks]]
        on = "after-run"
        command = ["true", "--token", "{SECRETS["hook argument"]}"]
        [[jobs.nightly.hooks]]
        on = "after-run"
        url = {{ env = "XOBACKUP_TEST_SECRET_URL" }}
        headers = {{ Authorization = "{SECRETS["header"]}" }}
        [remotes.bucket]
        url = "{bucket}"
        encryption = {{ mode = "xobackup", key = {{ file = "{key}" }} }}
        [pools.other]
        url = "https://10.0.0.1"
        password = {json.dumps(SECRETS["inline"])}
        [pools.third]
        url = "https://10.0.0.2"
        password = {{ env = "XOBACKUP_TEST_SECRET" }}
        [pools.fourth]
        url = "https://10.0.0.3"
        password = {{ command = ["printf", "%s", "{SECRETS["argument"]}"] }}
        [notify.chat]
        webhook = "{SECRETS["webhook"]}"
        [web.users.admin]
        password_hash = "{SECRETS["hash"]}"
        [schedules.daily]
        jobs = ["nightly"]
        every = "1d"
    """
    monkeypatch.setenv("XOBACKUP_TEST_SECRET_URL", SECRETS["webhook"])
    copied.config.write_text(copied.config.read_text() + text)
    everywhere = " ".join(SECRETS.values())
    coded = base64.b64encode(b"xx" + everywhere.encode()).decode()
    copied.xobackup("schedules", "pause", "daily", "--reason", everywhere)
    (copied.state / "audit.jsonl").write_text(json.dumps({"who": "admin", "what": json.dumps(everywhere)}) + "\n")
    run_id = "00000000-0000-4000-8000-000000000001"
    journal = copied.state / "journal" / f"1790000000000-{run_id}.jsonl"
    journal.parent.mkdir(exist_ok=True)
    started = {"kind": "run-started", "run_id": run_id, "verb": "run", "job": "nightly"}
    ended = {"kind": "warning", "vm": "", "remote": "", "message": f"{everywhere} {quote(everywhere)} {coded}"}
    journal.write_text("\n".join(json.dumps({"at_s": 1.0, **one}) for one in (started, ended)) + "\n")
    (tmp_path / "serve.log").write_text(f"a line\n{everywhere}\n{coded}\n{quote(everywhere, safe='')}\n")
    (tmp_path / "xobackup-crash-1.txt").write_text(f"Traceback: {everywhere!r}")
    return copied


def opened(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        files = {one.name: tar.extractfile(one) for one in tar.getmembers()}
        return {name.partition("/")[2]: file.read() for name, file in files.items() if file is not None}


def assert_without_secrets(path: Path) -> None:
    raw = path.read_bytes()
    everything = raw + gzip.decompress(raw) + b"".join(opened(path).values())
    for name, secret in SECRETS.items():
        lines = secret.splitlines()
        for form in (*lines, json.dumps(secret)[1:-1], quote(secret), quote(secret, safe="")):
            assert form.encode() not in everything, name
        for shift in range(3):
            coded = base64.b64encode(b"x" * shift + lines[0].encode()).decode().rstrip("=")
            assert coded[4:-1].encode() not in everything, name


def test_no_secret_is_in_any_byte_of_it(hostile: Site, tmp_path: Path) -> None:
    path = tmp_path / "bundle.tar.gz"
    said = hostile.xobackup(
        "support-bundle", "--output", path, "--log", tmp_path / "serve.log", "--doctor-wait", "30", "--runs", "50"
    )
    assert_without_secrets(path)
    assert path.stat().st_mode & 0o777 == 0o600
    files = opened(path)
    assert {"CONTENTS.txt", "versions.json", "configuration.json", "doctor.json", "history/runs.json"} <= set(files)
    assert {"service/paused.json", "logs/0-serve.log", "crashes/xobackup-crash-1.txt"} <= set(files)
    contents = files.pop("CONTENTS.txt").decode()
    assert all(name in contents and name in said.out for name in files)
    shown = json.loads(files["configuration.json"])
    assert shown["remotes"]["bucket"]["url"] == "s3://***@store.example.com/bucket/dir"
    assert shown["pools"]["third"]["password"] == {"env": "XOBACKUP_TEST_SECRET"}
    assert shown["jobs"]["nightly"]["hooks"][0]["command"] == ["true", "(2 arguments)"]
    verdicts = json.loads(files["doctor.json"])
    assert any(one.get("subject") == "remote nas" for one in verdicts[1:]), verdicts
    assert "a line" in files["logs/0-serve.log"].decode()
    assert "there is such a file already" in hostile.xobackup("support-bundle", "-o", path, "--offline", code=1).err


def test_a_configuration_that_cannot_be_used_is_where_help_is_needed(hostile: Site, tmp_path: Path) -> None:
    hostile.config.write_text(
        hostile.config.read_text() + '[history]\nurl = "mysql://me:printed-by-a-command@db/x"\n'
    )
    path = tmp_path / "bundle.tar.gz"
    said = hostile.xobackup("support-bundle", "--output", path, "--json")
    assert_without_secrets(path)
    files = opened(path)
    assert not [name for name in files if name.startswith(("journals/", "history/", "logs/", "doctor"))]
    assert "history.url" in json.loads(files["configuration.json"])["problem"]
    assert any("counted as secret" in note for note in said.of("support-bundle")[0]["notes"])
    hostile.config.write_text("no = = toml\npassword = 'printed-by-a-command'\n")
    hostile.xobackup("support-bundle", "--output", tmp_path / "second.tar.gz")
    assert_without_secrets(tmp_path / "second.tar.gz")


def test_without_names(hostile: Site, tmp_path: Path) -> None:
    hostile.pool.faults.fail_call("VM.snapshot*", "SR_FULL", ["web system on sim"], times=1)
    hostile.xobackup("run", "--vm", "web", code=1)
    path = tmp_path / "bundle.tar.gz"
    hostile.xobackup("support-bundle", "--output", path, "--offline", "--anonymous", "--log", tmp_path / "serve.log")
    assert_without_secrets(path)
    files = opened(path)
    everything = b"\n".join(files.values()).decode()
    for name in ("nightly", "web system", "web data", "store.example.com", "bucket", "chat", str(tmp_path), "daily"):
        assert name not in everything, name
    words = set(everything.replace('"', " ").split())
    assert ': "web"' not in everything and not words & {"db", "sim", "nas", "admin", "prod"}
    assert hostile.uuid("web") in everything and "vm-ended" in everything and '"outcome"' in everything
    assert not [name for name in files if name.startswith(("logs", "crashes", "doctor"))]

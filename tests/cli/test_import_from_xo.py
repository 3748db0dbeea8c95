"""``import-from-xo``: from an export or the REST API to a configuration with which chains go on."""

from __future__ import annotations

import gzip
import json
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from xobackup.cli import new_files
from xotest.certificates import Certificate, make_certificate
from xotest.hook_server import HookServer, hook_server
from xotest.site import Result, Site, finish, start, xobackup
from xotest.xo_config import (
    DB,
    LYON_POOL,
    NAS,
    NIGHTLY,
    PARIS,
    PARIS_POOL,
    WEB,
    job,
    schedule,
    schedule_id,
    small_export,
    whole_export,
)

TOKEN = "TN2YBOMYtXB_hHtf4wTzm9p5tTuqq2i15yeuhcz2xXM"


def written(directory: Path, value: dict[str, Any]) -> Path:
    path = directory / "export.json"
    path.write_text(json.dumps(value))
    return path


def imported(*arguments: str | Path, code: int = 0) -> Result:
    result = xobackup("import-from-xo", *arguments)
    assert result.code == code, result
    return result


def test_the_configuration_goes_to_standard_output_and_remarks_beside_it(tmp_path: Path) -> None:
    result = imported(written(tmp_path, whole_export()), code=3)
    path = tmp_path / "xobackup.toml"
    path.write_text(result.out)
    assert xobackup("config", "check", "-c", path).code == 0
    assert '[jobs.Mirror]\nmode = "mirror"' in re.sub(r"\n#.*", "", result.out)
    assert re.search(r"^error: \d things could not be translated, see above$", result.err, re.MULTILINE)
    assert "fill in: pools.Paris.password: the environment variable XOBACKUP_POOLS_PARIS_PASSWORD" in result.err
    assert sorted(tmp_path.iterdir()) == [tmp_path / "export.json", path]


def test_json_lines_say_the_same(tmp_path: Path) -> None:
    result = imported(written(tmp_path, whole_export()), "--json", code=3)
    assert {record["level"] for record in result.of("remark")} == {"refused", "differs", "note"}
    (configuration,) = result.of("configuration")
    refused = [record for record in result.of("remark") if record["level"] == "refused"]
    assert "[jobs.Nightly-prod-daily]" in configuration["toml"] and configuration["refused"] == len(refused)


def test_an_export_comes_by_standard_input_too(tmp_path: Path) -> None:
    path = tmp_path / "export.json.gz"
    path.write_bytes(gzip.compress(json.dumps(small_export()).encode()))
    with path.open("rb") as file:
        result = finish(start("import-from-xo", "-", stdin=file))
    assert result.code == 0 and "[jobs.Nightly]" in result.out


def test_a_file_is_never_overwritten_unless_asked(tmp_path: Path) -> None:
    export, output = written(tmp_path, small_export()), tmp_path / "out.toml"
    imported(export, "--output", output)
    output.write_text("mine")
    assert "it is there already" in imported(export, "--output", output, code=2).err
    assert output.read_text() == "mine"
    imported(export, "--output", output, "--force")
    assert "[jobs.Nightly]" in output.read_text() and stat.S_IMODE(output.stat().st_mode) == 0o600


def test_secrets_in_files_are_read_by_the_configuration(tmp_path: Path) -> None:
    export, output = written(tmp_path, whole_export()), tmp_path / "out.toml"
    imported(export, "--output", output, "--secrets", "files", code=3)
    secrets = tmp_path / "out.secrets"
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {0o600}
    assert (secrets / "pools.Paris.password").read_text() == "paris secret\n"
    assert xobackup("config", "check", "--secrets", "-c", output).code == 0
    assert "--secrets files" in imported(export, "--secrets", "files", code=2).err


def test_bad_input_is_one_sentence(tmp_path: Path) -> None:
    garbage = tmp_path / "x.json.gz.enc"
    garbage.write_bytes(b"\xc3\x2e\x04\x09\x03\x08garbage")
    error = imported(garbage, code=2).err
    assert "it is encrypted with a passphrase" in error and "hint: export it again without" in error
    assert "No such file" in imported(tmp_path / "absent", code=2).err
    output = tmp_path / "no" / "out.toml"
    assert "no such directory" in imported(written(tmp_path, small_export()), "-o", output, code=2).err
    assert "nothing to import" in imported(code=2).err
    assert "expected UUID=SERVER" in imported(written(tmp_path, small_export()), "--pool", "x", code=2).err


class PowerCut(BaseException):
    """Nothing after it happens, cleaning up included."""


@pytest.mark.parametrize("force", [False, True])
def test_a_file_is_whole_or_not_there_wherever_the_power_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    """Every call that changes something fails in its turn, and all after it."""
    calls = [(os, "open"), (os, "fsync"), (Path, "replace"), (Path, "hardlink_to"), (Path, "unlink")]
    path = tmp_path / "out.toml"
    cut_at, left = 0, 0

    def cutting(real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            if left <= 0:
                raise PowerCut
            left -= 1
            return real(*arguments, **options)

        return call

    finished = False
    while not finished:
        if force:
            path.write_text("old")
        cut_at += 1
        left = cut_at
        with monkeypatch.context() as patch:
            for owner, name in calls:
                patch.setattr(owner, name, cutting(getattr(owner, name)))
            try:
                new_files.write_new(path, "new content", force=force)
                finished = True
            except PowerCut:
                pass
        there = path.read_text() if path.exists() else None
        assert there in (("old", "new content") if force else (None, "new content"))
        path.unlink(missing_ok=True)
    assert cut_at > 5
    new_files.write_new(path, "again", force=False)
    assert [one.name for one in tmp_path.iterdir()] == ["out.toml"]  # what cuts left was taken over and removed


def exported_for(site: Site) -> dict[str, Any]:
    """As if Xen Orchestra backed up the site's pool."""
    value = small_export()
    value["xenServers"][0] |= {"host": site.pool.url, "password": site.pool.password, "label": "sim"}
    value["remotes"] = [{"enabled": True, "name": "nas", "url": f"file://{site.repository}", "id": NAS}]
    value["jobs"] = [
        job(
            NIGHTLY,
            "Nightly",
            vms={"type": "VM", "tags": {"__or": [["prod"]]}},
            settings={"": {}, schedule_id(1): {"exportRetention": 2}, schedule_id(2): {"exportRetention": 5}},
        )
    ]
    value["schedules"] = [schedule(1, NIGHTLY, name="daily"), schedule(2, NIGHTLY, name="weekly")]
    return value


def points_of(site: Site, vm: str) -> list[dict[str, Any]]:
    found = (site.repository / "xo-vm-backups" / site.uuid(vm)).glob("*Z.json")
    return [json.loads(path.read_text()) for path in found]


@pytest.mark.slow
def test_chains_of_imported_jobs_go_on_as_deltas_and_retention_counts_each_schedule(
    site: Site, tmp_path: Path
) -> None:
    """The first two backups stand for Xen Orchestra's: same keys on snapshots, same ids in the repository."""
    site.configure(f'id = "{NIGHTLY}"', f'schedule_id = "{schedule_id(1)}"')
    site.xobackup("run")
    site.pool.gc()
    site.xobackup("run")
    output = tmp_path / "imported.toml"
    imported(written(tmp_path, exported_for(site)), "--output", output, "--secrets", "files")
    (tmp_path / "imported.d").mkdir()
    (tmp_path / "imported.d" / "state.toml").write_text(f'state_directory = "{site.state}"\n')
    assert xobackup("config", "check", "--secrets", "-c", output).code == 0
    plans = xobackup("plan", "--json", "-c", output).of("plan")
    routes = [route for plan in plans for vm in plan["vms"] for disk in vm["disks"] for route in disk["routes"]]
    assert [plan["job"] for plan in plans] == ["Nightly-daily", "Nightly-weekly"]
    assert {route["mode"] for route in routes} == {"delta"} and len(routes) == 6
    daily, weekly = schedule_id(1), schedule_id(2)
    for name, expected in (
        ("Nightly-daily", {daily: 2}),
        ("Nightly-weekly", {daily: 2, weekly: 1}),
        ("Nightly-daily", {daily: 2, weekly: 1}),
    ):
        site.pool.gc()
        assert xobackup("run", name, "-c", output).code == 0
        points = points_of(site, "web")
        assert Counter(point["scheduleId"] for point in points) == expected
        assert {(point["mode"], point["jobId"]) for point in points} == {("delta", NIGHTLY)}
    assert xobackup("verify", "--remote", "nas", "-c", output).code == 0


@pytest.mark.slow
def test_a_schedule_of_snapshots_alone_costs_the_next_delta_nothing(site: Site, tmp_path: Path) -> None:
    """It shares the job's id, and with it the snapshot that the next delta continues from."""
    value = exported_for(site)
    value["jobs"][0]["settings"][schedule_id(2)] = {"snapshotRetention": 1}
    output = tmp_path / "imported.toml"
    imported(written(tmp_path, value), "--output", output, "--secrets", "files")
    (tmp_path / "imported.d").mkdir()
    (tmp_path / "imported.d" / "state.toml").write_text(f'state_directory = "{site.state}"\n')
    for name in ("Nightly-daily", "Nightly-weekly", "Nightly-weekly"):
        assert xobackup("run", name, "-c", output).code == 0
        site.pool.gc()
    (plan,) = xobackup("plan", "Nightly-daily", "--json", "-c", output).of("plan")
    routes = [route for vm in plan["vms"] for disk in vm["disks"] for route in disk["routes"]]
    assert {route["mode"] for route in routes} == {"delta"}


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return make_certificate(tmp_path, name="xo")


@contextmanager
def xo(answers: dict[str, Any], certificate: Certificate | None) -> Iterator[HookServer]:
    """A REST API: ``answers`` by collection; 404 for others, 401 without the token."""
    with hook_server(certificate) as server:
        server.by_path = lambda asked: _answer(answers, asked)
        yield server


def _answer(answers: dict[str, Any], asked: Any) -> tuple[int, bytes]:
    if asked.headers.get("cookie", asked.headers.get("Cookie")) != f"authenticationToken={TOKEN}":
        return 401, b"Unauthorized"
    name = asked.path.removeprefix("/rest/v0/").partition("?")[0]
    return (200, json.dumps(answers[name]).encode()) if name in answers else (404, b"Not found")


def api_of(value: dict[str, Any]) -> dict[str, Any]:
    """What the API tells of an export: no passwords, pools of servers and VMs."""
    servers = [{**one, "poolId": PARIS_POOL, "status": "connected"} for one in value["xenServers"]]
    for one in servers:
        del one["password"]
    vms = [
        {"uuid": DB, "name_label": "db", "$pool": PARIS_POOL, "href": "/rest/v0/vms/1"},
        {"uuid": WEB, "name_label": "web\n1", "$pool": PARIS_POOL},
    ]
    named = {"backup-jobs": "jobs", "schedules": "schedules", "backup-repositories": "remotes"}
    return {theirs: value[ours] for theirs, ours in named.items()} | {"servers": servers, "vms": vms}


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    return path


def test_the_rest_api_gives_what_an_export_does_but_no_secrets(
    tmp_path: Path, certificate: Certificate, token: Path
) -> None:
    with xo(api_of(small_export()), certificate) as server:
        trust = ("--fingerprint", certificate.sha256)
        result = imported("--url", server.origin, "--token-file", token, *trust)
    path = tmp_path / "x.toml"
    path.write_text(result.out)
    assert xobackup("config", "check", "-c", path).code == 0
    assert f'{{ uuid = "{WEB}" }},  # web 1' in result.out and f'id = "{NIGHTLY}"' in result.out
    assert "fill in: pools.Paris.password" in result.err and TOKEN not in result.out + result.err


def test_older_releases_have_their_jobs_elsewhere(certificate: Certificate, token: Path) -> None:
    answers = api_of(small_export())
    answers["backup/jobs/vm"] = answers.pop("backup-jobs")
    with xo(answers, certificate) as server:
        result = imported("--url", server.origin, "--token-file", token, "--ca", certificate.cert_path)
    assert "[jobs.Nightly]" in result.out


def test_beside_an_export_the_api_tells_where_vms_are(tmp_path: Path, certificate: Certificate, token: Path) -> None:
    value = small_export()
    value["xenServers"].append({**value["xenServers"][0], "host": "10.0.0.2", "label": "Lyon", "id": "lyon"})
    answers = api_of(value)
    answers["servers"][1]["poolId"] = LYON_POOL
    answers["vms"][1]["$pool"] = LYON_POOL
    export = written(tmp_path, value)
    assert "on which of the servers is VM" in imported(export, code=3).err
    with xo(answers, certificate) as server:
        result = imported(export, "--url", server.origin, "--token-file", token, "--insecure", "--secrets", "inline")
    assert "[jobs.Nightly-Paris]" in result.out and "[jobs.Nightly-Lyon]" in result.out
    assert 'password = "paris secret"' in result.out and "it holds secrets in clear" in result.err
    assert PARIS in result.out


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (("--fingerprint", "ab" * 32), 6, "its certificate is not the pinned one"),
        ((), 6, "its certificate is not trusted"),
        (("--insecure", "--fingerprint", "ab" * 32), 2, "at most one of --ca"),
    ],
)
def test_the_token_goes_to_nobody_else(
    certificate: Certificate, token: Path, arguments: tuple[str, ...], code: int, expected: str
) -> None:
    with xo(api_of(small_export()), certificate) as server:
        result = imported("--url", server.origin, "--token-file", token, *arguments, code=code)
        assert expected in result.err and server.asked == []


def test_plain_http_and_redirections_are_refused(token: Path) -> None:
    with xo({}, None) as server:
        assert "in clear" in imported("--url", server.origin, "--token-file", token, code=2).err
        server.by_path = None
        server.status, server.location = 302, "https://elsewhere.example/"
        told = imported("--url", server.origin, "--token-file", token, "--insecure", code=1).err
        assert "it leads elsewhere, to https://elsewhere.example/" in told and len(server.asked) == 1


def test_a_token_that_is_not_accepted(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XO_TOKEN", "another")
    with xo(api_of(small_export()), certificate) as server:
        told = imported("--url", server.origin, "--insecure", code=6).err
        assert "the token is not accepted" in told and "hint: the token must be valid" in told
        monkeypatch.setenv("XO_TOKEN", "a\r\nx: y")
        assert "no token of Xen Orchestra" in imported("--url", server.origin, "--insecure", code=2).err
        monkeypatch.delenv("XO_TOKEN")
        assert "the environment variable XO_TOKEN is not set" in imported("--url", server.origin, code=2).err


@pytest.mark.parametrize("answer", [{"error": "x"}, 7, [1, None]])
def test_answers_that_are_none(certificate: Certificate, token: Path, answer: Any) -> None:
    with xo({**api_of(small_export()), "backup-jobs": answer}, certificate) as server:
        result = xobackup("import-from-xo", "--url", server.origin, "--token-file", token, "--insecure")
    assert result.code in (2, 3) and "error: " in result.err

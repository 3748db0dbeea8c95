"""After an attack on a real bucket with object lock: what is told, restored from before, and brought back."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from remotes.clock import SystemClock
from xotest.s3.stores import SECRET, Store
from xotest.site import Site, xobackup


@pytest.fixture
def locked(site: Site, radosgw_stores: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch) -> tuple[Site, str]:
    monkeypatch.setenv("STORE_SECRET", SECRET)
    store = radosgw_stores[0]
    bucket = store.bucket(ObjectLockEnabledForBucket=True)
    host = store.endpoint.partition("://")[2]
    site.configure(
        replace=(
            f'url = "file://{site.repository}"',
            f'url = "s3+http://{host}/{bucket}/xen"\n'
            'credentials = { access_key = "AKIDAKID", secret_key = { env = "STORE_SECRET" } }\n'
            'lock = { mode = "governance", days = 30 }',
        )
    )
    return site, bucket


@pytest.mark.slow
def test_backups_survive_whoever_has_the_keys(
    locked: tuple[Site, str], radosgw_stores: tuple[Store, Store], tmp_path: Path
) -> None:
    site, bucket = locked
    site.xobackup("run", "nightly", "--vm", "db")
    before = disk(site, tmp_path / "before.raw")
    client = radosgw_stores[0].client()
    moment = SystemClock().now_s()
    _delete_all(client, bucket, after_s=moment)

    gone = site.xobackup("backups", "history", "--remote", "nas", "--json").of("version")
    assert [one["name"] for one in gone] == ["db"] and gone[0]["locked_until_s"] > moment + 36 * 86_400
    then = _utc(gone[0]["gone_s"] - 1)
    listed = site.xobackup("backups", "list", "--remote", "nas", "--as-of", then, "--json").of("vm")
    assert [(one["name"], one["points"]) for one in listed] == [("db", 1)]
    assert disk(site, tmp_path / "past.raw", "--as-of", then) == before
    dry = site.xobackup("backups", "undelete", "db", "--remote", "nas", "--as-of", then)
    assert "add --yes" in dry.out
    back = site.xobackup("backups", "undelete", "db", "--remote", "nas", "--as-of", then, "--yes")
    assert "1 restore point of db brought back" in back.out
    assert disk(site, tmp_path / "back.raw") == before
    again = site.xobackup("backups", "undelete", "db", "--remote", "nas", "--as-of", then, "--yes")
    assert "nothing of db is missing" in again.out
    shown = site.xobackup("backups", "show", "--remote", "nas", "db", "--json").of("restore-point")
    refused = xobackup("backups", "delete", "db", shown[0]["id"], "-r", "nas", "-c", site.config, "--yes")
    assert refused.code == 1 and re.search(r"is held by object lock \(governance\) until 20", refused.err)


def disk(site: Site, path: Path, *more: str) -> str:
    site.xobackup("restore", "disk", "--remote", "nas", "db", "--disk", "0", "--output", path, *more)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _utc(seconds: float) -> str:
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _delete_all(client: object, bucket: str, *, after_s: float) -> None:
    while SystemClock().now_s() < after_s + 2.1:  # versions have times to the second
        SystemClock().sleep(0.1)
    found = client.list_objects_v2(Bucket=bucket)  # type: ignore[attr-defined]
    for each in found["Contents"]:
        client.delete_object(Bucket=bucket, Key=each["Key"])  # type: ignore[attr-defined]


def test_times_and_storages_that_make_no_sense(site: Site) -> None:
    wrong = xobackup("backups", "list", "--as-of", "yesterday", "-r", f"file://{site.repository}")
    assert wrong.code == 2 and "2026-11-26T03:00" in wrong.err
    site.repository.mkdir(exist_ok=True)
    past = xobackup("backups", "list", "--as-of", "2026-11-26", "-r", f"file://{site.repository}")
    assert past.code == 1 and "only a bucket that keeps old versions" in past.err

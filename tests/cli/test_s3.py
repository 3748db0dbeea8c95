"""The command line on an object store: what it can do, what was asked of it, wrong ways in; and no secret shown."""

from __future__ import annotations

import http.server
import threading
from pathlib import Path

import pytest

from xotest.s3.stores import SECRET, Store
from xotest.site import Site, xobackup


@pytest.fixture
def offsite(site: Site, moto_store: Store, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("STORE_SECRET", SECRET)
    host = moto_store.endpoint.partition("://")[2]
    site.configure(
        replace=(
            f'url = "file://{site.repository}"',
            f'url = "s3+http://{host}/{moto_store.bucket()}/xen"\n'
            'credentials = { access_key = "AKIDAKID", secret_key = { env = "STORE_SECRET" } }',
        )
    )
    return site


@pytest.mark.slow
def test_backups_go_there_and_come_back(offsite: Site, tmp_path: Path) -> None:
    told = offsite.xobackup("doctor").out
    assert "kept apart by leases" in told and SECRET not in told
    run = offsite.xobackup("run", "nightly", "--vm", "db", "--json")
    (report,) = run.of("report")
    used = report["storage"]["nas"]
    assert used["requests"]["put_object"] > 3 and used["sent_bytes"] > 0
    assert SECRET not in run.out + run.err
    told = offsite.xobackup("run", "nightly", "--vm", "db").out
    assert "nas: " in told and "requests" in told and "received" in told
    shown = offsite.xobackup("backups", "show", "--remote", "nas", "db", "--json")
    assert len(shown.of("point")) == 2 if shown.of("point") else shown.out
    out = tmp_path / "disk.raw"
    offsite.xobackup("restore", "disk", "--remote", "nas", "db", "--disk", "0", "--output", out, "--format", "raw")
    assert out.stat().st_size == 6 << 20
    offsite.xobackup("verify", "--remote", "nas")
    assert "nothing" in offsite.xobackup("clean", "--remote", "nas").out.lower()


def test_a_bucket_that_is_not_there(moto_store: Store) -> None:
    result = xobackup("remote", "test", moto_store.url("no-such-bucket"))
    assert result.code == 6 and "there is no such bucket" in result.err and "hint: make the bucket" in result.err
    assert SECRET not in result.err


def test_an_endpoint_that_does_not_answer() -> None:
    result = xobackup("remote", "test", "s3+http://KEY:S3CRET@127.0.0.1:9/bucket")
    assert result.code == 6 and "127.0.0.1:9" in result.err and "is the endpoint right" in result.err
    assert "S3CRET" not in result.err and "list-type" not in result.err


@pytest.mark.slow
def test_a_real_store_names_wrong_secrets_and_certificates(radosgw_stores: tuple[Store, Store]) -> None:
    plain, tls = radosgw_stores
    bucket = plain.bucket()
    result = xobackup("remote", "test", plain.url(bucket, secret="WRONG"))
    assert result.code == 6 and "the secret key does not fit" in result.err and "WRONG" not in result.err
    unknown = Store(kind="", endpoint=plain.endpoint, key="NOBODY")
    result = xobackup("remote", "test", unknown.url(bucket))
    assert result.code == 6 and "the access key is not known there" in result.err
    stranger = Store(kind="", endpoint=tls.endpoint)
    result = xobackup("remote", "test", stranger.url(bucket))
    assert result.code == 6 and "TLS" in result.err and "hint: name the authority" in result.err
    unverified = xobackup("remote", "test", stranger.url(bucket, allowUnauthorized="true"), "--json")
    assert unverified.code == 0
    assert any("not verified" in remark["message"] for remark in unverified.of("remark"))


class Page(http.server.BaseHTTPRequestHandler):
    """A web server, or a proxy, that answers everything with a page."""

    status = 200

    def do_GET(self) -> None:
        page = b"<html><body>Welcome</body></html>"
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    do_PUT = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.mark.parametrize("status", [200, 400, 404])
def test_what_is_no_store_is_not_taken_for_an_empty_one(status: int) -> None:
    kind = type("Answers", (Page,), {"status": status})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"127.0.0.1:{server.server_port}"
        result = xobackup("remote", "test", f"s3+http://KEY:S3CRET@{host}/bucket")
        assert result.code == 6 and "is the endpoint a store that speaks S3" in result.err
        result = xobackup("remote", "test", f"s3://KEY:S3CRET@{host}/bucket")
        assert result.code == 6 and "hint: the endpoint has no TLS" in result.err
        server.shutdown()
    result = xobackup("remote", "test", "s3://KEY:S3CRET@host/bucket?ca=%22/nowhere.pem%22")
    assert result.code == 6 and "there is no file /nowhere.pem" in result.err


def test_a_careless_store_is_told_of(rclone_store: Store) -> None:
    result = xobackup("remote", "test", rclone_store.url(rclone_store.bucket()))
    assert result.code == 0, result.out
    assert "no lock: the store ignores If-None-Match" in result.out

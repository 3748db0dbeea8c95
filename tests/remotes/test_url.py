"""URLs in Xen Orchestra's form; bad ones are refused with the piece that is wrong and without any secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from remotes.errors import InvalidUrl, NotSupported, Unavailable
from remotes.local import LocalRemote
from remotes.memory import MemoryRemote
from remotes.url import UrlKind, open_remote, parse_url

KEY = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("text", "path", "options"),
    [
        ("/srv/backups", "/srv/backups", {}),
        ("/srv/odd name?#%41", "/srv/odd name?#%41", {}),
        ("file:///srv/backups", "/srv/backups", {}),
        ("file:/srv/backups", "/srv/backups", {}),
        ("FILE:///srv/backups/", "/srv/backups/", {}),
        ("file:///srv/my%20backups", "/srv/my backups", {}),
        ("file:///srv?useVhdDirectory=true", "/srv", {"useVhdDirectory": True}),
        (
            f"file:///srv?useVhdDirectory=false&encryptionKey=%22{KEY}%22",
            "/srv",
            {"useVhdDirectory": False, "encryptionKey": KEY},
        ),
        ("file:///srv?n=12&list=%5B1%2C2%5D&flag", "/srv", {"n": 12, "list": [1, 2], "flag": True}),
    ],
)
def test_file_urls(text: str, path: str, options: dict[str, object]) -> None:
    url = parse_url(text)
    assert (url.kind, url.path, url.options) == (UrlKind.FILE, path, options)
    assert KEY not in url.redacted
    assert KEY not in repr(url)
    assert KEY not in str(url)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "found it"),
        ("relative/path", "found it"),
        ("ftp://host/path", "found ftp:"),
        ("file://srv/backups", "absolute path"),
        ("file:relative", "'relative'"),
        ("file:", "absolute path"),
        ("file:///srv%00x", "NUL"),
        ("file:///srv?useVhdDirectory=yes", "'useVhdDirectory' is not JSON: found 'yes'"),
        ("file:///srv?a=1&a=2", "'a' is given twice"),
        ("file:///srv?=1", "without a name"),
        ("file:///srv?&", "without a name"),
        (f"file:///srv?encryptionKey={KEY}x", r"'encryptionKey' is not JSON: found \*\*\*"),
    ],
)
def test_a_bad_url_is_refused_with_the_piece_that_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(InvalidUrl, match=problem) as caught:
        parse_url(text)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "kind", "redacted"),
    [
        ("nfs://192.0.2.1:2049:/export/dir?useVhdDirectory=true", UrlKind.NFS, "nfs://192.0.2.1:2049:/export/dir"),
        ("smb://user:S3CRET@DOMAIN\\\\host\0dir\\sub", UrlKind.SMB, "smb://***@DOMAIN\\\\host/dir\\sub"),
        ("s3://KEYID:S3CRET@host/bucket/dir?x=1#region", UrlKind.S3, "s3://***@host/bucket/dir"),
        ("s3+http://KEYID:S3CRET%2F@host/bucket", UrlKind.S3, "s3+http://***@host/bucket"),
        ("s3://KEYID:S3C/RET@host/bucket", UrlKind.S3, "s3://***"),
        ("azure://account:S3CRET@host/container/dir", UrlKind.AZURE, "azure://***@host/container/dir"),
        ("azurite+http://account:S3CRET@host/c", UrlKind.AZURE, "azurite+http://***@host/c"),
        ("s3://[S3CRET", UrlKind.S3, "s3://***"),
    ],
)
def test_other_kinds_are_known_but_not_supported(text: str, kind: UrlKind, redacted: str) -> None:
    url = parse_url(text)
    assert (url.kind, url.redacted) == (kind, redacted)
    assert "S3C" not in repr(url.redacted)
    with pytest.raises(NotSupported, match=f"kind {kind} are not supported") as caught:
        open_remote(text)
    assert "S3C" not in str(caught.value)


@given(st.text() | st.text('file:/?&=%"{}[]0a#@').map(lambda text: f"file:///{text}"))
@example("s3://]")
@example("smb://\0")
@example("file:///x?a=" + "[" * 100_000)
def test_any_text_is_a_url_or_refused(text: str) -> None:
    try:
        url = parse_url(text)
    except InvalidUrl:
        return
    assert url.redacted
    if url.kind is UrlKind.FILE:
        assert url.path.startswith("/")


def test_a_url_is_opened(tmp_path: Path) -> None:
    assert isinstance(open_remote("memory:"), MemoryRemote)
    with pytest.raises(Unavailable, match="does not exist"):
        open_remote(f"file://{tmp_path}/new")
    for text in (f"file://{tmp_path}/new?useVhdDirectory=true", str(tmp_path / "new")):
        remote = open_remote(text, create_root=True)
        assert isinstance(remote, LocalRemote)
        assert remote.path == tmp_path / "new"
        remote.close()

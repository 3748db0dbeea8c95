"""URLs in Xen Orchestra's form; bad ones are refused with the piece that is wrong and without any secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from remotes.errors import InvalidUrl, NotSupported, Unavailable
from remotes.local import LocalRemote
from remotes.memory import MemoryRemote
from remotes.nfs import mount_options, parse_address
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
    ("text", "source", "options"),
    [
        ("nfs://192.0.2.1:/export/dir?useVhdDirectory=true", "192.0.2.1:/export/dir", "soft,timeo=600,retrans=2"),
        ("nfs://nas/export/", "nas:/export", "soft,timeo=600,retrans=2"),
        ("nfs://nas:20049:/a%20b", "nas:/a b", "soft,timeo=600,retrans=2,port=20049"),
        ("nfs://nas:20049/a?vers=4.2&soft=false", "nas:/a", "vers=4.2,hard,timeo=600,retrans=2,port=20049"),
        ("nfs://[2001:db8::1]:/a?retrans=0&timeo=30", "[2001:db8::1]:/a", "soft,timeo=30,retrans=0"),
        ("nfs://nas:/", "nas:/", "soft,timeo=600,retrans=2"),
        (
            "nfs://nas:/a?vers=3&proto=%22tcp%22&sec=%22krb5p%22&nconnect=4&options=%22noatime,rsize=65536%22",
            "nas:/a",
            "vers=3,proto=tcp,sec=krb5p,soft,timeo=600,retrans=2,nconnect=4,noatime,rsize=65536",
        ),
    ],
)
def test_nfs_urls(text: str, source: str, options: str) -> None:
    url = parse_url(text)
    address = parse_address(url.path, url.redacted)
    assert url.kind is UrlKind.NFS and address.source == source
    assert mount_options(address, url.options, url.redacted) == options


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nfs:", "expected nfs://host:/path"),
        ("nfs://nas", "expected nfs://host:/path"),
        ("nfs://nas:export", "expected nfs://host:/path"),
        ("nfs://-o,x y/a", "expected nfs://host:/path"),
        ("nfs://nas:99999:/a", "port from 1 to 65535"),
        ("nfs://nas:/a/../../etc", "without '..'"),
        ("nfs://nas:/a%0Ab", "line break"),
        ("nfs://nas:/a?vers=5", "'vers': expected one of 3, 4"),
        ("nfs://nas:/a?vers=true", "'vers': expected one of"),
        ("nfs://nas:/a?timeo=0", "'timeo': expected a whole number from 1"),
        ("nfs://nas:/a?retrans=%222%22", "'retrans': expected a whole number"),
        ("nfs://nas:/a?soft=1", "'soft': expected true or false"),
        ("nfs://nas:/a?options=%22ro%20-t%20ext4%22", "'options': expected text for mount -o without spaces"),
        ("nfs://nas:/a?options=%22-o%22", "'options': expected text"),
    ],
)
def test_what_cannot_be_mounted_is_refused_by_name(text: str, problem: str) -> None:
    with pytest.raises(InvalidUrl, match=problem):
        parse_url(text)


@pytest.mark.parametrize("seconds", ["0", "-1", "true", "%22x%22"])
def test_a_time_to_wait_for_the_storage_is_a_number_of_seconds(tmp_path: Path, seconds: str) -> None:
    with pytest.raises(InvalidUrl, match="'ioTimeout': expected seconds above 0"):
        open_remote(f"file://{tmp_path}?ioTimeout={seconds}")


def test_a_directory_on_which_nothing_is_mounted_is_refused_when_something_should_be(tmp_path: Path) -> None:
    (tmp_path / "backups").mkdir()
    with pytest.raises(Unavailable, match=f"nothing is mounted at {tmp_path}; backups would fill the disk below"):
        open_remote(f"file://{tmp_path}?mounted=true")
    with pytest.raises(Unavailable, match="nothing is mounted at"):
        open_remote(f"file://{tmp_path}/backups?mounted=%22{tmp_path}%22")
    with pytest.raises(InvalidUrl, match="is not above"):
        open_remote(f"file://{tmp_path}?mounted=%22{tmp_path}/backups%22")
    with pytest.raises(InvalidUrl, match="expected true or an absolute path"):
        open_remote(f"file://{tmp_path}?mounted=%22here%22")
    open_remote("file:///proc?mounted=true").close()


@pytest.mark.parametrize(
    ("text", "kind", "redacted"),
    [
        ("smb://user:S3CRET@DOMAIN\\\\host\0dir\\sub", UrlKind.SMB, "smb://***@DOMAIN\\\\host/dir\\sub"),
        ("azure://account:S3CRET@host/container/dir", UrlKind.AZURE, "azure://***@host/container/dir"),
        ("azurite+http://account:S3CRET@host/c", UrlKind.AZURE, "azurite+http://***@host/c"),
        ("azure://account:S3C/RET@host/container", UrlKind.AZURE, "azure://***"),
        ("azure://[S3CRET", UrlKind.AZURE, "azure://***"),
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

"""URLs of remotes in Xen Orchestra's forms; most are examples of xo-remote-parser's tests and documents."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xobackup.config.from_xo.remote_urls import BadUrl, parse_xo_url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("file:///var/lib/xoa/backup", {"scheme": "file", "path": "/var/lib/xoa/backup"}),
        ("file://var/lib/xoa/backup", {"path": "/var/lib/xoa/backup"}),
        ("nfs://192.168.100.225:/media/nfs", {"host": "192.168.100.225", "port": "", "path": "/media/nfs"}),
        ("nfs://192.168.100.225:media/nfs", {"host": "192.168.100.225", "path": "/media/nfs"}),
        ("nfs://[fd00::1]:2049:/x", {"host": "[fd00::1]", "port": "2049", "path": "/x"}),
        (
            "smb://Administrator:pas:sw@ord@toto\\\\192.168.100.225\\smb\0",
            {"host": "192.168.100.225", "share": "smb", "username": "Administrator", "password": "pas:sw@ord",
             "domain": "toto", "path": ""},
        ),
        ("smb://u:p@d\\\\h\\s\0a\\b?useVhdDirectory=true", {"path": "a/b", "options": {"useVhdDirectory": True}}),
        (
            "s3://FOIS5DY532RGXD62TJ52:obfuscated-q3oi6d9X8uenGvdLnHk2@s3.us-east-2.amazonaws.com/with-lock/backup"
            "?useVhdDirectory=true",
            {"host": "s3.us-east-2.amazonaws.com", "path": "with-lock/backup", "username": "FOIS5DY532RGXD62TJ52"},
        ),
        ("s3+http://K:a%2Fb%40c@h:9000/b#eu", {"host": "h:9000", "password": "a/b@c", "region": "eu", "path": "b"}),
        ("azure://xodev123:password@xodev123.blob.core.windows.net/xodev/folder", {"scheme": "azure"}),
        ("file:///x?useVhdDirectory=", {"options": {"useVhdDirectory": False}}),
    ],
)  # fmt: skip
def test_a_url_is_taken_apart(text: str, expected: dict[str, Any]) -> None:
    url = parse_xo_url(text)
    assert {key: getattr(url, key) for key in expected} == expected


@pytest.mark.parametrize("text", ["", "ftp://x", "/path", "smb://u:p@h/share", "s3://K:sec/ret@h/b", "nfs://host"])
def test_what_is_none_of_them_is_refused_without_its_secrets(text: str) -> None:
    with pytest.raises(BadUrl) as caught:
        parse_xo_url(text)
    assert "sec" not in str(caught.value).replace("secret", "")


@given(scheme=st.sampled_from(["file", "nfs", "smb", "s3", "azure", "x"]), rest=st.text(max_size=80))
def test_any_text_raises_only_bad_url(scheme: str, rest: str) -> None:
    try:
        url = parse_xo_url(f"{scheme}://{rest}")
    except BadUrl:
        return
    assert "password" not in repr(url)

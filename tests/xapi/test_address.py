from __future__ import annotations

import pytest

from xobackup.xapi.address import Endpoint, PoolAddress, parse_endpoint
from xobackup.xapi.errors import AddressError
from xobackup.xapi.tls import Fingerprint, Unverified


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://xen1", "https://xen1"),
        ("xen1", "https://xen1"),
        ("10.0.0.1:8443", "https://10.0.0.1:8443"),
        ("https://10.0.0.1:443/", "https://10.0.0.1"),
        ("http://10.0.0.1", "http://10.0.0.1"),
        ("https://[fd00::1]", "https://[fd00::1]"),
        (" https://[fd00::1]:4 ", "https://[fd00::1]:4"),
    ],
)
def test_an_address_may_be_short(text: str, url: str) -> None:
    assert parse_endpoint(text).url == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ftp://x",
        "https://",
        "https://x/path",
        "https://u:p@x",
        "https://x:99999",
        "https://a b",
        "https://a..b",
        "https://" + "a" * 64,
        "https://x?q=1",
    ],
)
def test_a_bad_address_is_refused(text: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_endpoint(text)
    assert "u:p" not in str(caught.value)


@pytest.mark.parametrize(
    ("master", "url"),
    [
        ("10.0.0.2", "https://10.0.0.2:8443"),
        ("10.0.0.2:444", "https://10.0.0.2:444"),
        ("fd00::2", "https://[fd00::2]:8443"),
        ("[fd00::2]:9", "https://[fd00::2]:9"),
    ],
)
def test_the_masters_address_takes_our_port(master: str, url: str) -> None:
    assert Endpoint(secure=True, host="10.0.0.1", port=8443).at(master).url == url


def test_the_password_is_not_shown() -> None:
    address = PoolAddress(url="https://x", username="root", password="geheim", tls=Unverified())
    assert "geheim" not in repr(address)


def test_plain_http_needs_the_explicit_policy() -> None:
    with pytest.raises(AddressError, match="password"):
        PoolAddress(url="http://x", username="r", password="p", tls=Fingerprint("00" * 32)).endpoint()
    assert PoolAddress(url="http://x", username="r", password="p", tls=Unverified()).endpoint().port == 80

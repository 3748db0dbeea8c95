"""URLs of buckets, in Xen Orchestra's form: what they mean, and that no secret is ever shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotes.errors import InvalidUrl
from remotes.s3.address import S3Address, with_keys
from remotes.url import UrlKind, parse_url

SECRET = "S3C/RET+x@y:z?#%"
QUOTED = "S3C%2FRET%2Bx%40y%3Az%3F%23%25"


def address_of(url: str) -> S3Address:
    parsed = parse_url(url)
    assert parsed.kind is UrlKind.S3 and parsed.s3 is not None
    for shown in (parsed.redacted, repr(parsed), str(parsed), repr(parsed.s3), parsed.s3.shown):
        assert "S3C" not in shown and "T0KEN" not in shown
    return parsed.s3


def test_xen_orchestras_form() -> None:
    found = address_of(f"s3://KEY:{QUOTED}@minio.lan:9000/bucket/my%20dir/deep?useVhdDirectory=true#eu-west-3")
    assert found.endpoint == "https://minio.lan:9000" and (found.bucket, found.prefix) == ("bucket", "my dir/deep")
    assert (found.access_key, found.secret_key, found.region) == ("KEY", SECRET, "eu-west-3")
    assert found.path_style and found.verify and not found.amazon
    assert found.shown == "s3://***@minio.lan:9000/bucket/my dir/deep"


def test_without_keys_the_environment_gives_them() -> None:
    found = address_of("s3+http://[::1]:7480/bucket")
    assert (found.endpoint, found.access_key, found.shown) == (
        "http://[::1]:7480",
        "",
        "s3+http://[::1]:7480/bucket",
    )


@pytest.mark.parametrize(
    ("host", "region", "bucket", "path_style"),
    [
        ("s3.eu-central-1.amazonaws.com", "eu-central-1", "bucket", False),
        ("s3-eu-west-1.amazonaws.com", "eu-west-1", "bucket", False),
        ("s3.dualstack.us-gov-west-1.amazonaws.com", "us-gov-west-1", "bucket", False),
        ("s3.amazonaws.com", "us-east-1", "bucket", False),
        ("s3.amazonaws.com", "us-east-1", "with.dots", True),
        ("s3.cn-north-1.amazonaws.com.cn", "cn-north-1", "bucket", False),
        ("s3.amazonaws.com.evil.example", "us-east-1", "bucket", True),
    ],
)
def test_amazons_hosts_tell_their_region(host: str, region: str, bucket: str, path_style: bool) -> None:
    found = address_of(f"s3://{host}/{bucket}")
    assert (found.region, found.path_style) == (region, path_style)
    assert found.amazon == ("evil" not in host)


def test_options() -> None:
    found = address_of(
        "s3://K:S3C@host/bucket?region=%22r-1%22&profile=%22p%22&sessionToken=%22T0KEN%22&pathStyle=false"
        "&ca=%22/etc/ca.pem%22&allowUnauthorized=true&parallel=3&unknown=1"
    )
    assert (found.region, found.profile, found.session_token, found.ca) == ("r-1", "p", "T0KEN", "/etc/ca.pem")
    assert (found.path_style, found.verify, found.parallel) == (False, False, 3)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("s3://host", "name of a bucket after the host"),
        ("s3://host/", "name of a bucket after the host"),
        ("s3:///bucket", "expected a host"),
        ("s3://KEY:S3C/RET@host/bucket", "%2F"),
        ("s3://KEY@host/bucket", "KEY:SECRET before the @"),
        ("s3://KEY:@host/bucket", "KEY:SECRET before the @"),
        ("s3://ho st/bucket", "expected a host"),
        ("s3://[S3CRET", "expected a host"),
        ("s3://host/a_b$/x", "name of a bucket"),
        ("s3://host/bucket/a/../b", "has the part '..'"),
        ("s3://host/bucket?region=1", "'region': expected a text"),
        ("s3://host/bucket?pathStyle=1", "'pathStyle': expected true or false"),
        ("s3://host/bucket?parallel=0", "'parallel': expected 1 to"),
        ("s3://host/bucket?sessionToken=T0KEN", r"'sessionToken' is not JSON: found \*\*\*"),
    ],
)
def test_a_bad_one_is_refused_with_the_piece_that_is_wrong(url: str, problem: str) -> None:
    with pytest.raises(InvalidUrl, match=problem) as caught:
        parse_url(url)
    assert "S3C" not in str(caught.value) and "T0KEN" not in str(caught.value)


@given(key=st.text(min_size=1), secret=st.text(min_size=1), token=st.text())
def test_keys_come_back_as_they_were_put_into_a_url(key: str, secret: str, token: str) -> None:
    try:
        (key + secret + token).encode()
    except UnicodeEncodeError:
        return
    for url in ("s3://host:1/bucket/dir#r", "s3+http://host/bucket?parallel=2"):
        import json

        full = with_keys(url, access_key=key, secret_key=secret, options={"sessionToken": json.dumps(token)})
        found = parse_url(full).s3
        assert found is not None
        assert (found.access_key, found.secret_key, found.session_token) == (key, secret, token)
        assert found.region == ("r" if "#" in url else "us-east-1")

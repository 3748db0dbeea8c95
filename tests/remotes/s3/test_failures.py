"""Answers of a store become errors that name the object and say what to do; only what passes is transient."""

from __future__ import annotations

import pytest
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from remotes import errors
from remotes.s3.failures import Expired, translate
from xotest.s3.memory import refused

REMOTE, NAME = "s3://host/bucket", "dir/object"


@pytest.mark.parametrize(
    ("status", "code", "message", "expected", "hint"),
    [
        (404, "NoSuchKey", "", errors.NotFound, None),
        (404, "404", "Not Found", errors.NotFound, None),
        (412, "PreconditionFailed", "", errors.AlreadyExists, None),
        (404, "NoSuchBucket", "", errors.Unavailable, "make the bucket"),
        (403, "InvalidAccessKeyId", "", errors.Unavailable, "access_key"),
        (403, "SignatureDoesNotMatch", "", errors.Unavailable, "percent-encoded"),
        (403, "RequestTimeTooSkewed", "", errors.Unavailable, "clock"),
        (403, "AccessDenied", "Access Denied", errors.AccessDenied, "s3:GetObject"),
        (403, "AccessDenied", "object is WORM protected", errors.AccessDenied, "retention"),
        (403, "403", "Forbidden", errors.AccessDenied, "s3:GetObject"),
        (400, "ExpiredToken", "The provided token has expired.", Expired, "renew"),
        (301, "PermanentRedirect", "", errors.Unavailable, "region"),
        (
            400,
            "AuthorizationHeaderMalformed",
            "the region 'us-east-1' is wrong; expecting 'eu-west-3'",
            errors.Unavailable,
            'region = "eu-west-3"',
        ),
        (403, "QuotaExceeded", "", errors.NoSpace, None),
        (507, "XMinioStorageFull", "", errors.NoSpace, None),
        (501, "NotImplemented", "", errors.NotSupported, None),
        (405, "MethodNotAllowed", "", errors.NotSupported, None),
        (400, "Unheard", "of", errors.Unavailable, None),
    ],
)
def test_what_does_not_pass(
    status: int, code: str, message: str, expected: type[errors.RemoteError], hint: str | None
) -> None:
    error = translate(refused(status, code, message), REMOTE, NAME)
    assert type(error) is expected and not error.transient
    assert str(error).startswith(f"{REMOTE}: {NAME}: ")
    assert (hint or "") in (error.hint or "") and (
        message == "" or message in str(error) or expected is errors.NotFound
    )


@pytest.mark.parametrize(
    "error",
    [
        refused(503, "SlowDown"),
        refused(500, "InternalError"),
        refused(502, "502"),
        refused(429, "TooManyRequests"),
        refused(409, "ConditionalRequestConflict"),
        refused(408, "RequestTimeout"),
        boto.EndpointConnectionError(endpoint_url="http://host/bucket?list-type=2&prefix=x"),
        boto.ConnectTimeoutError(endpoint_url="http://host"),
        boto.ReadTimeoutError(endpoint_url="http://host"),
        boto.ConnectionClosedError(endpoint_url="http://host"),
        boto.ResponseStreamingError(error="IncompleteRead"),
        ConnectionResetError(104, "Connection reset by peer"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_passes_is_transient(error: BaseException) -> None:
    found = translate(error, REMOTE, NAME)
    assert isinstance(found, errors.Unavailable) and found.transient
    assert "list-type" not in str(found)


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (boto.SSLError(endpoint_url="https://host", error="self-signed certificate"), "ca ="),
        (boto.NoCredentialsError(), "AWS_ACCESS_KEY_ID"),
        (boto.ProfileNotFound(profile="p"), "~/.aws/config"),
        (ResponseParserError("not well-formed: <html>"), "S3 endpoint"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_wrong_on_our_side_is_not(error: BaseException, hint: str) -> None:
    found = translate(error, REMOTE, NAME)
    assert isinstance(found, errors.Unavailable) and not found.transient
    assert hint in (found.hint or "")

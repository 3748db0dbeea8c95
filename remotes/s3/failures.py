"""What an answer of the store means: one table, from its codes to errors of the contract with a hint.

``transient`` only for what passes by itself. A 403 or 404 never is; a connection that broke always is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from remotes import errors

TRANSIENT_CODES = frozenset(
    {
        *("InternalError", "ServiceUnavailable", "SlowDown", "SlowDownRead", "SlowDownWrite", "RequestTimeout"),
        *("Throttling", "ThrottlingException", "RequestLimitExceeded", "RequestThrottled", "TooManyRequests"),
        *("BandwidthLimitExceeded", "OperationAborted", "ConditionalRequestConflict", "XMinioServerNotInitialized"),
        *("503", "500", "502", "504", "429", "408", "409"),
    }
)
CONDITION_CODES = frozenset({"PreconditionFailed", "412"})
EXPIRED_CODES = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"})
MISSING_CODES = frozenset({"NoSuchKey", "404", "NotFound", "NoSuchVersion", "NoSuchUpload"})
UNSUPPORTED_CODES = frozenset({"NotImplemented", "501", "MethodNotAllowed", "405", "XNotImplemented"})
FULL_CODES = frozenset(
    {"QuotaExceeded", "QuotaExceededException", "StorageFull", "XMinioStorageFull", "InsufficientStorage", "507"}
)
_REGION = re.compile(r"expecting '([a-z0-9-]+)'|the region '[^']*' is wrong; expecting '([a-z0-9-]+)'")
_QUERY = re.compile(r"\?[^\s\"']*")
"""Of the URL in a message: of no use to a person."""
_CLOCK = "set this machine's clock (NTP): a store refuses requests that seem to be minutes old or early"


@dataclass(frozen=True, slots=True)
class _Meaning:
    """``problem`` and what to do."""

    problem: str
    hint: str


_REFUSED: dict[str, _Meaning] = {
    "InvalidAccessKeyId": _Meaning("the access key is not known there", "check access_key, and the endpoint"),
    "SignatureDoesNotMatch": _Meaning(
        "the secret key does not fit the access key", "check secret_key; in a URL it must be percent-encoded"
    ),
    "InvalidToken": _Meaning("the session token is not accepted", "renew the temporary credentials"),
    "InvalidSecurity": _Meaning("the credentials are not accepted", "check access_key and secret_key"),
    "AccountProblem": _Meaning("the account cannot be used", "ask who runs the store"),
    "RequestTimeTooSkewed": _Meaning("this machine's clock and the store's differ too much", _CLOCK),
    "NoSuchBucket": _Meaning("there is no such bucket", "make the bucket, or look at endpoint and region"),
    "InvalidBucketName": _Meaning("the bucket's name is not accepted", "look at the URL: s3://host/bucket/dir"),
    "PermanentRedirect": _Meaning("the bucket is in another region", "set region (or #region in the URL)"),
    "301": _Meaning("the bucket is in another region", "set region (or #region in the URL)"),
    "TemporaryRedirect": _Meaning("the bucket has just moved", "try again in a few minutes"),
    "IllegalLocationConstraintException": _Meaning("the bucket is in another region", "set region"),
    "AuthorizationHeaderMalformed": _Meaning("the request was signed for another region", "set region"),
    "XAmzContentSHA256Mismatch": _Meaning("the store received other bytes than were sent", "look at the network"),
    "BadDigest": _Meaning("the store received other bytes than were sent", "look at the network and its proxies"),
    "InvalidObjectState": _Meaning("the object is archived", "bring it back from its storage class first"),
    "ObjectLocked": _Meaning("the object is locked", "wait for the end of its retention"),
}


def translate(error: BaseException, remote: str, name: str) -> errors.RemoteError:
    """The contract's error for one of boto3 or below."""
    from botocore.exceptions import ClientError

    if isinstance(error, ClientError):
        return answered(error.response, remote, name)
    return _broken(error, remote, name)


def code_of(error: BaseException) -> str:
    """The store's code, ``""`` when it did not answer."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def answered(response: Mapping[str, Any], remote: str, name: str) -> errors.RemoteError:
    """What an answer that is an error means."""
    found = response.get("Error")
    about = found if isinstance(found, dict) else {}
    code, message = str(about.get("Code") or ""), str(about.get("Message") or "")
    meta = response.get("ResponseMetadata")
    status = int(meta.get("HTTPStatusCode") or 0) if isinstance(meta, dict) else 0
    told = f"{code}: {message}" if message else code or f"status {status}"
    if code in MISSING_CODES:
        return errors.NotFound(remote, name)
    if code in CONDITION_CODES:
        return errors.AlreadyExists(remote, name)
    if code in EXPIRED_CODES:
        return Expired(remote, name, told)
    if code in FULL_CODES or status == 507:
        return errors.NoSpace(remote, name, f"the store is full, or over its quota ({told})")
    if code in UNSUPPORTED_CODES or status == 501:
        return errors.NotSupported(remote, name, f"the store does not know that request ({told})")
    if code in TRANSIENT_CODES or status in (429, 500, 502, 503, 504):
        return errors.Unavailable(remote, name, f"the store is busy or failing ({told})", transient=True)
    return _refused(code, message, status, remote, name)


def _refused(code: str, message: str, status: int, remote: str, name: str) -> errors.RemoteError:
    told = f"{code}: {message}" if message else code or f"status {status}"
    meaning = _REFUSED.get(code)
    if meaning is not None:
        hint = meaning.hint
        if wanted := _REGION.search(message):
            hint = f'set region = "{wanted[1] or wanted[2]}"'
        return errors.Unavailable(remote, name, f"{meaning.problem} ({told})", transient=False, hint=hint)
    if status == 403 or code in {"AccessDenied", "403", "Forbidden", "AllAccessDisabled", "UnauthorizedAccess"}:
        hint = "the key needs s3:GetObject, PutObject, DeleteObject, ListBucket and AbortMultipartUpload there"
        if "worm" in message.lower() or "lock" in message.lower():
            hint = "the object is locked: wait for the end of its retention"
        return errors.AccessDenied(remote, name, f"permission denied ({told})", hint=hint)
    if status == 401:
        hint = "check access_key and secret_key"
        return errors.Unavailable(remote, name, f"not let in ({told})", transient=False, hint=hint)
    hint = "is the endpoint a store that speaks S3?"
    return errors.Unavailable(remote, name, f"the store refused: {told}", transient=False, hint=hint)


class Expired(errors.Unavailable):
    """The credentials were good, and are not any more."""

    def __init__(self, remote: str, name: str, told: str) -> None:
        hint = "renew the temporary credentials and run again; a profile or a role is renewed by itself"
        super().__init__(remote, name, f"the credentials have expired ({told})", transient=False, hint=hint)


def _broken(error: BaseException, remote: str, name: str) -> errors.RemoteError:
    from botocore import exceptions as boto
    from botocore.parsers import ResponseParserError

    text = _QUERY.sub("", " ".join(str(error).split()))
    if isinstance(error, boto.SSLError):
        hint = 'name the authority: ca = "/path/ca.pem"; or verify = false to take any certificate'
        if "WRONG_VERSION_NUMBER" in text:
            hint = "the endpoint has no TLS: the URL begins with s3+http://"
        return errors.Unavailable(remote, name, f"TLS: {text}", transient=False, hint=hint)
    lasting: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
        (
            (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError),
            "give the remote credentials, a profile, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ),
        ((boto.ProfileNotFound,), "see ~/.aws/config, or AWS_CONFIG_FILE"),
        ((boto.UnauthorizedSSOTokenError, boto.TokenRetrievalError), "log in again: aws sso login"),
        ((ResponseParserError,), "is this an S3 endpoint? What answered does not speak S3"),
        ((boto.ParamValidationError, boto.InvalidRegionError), "look at bucket, region and endpoint"),
    )
    for kinds, hint in lasting:
        if isinstance(error, kinds):
            return errors.Unavailable(remote, name, text, transient=False, hint=hint)
    hint = "is the endpoint right, and does the store run?"
    return errors.Unavailable(remote, name, text or type(error).__name__, transient=True, hint=hint)


def network_errors() -> tuple[type[BaseException], ...]:
    """What a request, or reading its body, raises."""
    import urllib3
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    return (ClientError, BotoCoreError, ResponseParserError, urllib3.exceptions.HTTPError, OSError)

"""boto3, set up so that any S3 understands it.

* Checksums only where a request cannot be without one: over TLS boto3 would otherwise send bodies in pieces with a
  trailer, which Ceph 16 and others refuse with 411. Amazon itself gets what boto3 does by default.
* No attempts of its own: :mod:`remotes.s3.requester` counts and repeats.
* Bodies of GET are checked only where the store gives the range's own checksum: some give the whole object's.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from remotes import errors
from remotes.s3.address import S3Address

CONNECT_S = 10
READ_S = 60
SPARE_CONNECTIONS = 8


def make_client(address: S3Address) -> Any:
    """A client of boto3. Raises :class:`~remotes.errors.RemoteError` when the credentials cannot be found."""
    import boto3
    import urllib3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    checksums = "when_supported" if address.amazon else "when_required"
    config = Config(
        signature_version="s3v4",
        retries={"total_max_attempts": 1},
        connect_timeout=CONNECT_S,
        read_timeout=READ_S,
        tcp_keepalive=True,
        max_pool_connections=address.parallel + SPARE_CONNECTIONS,
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
        s3={"addressing_style": "path" if address.path_style else "virtual"},
        user_agent_extra="xobackup",
    )
    if address.ca and not Path(address.ca).is_file():
        raise errors.Unavailable(address.shown, "", f"ca: there is no file {address.ca}", transient=False)
    if not address.verify:
        warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)  # said by `doctor`, once
    try:
        session = boto3.session.Session(
            profile_name=address.profile or None,
            aws_access_key_id=address.access_key or None,
            aws_secret_access_key=address.secret_key or None,
            aws_session_token=address.session_token or None,
        )
        return session.client(
            "s3",
            endpoint_url=address.endpoint,
            region_name=address.region,
            config=config,
            verify=(address.ca or None) if address.verify else False,
        )
    except (BotoCoreError, ValueError, OSError) as error:
        hint = "check profile, region and ca of the remote"
        raise errors.Unavailable(address.shown, "", str(error), transient=False, hint=hint) from error

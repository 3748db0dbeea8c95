"""Keep ``cache.json.gz`` true while restore points come and go.

Xen Orchestra believes the file whatever it says, so it is deleted before the set of restore points changes and
written anew afterwards: at no instant does it tell of a point that is gone, or hide one that is there.
"""

from __future__ import annotations

import contextlib

from remotes.contract import Remote
from remotes.errors import NotFound, RemoteError
from xobackup.repository.cache import pack_cache
from xobackup.repository.errors import BadMetadata
from xobackup.repository.layout import cache_name
from xobackup.repository.listing import PointListing, list_points


def drop_cache(remote: Remote, vm: str) -> None:
    """Delete it: the next change makes it untrue."""
    name = cache_name(vm)
    if remote.capabilities.keeps_versions and not _there(remote, name):
        return  # each deletion of nothing would leave a mark
    remote.delete(name, missing_ok=True)


def _there(remote: Remote, name: str) -> bool:
    try:
        remote.stat(name)
    except NotFound:
        return False
    return True


def write_cache(remote: Remote, vm: str, listing: PointListing) -> bool:
    """Write it for the points of a certain listing, else leave none. Failing to write one is no failure: False.

    Where objects are locked there is none: each would stay as an old version, and Xen Orchestra keeps none either.
    """
    if not listing.certain or not listing.points or remote.capabilities.keeps_versions:
        with contextlib.suppress(RemoteError):
            drop_cache(remote, vm)
        return False
    try:
        remote.put(cache_name(vm), pack_cache({point.id: point.metadata for point in listing.points}, vm=vm))
    except (RemoteError, BadMetadata):
        with contextlib.suppress(RemoteError):
            drop_cache(remote, vm)
        return False
    return True


def rebuild_cache(remote: Remote, vm: str) -> bool:
    """Read every JSON and write the cache."""
    return write_cache(remote, vm, list_points(remote, vm, use_cache=False))

"""``cache.json.gz``: all restore points of a VM in one object. Xen Orchestra's listings believe it blindly.

We never do: it is used only when its keys are exactly the JSON files there are, and an entry whose JSON is not older
than the cache is read from the JSON all the same. We write it after every publication and deletion, complete, or
delete it when in doubt (always safe: it is made anew by the next reader that wants it).
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from typing import Any

from xobackup.repository.errors import BadMetadata
from xobackup.repository.json_text import dump, parse_value
from xobackup.repository.layout import JSON_SUFFIX, cache_key, timestamp_of

PACKED_BYTES_MAX = 64 * 1024 * 1024
UNPACKED_BYTES_MAX = 256 * 1024 * 1024
"""A thousand restore points of a large VM; more is a bomb, and the JSON files are there anyway."""
_INJECTED = ("_filename", "id", "isImmutable")


def unpack_cache(raw: bytes, *, vm: str) -> dict[str, dict[str, Any]] | None:
    """Metadata by point id, without the injected keys; ``None`` when it is damaged or its keys are not this VM's."""
    try:
        value = parse_value(_gunzip(raw), "cache.json.gz")
    except BadMetadata:
        return None
    if not isinstance(value, dict):
        return None
    found: dict[str, dict[str, Any]] = {}
    for key, metadata in value.items():
        point = key.rsplit("/", 1)[-1].removesuffix(JSON_SUFFIX)
        if timestamp_of(point) is None or key != cache_key(vm, point) or not isinstance(metadata, dict):
            return None
        found[point] = {name: item for name, item in metadata.items() if name not in _INJECTED}
    return found


def _gunzip(raw: bytes) -> bytes:
    """Unzip with a bound on the result."""
    inflater = zlib.decompressobj(wbits=31)
    try:
        data = inflater.decompress(raw, UNPACKED_BYTES_MAX)
    except zlib.error as error:
        raise BadMetadata("cache.json.gz", f"not gzip: {error}") from None
    if not inflater.eof:
        raise BadMetadata("cache.json.gz", f"cut short, or more than {UNPACKED_BYTES_MAX} bytes")
    return data


def pack_cache(points: Mapping[str, Mapping[str, Any]], *, vm: str) -> bytes:
    """The bytes of the file for metadata by point id, ordered by time."""
    value: dict[str, Any] = {}
    for point in sorted(points):
        key = cache_key(vm, point)
        value[key] = {**points[point], "_filename": key, "id": key}
    return gzip.compress(dump(value, "cache.json.gz"), mtime=0)

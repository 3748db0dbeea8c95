import gzip
import json

from hypothesis import given
from hypothesis import strategies as st

from xobackup.repository import cache

VM = "aaaaaaaa-0000-4000-8000-000000000001"
ONE, TWO = "20260106T030000Z", "20260107T030000Z"
KEY = f"/xo-vm-backups/{VM}/{ONE}.json"


def test_what_is_packed_comes_back_with_xen_orchestras_keys_on_disk():
    raw = cache.pack_cache({TWO: {"b": 2}, ONE: {"a": 1}}, vm=VM)
    stored = json.loads(gzip.decompress(raw))
    assert list(stored) == [KEY, KEY.replace(ONE, TWO)]
    assert stored[KEY] == {"a": 1, "_filename": KEY, "id": KEY}
    assert cache.unpack_cache(raw, vm=VM) == {ONE: {"a": 1}, TWO: {"b": 2}}


def packed(value):
    return gzip.compress(json.dumps(value).encode())


def test_keys_without_the_leading_directories_are_stale():
    assert cache.unpack_cache(packed({f"/{VM}/{ONE}.json": {}}), vm=VM) is None
    assert cache.unpack_cache(packed({KEY[1:]: {}}), vm=VM) is None
    assert cache.unpack_cache(packed({KEY.replace(VM, VM[:-1] + "2"): {}}), vm=VM) is None
    assert cache.unpack_cache(packed({KEY: 1}), vm=VM) is None
    assert cache.unpack_cache(packed([KEY]), vm=VM) is None
    assert cache.unpack_cache(packed({KEY: {}}), vm=VM) == {ONE: {}}


def test_a_damaged_cache_is_none():
    raw = packed({KEY: {}})
    for bad in (b"", raw[:-9], b"x" + raw, gzip.compress(b"{"), gzip.compress(b"[" * 100_000)):
        assert cache.unpack_cache(bad, vm=VM) is None


def test_a_bomb_is_not_unpacked(monkeypatch):
    monkeypatch.setattr(cache, "UNPACKED_BYTES_MAX", 1 << 20)
    assert cache.unpack_cache(gzip.compress(bytes(2 << 20)), vm=VM) is None


@given(st.binary())
def test_any_bytes_are_taken(raw):
    assert cache.unpack_cache(raw, vm=VM) in (None, {})

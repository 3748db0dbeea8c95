"""Codecs of the standard library: what they promise about bad bytes and bombs."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vhd.codec import PLAIN, GzipCodec

CODECS = [PLAIN, GzipCodec()]
EACH = pytest.mark.parametrize("codec", CODECS, ids=["plain", "gzip"])


@EACH
@given(data=st.binary(max_size=2000))
def test_what_is_compressed_comes_back(codec: GzipCodec, data: bytes) -> None:
    assert codec.decompress(bytes(codec.compress(memoryview(data))), len(data)) == data


@EACH
def test_more_than_the_limit_is_refused(codec: GzipCodec) -> None:
    packed = bytes(codec.compress(bytes(5000)))
    assert codec.decompress(packed, 5000) == bytes(5000)
    with pytest.raises(ValueError, match="4999"):
        codec.decompress(packed, 4999)


@given(data=st.binary(max_size=300))
def test_any_bytes_raise_only_value_errors(data: bytes) -> None:
    for raw in (data, gzip.compress(data)[: len(data)], gzip.compress(b"x") + data):
        try:
            found = GzipCodec().decompress(raw, 100)
        except ValueError:
            continue
        assert len(found) <= 100


def test_a_truncated_member_and_a_trailing_byte_are_refused() -> None:
    packed = gzip.compress(b"block" * 100)
    for bad in (packed[:-1], packed + b"\0"):
        with pytest.raises(ValueError, match="end early or are followed"):
            GzipCodec().decompress(bad, 10_000)


def test_a_bomb_takes_no_more_memory_than_the_limit() -> None:
    import tracemalloc

    bomb = gzip.compress(bytes(64 << 20))
    tracemalloc.start()
    with pytest.raises(ValueError, match="more than 1000"):
        GzipCodec().decompress(bomb, 1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20

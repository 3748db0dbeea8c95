import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xobackup.repository.codecs import CODECS

MIXED = random.Random(7).randbytes(5000) + bytes(300_000) + b"abc" * 1000
each = pytest.mark.parametrize("codec", CODECS.values(), ids=list(CODECS))


def test_the_names_are_those_of_chunk_filters():
    assert set(CODECS) == {"brotli", "gzip", "zstd"}
    assert all(codec.name == name for name, codec in CODECS.items())


@each
def test_what_is_compressed_comes_back(codec):
    for data in (b"", b"x", MIXED):
        assert bytes(codec.decompress(bytes(codec.compress(memoryview(data))), len(data))) == data


@each
def test_what_is_compressed_comes_into_its_place_and_nothing_beside_it(codec):
    for data in (b"", b"x", MIXED, random.Random(8).randbytes(2 << 20)):
        packed = bytes(codec.compress(memoryview(data)))
        for spare in (0, 1, 1000):
            room = bytearray(b"\xaa" * (len(data) + spare + 1))
            assert codec.decompress_into(packed, memoryview(room)[: len(data) + spare]) == len(data)
            assert room[: len(data)] == data and room[len(data) + spare :] == b"\xaa"


@each
def test_more_than_the_limit_is_refused(codec):
    packed = bytes(codec.compress(MIXED))
    with pytest.raises(ValueError):
        codec.decompress(packed, len(MIXED) - 1)
    for room in (0, 1, len(MIXED) // 2, len(MIXED) - 1):
        with pytest.raises(ValueError):
            codec.decompress_into(packed, memoryview(bytearray(room)))


@each
def test_a_bomb_takes_no_more_than_its_limit(codec):
    packed = bytes(codec.compress(bytes(64 << 20)))
    with pytest.raises(ValueError):
        codec.decompress(packed, 1 << 20)


@each
def test_cut_and_foreign_bytes_are_value_errors(codec):
    packed = bytes(codec.compress(MIXED))
    for bad in (b"", packed[:-1], packed[: len(packed) // 2], b"\0" * 20, b"conectix" * 4):
        with pytest.raises(ValueError):
            codec.decompress(bad, len(MIXED))
        with pytest.raises(ValueError):
            codec.decompress_into(bad, memoryview(bytearray(len(MIXED))))


@each
@given(raw=st.binary(max_size=200))
def test_any_bytes_give_only_value_errors(codec, raw):
    with contextlib.suppress(ValueError):
        assert len(codec.decompress(raw, 1000)) <= 1000
    with contextlib.suppress(ValueError):
        assert codec.decompress_into(raw, memoryview(bytearray(1000))) <= 1000

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
def test_more_than_the_limit_is_refused(codec):
    packed = bytes(codec.compress(MIXED))
    with pytest.raises(ValueError):
        codec.decompress(packed, len(MIXED) - 1)


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


@each
@given(raw=st.binary(max_size=200))
def test_any_bytes_give_only_value_errors(codec, raw):
    with contextlib.suppress(ValueError):
        assert len(codec.decompress(raw, 1000)) <= 1000

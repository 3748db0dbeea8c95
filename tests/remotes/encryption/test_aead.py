"""The ciphers piece by piece are the ciphers of ``cryptography`` at once, wherever one begins to read."""

import itertools

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from remotes.encryption import aead
from remotes.encryption.aead import Algorithm

KEY, NONCE = bytes(range(32)), bytes(range(12))
CIPHERS = {Algorithm.CHACHA20_POLY1305: ChaCha20Poly1305, Algorithm.AES_256_GCM: AESGCM}
ALGORITHMS = pytest.mark.parametrize("algorithm", list(Algorithm))
RFC_8439 = (
    "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b"
    "1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9d"
    "e576d26586cec64b6116"
)
"""Section 2.8.2, ciphertext (its tag depends on associated data, which pieces do not have)."""


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(ends)]


@ALGORITHMS
@given(data=st.binary(max_size=700), cuts=st.lists(st.integers(0, 700), max_size=5))
def test_pieces_make_the_message_at_once(algorithm: Algorithm, data: bytes, cuts: list[int]) -> None:
    sealer = aead.sealer(algorithm, KEY, NONCE)
    sealed = b"".join(sealer.update(piece) for piece in pieces_of(data, cuts)) + sealer.finish()
    assert sealed == CIPHERS[algorithm](KEY).encrypt(NONCE, data, None) == aead.seal(algorithm, KEY, NONCE, data)
    verifier = aead.verifier(algorithm, KEY, NONCE)
    for piece in pieces_of(sealed[:-16], cuts):
        verifier.update(piece)
    assert verifier.agrees(sealed[-16:])


@ALGORITHMS
@given(offset=st.integers(0, 700))
def test_any_place_can_be_decrypted(algorithm: Algorithm, offset: int) -> None:
    data = bytes(range(256)) * 3
    sealed = aead.seal(algorithm, KEY, NONCE, data)
    decrypt = aead.decryptor_at(algorithm, KEY, NONCE, offset)
    assert decrypt(sealed[offset : offset + 5]) + decrypt(sealed[offset + 5 : -16]) == data[offset:]


@ALGORITHMS
@given(at=st.integers(0, 115), bit=st.integers(0, 7))
def test_any_bit_flipped_is_noticed(algorithm: Algorithm, at: int, bit: int) -> None:
    sealed = bytearray(aead.seal(algorithm, KEY, NONCE, bytes(100)))
    sealed[at] ^= 1 << bit
    with pytest.raises(ValueError, match="tag does not agree"):
        aead.unseal(algorithm, KEY, NONCE, bytes(sealed))
    verifier = aead.verifier(algorithm, KEY, NONCE)
    verifier.update(sealed[:-16])
    assert not verifier.agrees(bytes(sealed[-16:]))


def test_the_stream_is_that_of_the_standard() -> None:
    text = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, "
        b"sunscreen would be it."
    )
    key, nonce = bytes(range(0x80, 0xA0)), bytes.fromhex("070000004041424344454647")
    assert aead.sealer(Algorithm.CHACHA20_POLY1305, key, nonce).update(text).hex() == RFC_8439


def test_less_than_a_tag_is_no_message() -> None:
    with pytest.raises(ValueError, match="expected at least a tag of 16 bytes, found 3 bytes"):
        aead.unseal(Algorithm.AES_256_GCM, KEY, NONCE, b"abc")


def test_the_limits_are_those_of_a_counter_of_32_bits() -> None:
    assert Algorithm.AES_256_GCM.message_bytes_max == (64 << 30) - 32
    assert Algorithm.CHACHA20_POLY1305.message_bytes_max == (256 << 30) - 64

"""ChaCha20-Poly1305 and AES-256-GCM (RFC 8439, NIST SP 800-38D), of messages that do not fit into memory.

A message is sealed with a nonce of 12 bytes into as many bytes of ciphertext and a tag of 16. :class:`Sealer` makes
both piece by piece; :class:`Verifier` reads the ciphertext once and says whether the tag agrees; :class:`Decryptor`
decrypts any piece of it, which is only to be done after that. What fits into memory goes through :func:`seal` and
:func:`unseal`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.poly1305 import Poly1305

from remotes.contract import Buffer

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
_CHACHA_BLOCK_BYTES = 64
_AES_BLOCK_BYTES = 16


class Algorithm(StrEnum):
    """Names as Xen Orchestra's ``encryption.json`` has them."""

    CHACHA20_POLY1305 = "chacha20-poly1305"
    AES_256_GCM = "aes-256-gcm"

    @property
    def message_bytes_max(self) -> int:
        """Where the cipher's 32-bit counter of blocks would begin anew."""
        if self is Algorithm.AES_256_GCM:
            return (2**32 - 2) * _AES_BLOCK_BYTES
        return (2**32 - 1) * _CHACHA_BLOCK_BYTES


def seal(algorithm: Algorithm, key: bytes, nonce: bytes, data: Buffer, aad: bytes = b"") -> bytes:
    """Ciphertext and tag of a whole message."""
    return _cipher(algorithm, key).encrypt(nonce, data, aad)


def unseal(algorithm: Algorithm, key: bytes, nonce: bytes, sealed: Buffer, aad: bytes = b"") -> bytes:
    """The message, or ``ValueError`` when the tag does not agree."""
    if len(sealed) < TAG_BYTES:
        raise ValueError(f"expected at least a tag of {TAG_BYTES} bytes, found {len(sealed)} bytes")
    try:
        return _cipher(algorithm, key).decrypt(nonce, sealed, aad)
    except InvalidTag:
        raise ValueError("the authentication tag does not agree") from None


def _cipher(algorithm: Algorithm, key: bytes) -> AESGCM | ChaCha20Poly1305:
    return AESGCM(key) if algorithm is Algorithm.AES_256_GCM else ChaCha20Poly1305(key)


class Sealer(Protocol):
    """A message on its way."""

    def update(self, data: Buffer) -> bytes:
        """The ciphertext of the next piece."""
        ...

    def finish(self) -> bytes:
        """The tag."""
        ...


class Verifier(Protocol):
    """A ciphertext read once."""

    def update(self, sealed: Buffer) -> None: ...

    def agrees(self, tag: bytes) -> bool: ...


def sealer(algorithm: Algorithm, key: bytes, nonce: bytes) -> Sealer:
    """Begin a message."""
    return _GcmSealer(key, nonce) if algorithm is Algorithm.AES_256_GCM else _ChaChaSealer(key, nonce)


def verifier(algorithm: Algorithm, key: bytes, nonce: bytes) -> Verifier:
    """Begin to check a message."""
    return _GcmVerifier(key, nonce) if algorithm is Algorithm.AES_256_GCM else _ChaChaVerifier(key, nonce)


def decryptor_at(algorithm: Algorithm, key: bytes, nonce: bytes, offset: int) -> Callable[[Buffer], bytes]:
    """What decrypts the ciphertext from ``offset`` on, piece by piece. It proves nothing."""
    if algorithm is Algorithm.AES_256_GCM:
        block, skip = divmod(offset, _AES_BLOCK_BYTES)
        stream = Cipher(algorithms.AES(key), modes.CTR(nonce + (2 + block).to_bytes(4, "big"))).decryptor()
    else:
        block, skip = divmod(offset, _CHACHA_BLOCK_BYTES)
        stream = _chacha(key, nonce, 1 + block)
    stream.update(bytes(skip))
    return stream.update


def _chacha(key: bytes, nonce: bytes, counter: int) -> CipherContext:
    return Cipher(algorithms.ChaCha20(key, counter.to_bytes(4, "little") + nonce), mode=None).encryptor()


class _GcmSealer:
    def __init__(self, key: bytes, nonce: bytes) -> None:
        self._encryptor = Cipher(algorithms.AES(key), modes.GCM(nonce)).encryptor()

    def update(self, data: Buffer) -> bytes:
        return self._encryptor.update(data)

    def finish(self) -> bytes:
        self._encryptor.finalize()
        return self._encryptor.tag


class _GcmVerifier:
    def __init__(self, key: bytes, nonce: bytes) -> None:
        self._decryptor = Cipher(algorithms.AES(key), modes.GCM(nonce)).decryptor()

    def update(self, sealed: Buffer) -> None:
        self._decryptor.update(sealed)

    def agrees(self, tag: bytes) -> bool:
        try:
            self._decryptor.finalize_with_tag(tag)
        except InvalidTag:
            return False
        return True


class _ChaChaVerifier:
    """Poly1305 over the padded ciphertext and the two lengths, by the key that block 0 of the stream is."""

    def __init__(self, key: bytes, nonce: bytes) -> None:
        self._mac = Poly1305(_chacha(key, nonce, 0).update(bytes(32)))
        self._length = 0

    def update(self, sealed: Buffer) -> None:
        self._mac.update(sealed)
        self._length += len(sealed)

    def finish(self) -> None:
        self._mac.update(bytes(-self._length % 16) + bytes(8) + self._length.to_bytes(8, "little"))

    def agrees(self, tag: bytes) -> bool:
        self.finish()
        try:
            self._mac.verify(tag)
        except InvalidSignature:
            return False
        return True

    def tag(self) -> bytes:
        self.finish()
        return self._mac.finalize()


class _ChaChaSealer:
    def __init__(self, key: bytes, nonce: bytes) -> None:
        self._stream = _chacha(key, nonce, 1)
        self._mac = _ChaChaVerifier(key, nonce)

    def update(self, data: Buffer) -> bytes:
        sealed = self._stream.update(data)
        self._mac.update(sealed)
        return sealed

    def finish(self) -> bytes:
        return self._mac.tag()

"""Keys as a person stores them: 32 random bytes in a form that survives being written down.

    XBK1-XXXXX-XXXXX-...   Crockford's base 32 (no I, L, O, U) of the key and the first two bytes of its SHA-256

Upper and lower case, spaces and hyphens do not matter; O is read as 0, I and L as 1. A slip is noticed, not guessed.
Anything that does not begin with the prefix is a passphrase.
"""

from __future__ import annotations

import hashlib

PREFIX = "XBK1"
KEY_BYTES = 32
CHECK_BYTES = 2
GROUP = 5
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
DIGITS = -(-(KEY_BYTES + CHECK_BYTES) * 8 // 5)
_READ_AS = str.maketrans({"O": "0", "I": "1", "L": "1", "-": None, " ": None, "\t": None, "\r": None, "\n": None})


def pack_key(key: bytes) -> str:
    """The text of a key."""
    assert len(key) == KEY_BYTES
    number = int.from_bytes(key + hashlib.sha256(key).digest()[:CHECK_BYTES], "big")
    digits = "".join(ALPHABET[number >> 5 * at & 31] for at in reversed(range(DIGITS)))
    groups = [digits[at : at + GROUP] for at in range(0, DIGITS, GROUP)]
    return "-".join([PREFIX, *groups])


def is_key(text: str) -> bool:
    """Whether ``text`` means to be a key, right or not."""
    return text.strip().upper()[: len(PREFIX)].translate(_READ_AS) == PREFIX


def unpack_key(text: str) -> bytes:
    """The key; ``ValueError`` says what is wrong with the text, without showing it."""
    digits = text.strip().upper()[len(PREFIX) :].translate(_READ_AS)
    if len(digits) != DIGITS:
        raise ValueError(f"a key has {DIGITS} characters after {PREFIX}, found {len(digits)}")
    number = 0
    for character in digits:
        if character not in ALPHABET:
            raise ValueError(f"{character!r} is no character of a key")
        number = number << 5 | ALPHABET.index(character)
    if number >> (KEY_BYTES + CHECK_BYTES) * 8:
        raise ValueError("it is no key: its first character is too large")
    raw = number.to_bytes(KEY_BYTES + CHECK_BYTES, "big")
    key, check = raw[:KEY_BYTES], raw[KEY_BYTES:]
    if hashlib.sha256(key).digest()[:CHECK_BYTES] != check:
        raise ValueError("its check characters do not agree: a character is wrong or two are exchanged")
    return key

"""Keys on paper: they come back, and a slip is noticed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotes.encryption.keytext import ALPHABET, is_key, pack_key, unpack_key

KEY = bytes(range(32))
TEXT = pack_key(KEY)


@given(st.binary(min_size=32, max_size=32))
def test_a_key_comes_back_however_it_is_typed(key):
    text = pack_key(key)
    assert is_key(text) and unpack_key(text) == key
    typed = f" {text.lower().replace('-', ' ').replace('0', 'o').replace('1', 'l')}\n"
    assert is_key(typed) and unpack_key(typed) == key


@given(at=st.integers(5, len(TEXT) - 1), letter=st.sampled_from(ALPHABET))
def test_one_wrong_character_is_noticed(at, letter):
    if TEXT[at] in ("-", letter):
        return
    with pytest.raises(ValueError, match=r"check characters|no key"):
        unpack_key(TEXT[:at] + letter + TEXT[at + 1 :])


@pytest.mark.parametrize("text", ["XBK1", "XBK1-", TEXT[:-1], TEXT + "0", "XBK1-" + "Z" * 55, TEXT[:-1] + "?"])
def test_what_is_no_key_is_refused_without_being_shown(text):
    assert is_key(text)
    with pytest.raises(ValueError) as caught:
        unpack_key(text)
    assert text[5:] == "" or text[5:] not in str(caught.value)


def test_anything_else_is_a_passphrase():
    assert not is_key("correct horse battery staple") and not is_key("")

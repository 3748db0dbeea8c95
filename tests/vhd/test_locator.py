from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vhd.locator import MACX, NO_CODE, W2KU, W2RU, Locator, decode_text, encode_text, unpack_locator
from vhd.reader import VhdFile
from vhd.storage import read_exactly
from xotest.foreign import foreign


def test_an_entry_takes_24_bytes() -> None:
    locator = Locator(code=W2RU, data_space=512, data_length=30, data_offset=1536)
    assert locator.pack().hex() == "57327275000002000000001e000000000000000000000600"
    assert unpack_locator(locator.pack()) == locator
    assert locator.used
    assert not Locator().used
    assert Locator().pack() == bytes(24)


@pytest.mark.parametrize(("stored", "meant"), [(512, 512), (1, 512), (2, 1024), (511, 511 * 512), (1024, 1024)])
def test_space_below_512_counts_sectors(stored: int, meant: int) -> None:
    assert Locator(code=MACX, data_space=stored).space_bytes == meant


def test_texts_as_the_platforms_spell_them() -> None:
    assert encode_text(W2RU, "a.vhd") == ".\\a.vhd".encode("utf-16-le")
    assert encode_text(MACX, "ü.vhd") == "file://./ü.vhd".encode()
    assert decode_text(W2RU, encode_text(W2RU, "ü.vhd")) == "./ü.vhd"
    assert decode_text(MACX, encode_text(MACX, "ü.vhd")) == "./ü.vhd"


def test_absolute_windows_paths_lose_their_drive() -> None:
    assert decode_text(W2KU, "C:\\dir\\a.vhd\0".encode("utf-16-le")) == "/dir/a.vhd"
    assert decode_text(b"Wi2r", b".\\a.vhd\0") == "./a.vhd"


@pytest.mark.parametrize(
    ("code", "raw"), [(MACX, b"\xff\xfe"), (MACX, b"http://x"), (W2RU, b"abc"), (W2KU, b"\x00\xd8")]
)
def test_what_cannot_be_decoded_is_none(code: bytes, raw: bytes) -> None:
    assert decode_text(code, raw) is None


def test_vhd_util_s_texts_all_lead_to_the_parent() -> None:
    disk = VhdFile.open(foreign("child-64m.vhd"))
    assert disk.header is not None
    texts = {
        locator.code: decode_text(locator.code, read_exactly(disk.file, locator.data_offset, locator.data_length))
        for locator in disk.header.locators
        if locator.used
    }
    assert texts == {MACX: "./empty-64m.vhd", W2KU: "./empty-64m.vhd", W2RU: "./empty-64m.vhd"}
    assert disk.parent_candidates() == ["empty-64m.vhd"]


@given(st.sampled_from([W2RU, W2KU, MACX, b"Mac ", b"Wi2k", NO_CODE]), st.binary(max_size=80))
def test_any_text_decodes_or_is_none(code: bytes, raw: bytes) -> None:
    assert isinstance(decode_text(code, raw), str | None)

"""Numbers and names as people read them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from xobackup.texts import age_text, count_text, duration_text, one_line, short_uuids, size_text


def test_sizes() -> None:
    shown = [size_text(value) for value in (0, 1023, 1536, 150 << 30, 3 << 40, 5 << 50, 9000 << 50)]
    assert shown == ["0 B", "1023 B", "1.5 KiB", "150 GiB", "3.0 TiB", "5.0 PiB", "9000 PiB"]


def test_times() -> None:
    spans = (0.25, 59, 61, 3600, 3700, 90 * 3600)
    assert [duration_text(value) for value in spans] == [
        "0.2 s", "59 s", "1 min 01 s", "1 h", "1 h 01 min", "3 d 18 h",
    ]  # fmt: skip
    assert [age_text(value) for value in spans] == ["0 s", "59 s", "1 min", "1 h", "1 h 01 min", "3 d 18 h"]


def test_counts_and_uuids() -> None:
    assert (count_text(1, "disk"), count_text(0, "disk")) == ("1 disk", "0 disks")
    assert short_uuids("VM 12345678-1234-1234-1234-123456789abc is on") == "VM 12345678 is on"


@given(st.text(max_size=300))
def test_whatever_a_guest_calls_itself_is_one_line(text: str) -> None:
    line = one_line(text, 120)
    assert len(line) <= 120 and line.isprintable() and "\n" not in line

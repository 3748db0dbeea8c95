from __future__ import annotations

import pytest

from vhd.timestamps import VHD_EPOCH_UNIX_S, to_unix, to_vhd

NOW = 1_795_000_000  # November 2026


def test_unix_and_vhd_seconds_differ_by_thirty_years() -> None:
    assert to_vhd(VHD_EPOCH_UNIX_S) == 0
    assert to_vhd(NOW) == NOW - 946_684_800
    assert to_unix(to_vhd(NOW), now_unix_s=NOW) == NOW


@pytest.mark.parametrize("unix_s", [NOW, NOW - 86_400 * 365 * 8, NOW - 3600, 1_795_000_000.9])
def test_both_epochs_are_told_apart(unix_s: float) -> None:
    assert to_unix(to_vhd(unix_s), now_unix_s=NOW) == int(unix_s)
    assert to_unix(int(unix_s), now_unix_s=NOW) == int(unix_s), "Xen Orchestra writes Unix seconds"


def test_a_slow_clock_is_no_reason_to_take_the_other_epoch() -> None:
    assert to_unix(to_vhd(NOW + 86_000), now_unix_s=NOW) == NOW + 86_000


def test_what_does_not_fit_the_field_is_clamped() -> None:
    assert to_vhd(0) == 0
    assert to_vhd(1 << 40) == 0xFFFFFFFF

"""``xobackup retention``: the reason for every restore point, and what would be kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from xotest.site import Site

KEEP = "\n[jobs.nightly.keep]\ndaily = 2\nmonthly = 12\nyearly = 3\ntimezone = 'Europe/Paris'\n"


def keeping(site: Site, text: str) -> Site:
    file = Path(site.config)
    file.write_text(file.read_text() + text)
    return site


def test_every_point_is_kept_or_due_with_a_reason(copied: Site) -> None:
    copied.configure(replace=("retention = 2", "retention = 1"))
    shown = copied.xobackup("retention", "show", "nightly", "--vm", "web", "--json").of("verdict")
    assert [(one["keep"], one["reason"]) for one in shown] == [
        (False, "older than the newest 1"),
        (True, "among the newest 1"),
    ]
    told = copied.xobackup("retention", "show", "nightly", "--vm", "web").out
    assert all(one["point"] in told for one in shown) and "due" in told and "nightly keeps the newest 1" in told


def test_the_long_term_is_read_and_told(copied: Site) -> None:
    copied.configure(replace=("retention = 2", "retention = 1"))
    keeping(copied, KEEP)
    shown = copied.xobackup("retention", "show", "nightly", "--vm", "web", "--json").of("verdict")
    assert shown[0]["keep"] and "yearly" in shown[0]["reason"]
    (job,) = copied.xobackup("config", "check", "--json").of("job")
    assert job["keeps"] == "the newest 1, 2 daily, 12 monthly, 3 yearly"


def test_months_ahead(copied: Site) -> None:
    copied.configure()
    keeping(copied, KEEP)
    arguments = ("retention", "simulate", "nightly", "--days", "400", "--begin", "2026-01-01T03:00")
    result = copied.xobackup(*arguments, "--json")
    kept = [record["point"] for record in result.of("kept")]
    months = [f"2026{month:02}01T030000Z" for month in range(3, 13)] + ["20270101T030000Z", "20270201T030000Z"]
    assert kept == ["20260101T030000Z", *months, "20270203T030000Z", "20270204T030000Z"]
    assert len(result.of("day")) == 400
    assert "15 restore points of 400 left, 16 at most at a time" in copied.xobackup(*arguments).out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("simulate", "nightly", "--every", "0.01"), "960000 runs are more than the 20000 that are simulated"),
        (("simulate", "nightly", "--begin", "soon"), "--begin 'soon': expected a date like 2026-11-27"),
        (("show", "nobody"), "nobody"),
    ],
)
def test_what_cannot_be_told_is_said(shared: Site, arguments: tuple[str, ...], said: str) -> None:
    result = shared.xobackup("retention", *arguments, code=2)
    assert said in result.err and not result.out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("daily = -1", "jobs.nightly.keep.daily"),
        ("timezone = 'Mars/Olympus'", "no such time zone: 'Mars/Olympus'"),
        ("fortnightly = 2", "jobs.nightly.keep.fortnightly: there is no such key"),
    ],
)
def test_a_bad_rule_is_refused_by_its_key(copied: Site, text: str, said: str) -> None:
    keeping(copied, f"\n[jobs.nightly.keep]\n{text}\n")
    assert said in copied.xobackup("config", "check", code=2).err

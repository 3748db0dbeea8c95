"""``backups pin``: what is pinned stays, whoever wants it gone, until it is unpinned or its day has come."""

from __future__ import annotations

import pytest

from xotest.site import Site


def points(site: Site) -> list[str]:
    shown = site.xobackup("backups", "show", "web", "--remote", "nas", "--json").of("restore-point")
    return [str(one["id"]) for one in shown]


def test_a_pinned_point_survives_runs_and_deletion_until_it_is_unpinned(copied: Site) -> None:
    first, second = points(copied)
    said = copied.xobackup("backups", "pin", "--remote", "nas", "web", first, "--note", "before <b>the</b> move").out
    assert said.strip() == f"{first} of web: pinned"
    copied.xobackup("run", "--vm", "web")
    assert points(copied)[:2] == [first, second] and len(points(copied)) == 3
    told = copied.xobackup("backups", "show", "web", "--remote", "nas").out
    assert f"{first} is pinned: before <b>the</b> move" in told
    shown = copied.xobackup("retention", "show", "nightly", "--vm", "web", "--json").of("verdict")
    assert 'held by a pin ("before <b>the</b> move")' in shown[0]["reason"] and shown[0]["keep"]
    copied.xobackup("run", "--vm", "web")
    assert points(copied)[0] == first and second not in points(copied) and len(points(copied)) == 3
    refused = copied.xobackup("backups", "delete", "web", first, "--remote", "nas", "--yes", code=1).err
    assert "nothing was deleted" in refused and "backups unpin" in refused
    assert "no damage" in copied.xobackup("verify").out or points(copied)
    copied.xobackup("backups", "unpin", "--remote", "nas", "web", first)
    copied.xobackup("run", "--vm", "web")
    assert len(points(copied)) == 2 and first not in points(copied)
    assert not list((copied.repository / ".xobackup" / "pins").rglob("*.json"))


def test_a_pin_ends_on_its_day(copied: Site) -> None:
    first, _ = points(copied)
    copied.xobackup("backups", "pin", "-r", "nas", "web", first, "--until", "2001-01-01")
    assert not copied.xobackup("backups", "show", "web", "--remote", "nas", "--json").of("pin")
    copied.xobackup("run", "--vm", "web")
    assert first not in points(copied)


def test_a_pin_that_cannot_be_understood_holds(copied: Site) -> None:
    first, _ = points(copied)
    copied.xobackup("backups", "pin", "-r", "nas", "web", first)
    (file,) = (copied.repository / ".xobackup" / "pins").rglob("*.json")
    file.write_text("{")
    copied.xobackup("run", "--vm", "web")
    assert first in points(copied)
    assert "it cannot be read" in copied.xobackup("backups", "show", "web", "--remote", "nas").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("web", "20010101T000000Z"), "20010101T000000Z"),
        (("web", "../../etc"), "etc"),
        (("nobody", "latest"), "there is no VM 'nobody'"),
        (("web", "latest", "--until", "soon"), "--until: expected a time like"),
    ],
)
def test_what_is_not_there_is_not_pinned(copied: Site, arguments: tuple[str, ...], said: str) -> None:
    assert said in copied.xobackup("backups", "pin", "--remote", "nas", *arguments, code=2).err
    assert not (copied.repository / ".xobackup" / "pins").exists()

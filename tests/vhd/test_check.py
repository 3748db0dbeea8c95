"""Every code of :mod:`vhd.check`: change one thing, get exactly that complaint."""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import pytest

import vhd.check
from vhd.block import BLOCK_BYTES
from vhd.check import check_file
from vhd.checksum import checksum
from vhd.errors import Malformed, VhdError
from vhd.file import ParentLink, VhdFile
from vhd.findings import Severity
from vhd.footer import DiskType, new_footer
from vhd.geometry import Geometry, geometry_of
from vhd.locator import W2RU, Locator
from vhd.storage import read_exactly
from xotest.foreign import foreign
from xotest.layouts import HYPERV, QEMU, XAPI, XEN, XO, lay_out
from xotest.memory_file import MemoryFile
from xotest.pictures import uuid_of, write_picture
from xotest.xo_rules.vhd_util import vhd_util_check

if TYPE_CHECKING:
    from collections.abc import Callable

    from vhd.footer import Footer

NOW = 850_000_000
PARENT = ParentLink(name="0.vhd", uuid=uuid_of(9), timestamp=5)
LINE = re.compile(r"^ +([a-z0-9-]+) +([EW])(?:  |$)", re.MULTILINE)
DOCUMENTED: dict[str, str] = dict(LINE.findall(vhd.check.__doc__ or ""))
CASES: list[Case] = []


class Case(NamedTuple):
    """A file and the complaints it must give, no more and no fewer."""

    expected: tuple[str, ...]
    build: Callable[[], MemoryFile]
    options: dict[str, Any]


def case(expected: str, build: Callable[[], MemoryFile], **options: Any) -> None:
    CASES.append(Case(tuple(expected.split()), build, options))


def codes(file: MemoryFile, **options: Any) -> list[str]:
    found = check_file(file, **{"now_vhd_s": NOW, **options})
    for finding in found:
        code = finding.code.removeprefix("front-")
        assert DOCUMENTED.get(code, "?") == ("E" if finding.severity is Severity.ERROR else "W"), finding
    return [finding.code for finding in found]


def dynamic(picture: str = "A-b") -> MemoryFile:
    return write_picture(picture)


def child(picture: str = "A-b") -> MemoryFile:
    return write_picture(picture, parent=PARENT)


def set_footer(file: MemoryFile, *, front: bool = True, end: bool = True, **fields: Any) -> MemoryFile:
    raw = replace(footer_of(file), **fields).pack()
    if front:
        file.write_at(0, raw)
    if end:
        file.write_at(file.size() - 512, raw)
    return file


def footer_of(file: MemoryFile) -> Footer:
    return VhdFile.open(file, trailing_footer=False).footer


def set_header(file: MemoryFile, **fields: Any) -> MemoryFile:
    header = VhdFile.open(file).header
    assert header is not None
    file.write_at(512, replace(header, **fields).pack())
    return file


def seal_header(file: MemoryFile, offset: int, data: bytes) -> MemoryFile:
    raw = bytearray(read_exactly(file, 512, 1024))
    raw[offset : offset + len(data)] = data
    raw[36:40] = struct.pack(">I", checksum(bytes(raw), 36))
    file.write_at(512, raw)
    return file


# --- nothing to say -------------------------------------------------------------------------------------------

for picture in ("A-b", "-", "ABC"):
    case("", partial(write_picture, picture), data=True)
    case("", partial(write_picture, picture, parent=PARENT), data=True)
case("", partial(write_picture, "AAA", entries=4096), data=True)
case("", lambda: batmap_file(), data=True)
for name in ("empty-64m.vhd", "child-64m.vhd", "grandchild-64m.vhd", "hidden-66m.vhd"):
    case("", partial(foreign, name))
case("footer-geometry", lambda: foreign("qemu-dynamic-64m.vhd"))
case("footer-geometry", lambda: foreign("qemu-fixed-64m.vhd"))

# --- the footers ----------------------------------------------------------------------------------------------

NIL = UUID(int=0)
FULL_GEOMETRY = Geometry(65535, 16, 255)


def both(**fields: Any) -> Callable[[], MemoryFile]:
    return lambda: set_footer(dynamic(), **fields)


case("footer-features", both(features=4))
case("footer-timestamp", both(timestamp=NOW + 1801))
case("", both(timestamp=NOW + 1800))
case("footer-creator-version batmap-missing", both(creator=b"tap\0", creator_version=0x00020000))
case("footer-geometry", both(geometry=FULL_GEOMETRY))
case("footer-original-size", both(original_size_bytes=1 << 40))
case("footer-saved-state", both(saved_state=9))
case("footer-hidden", both(hidden=9))
case("footer-reserved", both(reserved=b"\1" * 426))
case("footer-uuid", both(uuid=NIL))
case("footer-version front-footer-version", both(version=0x00020000))
case("footer-type front-footer-type", both(disk_type=6))
case("footer-data-offset front-footer-data-offset", both(data_offset=513))
case("footer-size footer-original-size front-footer-size", both(current_size_bytes=513, geometry=Geometry(0, 4, 17)))
case("footer-copies", lambda: set_footer(dynamic(), end=False, uuid=uuid_of(8)))


def poke(offset: int, data: bytes, *, from_end: bool = False) -> Callable[[], MemoryFile]:
    """A dynamic disk with some bytes overwritten and no checksum mended."""

    def build() -> MemoryFile:
        file = dynamic()
        file.write_at(file.size() - offset if from_end else offset, data)
        return file

    return build


case("footer-cookie", poke(512, b"poison!!", from_end=True))
case("front-footer-cookie", poke(0, b"poison!!"))
case("footer-checksum", poke(400, b"x", from_end=True))
case("front-footer-checksum", poke(112, b"x"))
case("file-size footer-short front-footer-short", lambda: MemoryFile(b"x" * 100))


def shifted(by: int) -> MemoryFile:
    file = dynamic()
    file.write_at(file.size() - 512 + by, read_exactly(file, 0, 512))
    return file


def shortened(file: MemoryFile) -> MemoryFile:
    file.truncate(file.size() - 1)
    return file


case("file-size", lambda: shifted(7))
case("", lambda: shifted(512))
case("", lambda: shortened(dynamic()))


def fixed(file_bytes: int) -> MemoryFile:
    footer = new_footer(size_bytes=BLOCK_BYTES, disk_type=DiskType.FIXED, uuid=uuid_of(1), timestamp=0)
    file = MemoryFile()
    file.write_at(file_bytes, footer.pack())
    return file


case("", lambda: fixed(BLOCK_BYTES))
case("fixed-short", lambda: fixed(512))

# --- the header -----------------------------------------------------------------------------------------------


def sealed(offset: int, data: bytes) -> Callable[[], MemoryFile]:
    return lambda: seal_header(dynamic(), offset, data)


case("header-cookie", poke(512, b"y"))
case("header-checksum", poke(700, b"y"))
case("header-short", both(data_offset=1 << 40))
case("header-version", sealed(24, b"\0\2\0\0"))
case("header-table-offset", sealed(16, bytes(8)))
case("header-block-size", sealed(32, bytes(4)))
case("header-table-entries", sealed(28, b"\xff" * 4))
case("header-table-entries", lambda: seal_header(dynamic("-"), 28, bytes(4)))
case("header-data-offset", sealed(8, bytes(8)))
case("header-reserved", sealed(900, b"\1"))
case("header-parent-name", sealed(64, b"\xd8\x00\x00\x41"))
case("header-extra-parent", sealed(64, b"\0a"))
case("header-extra-parent", sealed(56, b"\0\0\0\1"))
case("header-extra-parent", sealed(40, b"\1"))
case("header-extra-parent", sealed(576, b"W2ru"))
case("header-no-parent", lambda: set_header(child(), parent_uuid=NIL))
case("header-no-parent locator-name", lambda: set_header(child(), parent_name=""))
case("header-parent-timestamp", lambda: set_header(child(), parent_timestamp=NOW + 1801))
case("", lambda: set_header(child(), parent_timestamp=NOW + 1801), now_vhd_s=None)

# --- the table ------------------------------------------------------------------------------------------------


def entry(index: int, sector: int) -> MemoryFile:
    file = dynamic()
    file.write_at(2048 + 4 * index, sector.to_bytes(4, "big"))
    return file


FIRST = VhdFile.open(dynamic()).bat[0]
case("table-past-end", sealed(16, (1 << 30).to_bytes(8, "big")))
case("table-clobbers-headers", sealed(16, (512).to_bytes(8, "big")))
case("block-past-end", lambda: entry(0, 0xFFFFFFFE))
case("block-clobbers-headers", lambda: entry(0, 4))
case("block-overlap", lambda: entry(1, FIRST + 1))
case("", lambda: entry(0, 0xFFFFFFFF))
case("block-past-disk", lambda: set_footer(dynamic("ABC"), **resized(2)))
case("block-before-headers-end", lambda: text_behind_the_blocks())


def resized(blocks: int) -> dict[str, Any]:
    size = blocks * BLOCK_BYTES
    return {"current_size_bytes": size, "original_size_bytes": size, "geometry": geometry_of(size)}


def text_behind_the_blocks() -> MemoryFile:
    file = child()
    end = file.size() - 512
    file.write_at(end, read_exactly(file, 1536, 512) + read_exactly(file, 0, 512))
    return with_locators(replace(LOCATOR, data_offset=end), file=file)


# --- the batmap -----------------------------------------------------------------------------------------------


def batmap_file() -> MemoryFile:
    return lay_out("A-b", XEN)


def batmap(offset: int, data: bytes) -> Callable[[], MemoryFile]:
    def build() -> MemoryFile:
        file = batmap_file()
        file.write_at(2048 + offset, data)
        return file

    return build


def full_hole() -> MemoryFile:
    file = batmap(512, b"\xe0")()
    file.write_at(2048 + 24, struct.pack(">I", checksum(read_exactly(file, 2560, 512))))
    return file


case("batmap-missing", lambda: lay_out("A-b", replace(XEN, batmap=False)))
case("batmap-version", batmap(20, b"\0\1\0\1"))
case("batmap-offset", batmap(8, bytes(8)))
case("batmap-offset", batmap(8, (1 << 50).to_bytes(8, "big")))
case("batmap-offset", batmap(8, (2561).to_bytes(8, "big")))
case("batmap-size", batmap(16, bytes(4)))
case("block-before-headers-end batmap-size", batmap(16, b"\0\0\x10\x01"))
case("batmap-checksum", batmap(24, b"\1\2\3\4"))
case("batmap-full-hole", full_hole)

# --- the locators ---------------------------------------------------------------------------------------------


def with_locators(*locators: Locator, file: MemoryFile | None = None) -> MemoryFile:
    target = child() if file is None else file
    return set_header(target, locators=(*locators, *(Locator(),) * (8 - len(locators))))


def located(**fields: Any) -> Callable[[], MemoryFile]:
    return lambda: with_locators(replace(LOCATOR, **fields))


def with_text(raw: bytes) -> MemoryFile:
    file = child()
    file.write_at(1536, raw)
    return file


LOCATOR = Locator(code=W2RU, data_space=512, data_length=14, data_offset=1536)
case("", located())
case("", located(code=b"Wi2r"))
case("locator-none", lambda: with_locators())
case("locator-code", located(code=b"junk"))
case("locator-duplicate", lambda: with_locators(LOCATOR, LOCATOR))
case("locator-span", located(data_length=0))
case("locator-span", located(data_offset=0))
case("locator-span", located(data_space=0))
case("locator-span", located(data_length=600))
case("locator-past-end", located(data_offset=1 << 60))
case("locator-text", located(data_length=3))
case("locator-text", lambda: with_text(bytes(512)))
case("locator-name", lambda: with_text(".\\9.vhd".encode("utf-16-le")))

# --- the parent, the data -------------------------------------------------------------------------------------


def parent_of(result: VhdFile | VhdError | None) -> Callable[[str], VhdFile | None]:
    def find(name: str) -> VhdFile | None:
        assert name == "0.vhd"
        if isinstance(result, VhdError):
            raise result
        return result

    return find


case("", child, parent_of=parent_of(VhdFile.open(write_picture("A", uuid=PARENT.uuid))))
case("parent-uuid", child, parent_of=parent_of(VhdFile.open(write_picture("A", uuid=uuid_of(8)))))
case("parent-missing", child, parent_of=parent_of(None))
case("parent-broken", child, parent_of=parent_of(Malformed("0.vhd", [])))
case("", dynamic, parent_of=parent_of(None))


class Short(MemoryFile):
    def read_into(self, offset: int, buffer: memoryview) -> int:
        return min(super().read_into(offset, buffer), 1 << 20)


def stale(file: MemoryFile) -> MemoryFile:
    file.write_at(VhdFile.open(file).block_span(1)[1], b"s" * BLOCK_BYTES)
    return file


def short() -> MemoryFile:
    file = Short()
    file.take(dynamic())
    return file


case("", lambda: stale(dynamic("-b")))
case("block-stale-data", lambda: stale(dynamic("-b")), data=True)
case("", lambda: stale(child("-b")), data=True)
case("block-short", short, data=True)

# --- other writers --------------------------------------------------------------------------------------------

FUTURE = "footer-timestamp footer-geometry"
for style, alone, linked in (
    (XAPI, "", "locator-text"),
    (QEMU, "", "locator-none"),
    (XO, FUTURE, FUTURE + " locator-none"),
    (HYPERV, "", ""),
    (XEN, "", ""),
):
    case(alone, partial(lay_out, "A-b", style))
    case(linked, partial(lay_out, "A-b", style, parent=PARENT))


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: " ".join(CASES[number].expected) or "fine")
def test_exactly_these_complaints(number: int) -> None:
    expected, build, options = CASES[number]
    assert tuple(codes(build(), **options)) == expected


def test_every_documented_code_has_a_case() -> None:
    tried = {code.removeprefix("front-") for each in CASES for code in each.expected}
    assert sorted(DOCUMENTED) == sorted(tried)


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: " ".join(CASES[number].expected) or "fine")
def test_an_error_here_is_an_error_on_opening_and_a_warning_is_none(number: int) -> None:
    expected, build, options = CASES[number]
    fatal = [code for code in expected if DOCUMENTED[code.removeprefix("front-")] == "E"]
    if options.get("data") or "parent_of" in options:
        return
    if fatal:
        with pytest.raises(VhdError):
            VhdFile.open(build())
    else:
        VhdFile.open(build())


OURS_ONLY = {
    "footer-original-size",
    "fixed-short",
    "block-past-disk",
    "batmap-version",
    "locator-none",
    "header-no-parent",
}
"""What vhd-util does not say, or (no locator at all) only when it may look for the parent."""


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda number: " ".join(CASES[number].expected) or "fine")
def test_the_rules_as_somebody_else_wrote_them_down_agree(number: int) -> None:
    expected, build, options = CASES[number]
    file = build()
    if (
        options.get("data")
        or "parent_of" in options
        or file.size() > 1 << 24
        or options.get("now_vhd_s", NOW) is None
    ):
        return
    theirs = vhd_util_check(file.data(), now_s=NOW + 946_684_800, ignore_parents=True)
    if not set(expected) & OURS_ONLY:
        assert bool(theirs) == bool(expected), theirs

"""Check one VHD file as ``vhd-util check`` does, in its order, with a name for everything that can be wrong.

An *error* makes the disk unreadable here; a *warning* is another reader's complaint. What a broken structure hides
is not guessed at: checks that need it are left out. ``front-`` before a footer's code means the copy at 0.

    file-size                 W  the length is no multiple of 512 (an old footer: 511 more)
    footer-short              E  no room for a footer
    footer-cookie             E
    footer-checksum           E
    footer-version            E
    footer-type               E  not fixed, dynamic or differencing
    footer-data-offset        E  fixed: all ones; else a sector of the file
    footer-size               E  no multiple of 512, or absurd
    footer-features           W  the reserved bit is not set, or others than "temporary" are
    footer-timestamp          W  more than half an hour in the future (Xen Orchestra: Unix seconds)
    footer-creator-version    W  a blktap that does not exist
    footer-geometry           W  beyond the size (qemu's 65535/16/255, Xen Orchestra's rounding)
    footer-original-size      W  larger than the current one (Xen Orchestra refuses it)
    footer-saved-state        W
    footer-hidden             W
    footer-reserved           W
    footer-uuid               W  zeros
    footer-copies             E  the copy at 0 and the end are both good, and differ
    fixed-short               E  a fixed disk is larger than its file
    header-short              E  it would lie past the end
    header-cookie             E
    header-checksum           E
    header-version            E
    header-table-offset       E  no sector
    header-block-size         E  not 2 MiB
    header-table-entries      E  too few for the disk, or absurdly many
    header-data-offset        W  not all ones
    header-reserved           W
    header-parent-name        W  not UTF-16
    header-extra-parent       W  a dynamic disk names a parent (name, uuid, timestamp or locators)
    header-parent-timestamp   W  in the future
    header-no-parent          W  a differencing disk without its parent's uuid or name
    table-past-end            E  the table does not fit the file
    table-clobbers-headers    E  it lies over the header or the footer's copy
    block-past-end            E  a block ends past the trailing footer's start
    block-clobbers-headers    E  a block lies over the footer's copy, the header or the table
    block-overlap             E  two blocks share bytes
    block-before-headers-end  W  a block lies over or before a batmap or a locator's text
    block-past-disk           W  a block past the end of the disk is allocated
    batmap-missing            W  creator ``tap`` from 1.2 on must have one
    batmap-version            W
    batmap-offset             W  the map is not in the file
    batmap-size               W  fewer bits than blocks
    batmap-checksum           W
    batmap-full-hole          W  a block that is not allocated is called full
    locator-code              W  an unknown platform
    locator-span              W  offset, space or length are zero, or the text is longer than its space
    locator-past-end          W  the text lies past the end of the file
    locator-duplicate         W  two locators of one platform
    locator-text              W  the text cannot be decoded or is empty
    locator-name              W  the text's file name is not the header's
    locator-none              W  a differencing disk without locators (Xen Orchestra; vhd-util finds no parent)
    parent-missing            E  none of the names leads to a file
    parent-broken             E  the parent cannot be opened
    parent-uuid               E  the parent is another disk
    block-short               E  a block cannot be read whole (only with ``data``)
    block-stale-data          W  a dynamic disk has data where its bitmap says there is none (only with ``data``)
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vhd.batmap import check_batmap, read_batmap
from vhd.block import BITMAP_BYTES, SECTOR_BYTES, BlockBuffer, bitmap_of, runs
from vhd.errors import VhdError
from vhd.extents import check_extents
from vhd.findings import Finding, Severity, errors_of
from vhd.footer import CLOCK_TOLERANCE_S, DiskType, check_footer, unpack_footer
from vhd.header import HEADER_BYTES, NIL, Header, check_header, check_sizes, unpack_header
from vhd.layout import STORED_BLOCK_BYTES, blocks_of
from vhd.locator import PLATFORM_CODES, Locator, decode_text
from vhd.reader import (
    LOCATED_CODES,
    LOCATOR_TEXT_MAX_BYTES,
    OLD_FOOTER_BYTES,
    VhdFile,
    check_table_place,
    is_sparse,
    read_table,
    structures,
    text_inside,
    trailing_footer_bytes,
)
from vhd.storage import read_exactly

if TYPE_CHECKING:
    from collections.abc import Callable

    from vhd.bat import Bat
    from vhd.footer import Footer
    from vhd.storage import ReadableFile


def check_file(
    file: ReadableFile,
    *,
    now_vhd_s: int | None = None,
    parent_of: Callable[[str], VhdFile | None] | None = None,
    data: bool = False,
) -> list[Finding]:
    """Everything wrong with ``file``; empty when nothing is.

    ``now_vhd_s`` (2000 epoch) switches on the checks against the clock, ``parent_of`` (a file name to the opened
    parent, or ``None``) those of the parent, ``data`` those that read every block.
    """
    found: list[Finding] = []
    footer = _check_footers(file, now_vhd_s, found)
    if footer is None:
        return found
    if footer.disk_type == DiskType.FIXED:
        return [*found, *_check_fixed(file, footer)]
    header = _check_header(file, footer, now_vhd_s, found)
    if header is None:
        return found
    bat = _check_table(file, footer, header, found)
    if bat is None:
        return found
    found += check_batmap(file, footer, header, bat)
    if footer.differencing:
        found += _check_locators(file, header)
        if parent_of is not None:
            found += _check_parent(VhdFile(file, footer, header, bat), header, parent_of)
    if data and not errors_of(found):
        found += _check_data(VhdFile(file, footer, header, bat))
    return found


def _check_footers(file: ReadableFile, now_vhd_s: int | None, found: list[Finding]) -> Footer | None:
    """Judge both copies; returns the one to go on with."""
    size_bytes = file.size()
    if size_bytes % SECTOR_BYTES not in (0, OLD_FOOTER_BYTES):
        found.append(_warn("file-size", f"expected a multiple of 512 bytes, found {size_bytes}"))
    last, _ = trailing_footer_bytes(file, size_bytes)
    of_last = check_footer(last, now_vhd_s=now_vhd_s)
    found += of_last
    last_is_good = not errors_of(of_last)
    first = read_exactly(file, 0, len(last))
    if last_is_good and unpack_footer(last, file.name).disk_type == DiskType.FIXED and not is_sparse(first):
        return unpack_footer(last, file.name)
    of_first = errors_of(check_footer(first))
    found += [replace(finding, code=f"front-{finding.code}") for finding in of_first]
    if last_is_good and not of_first and first != last:
        found.append(_error("footer-copies", "the copy at 0 and the one at the end are both good, and differ"))
    if not of_first:
        return unpack_footer(first, file.name)
    return unpack_footer(last, file.name) if last_is_good else None


def _check_fixed(file: ReadableFile, footer: Footer) -> list[Finding]:
    _, start = trailing_footer_bytes(file, file.size())
    if footer.current_size_bytes <= start:
        return []
    return [_error("fixed-short", f"a disk of {footer.current_size_bytes} bytes has room for {start} only")]


def _check_header(file: ReadableFile, footer: Footer, now_vhd_s: int | None, found: list[Finding]) -> Header | None:
    raw = read_exactly(file, footer.data_offset, HEADER_BYTES)
    of_header = check_header(raw)
    found += of_header
    if errors_of(of_header):
        return None
    header = unpack_header(raw, file.name)
    found += check_sizes(header, footer.current_size_bytes)
    found += _check_link(footer, header, now_vhd_s)
    return header


def _check_link(footer: Footer, header: Header, now_vhd_s: int | None) -> list[Finding]:
    used = any(locator != Locator() for locator in header.locators)
    if not footer.differencing:
        if header.parent_name or used or header.parent_uuid != NIL or header.parent_timestamp:
            return [_warn("header-extra-parent", "a dynamic disk has no parent, but its header names one")]
        return []
    found = []
    if header.parent_uuid == NIL or not header.parent_name:
        found.append(_warn("header-no-parent", "a differencing disk needs its parent's uuid and name"))
    if now_vhd_s is not None and header.parent_timestamp > now_vhd_s + CLOCK_TOLERANCE_S:
        message = f"{header.parent_timestamp} lies in the future (now {now_vhd_s})"
        found.append(_warn("header-parent-timestamp", message))
    return found


def _check_table(file: ReadableFile, footer: Footer, header: Header, found: list[Finding]) -> Bat | None:
    misplaced = check_table_place(footer, header, file.size())
    found += misplaced
    if misplaced:
        return None
    bat = read_table(file, header)
    taken = structures(footer, header)
    _, end = trailing_footer_bytes(file, file.size())
    misplaced = check_extents(bat, taken=taken, end_bytes=end)
    found += misplaced
    if not misplaced:
        found += _check_headers_end(file, footer, header, bat)
    last = max(bat.allocated(), default=-1)
    if last >= blocks_of(footer.current_size_bytes):
        found.append(_warn("block-past-disk", f"block {last} is allocated, but lies past the disk's end"))
    return bat


def _check_headers_end(file: ReadableFile, footer: Footer, header: Header, bat: Bat) -> list[Finding]:
    """The blocks must follow everything else that the header names, as libvhd sees it."""
    ends = {region.what: region.end for region in structures(footer, header)}
    batmap = read_batmap(file, footer, header)
    if batmap is not None and batmap.end <= file.size():
        ends["batmap"] = batmap.end
    for locator in header.locators:
        if text_inside(locator, file.size()):
            ends[f"text of locator {locator.code!r}"] = locator.data_offset + locator.data_length
    sectors = bat.sectors()
    what, end = max(ends.items(), key=lambda item: item[1])
    if not sectors or min(sectors) * SECTOR_BYTES >= end:
        return []
    index = bat.index_of(min(sectors))
    return [
        _warn("block-before-headers-end", f"block {index} at byte {min(sectors) * 512} precedes the {what}'s end")
    ]


def _check_locators(file: ReadableFile, header: Header) -> list[Finding]:
    found: list[Finding] = []
    seen: set[bytes] = set()
    for number, locator in enumerate(header.locators):
        if locator == Locator():
            continue
        found += [
            replace(finding, message=f"locator {number}: {finding.message}")
            for finding in _check_locator(file, header, locator, seen)
        ]
        seen.add(locator.code)
    if not seen:
        found.append(_warn("locator-none", "a differencing disk needs at least one parent locator"))
    return found


def _check_locator(file: ReadableFile, header: Header, locator: Locator, seen: set[bytes]) -> list[Finding]:
    if locator.code not in PLATFORM_CODES:
        return [_warn("locator-code", f"unknown platform code {locator.code!r}")]
    if locator.code in seen:
        return [_warn("locator-duplicate", f"a second one of platform {locator.code!r}")]
    length = locator.data_length
    if not locator.data_offset or not 0 < length <= min(locator.space_bytes, LOCATOR_TEXT_MAX_BYTES):
        place = f"{length} bytes at {locator.data_offset} in a space of {locator.space_bytes}"
        return [_warn("locator-span", f"expected a text within its space, found {place}")]
    if not text_inside(locator, file.size()):
        message = f"{length} bytes at {locator.data_offset} reach past the end of the file ({file.size()})"
        return [_warn("locator-past-end", message)]
    if locator.code not in LOCATED_CODES:
        return []
    raw = read_exactly(file, locator.data_offset, length)
    path = decode_text(locator.code, raw)
    if not path:
        return [_warn("locator-text", f"cannot be read: {raw[:40]!r}")]
    name, expected = path.rsplit("/", 1)[-1], header.parent_name.replace("\\", "/").rsplit("/", 1)[-1]
    if name != expected:
        return [_warn("locator-name", f"names {name!r}, the header {expected!r}")]
    return []


def _check_parent(disk: VhdFile, header: Header, parent_of: Callable[[str], VhdFile | None]) -> list[Finding]:
    candidates = disk.parent_candidates()
    for candidate in candidates:
        try:
            parent = parent_of(candidate)
        except VhdError as error:
            return [_error("parent-broken", str(error))]
        if parent is not None:
            if parent.footer.uuid == header.parent_uuid:
                return []
            message = f"{candidate} has uuid {parent.footer.uuid}, expected {header.parent_uuid}"
            return [_error("parent-uuid", message)]
    return [_error("parent-missing", f"none of {candidates} is there")]


def _check_data(disk: VhdFile) -> list[Finding]:
    """Read every block; in a dynamic disk what its bitmap leaves out must be zeros (qemu reads it as data)."""
    buffer = BlockBuffer()
    for index in disk.block_indexes():
        done = disk.file.read_into(disk.block_span(index)[0], buffer.stored)
        if done != STORED_BLOCK_BYTES:
            return [_error("block-short", f"block {index}: expected {STORED_BLOCK_BYTES} bytes, found {done}")]
        bitmap = bitmap_of(disk.ordered(bytes(buffer.stored[:BITMAP_BYTES])))
        if disk.footer.differencing or bitmap is None:
            continue
        for first, count in runs(bitmap, present=False):
            if bytes(buffer.data[first * SECTOR_BYTES : (first + count) * SECTOR_BYTES]).strip(b"\0"):
                message = f"block {index} holds data from sector {first} on that its bitmap denies"
                return [_warn("block-stale-data", message)]
    return []


def _error(code: str, message: str) -> Finding:
    return Finding(code=code, message=message)


def _warn(code: str, message: str) -> Finding:
    return Finding(code=code, message=message, severity=Severity.WARNING)

"""The bytes of one file in memory, and what a power cut may leave of them.

Content is a dictionary of 4 KiB pages (absent = zeros); copies share pages, and the dictionary itself until one of
them is written. A journal remembers the previous version of every page written since the last sync, so that
:meth:`Content.after_power_cut` can make any mixture of old and new that a disk may hold then.
"""

from __future__ import annotations

import random
from collections import defaultdict

PAGE_BYTES = 4096
SECTOR_BYTES = 512

_ZEROS = bytes(PAGE_BYTES)
_SIZE = -1
"""The journal's page number for a change of the size."""


class Content:
    """Sparse bytes of any size. Not thread-safe by itself."""

    __slots__ = ("_journal", "_pages", "_shared", "linked", "size")

    def __init__(self, *, linked: bool) -> None:
        self.size = 0
        self.linked = linked
        """Whether the name of this content is durable."""
        self._pages: dict[int, bytes] = {}
        self._shared = False
        self._journal: list[tuple[int, bytes | int | None]] = []

    def copy(self) -> Content:
        """An independent copy that shares what it can."""
        twin = Content(linked=self.linked)
        twin.size = self.size
        twin._pages = self._pages
        twin._shared = self._shared = True
        twin._journal = list(self._journal)
        return twin

    @property
    def allocated_bytes(self) -> int:
        return len(self._pages) * PAGE_BYTES

    @property
    def durable(self) -> bool:
        """Whether a power cut now would change nothing."""
        return self.linked and not self._journal

    def sync(self) -> None:
        self.linked = True
        self._journal.clear()

    def missing_pages(self, offset: int, length: int) -> int:
        """How many pages a write there would add."""
        last = (offset + length + PAGE_BYTES - 1) // PAGE_BYTES
        return sum(page not in self._pages for page in range(offset // PAGE_BYTES, last))

    def read_into(self, offset: int, view: memoryview) -> int:
        total = max(0, min(len(view), self.size - offset))
        pages = self._pages
        done = 0
        while done < total:
            page, skip = divmod(offset + done, PAGE_BYTES)
            part = pages.get(page, _ZEROS)
            if skip or total - done < PAGE_BYTES:
                part = part[skip : skip + total - done]
            view[done : done + len(part)] = part
            done += len(part)
        return total

    def write(self, offset: int, view: memoryview) -> None:
        self._own()
        head = min(-offset % PAGE_BYTES, len(view))
        whole = (len(view) - head) // PAGE_BYTES * PAGE_BYTES
        self._write_part(offset, view[:head])
        self._write_pages((offset + head) // PAGE_BYTES, view[head : head + whole])
        self._write_part(offset + head + whole, view[head + whole :])
        if len(view) and offset + len(view) > self.size:
            self._set_size(offset + len(view))

    def share(self, source: Content, source_offset: int, offset: int, length: int) -> None:
        """Copy whole pages without copying bytes: all arguments are multiples of a page."""
        self._own()
        shift = (offset - source_offset) // PAGE_BYTES
        first = source_offset // PAGE_BYTES
        found = [source._pages.get(page) for page in range(first, first + length // PAGE_BYTES)]
        for page, data in enumerate(found, first + shift):
            self._set_page(page, data)
        if length and offset + length > self.size:
            self._set_size(offset + length)

    def truncate(self, size: int) -> None:
        self._own()
        if size < self.size:
            self._cut_pages(size)
        if size != self.size:
            self._set_size(size)

    def after_power_cut(self, rng: random.Random) -> Content | None:
        """A durable copy as the disk may hold it after losing power now; None if the name is lost too."""
        survivor = self.copy()
        if self.durable:
            return survivor
        survivor._own()
        how = rng.choice(("none", "all", "prefix", "pages", "sectors"))
        if not self.linked and (how == "none" or rng.random() < 0.5):
            return None
        if how == "none":
            survivor._undo(0)
        elif how == "prefix":
            survivor._undo(rng.randint(0, len(self._journal)))
        elif how in {"pages", "sectors"}:
            survivor._mix(rng, torn=how == "sectors")
        survivor.sync()
        return survivor

    def _own(self) -> None:
        if self._shared:
            self._pages = dict(self._pages)
            self._shared = False

    def _write_pages(self, first: int, view: memoryview) -> None:
        """Whole pages: the path that has to be fast."""
        pages, journal = self._pages, self._journal
        for page, start in enumerate(range(0, len(view), PAGE_BYTES), first):
            journal.append((page, pages.get(page)))
            pages[page] = bytes(view[start : start + PAGE_BYTES])

    def _write_part(self, offset: int, view: memoryview) -> None:
        """Bytes within one page."""
        if view:
            page, skip = divmod(offset, PAGE_BYTES)
            old = self._pages.get(page, _ZEROS)
            self._set_page(page, old[:skip] + view + old[skip + len(view) :])

    def _set_page(self, page: int, data: bytes | None) -> None:
        self._journal.append((page, self._pages.get(page)))
        self._put_page(page, data)

    def _put_page(self, page: int, data: bytes | None) -> None:
        if data is None:
            self._pages.pop(page, None)
        else:
            self._pages[page] = data

    def _set_size(self, size: int) -> None:
        self._journal.append((_SIZE, self.size))
        self.size = size

    def _cut_pages(self, size: int) -> None:
        """Make everything from ``size`` on read as zeros."""
        last, keep = divmod(size, PAGE_BYTES)
        for page in [page for page in self._pages if page > last or (page == last and not keep)]:
            self._set_page(page, None)
        if keep and last in self._pages:
            self._set_page(last, self._pages[last][:keep].ljust(PAGE_BYTES, b"\0"))

    def _undo(self, keep: int) -> None:
        """Take back all but the first ``keep`` changes since the last sync."""
        for page, old in reversed(self._journal[keep:]):
            if page == _SIZE:
                assert isinstance(old, int)
                self.size = old
            else:
                assert not isinstance(old, int)
                self._put_page(page, old)

    def _mix(self, rng: random.Random, *, torn: bool) -> None:
        """Each changed page, and the size, in any of its versions since the last sync; ``torn``: by sectors."""
        versions: defaultdict[int, list[bytes | int | None]] = defaultdict(list)
        for page, old in self._journal:
            versions[page].append(old)
        sizes = [each for each in versions.pop(_SIZE, []) if isinstance(each, int)]
        for page, olds in versions.items():
            candidates = [*(old for old in olds if not isinstance(old, int)), self._pages.get(page)]
            chosen = rng.choice(candidates)
            if torn:
                other = rng.choice(candidates)
                chosen = _torn(chosen or _ZEROS, other or _ZEROS, rng.randint(0, PAGE_BYTES // SECTOR_BYTES))
            self._put_page(page, chosen)
        self.size = rng.choice([*sizes, self.size])
        self._cut_pages(self.size)


def _torn(one: bytes, other: bytes, sectors: int) -> bytes:
    return one[: sectors * SECTOR_BYTES] + other[sectors * SECTOR_BYTES :]

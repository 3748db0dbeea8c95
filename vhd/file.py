"""One disk in one VHD file: reading, writing a new one, updating one in place.

vhd.reader   VhdFile         open and read; satisfies vhd.block.Disk for the file's own blocks
vhd.writer   VhdFileWriter   a new file in the layout of vhd.layout
vhd.updater  VhdFileUpdater  in-place changes that survive a power cut, for merging
"""

from __future__ import annotations

from vhd.layout import ParentLink
from vhd.reader import VhdFile
from vhd.updater import VhdFileUpdater
from vhd.writer import VhdFileWriter

__all__ = ["ParentLink", "VhdFile", "VhdFileUpdater", "VhdFileWriter"]

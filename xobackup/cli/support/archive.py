"""The file: scrubbed, proven, and there as a whole or not at all. Only its owner can read it."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xobackup.texts import size_text

if TYPE_CHECKING:
    from xobackup.scrub import Scrubber

DIRECTORY = "xobackup-support"


class SecretLeft(Exception):
    """Should the scrubbing have missed one, nothing is written."""

    hint = "this is a bug of xobackup; no file was written"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One file of it. ``content``: bytes, or JSON data."""

    name: str
    about: str
    content: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A part as it is in the file."""

    name: str
    about: str
    data: bytes


def scrubbed(parts: list[Part], scrubber: Scrubber) -> list[Written]:
    """Every part as bytes, names and all, with nothing in them that the scrubber knows."""
    done = []
    for part in parts:
        if isinstance(part.content, bytes):
            data = scrubber.clean(part.content)
        else:
            told = json.dumps(scrubber.clean_data(part.content), indent=1, ensure_ascii=False, default=str)
            data = scrubber.clean(told.encode("utf-8", "replace")) + b"\n"
        done.append(Written(name=scrubber.clean_text(part.name), about=part.about, data=data))
    return done


def listing(parts: list[Written], notes: list[str]) -> str:
    """What is in it, for whoever is about to send it."""
    lines = ["A support bundle of xobackup. Look at it before you send it.", ""]
    lines += [f"{size_text(len(one.data)):>10}  {one.name}: {one.about}" for one in parts]
    return "\n".join([*lines, "", *notes]) + "\n"


def write(path: Path, parts: list[Written], scrubber: Scrubber, made_at_s: float) -> int:
    """Its size. Raises :class:`SecretLeft`, ``OSError``; ``FileExistsError`` rather than replace anything."""
    for part in parts:
        if left := scrubber.holds(part.data) + scrubber.holds(part.name.encode()):
            raise SecretLeft(f"{part.name}: it would hold {', '.join(left)}")
    tarred = io.BytesIO()
    with tarfile.open(fileobj=tarred, mode="w") as tar:
        for part in parts:
            entry = tarfile.TarInfo(f"{DIRECTORY}/{part.name}")
            entry.size, entry.mtime, entry.mode = len(part.data), int(made_at_s), 0o600
            tar.addfile(entry, io.BytesIO(part.data))
    packed = gzip.compress(tarred.getvalue(), mtime=int(made_at_s))
    if path.exists():
        raise FileExistsError(17, "there is such a file already", str(path))
    part_path = path.with_name(f".{path.name}.part")
    descriptor = os.open(part_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(packed)
        file.flush()
        os.fsync(file.fileno())
    part_path.replace(path)
    return len(packed)

"""Secrets on their way into the configuration: named places to be filled in, files, or values in clear when asked."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePath
from typing import Any


class Keeping(StrEnum):
    """Where secrets go."""

    ENV = "env"
    """``{ env = "NAME" }``, for the reader to set."""
    FILES = "files"
    """``{ file = "/path" }``, and the file beside the configuration."""
    INLINE = "inline"
    """Into the configuration, in clear."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A secret in a section's values. ``value`` is ``None`` when Xen Orchestra did not give it."""

    value: str | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretFile:
    """To be written for the owner's eyes only."""

    path: PurePath
    content: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """What the reader has to fill in: the key, and where its secret is expected."""

    key: str
    where: str


class Safe:
    """Puts secrets where they belong and remembers what is to be written or to be filled in."""

    def __init__(self, keeping: Keeping, directory: PurePath | None) -> None:
        assert keeping is not Keeping.FILES or directory is not None
        self._keeping = keeping
        self._directory = directory
        self._variables: dict[str, int] = {}
        self.files: list[SecretFile] = []
        self.missing: list[Missing] = []

    def settle(self, values: dict[str, Any], key: str) -> dict[str, Any]:
        """``values`` with every :class:`Held` replaced by what stands for it; ``key`` is their table."""
        settled: dict[str, Any] = {}
        for name, value in values.items():
            where = f"{key}.{name}"
            if isinstance(value, Held):
                settled[name] = self._place(where, value.value)
            else:
                settled[name] = self.settle(value, where) if isinstance(value, dict) else value
        return settled

    def file(self, name: str, content: str) -> PurePath | None:
        """A file of secrets that is no key of the configuration; ``None`` unless secrets go to files."""
        if self._keeping is not Keeping.FILES or self._directory is None:
            return None
        path = self._directory / name
        self.files.append(SecretFile(path=path, content=content))
        return path

    def _place(self, key: str, value: str | None) -> Any:
        if self._keeping is Keeping.INLINE and value is not None:
            return value
        if self._keeping is Keeping.FILES and self._directory is not None:
            path = self._directory / key
            if value is None:
                self.missing.append(Missing(key=key, where=f"the file {path} (mode 0600)"))
            else:
                self.files.append(SecretFile(path=path, content=value + "\n"))
            return {"file": str(path)}
        variable = self._variable(key)
        self.missing.append(Missing(key=key, where=f"the environment variable {variable}"))
        return {"env": variable}

    def _variable(self, key: str) -> str:
        """``pools.paris.password``: ``XOBACKUP_POOLS_PARIS_PASSWORD``; names that fall together get a number."""
        name = "XOBACKUP_" + re.sub(r"[^A-Z0-9]+", "_", key.upper())
        self._variables[name] = self._variables.get(name, 0) + 1
        return name if self._variables[name] == 1 else self._variable(f"{key}_{self._variables[name]}")

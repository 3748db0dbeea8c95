"""Reading the configuration: one file, then its drop-ins in order of name.

``xobackup.toml`` is followed by ``xobackup.d/*.toml`` beside it. Tables are merged, anything else in a later file
replaces what an earlier one said. Nothing is read from anywhere else.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from xobackup.config.errors import ConfigError
from xobackup.config.model import Configuration

DEFAULT_PATH = Path("/etc/xobackup/xobackup.toml")
ENVIRONMENT_VARIABLE = "XOBACKUP_CONFIG"
KINDS_OF_JOBS = {"metadata_jobs": "metadata", "mirror_jobs": "mirror"}
"""Where the model keeps the jobs of which mode; the file has one table for all."""
FILE_BYTES_MAX = 16 * 1024 * 1024


def configuration_path(given: Path | None) -> Path:
    """The file to read: as given, else ``$XOBACKUP_CONFIG``, else ``/etc/xobackup/xobackup.toml``."""
    if given is not None:
        return given
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    return Path(named) if named else DEFAULT_PATH


def files_of(path: Path) -> list[Path]:
    """``path`` and its drop-ins, in the order they are applied."""
    directory = path.with_suffix(".d")
    try:
        drop_ins = sorted(entry for entry in directory.iterdir() if entry.suffix == ".toml")
    except (FileNotFoundError, NotADirectoryError):
        drop_ins = []
    except OSError as error:
        raise ConfigError([f"{directory}: {error.strerror}"]) from error
    return [path, *drop_ins]


def load_configuration(path: Path) -> Configuration:
    """Read and validate. Raises :class:`ConfigError` with one sentence per problem."""
    merged: dict[str, Any] = {}
    origin: dict[tuple[str, ...], Path] = {}
    for file in files_of(path):
        _merge(merged, _read(file), origin, file, ())
    for key, mode in KINDS_OF_JOBS.items():
        if key in merged:
            where = _origin((key,), origin, path)
            raise ConfigError([f"{where}: {key}: there is no such key"], f'write [jobs.NAME] with mode = "{mode}"')
    try:
        return Configuration.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(_sentences(error, origin, path)) from None


def load_raw(path: Path) -> dict[str, Any]:
    """What the files say, merged and not looked at. Raises :class:`ConfigError` for what cannot be read."""
    merged: dict[str, Any] = {}
    for file in files_of(path):
        _merge(merged, _read(file), {}, file, ())
    return merged


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        hint = f"write one, or name it with --config or ${ENVIRONMENT_VARIABLE}" if not path.exists() else None
        raise ConfigError([f"{path}: {error.strerror}"], hint) from error
    if len(raw) > FILE_BYTES_MAX:
        raise ConfigError([f"{path}: larger than {FILE_BYTES_MAX} bytes, this is no configuration"])
    try:
        return tomllib.loads(raw.decode())
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not UTF-8 at byte {error.start}"]) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: {error}"]) from None
    except RecursionError:
        raise ConfigError([f"{path}: nested too deeply"]) from None


def _merge(
    into: dict[str, Any], new: dict[str, Any], origin: dict[tuple[str, ...], Path], file: Path, at: tuple[str, ...]
) -> None:
    for key, value in new.items():
        where = (*at, key)
        origin[where] = file
        old = into.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            _merge(old, value, origin, file, where)
        elif isinstance(value, dict):
            into[key] = {}
            _merge(into[key], value, origin, file, where)
        else:
            into[key] = value


def _sentences(error: ValidationError, origin: dict[tuple[str, ...], Path], path: Path) -> list[str]:
    found: list[str] = []
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    for problem in problems:
        if problem["type"] == "too_short" and any(_below(other["loc"], problem["loc"]) for other in problems):
            continue  # too short only because its members were refused
        keys = tuple(str(part) for part in problem["loc"])
        if keys and keys[0] in KINDS_OF_JOBS:
            keys = ("jobs", *keys[1:])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "there is no such key"
        elif problem["type"] == "missing":
            message = "this key is missing"
        sentence = f"{_origin(keys, origin, path)}: {'.'.join(keys)}: {message}" if keys else f"{path}: {message}"
        if sentence not in found:
            found.append(sentence)
    return found


def _below(one: tuple[int | str, ...], other: tuple[int | str, ...]) -> bool:
    return len(one) > len(other) and one[: len(other)] == other


def _origin(keys: tuple[str, ...], origin: dict[tuple[str, ...], Path], path: Path) -> Path:
    for length in range(len(keys), 0, -1):
        if keys[:length] in origin:
            return origin[keys[:length]]
    return path

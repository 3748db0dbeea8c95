"""The configuration as one TOML text without its secrets: for where anybody may read it.

What stood in clear becomes a file that is to be written again, beside the configuration; what came from a file, the
environment or a command still does. Comments are gone, because they may hold what was taken out. It reads back as a
configuration.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from xobackup.config.from_xo.toml import value_text
from xobackup.config.model import Configuration
from xobackup.config.secret_places import (
    HASHES,
    key_text,
    known_values,
    secrets_of,
    shown_url,
    texts_of,
    url_secrets,
)
from xobackup.scrub import Scrubber

SECRETS = "secrets"
NOBODY = "$argon2id$removed"
"""A hash that no password has."""


def redacted(raw: dict[str, Any], configuration: Configuration, directory: Path) -> tuple[str, list[str]]:
    """The text, and what has to be done by hand after it was brought back. ``raw``: what the files say, merged."""
    left = _copied(raw)
    todo: list[str] = []
    for key, secret in secrets_of(configuration):
        if secret.value is not None:
            path = directory / SECRETS / key_text(key)
            _put(left, key, lambda _old, path=path: {"file": str(path)})  # type: ignore[misc]
            todo.append(f"{key_text(key)}: write the secret into {path}")
    for key, text in texts_of(configuration):
        if key[-1] in HASHES:
            _put(left, key, lambda _old: NOBODY)
            todo.append(f"{key_text(key)}: give a password again (`xobackup web password`)")
        elif "://" in text and url_secrets(text):
            _put(left, key, lambda _old, text=text: shown_url(text))  # type: ignore[misc]
            todo.append(f"{key_text(key)}: give the secrets in it again")
    values, _ = known_values(configuration, arguments=False)
    return Scrubber(values).clean_text(_toml(left)), todo


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(one) for key, one in value.items()}
    return [_copied(one) for one in value] if isinstance(value, list) else value


def _put(tree: Any, key: Any, new: Callable[[Any], Any]) -> None:
    """Replace what is at ``key``, if the files say it."""
    kind = "jobs" if key[0] in ("metadata_jobs", "mirror_jobs") else key[0]
    at = tree
    for part in (kind, *key[1:-1]):
        if isinstance(at, dict) and part not in at:
            return
        at = at[part]
    if isinstance(at, list) or key[-1] in at:
        at[key[-1]] = new(at[key[-1]])


def _toml(tree: dict[str, Any]) -> str:
    """Tables two levels deep under heads, what is deeper inline."""
    lines = [_line(key, one) for key, one in tree.items() if not isinstance(one, dict)]
    for kind, table in tree.items():
        if not isinstance(table, dict):
            continue
        plain = [_line(key, one) for key, one in table.items() if not isinstance(one, dict)]
        if plain or not table:
            lines += ["", f"[{value_text(kind, key=True)}]", *plain]
        for name, inner in table.items():
            if isinstance(inner, dict):
                lines += ["", f"[{value_text(kind, key=True)}.{value_text(name, key=True)}]"]
                lines += [_line(key, one) for key, one in inner.items()]
    return "\n".join(lines).strip() + "\n"


def _line(key: str, value: Any) -> str:
    return f"{value_text(key, key=True)} = {value_text(value)}"

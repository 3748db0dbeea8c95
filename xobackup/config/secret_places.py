"""What in a configuration is secret, and where: by the model's own types, and what URLs hold.

:func:`secrets_of` finds every :class:`~xobackup.config.secrets.Secret` by walking the model, so that a new section is
covered the day it is written. :func:`known_values` are the words that must never leave, by the key they belong to.
:func:`shown` is the configuration as it may be shown to somebody else.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import BaseModel, SecretStr, ValidationError

from remotes.errors import InvalidUrl
from remotes.url import SECRET_OPTIONS, parse_url
from xobackup.config.errors import ConfigError
from xobackup.config.model import Configuration
from xobackup.config.secrets import Secret, resolve

Key = tuple[str | int, ...]
REMOVED = "(removed)"
HASHES = frozenset({"password_hash"})
"""Not secrets, but good enough to guess them by."""
COMMANDS = frozenset({"command"})
"""Arguments may be anything; the program is shown."""
ARGUMENT_MIN = 8
_FROM_ELSEWHERE = {"env", "file", "command"}


def key_text(key: Key) -> str:
    """``pools.paris.password``, as the file has it."""
    shown = [str(part) for part in key]
    if shown and shown[0] in ("metadata_jobs", "mirror_jobs"):
        shown[0] = "jobs"
    return ".".join(shown)


def secrets_of(model: object, at: Key = ()) -> Iterator[tuple[Key, Secret]]:
    """Every secret below ``model``, with its place."""
    if isinstance(model, Secret):
        yield at, model
    else:
        for name, value in _members(model):
            yield from secrets_of(value, (*at, name))


def texts_of(model: object, at: Key = ()) -> Iterator[tuple[Key, str]]:
    """Every text below ``model`` that is no secret by its type."""
    if isinstance(model, str):
        yield at, model
    elif not isinstance(model, Secret):
        for name, value in _members(model):
            yield from texts_of(value, (*at, name))


def _members(model: object) -> Iterator[tuple[str | int, object]]:
    if isinstance(model, BaseModel):
        for name, field in type(model).model_fields.items():
            yield field.alias or name, getattr(model, name)
    elif isinstance(model, Mapping):
        yield from model.items()
    elif isinstance(model, list | tuple):
        yield from enumerate(model)


def known_values(configuration: Configuration, *, arguments: bool = True) -> tuple[dict[str, str], list[str]]:
    """Every secret word by its key; and the keys of those that could not be read (why may quote anything).

    ``arguments``: long ones of commands count as such, too.
    """
    found: dict[str, str] = {}
    unread: list[str] = []
    for key, secret in secrets_of(configuration):
        try:
            found[key_text(key)] = resolve(secret, key_text(key))
        except ConfigError:
            unread.append(key_text(key))
    for key, text in texts_of(configuration):
        if key[-1] in HASHES or (arguments and _is_argument(key) and len(text) >= ARGUMENT_MIN):
            found[key_text(key)] = text
        elif "://" in text:
            found |= {f"{key_text(key)} ({part})": word for part, word in url_secrets(text).items()}
    return found, unread


def _is_argument(key: Key) -> bool:
    return len(key) > 1 and key[-2] in COMMANDS and key[-1] != 0


def suspects(tree: object, at: Key = ()) -> tuple[dict[str, str], list[str]]:
    """Of a file that is no configuration every text counts as a secret, and what its tables lead to too."""
    if isinstance(tree, str):
        return {key_text(at): tree} | {f"{key_text(at)} ({p})": w for p, w in url_secrets(tree).items()}, []
    found: dict[str, str] = {}
    unread: list[str] = []
    if isinstance(tree, dict) and len(tree) == 1 and _FROM_ELSEWHERE & set(tree):
        with contextlib.suppress(ValidationError):
            try:
                found[key_text(at)] = resolve(Secret.model_validate(tree), key_text(at))
            except ConfigError:
                unread.append(key_text(at))
    for name, value in _members(tree):
        more, problems = suspects(value, (*at, name))
        found |= more
        unread += problems
    return found, unread


def url_secrets(text: str) -> dict[str, str]:
    """User, password and secret options in a URL, by what they are; as they are, and with their escapes undone."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return {"address": text}
    found: dict[str, str] = {}
    authority = parts.netloc.rpartition("@")[0]
    if "@" in parts.path:  # an unquoted slash in a password moved the rest of it into the path
        authority = (parts.netloc + parts.path).rpartition("@")[0]
    user, colon, password = authority.partition(":")
    if colon:
        found |= {"password": password, "password, unescaped": unquote(password)}
    if user and parts.scheme.startswith("s3"):
        found |= {"key": user, "key, unescaped": unquote(user)}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in SECRET_OPTIONS:
            with contextlib.suppress(ValueError):
                found |= {f"{name}, read": str(json.loads(value))}
            found |= {name: value}
    return {name: word for name, word in found.items() if word}


def shown_url(text: str) -> str:
    """A URL without what is secret in it."""
    with contextlib.suppress(InvalidUrl):
        return parse_url(text).redacted
    try:
        parts = urlsplit(text)
    except ValueError:
        return REMOVED
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="", fragment="").geturl()


def shown(model: object, name: str | int = "") -> Any:
    """As JSON data: what was set, secrets told by where they come from alone."""
    if isinstance(model, Secret):
        return _shown_secret(model)
    if isinstance(model, BaseModel):
        fields = type(model).model_fields
        given = [one for one in fields if one in model.model_fields_set]
        return {fields[one].alias or one: shown(getattr(model, one), one) for one in given}
    if isinstance(model, Mapping):
        return {str(key): shown(value, key) for key, value in model.items()}
    if isinstance(model, list | tuple):
        if name in COMMANDS and model:
            return [str(model[0]), *([f"({len(model) - 1} arguments)"] if len(model) > 1 else [])]
        return [shown(value) for value in model]
    if isinstance(model, SecretStr) or name in HASHES:
        return REMOVED
    if isinstance(model, str):
        return shown_url(model) if "://" in model else model
    return model if isinstance(model, bool | int | float) or model is None else str(model)


def _shown_secret(secret: Secret) -> Any:
    if secret.env is not None:
        return {"env": secret.env}
    if secret.file is not None:
        return {"file": str(secret.file)}
    if secret.command is not None:
        return {"command": shown(secret.command, "command")}
    return REMOVED


def files_of_secrets(configuration: Configuration) -> dict[str, Path]:
    """Where secrets are files, by their keys."""
    return {key_text(key): one.file for key, one in secrets_of(configuration) if one.file is not None}

"""Secrets: by value, environment variable, file, or command. Resolved late, never printed, never journaled."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from xobackup.config.errors import SecretError

COMMAND_TIMEOUT_S = 30
SECRET_BYTES_MAX = 64 * 1024
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
"""Where systemd puts what ``LoadCredential=`` names (``systemd.exec(5)``)."""


class Secret(BaseModel):
    """``"secret"``, ``{ env = "NAME" }``, ``{ file = "/path" }`` or ``{ command = ["pass", "show", "pool"] }``.

    A file whose path is relative is a credential of systemd's: it is below ``$CREDENTIALS_DIRECTORY``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: SecretStr | None = None
    env: str | None = None
    file: Path | None = None
    command: Annotated[tuple[str, ...], Field(min_length=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, data: object) -> object:
        return {"value": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _exactly_one(self) -> Secret:
        given = [key for key in ("value", "env", "file", "command") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"expected exactly one of env, file, command, found {', '.join(given) or 'none'}")
        return self


def resolve(secret: Secret, key: str) -> str:
    """The secret itself, without a trailing newline. Raises :class:`SecretError` naming ``key``."""
    if secret.value is not None:
        return secret.value.get_secret_value()
    if secret.env is not None:
        value = os.environ.get(secret.env)
        if value is None:
            raise SecretError(key, f"the environment variable {secret.env} is not set")
        return value
    if secret.file is not None:
        return _from_file(file_path(secret.file, key), key)
    assert secret.command is not None
    return _from_command(secret.command, key)


def file_path(path: Path, key: str) -> Path:
    """Where a secret's file is. Raises :class:`SecretError` for a credential when there are none."""
    if path.is_absolute():
        return path
    directory = os.environ.get(CREDENTIALS_VARIABLE)
    if not directory:
        told = f"{path} is relative, a credential of systemd's, and ${CREDENTIALS_VARIABLE} is not set"
        raise SecretError(key, told, hint=f"LoadCredential={path}:/path in the unit, or give an absolute path")
    return Path(directory) / path


def _from_file(path: Path, key: str) -> str:
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & (stat.S_IRWXO):
                raise SecretError(key, f"{path} can be read by everybody", hint=f"chmod 600 {path}")
            raw = file.read(SECRET_BYTES_MAX + 1)
    except OSError as error:
        raise SecretError(key, f"cannot read {path}: {error.strerror}") from error
    return _text(raw, key, str(path))


def _from_command(command: tuple[str, ...], key: str) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=COMMAND_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SecretError(key, f"cannot run {command[0]}: {error}") from error
    if done.returncode != 0:
        complaint = done.stderr.decode(errors="replace").strip().splitlines()
        raise SecretError(key, f"{command[0]} ended with {done.returncode}: {complaint[-1] if complaint else ''}")
    return _text(done.stdout, key, command[0])


def _text(raw: bytes, key: str, source: str) -> str:
    if len(raw) > SECRET_BYTES_MAX:
        raise SecretError(key, f"{source} gives more than {SECRET_BYTES_MAX} bytes")
    try:
        value = raw.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise SecretError(key, f"{source} does not give UTF-8 text") from None
    if not value:
        raise SecretError(key, f"{source} gives nothing")
    return value

"""Secrets come from where the configuration says, and a failure says which key and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from xobackup.config.errors import SecretError
from xobackup.config.secrets import Secret, resolve


def secret(data: object) -> Secret:
    return Secret.model_validate(data)


def refused(data: object) -> SecretError:
    with pytest.raises(SecretError) as caught:
        resolve(secret(data), "pools.p.password")
    assert str(caught.value).startswith("pools.p.password: ")
    return caught.value


def test_by_value_and_never_shown() -> None:
    plain = secret("hunter2")
    assert resolve(plain, "k") == "hunter2"
    assert "hunter2" not in repr(plain)


def test_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOL_PASSWORD", "a b")
    assert resolve(secret({"env": "POOL_PASSWORD"}), "k") == "a b"
    monkeypatch.delenv("POOL_PASSWORD")
    assert "POOL_PASSWORD is not set" in str(refused({"env": "POOL_PASSWORD"}))


def test_from_a_file_that_only_we_can_read(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("line\n")
    path.chmod(0o600)
    assert resolve(secret({"file": str(path)}), "k") == "line"
    path.chmod(0o644)
    assert refused({"file": str(path)}).hint == f"chmod 600 {path}"
    path.chmod(0o600)
    path.write_bytes(b"\n")
    assert "gives nothing" in str(refused({"file": str(path)}))
    path.write_bytes(b"\xff")
    assert "UTF-8" in str(refused({"file": str(path)}))
    path.write_bytes(b"x" * 70_000)
    assert "more than" in str(refused({"file": str(path)}))
    assert "No such file" in str(refused({"file": str(tmp_path / "absent")}))


def test_a_relative_file_is_a_credential_of_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "paris").write_text("word\n")
    (tmp_path / "paris").chmod(0o400)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    found = refused({"file": "paris"})
    assert "$CREDENTIALS_DIRECTORY is not set" in str(found) and "LoadCredential=paris:" in str(found.hint)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert resolve(secret({"file": "paris"}), "k") == "word"


def test_from_a_command() -> None:
    assert resolve(secret({"command": ["printf", "word\\n"]}), "k") == "word"
    assert "ended with 3: no" in str(refused({"command": ["sh", "-c", "echo no >&2; exit 3"]}))
    assert "cannot run" in str(refused({"command": ["/nonexistent/program"]}))

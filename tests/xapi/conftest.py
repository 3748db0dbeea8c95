"""A scripted host per test, and a session with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from xobackup.xapi.session import Session
from xotest.scripted_xapi import ScriptedXapi


@pytest.fixture
def host(tmp_path: Path) -> Iterator[ScriptedXapi]:
    with ScriptedXapi(tmp_path) as scripted:
        yield scripted


@pytest.fixture
def session(host: ScriptedXapi) -> Iterator[Session]:
    with host.connect() as connected:
        yield connected

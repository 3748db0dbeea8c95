"""The API against its own description: schemathesis sends what fits it and what does not, as an admin."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    negative_data_rejection,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
)

from xobackup.clock import FakeClock
from xobackup.web.access import Role
from xobackup.web.app import Door, make_app
from xobackup.web.tokens import make_token
from xotest.web import PaperHouse

EXAMPLES = 2
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


@pytest.fixture
def api(house: PaperHouse, door: Door, tmp_path: Path, clock: FakeClock) -> Any:
    word = make_token(tmp_path, "fuzz", Role.ADMIN, now_s=clock.now_s(), ends_at=None)
    found = schemathesis.openapi.from_asgi(
        "/api/v1/openapi.json", make_app(house, door), headers={"Host": "testserver"}
    )
    found.config.update(headers={"Authorization": f"Bearer {word}", "Host": "testserver"})
    return found


def test_whatever_is_sent_is_answered_as_described_and_never_an_internal_error(api: Any) -> None:
    """Without schemathesis's plugin, which does not fit this pytest."""
    asked = 0
    for found in api.get_all_operations():
        operation = found.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy(generation_mode=mode))
            def sent(case: Any) -> None:
                nonlocal asked
                asked += 1
                case.call_and_validate(checks=CHECKS)

            with suppress(Unsatisfiable):  # what takes nothing cannot be given anything wrong
                sent()
    assert asked > 100

"""Tables of the configuration, and whether its model would take them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from xobackup.config.from_xo.credentials import Held
from xobackup.config.from_xo.remarks import plain

COMMENT = "#"
"""A key of a rule that is written as a comment behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """``[kind.name]`` and its keys in order. ``active`` is false when it is written as a comment."""

    kind: str
    name: str
    values: dict[str, Any] = field(repr=False)
    comments: tuple[str, ...] = ()
    active: bool = True

    @property
    def key(self) -> str:
        return f"{self.kind}.{self.name}"


def problems_of(model: type[BaseModel], values: dict[str, Any]) -> list[str]:
    """Why ``model`` does not take ``values``, one sentence each; nothing when it does."""
    try:
        model.model_validate(bare(values))
    except ValidationError as error:
        found: list[str] = []
        for one in error.errors(include_url=False, include_input=False, include_context=False):
            key = ".".join(str(part) for part in one["loc"])
            message = plain(one["msg"].removeprefix("Value error, "))
            found.append(f"{key}: {message}" if key else message)
        return found[:5]
    return []


def bare(value: Any) -> Any:
    """As the model sees it: without comments, a word instead of each secret."""
    if isinstance(value, Held):
        return "secret"
    if isinstance(value, dict):
        return {key: bare(member) for key, member in value.items() if key != COMMENT}
    if isinstance(value, list):
        return [bare(member) for member in value]
    return value

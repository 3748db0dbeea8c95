"""What all tables of the configuration have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A table. Unknown keys are refused: a typing mistake must not become a default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

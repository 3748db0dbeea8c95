"""Targets in the configuration: SRs of pools, where replicas are kept."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from xobackup.config.section import Section
from xobackup.config.sites import Sites

Text = Annotated[str, Field(min_length=1)]


class TargetSection(Section):
    """One or several SRs of a pool."""

    pool: str
    sr: Text | None = None
    """By uuid, or by name."""
    srs: tuple[Text, ...] = ()
    """Several of them."""
    placement: Literal["all", "distributed"] = "all"
    """With several SRs: a replica on each, or on the one with the most room when it is made."""
    name: Text = "{vm} [{job} replica]"
    """What replicas are called."""
    sites: Sites = ()
    """From where its pool is reached for writing; none: from everywhere."""
    new_macs: bool = False
    """Give their NICs addresses of their own."""
    networks: dict[str, str | Literal[False]] = Field(default_factory=dict)
    """By the name or uuid of a network, ``vlan:NUMBER``, or a NIC's device or MAC: the network there; ``false``: the
    NIC is left out. Others are found by uuid, VLAN and name."""

    @property
    def all_srs(self) -> tuple[str, ...]:
        return (self.sr,) if self.sr is not None else self.srs

    @field_validator("name")
    @classmethod
    def _fields(cls, value: str) -> str:
        try:
            value.format(job="", vm="")
        except (KeyError, IndexError, ValueError, AttributeError):
            raise ValueError(f"expected a text with {{vm}} and {{job}}, found {value!r}") from None
        return value

    @model_validator(mode="after")
    def _one_way(self) -> TargetSection:
        if (self.sr is None) == (not self.srs):
            raise ValueError("expected sr, or several of them in srs")
        if len(set(self.srs)) != len(self.srs):
            raise ValueError("srs: one is named twice")
        return self

"""Records of the pool's database as frozen views: the fields a backup needs, typed; everything else stays in ``raw``.

References are texts, ``None`` where they point to nothing. ``raw`` is the record as the host sent it: what goes
into a restore point's metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from xobackup.xapi.record_fields import Fields

Raw = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRecord:
    ref: str
    uuid: str
    name_label: str
    name_description: str
    master: str
    default_sr: str | None
    other_config: Mapping[str, str]
    tags: tuple[str, ...]
    raw: Raw = field(repr=False)

    @classmethod
    def parse(cls, ref: str, raw: Raw) -> PoolRecord:
        of = Fields("pool", ref, raw)
        return cls(
            ref=ref,
            uuid=of.text("uuid"),
            name_label=of.text("name_label"),
            name_description=of.text("name_description"),
            master=of.must_link("master"),
            default_sr=of.link("default_SR"),
            other_config=of.mapping("other_config"),
            tags=of.names("tags"),
            raw=raw,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRecord:
    ref: str
    uuid: str
    name_label: str
    hostname: str
    address: str
    enabled: bool
    api_version: tuple[int, int]
    software_version: Mapping[str, str]
    control_domain: str | None
    other_config: Mapping[str, str]
    tags: tuple[str, ...]
    raw: Raw = field(repr=False)

    @property
    def product(self) -> str:
        """Brand and version, ``XCP-ng 8.3.0``."""
        words = (self.software_version.get("product_brand"), self.software_version.get("product_version"))
        return " ".join(word for word in words if word)

    @classmethod
    def parse(cls, ref: str, raw: Raw) -> HostRecord:
        of = Fields("host", ref, raw)
        return cls(
            ref=ref,
            uuid=of.text("uuid"),
            name_label=of.text("name_label"),
            hostname=of.text("hostname"),
            address=of.text("address"),
            enabled=of.truth("enabled", default=True),
            api_version=(of.integer("API_version_major"), of.integer("API_version_minor")),
            software_version=of.mapping("software_version"),
            control_domain=of.link("control_domain"),
            other_config=of.mapping("other_config"),
            tags=of.names("tags"),
            raw=raw,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SrRecord:
    ref: str
    uuid: str
    name_label: str
    name_description: str
    type: str
    content_type: str
    shared: bool
    physical_size: int
    physical_utilisation: int
    virtual_allocation: int
    pbds: tuple[str, ...]
    vdis: tuple[str, ...]
    sm_config: Mapping[str, str]
    other_config: Mapping[str, str]
    tags: tuple[str, ...]
    raw: Raw = field(repr=False)

    @property
    def free_bytes(self) -> int:
        return max(0, self.physical_size - self.physical_utilisation)

    @classmethod
    def parse(cls, ref: str, raw: Raw) -> SrRecord:
        of = Fields("SR", ref, raw)
        return cls(
            ref=ref,
            uuid=of.text("uuid"),
            name_label=of.text("name_label"),
            name_description=of.text("name_description"),
            type=of.text("type"),
            content_type=of.text("content_type"),
            shared=of.truth("shared"),
            physical_size=of.integer("physical_size"),
            physical_utilisation=of.integer("physical_utilisation"),
            virtual_allocation=of.integer("virtual_allocation"),
            pbds=of.links("PBDs"),
            vdis=of.links("VDIs"),
            sm_config=of.mapping("sm_config"),
            other_config=of.mapping("other_config"),
            tags=of.names("tags"),
            raw=raw,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SmRecord:
    ref: str
    uuid: str
    name_label: str
    type: str
    features: frozenset[str]
    raw: Raw = field(repr=False)

    @classmethod
    def parse(cls, ref: str, raw: Raw) -> SmRecord:
        of = Fields("SM", ref, raw)
        features = frozenset(of.mapping("features")) | frozenset(of.names("capabilities"))
        return cls(
            ref=ref,
            uuid=of.text("uuid"),
            name_label=of.text("name_label"),
            type=of.text("type"),
            features=features,
            raw=raw,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PbdRecord:
    ref: str
    uuid: str
    host: str | None
    sr: str | None
    currently_attached: bool
    raw: Raw = field(repr=False)

    @classmethod
    def parse(cls, ref: str, raw: Raw) -> PbdRecord:
        of = Fields("PBD", ref, raw)
        return cls(
            ref=ref,
            uuid=of.text("uuid"),
            host=of.link("host"),
            sr=of.link("SR"),
            currently_attached=of.truth("currently_attached"),
            raw=raw,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class VdiRecord:
    ref: str
    uuid: str
    name_label: str
    name_description: str
    sr: str | None
    vbds: tuple[str, ...]
    virtual_size: int
    physical_utilisation: int
    type: str
    sharable: bool
    read_only: bool
    managed: bool
    missing: bool
    on_boot: str
    location: str
    is_a_snapshot: bool
    snapshot_of: str | None
    snapshots: tuple[str, ...]
    snapshot_time: datetime | None
    cbt_enabled: bool
    sm_config: Mapping[str, str]
    xenstore_data: Mapping[str, str]
    other_config: Mapping[str, str]
    tags: tuple[str, ...]
    raw: Raw = field(repr=False)

    @property
    def vhd_parent(self) -> str | None:
        """uuid of the VDI this one's VHD is a child of, on SRs that keep VHDs."""
        return self.sm_config.get("vhd-parent") or None

    @property
    def image_format(self) -> str | None:
        """``vhd``, ``qcow2`` where the SR says so."""
        return self.sm_config.get("image-format") or None

    @classmethod
    def parse(cls, ref: str, raw: Raw) -> VdiRecord:
        of = Fields("VDI", ref, raw)
        return cls(
            ref=ref,
            uuid=of.text("uuid"),
            name_label=of.text("name_label"),
            name_description=of.text("name_description"),
            sr=of.link("SR"),
            vbds=of.links("VBDs"),
            virtual_size=of.integer("virtual_size"),
            physical_utilisation=of.integer("physical_utilisation"),
            type=of.text("type", "user"),
            sharable=of.truth("sharable"),
            read_only=of.truth("read_only"),
            managed=of.truth("managed", default=True),
            missing=of.truth("missing"),
            on_boot=of.text("on_boot", "persist"),
            location=of.text("location"),
            is_a_snapshot=of.truth("is_a_snapshot"),
            snapshot_of=of.link("snapshot_of"),
            snapshots=of.links("snapshots"),
            snapshot_time=of.moment("snapshot_time"),
            cbt_enabled=of.truth("cbt_enabled"),
            sm_config=of.mapping("sm_config"),
            xenstore_data=of.mapping("xenstore_data"),
            other_config=of.mapping("other_config"),
            tags=of.names("tags"),
            raw=raw,
        )

"""Backups of pools as Xen Orchestra sees them: what it lists, and what it would make of everything else there."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from xotest.xo_rules.trees import Tree, tree_of

POOL_BACKUPS = "xo-pool-metadata-backups"
_ID = re.compile(
    r"xo-pool-metadata-backups/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"/\d{8}T\d{6}Z"
)
_KEYS = ["jobId", "jobName", "pool", "poolMaster", "scheduleId", "scheduleName", "timestamp"]


def pool_points(source: Any) -> list[str]:
    """Directories that its retention counts, sorted."""
    tree = tree_of(source)
    return sorted(
        f"{POOL_BACKUPS}/{schedule}/{pool}/{point}"
        for schedule in _names(tree, POOL_BACKUPS)
        for pool in _names(tree, f"{POOL_BACKUPS}/{schedule}")
        for point in _names(tree, f"{POOL_BACKUPS}/{schedule}/{pool}")
        if re.fullmatch(r"\d{8}T\d{6}Z", point)
    )


def assert_pools_conformant(source: Any) -> list[str]:
    """Everything there is a whole backup; returns their directories."""
    tree = tree_of(source)
    points = pool_points(tree)
    for schedule in _names(tree, POOL_BACKUPS):
        for pool in _names(tree, f"{POOL_BACKUPS}/{schedule}"):
            for name in _names(tree, f"{POOL_BACKUPS}/{schedule}/{pool}"):
                assert f"{POOL_BACKUPS}/{schedule}/{pool}/{name}" in points, f"{name} is no backup"
    for point in points:
        _assert_point(tree, point)
    return points


def _assert_point(tree: Tree, point: str) -> None:
    assert _ID.fullmatch(point), point
    assert tree.list(point) == {"data": False, "metadata.json": False}, point
    _, schedule, pool, name = point.split("/")
    raw = tree.read(f"{point}/metadata.json").decode()
    value = json.loads(raw)
    assert list(value) == _KEYS
    assert raw == json.dumps(value, indent=2, ensure_ascii=False), "indented by two, as JSON.stringify does"
    assert (value["scheduleId"], value["pool"]["uuid"]) == (schedule, pool)
    assert isinstance(value["timestamp"], int) and value["poolMaster"]["uuid"]
    assert datetime.fromtimestamp(value["timestamp"] // 1000, tz=UTC).strftime("%Y%m%dT%H%M%SZ") == name
    data = tree.read(f"{point}/data")
    assert data.rstrip().endswith(b"</database>"), "the dump ends where it should"


def _names(tree: Tree, directory: str) -> list[str]:
    try:
        return list(tree.list(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []

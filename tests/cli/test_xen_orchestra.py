"""docs/xen-orchestra.md names every option of Xen Orchestra's backups, and only keys and commands that exist."""

from __future__ import annotations

import copy
import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from pydantic import BaseModel

from xobackup.cli.main import app
from xobackup.config.jobs import MetadataSection
from xobackup.config.mirrors import MirrorSection
from xobackup.config.model import Configuration

PAGE = Path(__file__).parents[2] / "docs" / "xen-orchestra.md"
ROWS = [
    tuple(cell.strip() for cell in line.strip("| ").split(" | "))
    for line in PAGE.read_text().splitlines()
    if line.startswith("| ")
]
NAMES = """
id name type mode userId compression vms remotes srs proxy sourceRemote filter pools xoMetadata settings
getRemoteTimeout reportWhen bypassVdiChainsCheck cbtDestroySnapshotData checkpointSnapshot concurrency copyRetention
deleteFirst diskPerVmConcurrency exportRetention fullInterval healthCheckSr healthCheckVmsWithTags healthCheckTimeout
maxExportRate maxMergedDeltasPerRun nRetriesVmBackupFailures offlineBackup offlineSnapshot snapshotRetention
unconditionalSnapshot timeout vmTimeout useNbd validateVhdStreams longTermRetention timezone
snapshotNameLabelTpl listingDebounce vhdDirectoryCompression mergeBlockConcurrency writeBlockConcurrency dirMode
disableMergeWorker disableWorkers autoUnmountPartitionDelay mountsDir useSudo maxUncoalescedVdis
vmExportConcurrency vmSnapshotConcurrency vdiExportConcurrency syncHookSecret syncHookTimeout
retentionPoolMetadata retentionXoMetadata xo:no-bak xo-offline-backup xo-memory-backup [NOBAK] [NOSNAP]
xo:notify-on-snapshot synchronizedSnapshot snapshotConcurrency preferNbd nbdConcurrency includeNonNbdQcow2Fix
xo:backupNetwork mergeBackupsSynchronously encryptionKey useVhdDirectory distributeBackups distributeReplications
xo:no-health-check xo-backup-health-check-xenstore reportRecipients backupReportTpl hideSuccessfulItems
mapVdisSrs newMacAddresses additionalVmTag useDifferentialRestore xo-cr-seed qa-test
"""
"""What Xen Orchestra 6.7 knows, from its source."""


def test_every_option_of_xen_orchestra_has_a_row() -> None:
    named = {name for row in ROWS for cell in row[:2] for name in re.findall(r"`([^`]+)`", cell)}
    assert [name for name in NAMES.split() if name not in named] == []


def test_every_row_says_what_is_here() -> None:
    body = [row for row in ROWS if row[0] != "in XO" and not set("".join(row)) <= set("-|: ")]
    assert len(body) > 80
    for row in body:
        assert len(row) == 3 and row[0] and row[2], row


def ours() -> list[str]:
    """What stands in backticks in the last column and is a key or a command."""
    words = [word for row in ROWS for word in re.findall(r"`([^`]+)`", row[-1])]
    return sorted({word for word in words if re.match(r"(jobs|remotes|pools|limits|xobackup)[. ]", word)})


def test_there_is_much_to_check() -> None:
    assert len(ours()) > 40


def sections(kind: Any) -> list[type[BaseModel]]:
    """The tables that a key of this type may hold."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [found for inner in get_args(kind) for found in sections(inner)]


def field_types(path: list[str]) -> list[Any]:
    """The types of a key, through nested tables; none when there is no such key."""
    first, *rest = path
    found: list[Any] = (
        sections(Configuration.model_fields[first].annotation) if first in Configuration.model_fields else []
    )
    if first == "jobs":
        found += [MetadataSection, MirrorSection]
    for name in rest:
        models = [model for kind in found for model in sections(kind)]
        found = [model.model_fields[name].annotation for model in models if name in model.model_fields]
    return found


VMS: dict[str, Any] = {"pool": "p", "remotes": ["r"], "vms": {"include": [{"name": "*"}]}}
POOLS: dict[str, Any] = {"mode": "metadata", "pools": ["p"], "remotes": ["r"]}
COPIES: dict[str, Any] = {"mode": "mirror", "source": "r", "remotes": ["s"]}
REMOTE: dict[str, Any] = {"url": "file:///backups", "encryption": {"key": "0123456789abcdef0123456789abcdef"}}


def accepts(path: list[str], value: Any) -> bool:
    """Whether a small configuration with this key is a good one."""
    for job in (VMS, POOLS, COPIES):
        tables: dict[str, Any] = copy.deepcopy(
            {
                "pools": {"p": {"url": "https://h", "password": "x"}},
                "remotes": {"r": REMOTE, "s": {"url": "file:///others"}},
                "jobs": {"j": job},
                "limits": {},
            }
        )
        place = tables[path[0]] if path[0] == "limits" else next(iter(tables[path[0]].values()))
        for name in path[1:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = value
        try:
            Configuration.model_validate(tables)
        except ValueError:
            continue
        return True
    return False


@pytest.mark.parametrize("word", [word for word in ours() if not word.startswith("xobackup")])
def test_a_key_exists_and_takes_its_value(word: str) -> None:
    key, _, value = word.partition(" = ")
    kinds = field_types(key.split("."))
    assert kinds, f"there is no key {key}"
    if value:
        parsed = tomllib.loads(f"value = {value}")["value"]
        assert accepts(key.split("."), parsed), f"{key} does not take {value}"


@pytest.mark.parametrize("word", [word for word in ours() if word.startswith("xobackup")])
def test_a_command_exists_with_its_options(word: str) -> None:
    command: Any = typer.main.get_command(app)
    for part in word.split()[1:]:
        if part.startswith("--"):
            assert any(part in (*param.opts, *param.secondary_opts) for param in command.params), f"{word}: {part}"
        else:
            assert part in getattr(command, "commands", {}), f"{word}: there is no {part}"
            command = command.commands[part]


def test_a_value_that_a_key_does_not_take_is_noticed() -> None:
    assert accepts(["jobs", "mode"], "full") and not accepts(["jobs", "mode"], "weekly")
    assert not accepts(["limits", "nonsense"], 1)


@pytest.mark.parametrize(
    ("key", "exists"),
    [("jobs.retention", True), ("jobs.pools", True), ("jobs.nonsense", False), ("remotes.encryption.key", True),
     ("remotes.key", False), ("nonsense.url", False), ("jobs.vms.include", True)],
)  # fmt: skip
def test_the_search_for_keys_tells_those_that_exist_from_others(key: str, exists: bool) -> None:
    assert bool(field_types(key.split("."))) is exists

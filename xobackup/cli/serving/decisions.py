"""What requests may ask of the command line: a decision for every command and every option, each no with its reason.

Data only; :mod:`.catalogue` reads it. A switch, a number or a choice among words may be given unless it is named in
``without``. A text may be given when its name is in :data:`TEXTS` (it names something of the configuration, of a
pool or of a remote) or is decided for its command. Whatever names a place (a URL, a path) is a name of the
configuration or of a file in the directory of exchange, or is left out. A command or option without a decision is
left out too, and a test fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from xobackup.service.operations import Lane
from xobackup.web.access import Role

_PROCESS = "it is a process, not a task"
_PRINTS = "it prints a secret, which an operation would keep"
_SERVER_FILE = "it would read any file of this machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Of one command; parameters by the names that requests have."""

    role: Role = Role.OPERATOR
    lane: Lane = Lane.WORK
    admin: frozenset[str] = frozenset()
    """Parameters that need an admin."""
    work: frozenset[str] = frozenset()
    """Parameters that make a look a deed."""
    remotes: frozenset[str] = frozenset()
    """Parameters besides ``remote`` that name a remote."""
    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    """Files in the directory of exchange."""
    texts: frozenset[str] = frozenset()
    """Besides :data:`TEXTS`."""
    required: frozenset[str] = frozenset()
    """That the command line has a default for which a request has not."""
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of the words of an option only these."""
    without: Mapping[str, str] = field(default_factory=dict)
    """Options that no request gives, and why."""


def _these(*names: str) -> frozenset[str]:
    return frozenset(names)


_LOOK = Rule(lane=Lane.LOOK)
_ADMIN_LOOK = Rule(role=Role.ADMIN, lane=Lane.LOOK)
_WITH_YES = Rule(lane=Lane.LOOK, admin=_these("yes"), work=_these("yes"))
_WITH_APPLY = Rule(lane=Lane.LOOK, admin=_these("apply"), work=_these("apply"))
_ENV = "it would make any variable of the service a key"

TEXTS = _these(
    "as_of", "differential", "disk", "disk_sr", "format", "job", "job_id", "jobs", "name", "names", "network", "note",
    "of", "outcome", "point", "points", "pool", "reason", "run", "schedule_id", "sr", "tag", "until", "vdi", "vm",
    "vms",
)  # fmt: skip
"""What is no place, in whatever command."""

RULES: Mapping[str, Rule] = {
    "doctor": _LOOK,
    "plan": _LOOK,
    "run": Rule(),
    "verify": Rule(texts=_these("slice")),
    "repair": Rule(admin=_these("apply"), texts=_these("from")),
    "health-check": Rule(
        texts=_these("every", "replica", "timeout"),
        writes=_these("report"),
        without={"command": "it would run any program of this machine; a job's health check may name some"},
    ),
    "merge": Rule(),
    "mirror": Rule(admin=_these("keep"), remotes=_these("source", "target")),
    "migrate": Rule(lane=Lane.LOOK, admin=_these("yes"), work=_these("yes"), texts=_these("from", "to")),
    "clean": _WITH_APPLY,
    "replicas": Rule(lane=Lane.LOOK, texts=_these("target")),
    "status": Rule(lane=Lane.LOOK, without={"nagios": "its exit codes mean something else; see /metrics"}),
    "workers": _LOOK,
    "import-from-xo": Rule(
        role=Role.ADMIN,
        lane=Lane.LOOK,
        texts=_these("url", "fingerprint"),
        reads=_these("export", "token_file", "ca"),
        writes=_these("output"),
        choices={"secrets": ("env", "files")},
    ),
    "support-bundle": Rule(
        role=Role.ADMIN,
        lane=Lane.LOOK,
        writes=_these("output"),
        required=_these("output"),
        without={"log": _SERVER_FILE},
    ),
    "backups history": _LOOK,
    "backups undelete": Rule(lane=Lane.LOOK, work=_these("yes")),
    "backups list": _LOOK,
    "backups show": _LOOK,
    "backups delete": _WITH_YES,
    "backups pin": _LOOK,
    "backups unpin": _LOOK,
    "config check": _LOOK,
    "dr plan": _LOOK,
    "dr test": Rule(writes=_these("report")),
    "dr failover": _WITH_YES,
    "dr failback": _WITH_YES,
    "dr report": Rule(lane=Lane.LOOK, writes=_these("report")),
    "history list": _LOOK,
    "history show": _LOOK,
    "history vm": _LOOK,
    "history forget": _LOOK,
    "immutability apply": Rule(role=Role.ADMIN, without={"every": "it would never end; order it when it is time"}),
    "metadata list": _LOOK,
    "metadata show": _LOOK,
    "metadata verify": Rule(),
    "metadata restore": Rule(role=Role.ADMIN, texts=_these("pool_uuid")),
    "metadata delete": _WITH_YES,
    "metadata clean": _WITH_APPLY,
    "notify test": _LOOK,
    "notify digest": Rule(lane=Lane.LOOK, writes=_these("html")),
    "remote test": Rule(),
    "remote accept": _ADMIN_LOOK,
    "remote encryption init": Rule(role=Role.ADMIN, texts=_these("label")),
    "remote encryption status": _LOOK,
    "remote encryption check": _LOOK,
    "remote key list": _LOOK,
    "remote key add": Rule(
        role=Role.ADMIN,
        lane=Lane.LOOK,
        reads=_these("file"),
        texts=_these("label"),
        required=_these("file"),
        without={"env": _ENV, "recovery": _PRINTS},
    ),
    "remote key remove": Rule(role=Role.ADMIN, lane=Lane.LOOK, texts=_these("key")),
    "remote key rotate": Rule(
        role=Role.ADMIN,
        lane=Lane.LOOK,
        reads=_these("file"),
        texts=_these("label"),
        required=_these("file"),
        without={"env": _ENV},
    ),
    "restore vm": Rule(),
    "restore in-place": _WITH_YES,
    "restore disk": Rule(admin=_these("vdi"), writes=_these("output")),
    "restore xva": Rule(writes=_these("output")),
    "retention show": _LOOK,
    "retention simulate": Rule(lane=Lane.LOOK, texts=_these("begin")),
    "schedules list": _LOOK,
    "schedules show": _LOOK,
    "schedules pause": _LOOK,
    "schedules resume": _LOOK,
    "seed export": Rule(remotes=_these("from", "to")),
    "seed import": Rule(role=Role.ADMIN, remotes=_these("from", "to")),
    "self backup": Rule(),
    "self list": Rule(
        lane=Lane.LOOK,
        without={"key_file": "remotes of the configuration have their keys", "key_mode": "see key_file"},
    ),
    "web token list": _ADMIN_LOOK,
    "web token revoke": _ADMIN_LOOK,
}
"""By command."""

EXCUSED: Mapping[str, str] = {
    "demo": _PROCESS,
    "demo-merge-and-die": _PROCESS,
    "simpool": _PROCESS,
    "serve": _PROCESS,
    "worker": _PROCESS,
    "manual": "it installs pages on this machine",
    "completion": "it is for a shell",
    "history rebuild": "the service has that database open: stop it first",
    "remote encryption generate-key": _PRINTS,
    "self restore": "it is for a machine that has no configuration, so no service either",
    "web password": "it asks for a password",
    "web token create": _PRINTS,
}
"""Commands that no request may ask for, and why."""

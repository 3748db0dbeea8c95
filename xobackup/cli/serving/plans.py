"""Plans of disaster recovery, and what their last tests found, from this machine alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xobackup.engine.dr.remembered import last_trials
from xobackup.web.views import DrView

if TYPE_CHECKING:
    from xobackup.config.model import Configuration
    from xobackup.config.rules import VmRule

TESTS_SHOWN = 5


def dr_views(configuration: Configuration) -> list[DrView]:
    """In the order of the configuration."""
    return [
        DrView(
            name=name,
            target=section.target,
            pool=configuration.targets[section.target].pool,
            groups=tuple((group.name, ", ".join(_told(one) for one in group.vms)) for group in section.groups),
            rpo_s=section.rpo_s,
            test_network=section.test_network or "",
            tests=tuple(last_trials(configuration.state_directory, name)[:TESTS_SHOWN]),
        )
        for name, section in configuration.dr.items()
    ]


def _told(rule: VmRule) -> str:
    parts = [
        str(rule.uuid) if rule.uuid else "",
        f"named {rule.name}" if rule.name else "",
        f"tagged {rule.tag}" if rule.tag else "",
    ]
    return " and ".join(part for part in parts if part)

"""What can be wrong with what Xen Orchestra gave us.

BadExport            it is no configuration of Xen Orchestra's, or it cannot be read
"""

from __future__ import annotations

from xobackup.config.errors import ConfigError


class BadExport(ConfigError):
    """What was given is not Xen Orchestra's configuration. ``source`` names the file or the URL."""

    def __init__(self, source: str, problem: str, hint: str | None = None) -> None:
        self.source = source
        super().__init__([f"{source}: {problem}"], hint)

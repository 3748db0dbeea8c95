"""``[log]``: how ``serve`` and ``run`` say what they do."""

from __future__ import annotations

from typing import Literal

from xobackup.config.section import Section


class LogSection(Section):
    """Lines on standard error; keeping them is the business of systemd, or of whoever else started it."""

    format: Literal["text", "json"] | None = None
    """Text when absent; a ``run`` whose standard error is no terminal writes such lines only when it is given."""

"""Names of sites: places from where some pools and remotes are near, and others out of reach."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

SITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def checked_site(value: str) -> str:
    """A name of a site, or ``ValueError``."""
    if not SITE.fullmatch(value):
        raise ValueError(f"{value!r}: expected a name of letters, digits, '.', '_' and '-'")
    return value


Site = Annotated[str, AfterValidator(checked_site)]
Sites = tuple[Site, ...]

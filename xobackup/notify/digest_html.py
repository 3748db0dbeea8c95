"""A digest as HTML for a mail: one file, no script, nothing loaded, everything from outside escaped."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import jinja2

from xobackup.texts import size_text

if TYPE_CHECKING:
    from xobackup.notify.digest import Digest


def as_html(digest: Digest) -> str:
    """The whole document."""
    from xobackup.notify.digest import LISTED_MAX

    return _template().render(digest=digest, listed_max=LISTED_MAX)


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("xobackup.notify"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["size"] = size_text
    return environment.get_template("digest.html")

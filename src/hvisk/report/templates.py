"""Jinja templates as every page and card uses them, and a page put together: its style, its script, and the script's hash.

Texts of a corpus come from anywhere, so they are taken as hostile: a page's template escapes everything, and its content
security policy runs no script but the one whose hash it names, and loads nothing from outside.
"""

import base64
import functools
import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from hvisk import __version__
from hvisk.report import numbers


@functools.cache
def environment(*, html: bool = True) -> jinja2.Environment:
    """Return the environment of this package's templates; html: escape what is put into them.

    Without, the template escapes by itself: Markdown has other marks than HTML. An undefined name is an error.
    """
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("hvisk.report", "."),
        autoescape=html,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=not html,
    )
    names = ("percent", "interval", "number", "duration", "value")
    made.filters |= {name: getattr(numbers, name) for name in names}
    return made


def page(template: str, *, styles: Sequence[str], scripts: Sequence[str], **values: Any) -> str:
    """Return a page as HTML, ready to be encoded as UTF-8: a template with files of this package as style and script."""
    style, script = (_read(tuple(names)) for names in (styles, scripts))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    made = environment().get_template(template)
    html = made.render(
        **values, version=__version__, style=Markup(style), script=Markup(script), script_hash=f"sha256-{digest}"
    )
    return html.encode("utf-8", "replace").decode()  # half a surrogate pair in a corpus's JSON must not cost the page


@functools.cache
def _read(names: tuple[str, ...]) -> str:
    here = resources.files("hvisk.report")
    return "".join((here / name).read_text(encoding="utf-8") for name in names)

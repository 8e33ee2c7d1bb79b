"""Pages: templates with every value escaped, and the one script that they run."""

from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from markupsafe import Markup, escape

from tradeoff.reporting.labels import SUBSCRIPT
from tradeoff.reporting.templates import environment, render
from tradeoff.reporting.vector import colour_rules

SCRIPT = "tables.js"


def render_html(template: str, folder: Path, values: Mapping[str, object]) -> str:
    """The template filled in; every value is escaped unless it is Markup.

    `script` and `script_hash` are the script of the page and what allows a browser to run it and
    no other; `light` and `dark` the colours of figures.
    """
    pages = environment(folder, autoescape=True)
    script = (folder / SCRIPT).read_text("utf-8")
    digest = b64encode(sha256(script.encode()).digest()).decode()
    light, dark = map(Markup, colour_rules())
    pages.globals.update(
        script=Markup(script), script_hash=f"sha256-{digest}", with_subscripts=with_subscripts,
        light=light, dark=dark,
    )  # fmt: skip
    return render(pages, template, values)


def with_subscripts(text: str) -> Markup:
    """A text in which a letter with a letter below it, such as n_c, is shown so."""
    return Markup(SUBSCRIPT.sub(r"\1<sub>\2</sub>", str(escape(text))))

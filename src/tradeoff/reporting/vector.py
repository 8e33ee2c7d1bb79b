"""Figures as bytes: PDF for LaTeX and SVG that lives inside a page. The same bytes every time."""

import re
from io import BytesIO, StringIO

import matplotlib
from markupsafe import Markup, escape
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from tradeoff.reporting.style import DARK


def lay_out(figure: Figure) -> Figure:
    """The figure with its layout computed and frozen: that takes longer than writing it, and
    figure.savefig would do it again for each format."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def to_pdf(figure: Figure) -> bytes:
    """The figure without date, creator or version."""
    file = BytesIO()
    nothing = dict.fromkeys(["CreationDate", "Creator", "Producer"])
    FigureCanvasPdf(figure).print_pdf(file, metadata=nothing)
    return file.getvalue()


def to_inline_svg(figure: Figure, name: str, title: str, description: str) -> Markup:
    """The figure as an <svg> element of an HTML page.

    Its ids begin with `name`, so that several figures share a page; its colours are custom
    properties (see `colour_rules`), so that the page recolours them in the dark; and a screen
    reader reads `title` and `description` in place of the drawing.
    """
    file = StringIO()
    nothing = dict.fromkeys(["Date", "Creator", "Format", "Type"])
    # The salt makes the ids of clips and markers the same in every run.
    with matplotlib.rc_context({"svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(file, metadata=nothing)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Inside HTML an SVG needs neither namespaces nor the old form of links.
    text = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", text).replace("xlink:href=", "href=")
    text = re.sub(r'\b(id="|href="#)', rf"\1{name}-", text)
    text = text.replace("url(#", f"url(#{name}-")
    for colour in DARK:
        text = text.replace(colour, f"var({colour_variable(colour)})")
    text = text.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
    label = f'aria-labelledby="{name}-title" aria-describedby="{name}-description"'
    head = (
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-description">{escape(description)}</desc>'
    )
    size = re.match(r'<svg[^>]*?viewBox="([^"]*)"', text)
    assert size is not None, "matplotlib wrote an SVG without viewBox"
    start = f'<svg role="img" {label} viewBox="{size[1]}">'
    return Markup(start + head + text[text.index(">") + 1 :].rstrip())


def colour_rules() -> tuple[str, str]:
    """The custom properties of all figure colours: for a light page and for a dark one."""
    light = "; ".join(f"{colour_variable(colour)}: {colour}" for colour in DARK)
    dark = "; ".join(f"{colour_variable(colour)}: {other}" for colour, other in DARK.items())
    return light, dark


def colour_variable(colour: str) -> str:
    """The custom property that stands for a figure's colour on a page."""
    return f"--figure-{colour[1:]}"

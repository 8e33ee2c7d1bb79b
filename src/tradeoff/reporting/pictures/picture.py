"""A figure with what is said below it and in place of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from tradeoff.reporting.coverage import Kind, seed_sentence
from tradeoff.reporting.labels import Captioned
from tradeoff.reporting.latex import label
from tradeoff.reporting.style import own_style
from tradeoff.reporting.vector import lay_out, to_inline_svg, to_pdf
from tradeoff.reporting.view import View


@dataclass(frozen=True)
class Picture(Captioned):
    """A figure: its key within the data set, how to draw it, its texts."""

    key: str
    title: str
    caption: str
    description: str
    draw: Callable[[], Figure]

    def drawn(self) -> Figure:
        """The figure, laid out."""
        with own_style():
            return lay_out(self.draw())

    @property
    def svg(self) -> Markup:
        """The figure for a page."""
        with own_style():
            return to_inline_svg(self.drawn(), f"figure-{self.key}", self.title, self.description)

    @property
    def pdf(self) -> bytes:
        """The figure for LaTeX."""
        with own_style():
            return to_pdf(self.drawn())


def picture(
    view: View, subject: str, draw: Callable[..., Figure], description: Callable[..., str],
    *of: Any, part: str = "", name: str = "", means_of: Kind | None = None, **values: str,
) -> Picture:  # fmt: skip
    """A picture with title and caption from the label file.

    Args:
        draw, description: called with the view and `of`.
        part: what the picture is of, if the subject has several; `name` as the texts call it.
        means_of: which table its means are computed from; the caption tells where seeds lack.
        values: what else the caption is filled in with.
    """
    caption = view(f"figures.{subject}.caption", part=name, **values).rstrip()
    if means_of:
        caption = f"{caption}\n{seed_sentence(view, means_of, [part] if part else None)}".rstrip()
    key = f"{subject}-{label(part)}" if part else subject
    title = view(f"figures.{subject}.title", part=name)
    return Picture(key, title, caption, description(view, *of), partial(draw, view, *of))


def in_parts(name: str, items: list[str], most: int) -> Iterator[tuple[str, list[str]]]:
    """Items by pictures of `most` at most; their names are NAME, NAME-2, NAME-3, ..."""
    for number, start in enumerate(range(0, len(items), most), 1):
        yield f"{name}-{number}" if start else name, items[start : start + most]

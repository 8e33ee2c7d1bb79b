"""How figures look: a colour for each family of defenses, a marker and a line style for each of
its members, the same in every figure of a study.

The colours are those of Okabe and Ito, which people with any common colour blindness tell apart;
markers say the same once more, for print without colour.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple

from matplotlib import style

Dashes = Literal["-", "none"] | tuple[int, tuple[float, ...]]


class Look(NamedTuple):
    colour: str
    marker: str
    dashes: Dashes = "-"


CONTROL = Look("#666666", "X")
COLOURS = ("#e69f00", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#8c6d31", "#4b3f8f",
           "#b0a000")  # fmt: skip
MARKERS = ("s", "o", "D", "^", "v", "P", "p", "h", "*")
LINES: tuple[Dashes, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))

INK, GRID, PAPER = "#1b1f24", "#d4d9de", "#fffffe"

# What a colour of a figure becomes on a dark page. The light colours are unusual enough that
# finding one in an SVG means that this module put it there.
DARK = {
    INK: "#e6e9ec",
    GRID: "#3a424a",
    PAPER: "#14181c",
    "#666666": "#aab2b9",
    "#e69f00": "#f0b429",
    "#0072b2": "#4ba3e3",
    "#d55e00": "#ff7f32",
    "#009e73": "#2bc490",
    "#cc79a7": "#e59bc6",
    "#56b4e9": "#8fd0f5",
    "#8c6d31": "#c9a45c",
    "#4b3f8f": "#9d92e0",
    "#b0a000": "#d8c830",
}

# Everything that decides a figure's bytes; the rest are matplotlib's defaults.
RC: dict[Any, Any] = {
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "figure.dpi": 72,  # that of SVG and PDF, so that text is laid out as it is written
    "figure.facecolor": "none",
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "text.color": INK,
    # A dollar sign in a name is a dollar sign.
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
}


def own_style() -> AbstractContextManager[None]:
    """matplotlib with this package's style only, whatever the user's matplotlibrc says."""
    return style.context(RC, after_reset=True)


def looks(families: Mapping[str, str], control: str | None) -> dict[str, Look]:
    """The look of each defense, by the order of the study: a defense that is added at the end
    changes no other's.

    Args:
        families: the family of each defense, in the study's order.
    """
    colours: dict[str, int] = {}
    members = dict.fromkeys(range(len(COLOURS)), 0)
    look_of = {}
    for defense, family in families.items():
        if defense == control:
            look_of[defense] = CONTROL
            continue
        colour = colours.setdefault(family, len(colours) % len(COLOURS))
        member = members[colour]
        members[colour] += 1
        look_of[defense] = Look(COLOURS[colour], MARKERS[(colour + member) % len(MARKERS)],
                              LINES[member % len(LINES)])  # fmt: skip
    return look_of

"""How figures look: one colour and one marker for a defense, the same in every figure.

The colours are those of Okabe and Ito, which people with any common colour blindness tell apart;
markers say the same once more, for print without colour.
"""

from typing import Any, NamedTuple


class Look(NamedTuple):
    colour: str
    marker: str


KNOWN = {
    "standard": Look("#666666", "X"),
    "at": Look("#e69f00", "s"),
    "trades": Look("#0072b2", "o"),
    "dtrades": Look("#d55e00", "D"),
    "mart": Look("#009e73", "^"),
    "faal": Look("#cc79a7", "v"),
}
SPARE = (Look("#56b4e9", "P"), Look("#8c6d31", "p"), Look("#4b3f8f", "h"), Look("#b0a000", "*"))

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


def looks(defenses: list[str]) -> dict[str, Look]:
    """The look of each defense; those that this module does not know share the spare ones."""
    new = [name for name in defenses if name not in KNOWN]
    spare = {name: SPARE[index % len(SPARE)] for index, name in enumerate(new)}
    return {name: KNOWN.get(name) or spare[name] for name in defenses}

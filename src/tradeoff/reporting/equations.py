"""Formulas in LaTeX as HTML that is read as it stands, also by a screen reader."""

# Characters that look like others are what this file is about.
# ruff: noqa: RUF001

import re

from markupsafe import Markup, escape

SIGNS = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "varepsilon": "ε",
    "eta": "η", "theta": "θ", "kappa": "κ", "lambda": "λ", "mu": "μ", "pi": "π", "rho": "ρ",
    "sigma": "σ", "tau": "τ", "phi": "φ", "omega": "ω", "Delta": "Δ", "nabla": "∇", "sum": "∑",
    "Vert": "‖", "lVert": "‖", "rVert": "‖", "le": "≤", "ge": "≥", "in": "∈", "cdot": "·",
    "times": "×", "infty": "∞", "pm": "±", "mathbb": "", "mathrm": "", "mathcal": "", "text": "",
    "operatorname": "", "textstyle": "", "left": "", "right": "", ",": " ", ";": " ", " ": " ",
    "quad": " ",
}  # fmt: skip
UPRIGHT = ("mathrm", "text", "operatorname")
FRACTIONS = ("frac", "tfrac")
PLAIN = {"-": "−", "'": "′"}
TOKEN = re.compile(r"\\([A-Za-z]+|.)|\s+|.")


def to_html(formula: str) -> Markup:
    """A formula; a command that is not known, such as \\max, becomes its name."""
    tokens = [(token[0], token[1]) for token in TOKEN.finditer(formula)]
    html, place = _run(tokens, 0, italic=True)
    assert place == len(tokens), f"a brace is missing in {formula}"
    return Markup(re.sub(r" (?=<su[bp]>)", "", " ".join(html.split())))


def _run(tokens: list[tuple[str, str | None]], place: int, italic: bool) -> tuple[str, int]:
    """Tokens as HTML up to the end of their group, and where that is."""
    parts = []
    while place < len(tokens) and tokens[place][0] != "}":
        part, place = _item(tokens, place, italic)
        parts.append(part)
    return "".join(parts), place


def _item(tokens: list[tuple[str, str | None]], place: int, italic: bool) -> tuple[str, int]:
    """One token, or a group with what makes it a subscript or upright."""
    text, command = tokens[place]
    if text in ("_", "^"):
        inner, place = _item(tokens, place + 1, italic)
        tag = "sub" if text == "_" else "sup"
        return f"<{tag}>{inner}</{tag}>", place
    if text == "{":
        inner, place = _run(tokens, place + 1, italic)
        return inner, place + 1
    if command in FRACTIONS:
        above, place = _item(tokens, place + 1, italic)
        below, place = _item(tokens, place, italic)
        return f"{above}/{below}", place
    if command in UPRIGHT:
        return _item(tokens, place + 1, False)
    if command is not None:
        return str(escape(SIGNS.get(command, f"{command} "))), place + 1
    character = str(escape(PLAIN.get(text, text)))
    return (f"<i>{character}</i>" if italic and text.isalpha() else character), place + 1

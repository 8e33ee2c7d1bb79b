"""The report as a part of a LaTeX document: escaping, tables, and the template."""

# Characters that look like others are what this file is about.
# ruff: noqa: RUF001

import re
from collections.abc import Mapping
from pathlib import Path

from tradeoff.reporting.labels import SUBSCRIPT
from tradeoff.reporting.table import Number, Table
from tradeoff.reporting.templates import environment, render

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "<": r"\textless{}", ">": r"\textgreater{}", '"': r"\textquotedbl{}", "|": r"\textbar{}",
    "`": r"\textasciigrave{}", "'": r"\textquotesingle{}", "′": r"\('\)",
    # After the \\ of a row [ and * would be its arguments; ] would end that of an \item.
    "[": "{[}", "]": "{]}", "*": "{*}",
    "\N{PLUS-MINUS SIGN}": r"\(\pm\)", "\N{MINUS SIGN}": r"\(-\)", "≈": r"\(\approx\)",
    "×": r"\(\times\)", "·": r"\(\cdot\)", "≤": r"\(\le\)", "≥": r"\(\ge\)",
    "∞": r"\(_\infty\)", "ℓ": r"\(\ell\)", "₀": r"\(_0\)",
    "ε": r"\(\varepsilon\)", "α": r"\(\alpha\)", "β": r"\(\beta\)", "λ": r"\(\lambda\)",
    "γ": r"\(\gamma\)", "δ": r"\(\delta\)", "θ": r"\(\theta\)", "κ": r"\(\kappa\)",
    "σ": r"\(\sigma\)", "η": r"\(\eta\)", "τ": r"\(\tau\)", "μ": r"\(\mu\)",
    "ξ": r"\(\xi\)", "ρ": r"\(\rho\)", "Σ": r"\(\Sigma\)", "ŷ": r"\(\hat{y}\)",
    "‖": r"\(\Vert\)", "⟨": r"\(\langle\)", "⟩": r"\(\rangle\)",
    "₂": r"\(_2\)", "–": r"\textendash{}", "—": r"\textemdash{}",
    "…": r"\ldots{}", "’": "'", "“": "``", "”": "''",
    "«": r"\guillemotleft{}", "»": r"\guillemotright{}", "\N{NO-BREAK SPACE}": "~",
}  # fmt: skip
# Latin letters that the T1 encoding has.
PLAIN = re.compile(r"[ -~¡-ÿŒœŠšŽžŸ]")

UNBROKEN = 20  # characters of a word in a line
# Behind a sign where a reader expects it, or where a piece would be too long.
PIECES = re.compile(rf"[^-/_.@]{{0,{UNBROKEN - 1}}}[-/_.@]|[^-/_.@]{{1,{UNBROKEN}}}")


class TeX(str):
    """Text that is LaTeX already."""


def escape(value: object) -> TeX:
    """Any text as LaTeX that prints it; a character that the fonts lack becomes its code."""
    if isinstance(value, TeX):
        return value
    text = "".join(_character(character) for character in str(value))
    # Two hyphens stay two; no other pair of characters that TeX would join is left.
    return TeX(re.sub("-(?=-)", "-{}", text))


def _character(character: str) -> str:
    if character in SPECIAL:
        return SPECIAL[character]
    if character.isspace():
        return " "
    return character if PLAIN.match(character) else f"{{[}}U+{ord(character):04X}{{]}}"


def breakable(text: str) -> TeX:
    """A text in which long words, such as paths in an error, may be broken between two lines."""
    words = []
    for word in text.split(" "):
        pieces = PIECES.findall(word) if len(word) > UNBROKEN else [word]
        words.append(r"\hspace{0pt}".join(map(escape, pieces)))
    return TeX(" ".join(words))


def label(*parts: str) -> TeX:
    """A name for \\label and files, of harmless characters only."""
    return TeX(":".join(re.sub(r"[^A-Za-z0-9]+", "-", part) for part in parts))


def tabular(table: Table) -> TeX:
    """The tabular of a table, for booktabs.

    All numbers of a column have as many decimals and all its deviations are made equally wide, so
    right alignment aligns the decimal marks.
    """
    columns = table.columns
    start = rf"\begin{{tabular}}{{l{'r' * len(columns)}}}"
    lines = [start, r"\toprule", *_head(table), r"\midrule"]
    entries = [number for block in table.blocks for row in block.rows for number in row.numbers]
    # The longest deviation of each column: shorter ones are filled up with invisible digits.
    widths = [
        max((len(number.sd) for number in entries[index :: len(columns)]), default=0)
        for index in range(len(columns))
    ]
    for index, block in enumerate(table.blocks):
        if block.header:
            if index:
                lines.append(r"\addlinespace")
            header = rf"\textit{{{escape(block.header)}}}"
            lines.append(rf"\multicolumn{{{1 + len(columns)}}}{{l}}{{{header}}} \\")
        for row in block.rows:
            if row.minor:
                cells = [_small(number.mean) for number in (Number(row.header), *row.numbers)]
            else:
                header = escape(row.header) + _note(row.note)
                cells = [header, *(map(_entry, row.numbers, widths))]
            lines.append(f"{' & '.join(cells)} \\\\")
    return TeX("\n".join([*lines, r"\bottomrule", r"\end{tabular}"]))


def _head(table: Table) -> list[str]:
    lines = []
    if any(column.group for column in table.columns):
        cells, rules, first = [""], [], 2
        for header, columns in table.groups:
            width = len(columns)
            cells.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(header)}}}")
            if header:
                rules.append(rf"\cmidrule(lr){{{first}-{first + width - 1}}}")
            first += width
        lines += [" & ".join(cells) + r" \\", "".join(rules)]
    headers = [escape(table.corner), *(escape(column.header) for column in table.columns)]
    return [*lines, " & ".join(headers) + r" \\"]


def _entry(number: Number, width: int) -> str:
    """The LaTeX of an entry; `width` is the number of characters of its column's longest sd."""
    mean = escape(number.mean or "—")
    if number.best:
        mean = TeX(rf"\textbf{{{mean}}}")
    elif number.second:
        mean = TeX(rf"\underline{{{mean}}}")
    if number.extra:
        # Below the number, so that a table of many ranges fits the page.
        lines = rf"{mean}\\[-3pt]{{\scriptsize {escape(number.extra)}}}"
        mean = TeX(rf"\begin{{tabular}}[t]{{@{{}}r@{{}}}}{lines}\end{{tabular}}")
    if not width:
        return mean
    filled = rf"\phantom{{{'0' * (width - len(number.sd))}}}"
    if number.sd:
        spread = rf"\(\pm\)\,{filled}{escape(number.sd)}"
    else:
        # The decimal mark is narrower than a digit.
        spread = rf"\phantom{{\(\pm\)\,{'0' * (width - 1)}.}}"
    return rf"{mean}\,{{\scriptsize {spread}}}"


def _small(text: str) -> str:
    return rf"{{\scriptsize {escape(text)}}}" if text else ""


def _note(letter: str) -> str:
    # Without width, so that it does not push the decimal marks out of line.
    return rf"\rlap{{\textsuperscript{{{letter}}}}}" if letter else ""


def render_latex(template: str, folder: Path, values: Mapping[str, object]) -> str:
    """The template filled in; every value is escaped unless it is TeX.

    Jinja's usual marks would drown in LaTeX's braces: here they are << value >>, <% if %>, <# #>.
    """
    pages = environment(
        folder,
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
        finalize=escape,
    )
    pages.globals.update(
        tabular=tabular, label=label, with_subscripts=with_subscripts, breakable=breakable
    )
    return render(pages, template, values)


def with_subscripts(text: str) -> TeX:
    """A text in which a letter with a letter below it, such as n_c, is a formula."""
    parts, end = [], 0
    for match in SUBSCRIPT.finditer(text):
        parts += [escape(text[end : match.start()]), rf"\({match[1]}_{match[2]}\)"]
        end = match.end()
    return TeX("".join([*parts, escape(text[end:])]))

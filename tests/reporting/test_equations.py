"""Formulas in LaTeX as a page shows them."""

import pytest

from tradeoff.reporting.equations import to_html
from tradeoff.reporting.tellings import load_tellings


@pytest.mark.parametrize(
    ("formula", "shown"),
    [
        (r"\tfrac{1}{m} x", "1/<i>m</i> <i>x</i>"),
        (r"\lVert x \rVert_2^2 / C", "‖ <i>x</i> ‖<sub>2</sub><sup>2</sup> / <i>C</i>"),
    ],
)
def test_a_formula_reads_as_it_stands(formula: str, shown: str) -> None:
    assert to_html(formula) == shown


def test_no_command_of_a_defenses_formula_is_left_as_its_name() -> None:
    for name, telling in load_tellings().items():
        for formula in telling.equation:
            assert "frac" not in to_html(formula), name

"""The objectives of the defenses, as the reports show them: once for LaTeX, once for HTML."""

from typing import NamedTuple

from markupsafe import Markup


class Equation(NamedTuple):
    """`latex` is formulas, to be set one after the other, with commas; `html` is read as it
    stands, also by a screen reader."""

    latex: tuple[str, ...]
    html: Markup


_X, _ADV, _F, _FADV = "<i>x</i>", "<i>x</i>&prime;", "f(<i>x</i>)", "f(<i>x</i>&prime;)"
_CE, _CE_ADV = f"CE({_F}, <i>y</i>)", f"CE({_FADV}, <i>y</i>)"
_KL = f"KL({_F} &Vert; {_FADV})"
CE, CE_ADV = r"\mathrm{CE}(f(x), y)", r"\mathrm{CE}(f(x'), y)"
KL = r"\mathrm{KL}(f(x) \,\Vert\, f(x'))"

EQUATIONS = {
    "standard": Equation((CE,), Markup(_CE)),
    "at": Equation((r"\max_{x'} " + CE_ADV,), Markup(f"max<sub>{_ADV}</sub> {_CE_ADV}")),
    "trades": Equation(
        (CE + r" + \beta \max_{x'} " + KL,),
        Markup(f"{_CE} + &beta; max<sub>{_ADV}</sub> {_KL}"),
    ),
    "dtrades": Equation(
        (
            CE + r" + \lambda(x)\, " + KL,
            r"\lambda(x) = \alpha H(f(x)) + \beta \lVert \nabla_{x'} " + KL + r" \rVert_2",
        ),
        Markup(
            f"{_CE} + &lambda;({_X}) {_KL}, "
            f"&lambda;({_X}) = &alpha; H({_F}) + "
            f"&beta; &Vert;&nabla;<sub>{_ADV}</sub> {_KL}&Vert;<sub>2</sub>"
        ),
    ),
    "mart": Equation(
        (r"\mathrm{BCE}(f(x'), y) + \beta\, (1 - f_y(x))\, " + KL,),
        Markup(f"BCE({_FADV}, <i>y</i>) + &beta; (1 &minus; f<sub><i>y</i></sub>({_X})) {_KL}"),
    ),
    "faal": Equation(
        (
            r"C\, w_y\, " + CE_ADV,
            r"w = \arg\max_w \textstyle\sum_c n_c w_c m_c",
            r"\mathrm{KL}(u \,\Vert\, w) \le r",
        ),
        Markup(
            f"C w<sub><i>y</i></sub> {_CE_ADV}, w = arg max<sub>w</sub> "
            "&sum;<sub>c</sub> n<sub>c</sub> w<sub>c</sub> m<sub>c</sub>, KL(u &Vert; w) &le; r"
        ),
    ),
}

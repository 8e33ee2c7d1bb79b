"""What is wrong in a template, a label file or the references is told with its line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tradeoff.reporting.labels import BadLabels, load_labels
from tradeoff.reporting.latex import render_latex
from tradeoff.reporting.references import BadReferences, load_references
from tradeoff.reporting.templates import BadTemplate, environment, render


def render_page(folder: Path) -> str:
    return render(environment(folder), "page.j2", {"title": "T", "rows": []})


def render_chapter(folder: Path) -> str:
    return render_latex("page.j2", folder, {"title": "T", "rows": []})


@pytest.mark.parametrize(
    ("fill", "text", "says"),
    [
        (render_page, "a\n{{ titel }}", "page.j2, line 2: 'titel' is undefined"),
        (render_page, "a\n\n{{ rows.first }}", "page.j2, line 3: 'list object' has no attr"),
        (render_page, "a\n{% for row in rows %}", "page.j2, line 2: Unexpected end of template"),
        (render_page, "a\n{{ title + 1 }}", "page.j2, line 2: can only concatenate str"),
        (render_page, "a\n{{ title | shout }}", "page.j2, line 2: No filter named 'shout'"),
        (render_page, "{% include 'other.j2' %}", "other.j2: not found"),
        (render_chapter, "a\n<< titel >>", "page.j2, line 2: 'titel' is undefined"),
        (render_chapter, "a\n<% if %>", "page.j2, line 2: Expected an expression"),
    ],
)
def test_an_error_in_a_template_has_its_file_and_line(
    fill: Callable[[Path], str], text: str, says: str, tmp_path: Path
) -> None:
    (tmp_path / "page.j2").write_text(text)
    with pytest.raises(BadTemplate) as told:
        fill(tmp_path)
    assert says in str(told.value)


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "page.j2").write_bytes("año".encode("latin-1"))
    with pytest.raises(BadTemplate, match=r"page\.j2: is not in UTF-8"):
        render_page(tmp_path)
    (tmp_path / "labels.es.yaml").write_bytes("a: b\nperiod: año".encode("latin-1"))
    with pytest.raises(BadLabels, match=r"labels\.es\.yaml, line 2: is not in UTF-8"):
        load_labels("es", tmp_path)


AS_SCHOLAR_GIVES_IT = """@article{zhang2019theoretically,
  title={Theoretically {Principled} Trade-off},
  author={Zhang, Hongyang and Yu, Yaodong},
  journal={J},
  volume={97},
  year={2019}
}"""
AS_DBLP_GIVES_IT = """@inproceedings{zhang2019theoretically,
  author       = {Hongyang Zhang and
                  Yaodong Yu},
  title        = {Theoretically Principled Trade-off},
  booktitle    = {J 97},
  year         = 2019
}"""
ON_ONE_LINE = """@article{zhang2019theoretically, title="Theoretically Principled Trade-off",
author={Hongyang Zhang and Yu, Yaodong}, journal={J}, volume=97, year={2019}}"""


@pytest.mark.parametrize("text", [AS_SCHOLAR_GIVES_IT, AS_DBLP_GIVES_IT, ON_ONE_LINE])
def test_every_form_of_bibtex_is_read(text: str, tmp_path: Path) -> None:
    (tmp_path / "references.bib").write_text(text)
    (reference,) = load_references(tmp_path)
    assert "defenses.trades" in reference.of
    assert reference.text == (
        "Hongyang Zhang, Yaodong Yu. Theoretically Principled Trade-off. J 97, 2019."
    )


def test_an_entry_that_is_no_bibtex_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "references.bib").write_text("% ours\n@misc{one, title={T}\n@misc{two, title={U}}")
    with pytest.raises(BadReferences, match=r"references\.bib, line 2: "):
        load_references(tmp_path)

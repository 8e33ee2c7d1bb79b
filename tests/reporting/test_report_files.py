"""The files: the same bytes each time, self-contained, readable, and safe whatever the names."""

import re
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
from made_up import made_up_study, write_made_up
from pages import Page

from tradeoff.reporting.chapter import build_chapter
from tradeoff.reporting.contents import contents
from tradeoff.reporting.index import build_index
from tradeoff.reporting.labels import LANGUAGES, BadLabels, Labels, load_labels
from tradeoff.reporting.latex import escape
from tradeoff.reporting.references import BadReferences, load_references
from tradeoff.reporting.report import build_report
from tradeoff.reporting.results import read_results
from tradeoff.reporting.style import CONTROL, looks
from tradeoff.reporting.tellings import load_tellings
from tradeoff.reporting.view import View

pytestmark = [
    pytest.mark.filterwarnings("ignore:Glyph:UserWarning"),  # the hostile names have strange ones
]
HOSTILE = [
    "dtrades",
    "*",
    "[2cm]",
    r"\input{x}%$&#_^~{}",
    "<b onclick=alert(1)>x</b>$a$",
    "{0} << t >> {{ t }} ü 中 \N{GRINNING FACE} --'`\"|",
]


@pytest.fixture(scope="module")
def hostile_report(tmp_path_factory, templates):
    root = tmp_path_factory.mktemp("hostile")
    attacks = ["fgsm", "]]> & \\end{document} % </td>", "null"]
    study = made_up_study(HOSTILE, ["<img src=x onerror=alert(1)>"], [7], None, attacks,
                          "\\write18{ls} {images}")  # fmt: skip
    write_made_up(study, root, without_history=frozenset(c.key for c in study.cells("digits")))
    results = read_results(study, "digits", root)
    pages = build_report(study, results, templates, ["es"])
    return pages | build_chapter(study, {"digits": results}, "es", templates)


def small(root, templates):
    study = made_up_study(["at", "dtrades"], ["vgg16"], [0, 1])
    write_made_up(study, root)
    results = read_results(study, "digits", root)
    return {
        **build_report(study, results, templates, ["es"]),
        **build_chapter(study, {"digits": results}, "es", templates),
        "index.html": build_index(study, {"digits": results}, templates, ["es"]),
    }


def test_two_builds_are_equal_byte_for_byte(tmp_path, templates):
    one, other = small(tmp_path / "one", templates), small(tmp_path / "other", templates)
    assert one == other
    figures = ["tradeoff", "curve", "transfer", "training-vgg16", "lambda-dtrades", "classes",
               "examples-vgg16", "gradients-vgg16", "cost"]  # fmt: skip
    assert set(one) == {
        "report.es.html", "index.html", "chapter.es.tex", "standalone.es.tex",
        *(f"figures/es/digits-{name}.pdf" for name in figures),
    }  # fmt: skip
    assert "todas las tablas, figuras y referencias" in one["index.html"].decode()
    for name, content in one.items():
        assert str(tmp_path).encode() not in content, name
        assert b"CreationDate" not in content, name


@pytest.mark.parametrize(
    ("kind", "language"),
    [("complete_report", "en"), ("complete_report", "es"), ("incomplete_report", "en"),
     ("hostile_report", "es")],
)  # fmt: skip
def test_pages_are_well_formed_and_ask_for_nothing(request, kind, language):
    text = request.getfixturevalue(kind)[f"report.{language}.html"].decode()
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    others = {f"report.{code}.html" for code in LANGUAGES} | {"../index.html"}
    for tag, attributes in page.tags:
        assert tag not in ("img", "iframe", "object", "b")
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href", "srcset", "data"):
            target = attributes.get(name, "#")
            if target.startswith("#"):
                assert target == "#" or target[1:] in page.ids
            else:
                assert (
                    target == "data:,"
                    or (tag == "a" and target in others)
                    or (tag == "image" and target.startswith("data:image/png;base64,"))
                    # What was measured on this machine: another file of the repository.
                    or (tag == "script" and target == "../../timings/digits.js")
                )
    assert not re.search(r"url\((?!#)|@import|https?:", text)
    for reference in re.findall(r"url\(#([^)]*)\)", text):
        assert reference in page.ids


def test_pages_can_be_read_by_a_screen_reader(complete_report):
    page = Page(complete_report["report.es.html"].decode())
    assert dict(page.tags)["html"]["lang"] == "es"
    headers = [attributes for tag, attributes in page.tags if tag == "th"]
    assert headers and all("scope" in attributes for attributes in headers)
    drawings = [attributes for tag, attributes in page.tags if tag == "svg"]
    curves = [attributes for attributes in drawings if attributes.get("class") == "curve"]
    assert len(curves) == 36
    assert all(attributes["role"] == "img" for attributes in drawings)
    assert all("selected epoch" in a["aria-label"] or "época" in a["aria-label"] for a in curves)
    drawings = [attributes for attributes in drawings if attributes not in curves]
    assert len(drawings) == 12
    for attributes in drawings:
        assert attributes["aria-labelledby"] in page.ids
        assert attributes["aria-describedby"] in page.ids


def test_hostile_names_appear_as_they_are(hostile_report):
    page = Page(hostile_report["report.es.html"].decode())
    rows = page.tables["table-main"]
    assert rows[1] == ["<img src=x onerror=alert(1)>"]
    headers = [row[0] for row in rows[2:-1]]
    assert headers == ["D-TRADES", *(" ".join(name.split()) for name in HOSTILE[1:])]


def test_escape_prints_what_it_is_given():
    assert escape(r"a_b & 50 % \x{}") == r"a\_b \& 50 \% \textbackslash{}x\{\}"
    assert escape("[1]*") == "{[}1{]}{*}"
    assert escape("a---b") == "a-{}-{}-b"
    assert escape("\N{GRINNING FACE}") == "{[}U+1F600{]}"
    assert escape(escape("_")) == r"\_"


def test_incomplete_reports_say_so(incomplete_report):
    for name in ("report.en.html", "chapter.en.tex"):
        text = " ".join(incomplete_report[name].decode().split())
        assert "12 of 18 cells of digits are evaluated" in text
        assert "This is a trial" in text
        assert "6 of 18 cells are missing; means rest on the others." in text
    page = Page(incomplete_report["report.en.html"].decode())
    assert "This cell is not evaluated; the means leave it out." in page.text
    assert "no results" in incomplete_report["report.en.html"].decode()


def test_a_complete_report_has_no_warning(complete_report):
    text = complete_report["report.en.html"].decode()
    assert 'class="warning"' not in text
    assert "All 36 cells" in text


def test_languages_have_the_same_keys_and_placeholders(templates):
    texts = {language: load_labels(language, templates).texts for language in LANGUAGES}
    english, spanish = texts["en"], texts["es"]
    assert english.keys() == spanish.keys()
    for key in english:
        found = [sorted(re.findall(r"{\w+}", text[key])) for text in (english, spanish)]
        assert found[0] == found[1], key


def test_a_missing_label_is_an_error_with_file_and_key(templates, tmp_path):
    text = (templates / "labels.es.yaml").read_text("utf-8")
    (tmp_path / "labels.es.yaml").write_text(text.replace("  nobody:", "  someone:"), "utf-8")
    labels = load_labels("es", tmp_path)
    with pytest.raises(BadLabels, match=r"labels\.es\.yaml: sentences\.nobody: is missing"):
        labels("sentences.nobody", architecture="", metric="")
    with pytest.raises(BadLabels, match=r"x\.yaml: a: cannot be filled in"):
        Labels("x.yaml", {"a": "{b}"})("a")


def test_every_label_is_used(templates):
    """Named in the templates or the package, where `{...}` or `~` may stand for a part of the
    name, or as a name of a kind of things, or with the ending of another label."""
    package = Path(escape.__code__.co_filename).parent
    code = "".join(path.read_text("utf-8") for path in package.rglob("*.py"))
    code += "".join(path.read_text("utf-8") for path in templates.glob("*.j2"))
    used = [re.sub(r"\\{[^}]*\\}", "[^.]+", re.escape(name)) + ("[^.]+" if joined else "")
            for name, joined in re.findall(r'"([a-z]\w*(?:\.[^"]*)?)"(\s*~)?', code)]  # fmt: skip
    used += re.findall(r"\('([\w.]+)'\)", code)
    kinds = re.findall(r'(?:\.name\(|subjects\([\w.]+, )"(\w+)", ', code)
    used += [rf"{kind}\..+" for kind in kinds]
    pattern = re.compile(rf"(?:{'|'.join(used)})(?:_many|_but)?")
    tellings = r"(defenses|words_of)\..*"
    for key in load_labels("en", templates).texts:
        if re.fullmatch(tellings, key):
            continue
        assert pattern.fullmatch(key), key


def test_values_are_not_read_as_placeholders():
    assert Labels("x.yaml", {"a": "<{b}>"})("a", b="{c}") == "<{c}>"


@pytest.mark.parametrize("count", [9, 12])
def test_families_share_a_colour_and_no_two_defenses_a_look(count):
    families = {"standard": "standard"} | {f"d{i}": f"family{i % count}" for i in range(40)}
    found = looks(families, "standard")
    assert found["standard"] == CONTROL
    assert len({(look.colour, look.marker) for look in found.values()}) == 41
    for name, family in families.items():
        members = [found[other] for other in families if families[other] == family]
        assert {look.colour for look in members} == {found[name].colour}
        # Of more families than colours two share one: then only their markers tell all apart.
        assert count > 9 or len({look.dashes for look in members[:4]}) == len(members[:4])


def test_a_defense_that_is_added_changes_no_other_ones_look():
    families = {name: name for name in ("at", "trades", "mart")}
    before, after = looks(families, None), looks(families | {"new": "trades"}, None)
    assert before == {name: after[name] for name in families}
    assert after["new"].colour == before["trades"].colour


def test_reporting_needs_no_torch():
    code = (
        "import sys; sys.path.insert(0, 'stages'); import report, chapter, index; "
        "sys.exit(sorted({'torch', 'dvc', 'sklearn'} & set(sys.modules)) != [])"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize(
    ("kind", "language"),
    [("complete_chapter", "es"), ("incomplete_report", "en"), ("hostile_report", "es")],
)
def test_chapters_compile(request, tmp_path, kind, language):
    for name, content in request.getfixturevalue(kind).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"standalone.{language}"]
    runs = 1 if kind == "hostile_report" else 2
    for _ in range(runs):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120)
        log = done.stdout.decode("latin-1")
        if "not found" in log and done.returncode:
            pytest.skip("LaTeX lacks a package: " + log[log.index("not found") - 60 :][:80])
        assert done.returncode == 0, log[-2000:]
    if runs == 2:
        assert "undefined references" not in log
        assert "Overfull" not in log


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("en", {"tradeoff": "no other is at least as good in both and better in one",
                "curve": "begin to count. On the same images that RA could not be below the curve; "
                         "it is of {images} images, the curve of {norms}",
                "classes": "is framed, or all that are"}),
        ("es", {"tradeoff": "ninguna otra iguala o supera en ambas y supera en una",
                "curve": "casi todos justo de ese tamaño. En las mismas imágenes la RA no podría "
                         "quedar por debajo de la curva; es de {images} imágenes, y la curva, de "
                         "{norms}",
                "classes": "está enmarcada, o todas las que lo son"}),
    ],
)  # fmt: skip
def test_captions_tell_what_their_figure_shows(templates, language, said):
    texts = load_labels(language, templates).texts
    for figure, words in said.items():
        assert words in texts[f"figures.{figure}.caption"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_latex_has_every_letter_that_texts_use(templates, language):
    texts = dict(load_labels(language, templates).texts)
    texts |= {name: told.symbols.get(language, "") for name, told in load_tellings().items()}
    assert not [name for name, text in texts.items() if "U+" in escape(text)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_short_captions_fit_three_lines(templates, language, complete):
    """A line of the chapter has some 95 letters; what must be said beyond stands in the text."""
    study, results = complete
    part = contents(View(study, results, load_labels(language, templates)), [])
    captioned = [*filter(None, part["tables"].values()), *chain(*part["pictures"].values())]
    assert len(captioned) > 15
    for item in captioned:
        assert len(item.short_caption) <= 260, item.key
    chapter = build_chapter(study, {"digits": results}, language, templates)
    text = " ".join(chapter[f"chapter.{language}.tex"].decode().split())
    main = part["tables"]["main"]
    assert main.definitions
    assert str(escape(main.definitions)) in text
    assert rf"\caption{{{escape(main.short_caption)}}}" in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_objectives_are_told_as_they_are_trained(language):
    """The margin of FAAL is that of the worst wrong class, and x' is what each defense ascends."""
    tellings = load_tellings()
    margin = r"m_c [^;]* max f_j\(x.\) . f_y\(x.\)"
    assert re.search(margin, tellings["faal"].symbols[language])
    folder = Path(__file__).parents[2] / "src" / "tradeoff" / "defenses"
    for name, root, ascended in (("trades", "", "divergence"), ("dtrades", "trades", "divergence"),
                                 ("at", "", "cross_entropy"), ("mart", "", "cross_entropy"),
                                 ("faal", "at", "cross_entropy")):  # fmt: skip
        if root:
            assert f"{root}.adversarial_examples(" in (folder / f"{name}.py").read_text("utf-8")
        assert f" ascend_{ascended}(" in (folder / f"{root or name}.py").read_text("utf-8")
        symbol = {"divergence": "KL(f(x) ‖ f(x′))", "cross_entropy": "CE(f(x′), y)"}[ascended]  # noqa: RUF001
        assert tellings[name].symbols[language].endswith(f"{symbol}.")


def test_spanish_tests_are_not_called_proofs(templates):
    texts = load_labels("es", templates).texts
    for key, text in texts.items():
        assert not re.search(r"\b[Pp]rob(ar|aron|ad[oa]s?)\b|\bse prueban?\b|\bprueba t\b", text), (
            key
        )
    assert texts["sentences.untested"] == "La diferencia con {names} no se pudo contrastar."


def test_what_others_proposed_is_cited_and_the_document_lists_it(complete_chapter):
    chapter = complete_chapter["chapter.es.tex"].decode()
    for said in (r"\item[TRADES~\cite{zhang2019theoretically}]", r"\item[D-TRADES]",
                 r"FGSM~\cite{goodfellow2015explaining}", r"PGD y C\&W~\cite{madry2018towards}",
                 r"FAB-T~\cite{croce2020minimally}", r"método de Holm~\cite{holm1979simple}",
                 r"VGG16~\cite{simonyan2015very}"):  # fmt: skip
        assert said in chapter
    keys = set(re.findall(r"\\cite{([^}]*)}", chapter))
    document = complete_chapter["standalone.es.tex"].decode()
    assert set(re.findall(r"\\bibitem{([^}]*)}", document)) == keys
    assert "Hongyang Zhang, Yaodong Yu, Jiantao Jiao, Eric P. Xing, Laurent El Ghaoui" in document


def test_pages_list_what_was_published(complete_report):
    text = Page(complete_report["report.en.html"].decode()).text
    assert "FAAL: Yanghao Zhang, Tianle Zhang, Ronghui Mu, Xiaowei Huang, Wenjie Ruan. Towa" in text
    assert (
        "Holm's method: Sture Holm. A Simple Sequentially Rejective Multiple Test Procedur" in text
    )


def test_every_defense_attack_network_and_data_set_is_published_but_the_studys_own(templates):
    of = frozenset().union(*(one.of for one in load_references(templates)))
    package = Path(escape.__code__.co_filename).parents[1]
    for kind, folder in (("defenses", "defenses"), ("attacks", "attacks"),
                         ("architectures", "archs"), ("datasets", "datasets")):  # fmt: skip
        names = {path.stem for path in (package / folder).glob("[!_]*.py")}
        ours = {"standard", "dtrades", "digit_pairs", "arda", "apgd", "nearest", "outcome"}
        ours |= {"mlp", "softplus", "eights"}
        ours |= {"download", "folder", "local", "npz", "own", "prepared", "published"}
        ours |= {name for name, told in load_tellings().items() if told.like in ours}
        assert {f"{kind}.{name}" for name in names - ours} <= of


def test_an_entry_that_lacks_something_is_named(templates, tmp_path):
    text = (templates / "references.bib").read_text("utf-8")
    lines = text.replace("  year = {1979},\n", "")
    (tmp_path / "references.bib").write_text(lines, "utf-8")
    with pytest.raises(BadReferences, match=r"references\.bib: holm1979simple: has no year"):
        load_references(tmp_path)


def test_references_agree_in_number(complete_chapter):
    text = complete_chapter["chapter.es.tex"].decode()
    assert r"Véanse la tabla~\ref{tab:digits:main} y la figura~\ref{fig:digits:tradeoff}." in text
    assert r"Véase la tabla~\ref{tab:digits:differences}." in text
    both = r"y la figura~\ref{fig:digits:training-vgg16}."
    assert r"Véanse la tabla~\ref{tab:digits:overfitting}, la figura" in text and both in text

"""The report of one data set, put together: every file it consists of, as bytes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure

from tradeoff.core.study import Study
from tradeoff.reporting import accuracy, evidence, figures
from tradeoff.reporting import descriptions as describe
from tradeoff.reporting import sentences as say
from tradeoff.reporting.html import render_html
from tradeoff.reporting.labels import Labels, load_labels
from tradeoff.reporting.latex import TeX, label, render_latex, standalone
from tradeoff.reporting.results import Results
from tradeoff.reporting.setting import describe_defenses, describe_setting, limit_note
from tradeoff.reporting.vector import colour_rules, lay_out, to_inline_svg, to_pdf

# A language's name for itself, and how babel loads it. Spanish: "Tabla", not "Cuadro", and no
# characters that become commands.
LANGUAGES = {
    "en": ("English", "english"),
    "es": ("Español", "spanish,es-tabla,es-noshorthands"),
}


@dataclass(frozen=True)
class Picture:
    """A figure in its two forms, with what is said below it and in place of it."""

    key: str
    caption: str
    svg: Markup
    pdf: bytes
    path: TeX
    """Of the PDF, in the folder of the report."""


def build_report(
    study: Study,
    dataset: str,
    results: Results,
    templates: Path,
    languages: Iterable[str] = tuple(LANGUAGES),
) -> dict[str, bytes]:
    """All files of the folder reports/DATASET by their path in it.

    Nothing of it depends on when, where or by whom it is built.

    Raises:
        BadParams: the study has no such data set.
        BadLabels: a label file lacks a text.
    """
    files: dict[str, bytes] = {}
    for language in languages:
        labels = load_labels(language, templates)
        files |= _in_language(language, study, dataset, results, labels, templates)
    return files


def _in_language(
    language: str, study: Study, dataset: str, results: Results, labels: Labels, templates: Path
) -> dict[str, bytes]:
    with figures.drawing():
        pictures = _pictures(language, study, results, labels)
    title = labels("title", dataset=labels.name("datasets", dataset))
    chosen = study.dataset(dataset)
    light, dark = colour_rules()
    values = {
        "t": labels,
        "language": language,
        "others": {code: name for code, (name, _) in LANGUAGES.items() if code != language},
        "dataset": dataset,
        "title": title,
        "setting": describe_setting(study, chosen, results, labels),
        "defenses": describe_defenses(study, labels),
        "limit": limit_note(chosen, labels),
        "coverage": say.coverage(results, labels),
        "complete": not (results.missing_cells or results.missing_histories),
        "single": len(study.axes.seeds) == 1,
        "leaders": say.leaders(study, results, labels),
        "differences": say.differences(study, results, labels),
        "attack_images": say.attack_images(results, labels),
        "masking": say.masking(study, results, labels),
        "gaps": say.gaps(results, labels),
        "tables": {
            "main": accuracy.main_table(study, results, labels),
            "differences": evidence.difference_table(study, results, labels),
            "attacks": accuracy.attack_table(study, results, labels),
            "norms": evidence.norm_table(study, results, labels),
            "transfer": evidence.transfer_table(study, results, labels),
            "masking": evidence.masking_table(study, results, labels),
            "overfitting": accuracy.overfitting_table(study, results, labels),
            "classes": accuracy.class_table(study, results, labels),
        },
        "pictures": pictures,
        "light": Markup(light),
        "dark": Markup(dark),
        "tex": TeX,
    }
    chapter = f"chapter.{language}.tex"
    wrapper = standalone(chapter, LANGUAGES[language][1], title)
    return {
        f"report.{language}.html": render_html(templates, values).encode(),
        chapter: render_latex(templates, values).encode(),
        f"standalone.{language}.tex": wrapper.encode(),
        **{str(picture.path): picture.pdf for group in pictures.values() for picture in group},
    }


def _pictures(
    language: str, study: Study, results: Results, labels: Labels
) -> dict[str, list[Picture]]:
    """The figures by subject; a subject has one for each architecture or defense, or just one."""

    def picture(
        subject: str, draw: Callable[[], Figure], description: str, part: str = "", shown: str = ""
    ) -> Picture:
        key = f"{subject}-{label(part)}" if part else subject
        title = labels(f"figures.{subject}.title", part=shown)
        figure = lay_out(draw())
        svg, pdf = to_inline_svg(figure, f"figure-{key}", title, description), to_pdf(figure)
        caption = labels(f"figures.{subject}.caption", part=shown)
        return Picture(key, caption, svg, pdf, TeX(f"figures/{key}-{language}.pdf"))

    return {
        "tradeoff": [
            picture(
                "tradeoff",
                partial(figures.tradeoff, study, results, labels),
                describe.tradeoff(study, results, labels),
            )
        ],
        "curve": [
            picture(
                "curve",
                partial(figures.curve, study, results, labels),
                describe.curve(study, results, labels),
            )
        ]
        if len(results.curve)
        else [],
        "transfer": [
            picture(
                "transfer",
                partial(figures.transfer, results, labels),
                describe.transfer(results, labels),
            )
        ]
        if len(results.transfer)
        else [],
        "training": [
            picture(
                "training",
                partial(figures.training, architecture, study, results, labels),
                describe.training(architecture, study, results, labels),
                architecture,
                labels.name("architectures", architecture),
            )
            for architecture in study.axes.architectures
        ],
        "lambda": [
            picture(
                "lambda",
                partial(figures.weights, defense, study, results, labels),
                describe.weights(defense, study, results, labels),
                defense,
                labels.name("defenses", defense),
            )
            for defense in figures.adaptive_defenses(study, results)
        ],
        "classes": [
            picture(
                "classes",
                partial(figures.classes, study, results, labels),
                describe.classes(study, results, labels),
            )
        ],
    }

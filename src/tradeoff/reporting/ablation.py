"""The proposal's knobs as an ablation: the outcome of a sweep of alpha and beta."""

from typing import NamedTuple

from tradeoff.core.study import Study
from tradeoff.core.tables import FIXED, HEADLINE, PROPOSAL
from tradeoff.reporting.estimates import Estimate, estimate
from tradeoff.reporting.labels import Labels
from tradeoff.reporting.missing import valued
from tradeoff.reporting.results import Results
from tradeoff.reporting.tables import (
    Block,
    Column,
    Group,
    Note,
    Number,
    Row,
    Table,
    nth_letter,
)


class Setting(NamedTuple):
    """How a swept defense was trained; FIXED has no alpha, here 0."""

    defense: str
    differentiable: bool
    alpha: float
    beta: float


def swept(results: Results, architecture: str, metric: str) -> dict[Setting, Estimate]:
    """The metric's means over the seeds by setting, the proposal first, knobs rising."""
    rows = results.sweep[results.sweep["architecture"] == architecture].fillna({"alpha": 0.0})
    found = {}
    knobs = rows[list(Setting._fields)]
    for values in knobs.drop_duplicates().to_numpy(object).tolist():
        one = estimate(rows[(knobs == values).all(axis=1)][metric])
        if one is not None:
            found[Setting(*values)] = one
    return {setting: found[setting] for setting in sorted(found, key=_place)}


def _place(setting: Setting) -> tuple[bool, bool, float, float]:
    return setting.defense != PROPOSAL, *setting[1:]


def sweep_table(study: Study, results: Results, labels: Labels) -> Table | None:
    """Settings down, NA and RA of each architecture across; None without a sweep."""
    if results.sweep.empty:
        return None
    names = [name for name in study.axes.architectures
             if name in set(results.sweep["architecture"])]  # fmt: skip
    found = {(name, metric): swept(results, name, metric) for name in names for metric in HEADLINE}
    settings = sorted({setting for values in found.values() for setting in values}, key=_place)
    columns = {}
    for place, values in found.items():
        columns[place] = {
            setting: Number(
                labels.percent(one.mean),
                "" if one.sd is None else labels.percent(one.sd),
            )
            for setting, one in values.items()
        }
    own = own_settings(study)
    seeds = results.sweep["seed"].nunique()
    rows: dict[str, list[Row]] = {}
    notes: list[Note] = []
    for setting in settings:
        mark = labels("ablation.own") if setting in own else ""
        there = min(values[setting].seeds for values in found.values() if setting in values)
        letter = ""
        if there < seeds:
            letter = nth_letter(len(notes))
            notes.append(Note(letter, labels("notes.sweep", there=there, all=seeds)))
        numbers = tuple(columns[place].get(setting, Number()) for place in found)
        row = Row(_header(setting, labels) + mark, numbers, letter)
        rows.setdefault(setting.defense, []).append(row)
    groups = tuple(
        Group(labels.name("architectures", name),
              tuple(Column(labels(f"metrics.{metric}"), spread=True) for metric in HEADLINE))
        for name in names
    )  # fmt: skip
    blocks = tuple(Block(labels.name("defenses", defense), tuple(of_it))
                   for defense, of_it in rows.items())  # fmt: skip
    caption = labels("tables.sweep", proposal=labels.name("defenses", PROPOSAL),
                     fixed=labels.name("defenses", FIXED), seeds=seeds)  # fmt: skip
    return Table("sweep", caption, labels("ablation.corner"), groups, blocks, tuple(notes))


def _header(setting: Setting, labels: Labels) -> str:
    if setting.defense == FIXED:
        return labels("ablation.fixed", beta=labels.number(setting.beta))
    alpha, beta = labels.number(setting.alpha), labels.number(setting.beta)
    row = labels("ablation.row", alpha=alpha, beta=beta)
    return f"{row}, {labels('knobs.differentiable')}" if setting.differentiable else row


def own_settings(study: Study) -> list[Setting]:
    """Those of params.yaml, of the defenses that the study has."""
    found = []
    for defense in (PROPOSAL, FIXED):
        if defense in study.knobs:
            knobs = study.knobs[defense].model_dump()
            found.append(Setting(defense, bool(knobs.get("differentiable", False)),
                                 float(knobs.get("alpha", 0.0)), float(knobs["beta"])))  # fmt: skip
    return found


def sweep_sentences(study: Study, results: Results, labels: Labels) -> list[str]:
    """For each architecture where RA is highest, and what NA is there and with the study's own."""
    text = []
    seeds = results.sweep["seed"].nunique()
    for architecture in study.axes.architectures:
        robust, natural = (swept(results, architecture, metric) for metric in ("RA", "NA"))
        mine = [setting for setting in robust
                if setting.defense == PROPOSAL and not setting.differentiable]  # fmt: skip
        if not mine:
            continue
        top = max(mine, key=lambda setting: robust[setting].mean)
        values = {
            "architecture": labels.name("architectures", architecture),
            "alpha": labels.number(top.alpha), "beta": labels.number(top.beta),
            "ra": valued(robust[top], seeds, labels), "na": valued(natural[top], seeds, labels),
        }  # fmt: skip
        said = labels("ablation.top", **values)
        own = next((one for one in own_settings(study) if one in mine), top)
        if own != top:
            gap = labels.percent(robust[top].mean - robust[own].mean)
            said += " " + labels("ablation.gap", gap=gap)
        text.append(said)
    return text

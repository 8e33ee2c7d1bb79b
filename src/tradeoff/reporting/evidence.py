"""The tables behind a claim: norms, differences, transfer, and signs of masked gradients."""

from dataclasses import replace
from math import isnan

import pandas as pd

from tradeoff.core.tables import EXTRACTION, HEADLINE, LOW_IS_SUSPICIOUS
from tradeoff.reporting.coverage import seed_remarks
from tradeoff.reporting.estimates import PERCENT, Estimate, Scale
from tradeoff.reporting.results import MODEL, ROLES, select
from tradeoff.reporting.table import (
    Block,
    Column,
    Measure,
    Number,
    Remarks,
    Row,
    Table,
    cells_measure,
    defense_table,
    nth_letter,
    wide_or_tall,
)
from tradeoff.reporting.tellings import load_tellings
from tradeoff.reporting.view import View, means

COUNTS = Scale(1, 0)
# l0 counts components; the others are in units of the image range.
NORM_SCALES = {"l0": Scale(1, 1), "l2": Scale(1, 3), "linf": Scale(1, 4)}
# FOSC is in nats and a cosine has no unit; all other flags' numbers are rates.
FLAG_SCALES = {"fosc": Scale(1, 2), "gradient_cosine": Scale(1, 2)}


def average_norm(view: View, norm: str, header: str, group: str = "") -> Measure:
    """APN over the images that are wrong or were fooled, with the share of the others."""
    results = view.results
    estimates = means(results.norm(norm, "APN"), results.norm(norm, "unfooled"))
    return Measure(header, estimates, True, scale=NORM_SCALES[norm], metric=f"APN_{norm}",
                   group=group)  # fmt: skip


def norm_table(view: View) -> Table | None:
    """APN in each norm, and the median over fooled images; None if there are no norms."""
    measures = []
    for norm, scale in NORM_SCALES.items():
        if norm in set(view.results.norms["norm"]):
            group = view.labels.name("norms", norm)
            medians = means(view.results.norm(norm, "APN_fooled_median"))
            measures += [
                average_norm(view, norm, view("metrics.APN"), group),
                Measure(view("metrics.APN_fooled_median"), medians, spread=False, scale=scale,
                        group=group),
            ]  # fmt: skip
    images = view.labels.counts(view.results.norms["images"])
    remarks = seed_remarks(view, "norms")
    return defense_table(view, "norms", measures, remarks, images=images) if measures else None


def certified_table(view: View) -> Table | None:
    """Certified accuracy by radius, beside the RA that attacks left; None without certificates."""
    table = view.results.certified
    if table.empty:
        return None
    by_model, group = table.set_index(MODEL), view("metrics.certified")
    measures = [
        Measure(f"ε = {view.labels.number(epsilon)}", means(rows["certified_accuracy"]),
                group=group)
        for epsilon, rows in by_model.groupby("epsilon")
    ]  # fmt: skip
    measures.append(cells_measure(view, "RA"))
    if "gap" in table:
        gaps = means(by_model["gap"].dropna().astype(float))
        measures.append(Measure(view("metrics.gap"), gaps))
    return defense_table(view, "certified", measures, {}, only=set(table["defense"]),
                         images=view.labels.counts(table["images"]))  # fmt: skip


def asking_table(view: View) -> Table | None:
    """Classifiers that are more than a network: RA under PGD that ignores the defense and under PGD
    that knows it, who published its break, and what a prediction costs; None without any."""
    asking = view.results.asking.set_index(MODEL)
    if asking.empty:
        return None
    under_pgd, costs = view("metrics.RA_pgd"), view("metrics.asking")
    measures = [
        cells_measure(view, "NA"),
        *(Measure(view(f"metrics.{name}"), means(view.results.accuracy(attack)), group=under_pgd)
          for name, attack in (("unaware", "pgd_unaware"), ("aware", "pgd"))),
        cells_measure(view, "RA"),
        *(Measure(view(f"metrics.{name}"), means(asking[name]), spread=False, scale=COUNTS,
                  group=costs)
          for name in ("forward_passes", "calibration_images")),
    ]  # fmt: skip
    tellings = load_tellings()
    broken = {
        place: [tellings[place[1]].broken[view.labels.language]]
        for place in means(asking["forward_passes"])
        if place[1] in tellings and tellings[place[1]].broken
    }
    return defense_table(view, "asking", measures, broken, only=set(view.results.asking["defense"]))


def detection_table(view: View) -> Table | None:
    """What rejecting suspicious images is worth under PGD that ignores the detector and that knows
    it; None if nothing rejects."""
    table, name = view.results.detection, view.labels.name
    if table.empty:
        return None
    shown = [
        ("", "pgd", ["NA_rejecting"]),
        (name("attacks", "pgd"), "pgd", ["detected", "area", "RA_rejecting"]),
        (name("attacks", "pgd_evading"), "pgd_evading", ["detected", "area", "RA_rejecting"]),
        (view("metrics.robust_error"), "bounded", ["RErr_all", "RErr", "RErr_99"]),
    ]
    measures = [
        Measure(view(f"metrics.{column}"), means(rows[column].astype(float)), group=group)
        for group, attack, columns in shown
        for rows in [select(table, attack=attack).set_index(MODEL)]
        for column in columns
    ]
    return defense_table(view, "detection", measures, {}, only=set(table["defense"]))


def detection_by_attack_table(view: View) -> Table | None:
    """A block for each detector, a row for each attack on it and for each suite as a whole; None if
    nothing rejects."""
    table = view.results.detection
    if table.empty:
        return None
    columns = ("area", "detected", "RA_rejecting")
    estimates = {
        str(attack): [means(rows.set_index(MODEL)[name].astype(float)) for name in columns]
        for attack, rows in table.groupby("attack", sort=False)
    }
    blocks = []
    for place in means(table.set_index(MODEL)["threshold"]):
        rows = [
            Row(attack_name(view, attack),
                [_printed(view, column.get(place)) for column in of_attack])
            for attack, of_attack in estimates.items() if place in of_attack[-1]
        ]  # fmt: skip
        blocks.append(Block(view.detector(place), rows))
    headers = [Column(view(f"metrics.{name}"), spread=True) for name in columns]
    return Table("detection_by_attack", view("tables.detection_by_attack"), view("words.attack"),
                 headers, blocks)  # fmt: skip


def attack_name(view: View, attack: str) -> str:
    """An attack's name, or that of a suite of them."""
    suite = attack in view.results.dataset.suites
    return view("words.suite", name=attack) if suite else view.labels.name("attacks", attack)


def _printed(view: View, estimate: Estimate | None) -> Number:
    """Mean and standard deviation in percent; nothing where the attack fooled no image."""
    if estimate is None:
        return Number()
    sd = "" if estimate.sd is None else view.labels.percent(estimate.sd)
    return Number(view.labels.percent(estimate.mean), sd)


def difference_table(view: View) -> Table | None:
    """The proposal less each other defense in NA and RA, resolved differences in bold; None if
    nothing is compared."""
    if view.results.differences.empty or view.proposal is None:
        return None
    blocks: list[Block] = []
    notes: dict[str, str] = {}
    for architecture in view.architectures:
        rows = []
        for other in view.defenses:
            if other == view.proposal:
                continue
            numbers = [number for metric in HEADLINE
                       for number in _compared(view, architecture, other, metric)]  # fmt: skip
            row, letter = view.results.difference(architecture, other, HEADLINE[0]), ""
            if row is not None and row["seeds"] < len(view.seeds):
                letter = nth_letter(len(notes))
                notes[letter] = view("notes.shared", there=int(row["seeds"]),
                                     all=view.labels.seeds(len(view.seeds)))  # fmt: skip
            rows.append(Row(view.name(other), numbers, letter))
        blocks.append(Block(view.network(architecture), rows))
    levels = view.labels.levels(view.study.statistics)
    columns = [
        Column(view(f"tables.difference_columns.{key}", **levels), group=view(f"metrics.{metric}"))
        for metric in HEADLINE for key in ("difference", "interval", "detectable")
    ]  # fmt: skip
    caption = view("tables.differences", proposal=view.proposal_name, **levels)
    corner = view("words.less", proposal=view.proposal_name)
    return Table("differences", caption, corner, columns, blocks, notes)


def _compared(view: View, architecture: str, other: str, metric: str) -> list[Number]:
    """Difference, interval and what is detectable."""
    row = view.results.difference(architecture, other, metric)
    if row is None:
        return [Number()] * 3
    labels = view.labels
    resolved = view.results.resolved(architecture, metric, str(view.proposal), other)
    return [
        Number(labels.points(row["difference"]), best=resolved is True),
        Number(f"[{labels.points(row['low'])}; {labels.points(row['high'])}]"),
        Number("" if isnan(row["detectable"]) else labels.percent(row["detectable"])),
    ]


def gradient_table(view: View) -> Table | None:
    """What input gradients are like; None where they were not measured."""
    table = view.results.gradients.set_index(MODEL)
    if table.empty:
        return None
    measures = [
        Measure(view(f"metrics.{name}"), means(table[name]), scale=Scale(1, 2))
        for name in ("alignment", "sparsity", "roughness", "agreement")
    ]
    return defense_table(view, "gradients", measures, {}, images=str(int(table["images"].max())))


def transfer_table(view: View) -> Table | None:
    """Mean share of a target's right images that examples of each role fool; None without any."""
    table = view.results.transfer
    names = {"target_architecture": "architecture", "target_defense": "defense"}
    shares = table.rename(columns=names).set_index([*names.values(), "source"])
    measures = [
        Measure(view(f"roles.{role}"), means(shares[shares["role"] == role]["fooled"]))
        for role in ROLES if role in set(table["role"])
    ]  # fmt: skip
    if not measures:
        return None
    made = defense_table(view, "transfer", measures, seed_remarks(view, "transfer"),
                         control=view.control_name,
                         images=view.labels.counts(table["images"]))  # fmt: skip
    asked = table[table["role"] == EXTRACTION]
    if asked.empty:
        return made
    low, high = map(view.labels.percent, asked["agreement"].agg(["min", "max"]))
    told = view("tables.extraction", low=low, high=high,
                queries=view.labels.counts(asked["queries"]))  # fmt: skip
    return replace(made, caption=f"{made.caption} {told}")


def masking_table(view: View) -> Table | None:
    """Flags down, defenses across: how many seeds raise a flag, and the range of its numbers."""
    if view.results.masking.empty:
        return None
    blocks = []
    for architecture in view.architectures:
        by_defense = [select(view.results.judged, architecture=architecture, defense=defense)
                      for defense in view.defenses]  # fmt: skip
        rows = []
        for flag, threshold in _thresholds(view).items():
            numbers = [_flag_number(view, flag, select(judged, flag=flag)) for judged in by_defense]
            rows.append(Row(flag_name(view, flag, _threshold(view, flag, threshold)), numbers))
        blocks.append(Block(view.network(architecture), rows))
    columns = [Column(view.name(defense)) for defense in view.defenses]
    table = Table("masking", view("tables.masking"), view("words.flag"), columns, blocks)
    return wide_or_tall(table, view("words.defense"))


def flag_lines(view: View) -> list[str]:
    """What each flag that was measured is, with its threshold and unit."""
    large = view(f"flags.large_epsilon_accuracy.large_{view.results.dataset.threat.norm}")
    return [
        view("masking.what", name=flag_name(view, flag),
             what=view(f"flags.{flag}.what", large=large,
                       threshold=_threshold(view, flag, threshold)))
        for flag, threshold in _thresholds(view).items()
        if f"flags.{flag}.what" in view.labels.texts
    ]  # fmt: skip


def _thresholds(view: View) -> dict[str, float]:
    rows = view.results.masking.drop_duplicates("flag")
    return dict(zip(rows["flag"], rows["threshold"].astype(float), strict=True))


def _threshold(view: View, flag: str, threshold: float) -> str:
    """ "10 %", or a number without a sign if the flag's are no rates."""
    if flag in FLAG_SCALES:
        return view.labels.number(threshold)
    return view("sentences.value", number=view.labels.number(float(f"{100 * threshold:.4g}")))


def _flag_number(view: View, flag: str, rows: pd.DataFrame) -> Number:
    """ "2/3" of the seeds that could be measured, and the range of their numbers."""
    if rows.empty:
        return Number()
    raised = int(rows["raised"].sum())
    scale, numbers = FLAG_SCALES.get(flag, PERCENT), rows["number"]
    ends = [view.labels.formatted(end, scale) for end in (numbers.min(), numbers.max())]
    extra = ends[0] if ends[0] == ends[1] else f"[{ends[0]}; {ends[1]}]"
    return Number(f"{raised}/{len(rows)}", best=raised > 0, extra=extra)


def flag_name(view: View, flag: str, threshold: str = "") -> str:
    """What to call a flag, with the threshold beyond which it is raised."""
    name = view.labels.texts.get(f"flags.{flag}.name", flag)
    sign = "<" if flag in LOW_IS_SUSPICIOUS else ">"
    return f"{name} {sign} {threshold}" if threshold else name


def flag_remarks(view: View) -> Remarks:
    """For each place of which a seed raises a flag: which, and how many of those measured."""
    remarks = {}
    for architecture, defense in view.places():
        rows = select(view.results.judged, architecture=architecture, defense=defense)
        raised = [
            view("notes.flag", name=flag_name(view, str(flag)), all=view.labels.seeds(len(values)),
                 count=int(values.sum()))
            for flag, values in rows.groupby("flag", sort=False)["raised"] if values.any()
        ]  # fmt: skip
        if raised:
            text = view("notes.flags", defense=view.name(defense), flags="; ".join(raised),
                        architecture=view.network(architecture))  # fmt: skip
            remarks[architecture, defense] = [text]
    return remarks

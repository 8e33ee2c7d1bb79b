"""The tables behind a claim: norms, differences, transfer, and signs of masked gradients."""

from collections.abc import Callable
from math import isnan

import pandas as pd

from tradeoff.core.study import Study
from tradeoff.core.tables import CONTROL, HEADLINE, PROPOSAL
from tradeoff.reporting.estimates import PERCENT, Estimate, Scale, estimate
from tradeoff.reporting.labels import Labels
from tradeoff.reporting.missing import seed_remarks
from tradeoff.reporting.results import ROLES, Results
from tradeoff.reporting.tables import (
    Block,
    Column,
    Group,
    Measure,
    Note,
    Number,
    Remarks,
    Row,
    Table,
    defense_table,
    nth_letter,
)

# l0 counts components; the others are in units of the image range.
NORM_SCALES = {"l0": Scale(1, 1), "l2": Scale(1, 3), "linf": Scale(1, 4)}
# FOSC is in nats and a cosine has no unit; all other flags' numbers are rates.
FLAG_SCALES = {"fosc": Scale(1, 2), "gradient_cosine": Scale(1, 2)}
LOW_IS_SUSPICIOUS = {"gradient_cosine"}  # all other flags are raised by large numbers


def average_norm(norm: str, results: Results, labels: Labels, named: bool = False) -> Measure:
    """APN over the images that are wrong or were fooled, with the share of the others."""

    def of(defense: str, architecture: str) -> Estimate | None:
        rows = results.average_norms(defense, architecture, norm)
        left_out = estimate(rows["unfooled"])
        return estimate(rows["APN"], left_out.mean if left_out else 0.0)

    key = "metrics.APN_named" if named else "metrics.APN"
    header = labels(key, norm=labels.name("norms", norm))
    return Measure(header, of, True, scale=NORM_SCALES[norm], metric=f"APN_{norm}")


def norm_table(study: Study, results: Results, labels: Labels) -> Table | None:
    """APN in each norm, and the median over fooled images; None if there are no norms."""
    norms = [norm for norm in NORM_SCALES if norm in set(results.norms["norm"])]
    if not norms:
        return None

    def of(column: str, norm: str) -> Callable[[str, str], Estimate | None]:
        return lambda name, arch: estimate(results.average_norms(name, arch, norm)[column])

    groups = [
        (
            labels.name("norms", norm),
            [
                average_norm(norm, results, labels),
                Measure(labels("metrics.APN_fooled_median"), of("APN_fooled_median", norm), None,
                        spread=False, scale=NORM_SCALES[norm]),
            ],
        )
        for norm in norms
    ]  # fmt: skip
    caption = labels("tables.norms", images=norm_images(results, labels))
    remarks = seed_remarks(study, results, labels, "norms")
    return defense_table("norms", caption, groups, remarks, study, results, labels)


def norm_images(results: Results, labels: Labels) -> str:
    """Of how many images there are minimum norms."""
    counts = sorted({int(count) for count in results.norms["images"]})
    return labels.enumerate([str(count) for count in counts]) or "0"


def difference_table(study: Study, results: Results, labels: Labels) -> Table | None:
    """The proposal less each other defense in NA and RA, resolved differences in bold; None if
    nothing is compared."""
    if results.differences.empty:
        return None

    def entries(architecture: str, other: str, metric: str) -> list[Number]:
        one = results.difference(architecture, other, metric)
        if one is None:
            return [Number()] * 3
        return [
            Number(labels.points(one.difference),
                   best=results.resolved(architecture, metric, PROPOSAL, other) is True),
            Number(f"[{labels.points(one.low)}; {labels.points(one.high)}]"),
            Number() if isnan(one.detectable) else Number(labels.percent(one.detectable)),
        ]  # fmt: skip

    blocks: list[Block] = []
    notes: list[Note] = []
    for architecture in study.axes.architectures:
        rows = []
        for other in study.axes.defenses:
            if other == PROPOSAL:
                continue
            numbers = tuple(n for metric in HEADLINE for n in entries(architecture, other, metric))
            one = results.difference(architecture, other, HEADLINE[0])
            letter = ""
            if one is not None and one.seeds < len(study.axes.seeds):
                letter = nth_letter(len(notes))
                notes.append(Note(letter, labels("notes.shared", there=one.seeds,
                                                 all=len(study.axes.seeds))))  # fmt: skip
            rows.append(Row(labels.name("defenses", other), numbers, letter))
        blocks.append(Block(labels.name("architectures", architecture), tuple(rows)))
    level = labels.number(100 * study.statistics.level)
    columns = tuple(
        Column(labels(f"tables.difference_columns.{key}", level=level), spread=False)
        for key in ("difference", "interval", "detectable")
    )
    caption = labels(
        "tables.differences",
        proposal=labels.name("defenses", PROPOSAL),
        level=level,
        power=labels.number(100 * study.statistics.power),
        alpha=labels.number(100 * study.statistics.alpha),
    )
    groups = tuple(Group(labels(f"metrics.{metric}"), columns) for metric in HEADLINE)
    corner = labels("words.less", proposal=labels.name("defenses", PROPOSAL))
    return Table("differences", caption, corner, groups, tuple(blocks), tuple(notes))


def transfer_table(study: Study, results: Results, labels: Labels) -> Table | None:
    """Mean share of a target's right images that examples of each role fool; None without any."""
    there = set(results.transfer["role"])
    roles = [role for role in ROLES if role in there]
    if not roles:
        return None

    def of(role: str) -> Callable[[str, str], Estimate | None]:
        return lambda name, arch: estimate(results.transferred(name, arch, role))

    measures = [Measure(labels(f"roles.{role}"), of(role), None) for role in roles]
    counts = sorted({int(count) for count in results.transfer["images"]})
    caption = labels("tables.transfer", images=labels.enumerate([str(count) for count in counts]),
                     control=labels.name("defenses", CONTROL))  # fmt: skip
    remarks = seed_remarks(study, results, labels, "transfer")
    return defense_table("transfer", caption, [("", measures)], remarks, study, results, labels)


def masking_table(study: Study, results: Results, labels: Labels) -> Table | None:
    """Flags down, defenses across: how many seeds raise a flag, and the range of its numbers."""
    if results.masking.empty:
        return None
    thresholds = results.masking.drop_duplicates("flag").set_index("flag")["threshold"]
    blocks = []
    for architecture in study.axes.architectures:
        rows = []
        for flag, threshold in thresholds.items():
            header = flag_name(str(flag), labels, _threshold(str(flag), float(threshold), labels))
            numbers = tuple(
                _flag_number(found[found["flag"] == flag], str(flag), labels)
                for found in (results.flags(name, architecture) for name in study.axes.defenses)
            )
            rows.append(Row(header, numbers))
        blocks.append(Block(labels.name("architectures", architecture), tuple(rows)))
    columns = tuple(
        Column(labels.name("defenses", name), spread=False) for name in study.axes.defenses
    )
    return Table(
        "masking", labels("tables.masking"), labels("words.flag"), (Group("", columns),),
        tuple(blocks), (),
    )  # fmt: skip


def flag_lines(results: Results, labels: Labels) -> list[str]:
    """What each flag that was measured is, with its threshold and unit."""
    thresholds = results.masking.drop_duplicates("flag").set_index("flag")["threshold"]
    large = labels(f"flags.large_epsilon_accuracy.large_{results.dataset.threat.norm}")
    return [
        labels("masking.what", name=flag_name(str(flag), labels),
               what=labels(f"flags.{flag}.what", large=large,
                           threshold=_threshold(str(flag), float(threshold), labels)))
        for flag, threshold in thresholds.items() if f"flags.{flag}.what" in labels.texts
    ]  # fmt: skip


def _threshold(flag: str, threshold: float, labels: Labels) -> str:
    """ "10 %", or a number without a sign if the flag's are no rates."""
    if flag in FLAG_SCALES:
        return labels.number(threshold)
    number = labels.number(float(f"{100 * threshold:.4g}"))
    return labels("sentences.value", number=number)


def _flag_number(rows: pd.DataFrame, flag: str, labels: Labels) -> Number:
    """ "2/3" of the seeds that could be measured, and the range of their numbers."""
    rows = rows[rows["raised"].notna()]
    if rows.empty:
        return Number()
    raised = int((rows["raised"] == "True").sum())
    scale = FLAG_SCALES.get(flag, PERCENT)
    ends = [labels.printed(end, scale) for end in (rows["number"].min(), rows["number"].max())]
    extra = ends[0] if ends[0] == ends[1] else f"[{ends[0]}; {ends[1]}]"
    return Number(f"{raised}/{len(rows)}", best=raised > 0, extra=extra)


def flag_name(flag: str, labels: Labels, threshold: str = "") -> str:
    """What to call a flag, with the threshold beyond which it is raised."""
    name = labels.name("flags", f"{flag}.name")
    name = flag if name == f"{flag}.name" else name
    sign = "<" if flag in LOW_IS_SUSPICIOUS else ">"
    return f"{name} {sign} {threshold}" if threshold else name


def raised_flags(defense: str, architecture: str, results: Results) -> dict[str, tuple[int, int]]:
    """The flags that any seed raises: how many raise it, of how many that could be measured."""
    rows = results.flags(defense, architecture)
    rows = rows[rows["raised"].notna()]
    found = {}
    for flag, raised in rows.groupby("flag", sort=False)["raised"]:
        count = int((raised == "True").sum())
        if count:
            found[str(flag)] = (count, len(raised))
    return found


def flag_remarks(study: Study, results: Results, labels: Labels) -> Remarks:
    """For each (defense, architecture) of which a seed raises a flag: which, and how many."""
    remarks = {}
    for architecture in study.axes.architectures:
        for defense in study.axes.defenses:
            found = raised_flags(defense, architecture, results)
            if found:
                flags = [
                    labels("notes.flag", name=flag_name(flag, labels), count=count, all=seeds)
                    for flag, (count, seeds) in found.items()
                ]
                text = labels(
                    "notes.flags",
                    defense=labels.name("defenses", defense),
                    architecture=labels.name("architectures", architecture),
                    flags="; ".join(flags),
                )
                remarks[defense, architecture] = [text]
    return remarks

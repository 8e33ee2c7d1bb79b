"""The study's answer, by rules: is the proposal better, and is it its adapting that helps?

Adapting is judged by rows that differ from the proposal in one thing, that their weight does not
depend on the image: the roles `study.controls_of_proposal`.
"""

from math import isnan
from typing import Literal

import pandas as pd

from tradeoff.reporting.view import View

# Less than these 2 points of RA is no help worth a method, whatever a test with more seeds says.
RELEVANT = 0.02

Verdict = Literal["helps", "does_not", "open"]


def answer(view: View) -> list[str]:
    """The verdict on adapting first, then how far the proposal's RA is from the baseline's, and
    which differences such seeds and images would not show."""
    if view.proposal is None:
        return [view("differences.no_proposal", proposal=view.proposal_name)]
    return [text for text in (_conclusion(view), _against(view), unseen(view)) if text]


def adapting(view: View) -> list[str]:
    """For each network and control the difference in RA with its test; nothing without controls."""
    return [
        view("adapting.compared", architecture=view.network(architecture),
             proposal=view.proposal_name, control=view.name(control),
             difference=view.labels.points(row["difference"]),
             low=view.labels.points(row["low"]), high=view.labels.points(row["high"]),
             seeds=view.labels.seeds(int(row["seeds"])), images=int(row["images"]),
             detectable=_detectable(view, [row]),
             verdict=_verdict_text(view, _verdict(view, row), [row]))
        for architecture, control, row in _compared(view)
    ]  # fmt: skip


def unseen(view: View) -> str:
    """The smallest differences in RA from the proposal that so many seeds and images detect."""
    table, seeds = view.results.detectable, view.labels.seeds(len(view.seeds))
    tested = table[(table["metric"] == "RA") & table["detectable"].notna()]
    pairs = tested[tested[["one", "other"]].isin([view.proposal]).any(axis=1)]["detectable"]
    if pairs.empty:
        return view("limits.seeds", seeds=seeds)
    low, high = view.labels.percent(pairs.min()), view.labels.percent(pairs.max())
    points = view("limits.from" if low == high else "limits.from_to", low=low, high=high)
    return view("limits.seeds_detectable", seeds=seeds, proposal=view.proposal_name, points=points)


def _against(view: View) -> str:
    """How far the proposal is from the baseline in RA on each network, and whether that is
    resolved."""
    parts = []
    for architecture in view.architectures if view.baseline else ():
        row = view.results.difference(architecture, str(view.baseline), "RA")
        if row is not None:
            pair = str(view.proposal), str(view.baseline)
            status = view.results.status(architecture, "RA", *pair)
            parts.append(view(f"answer.{status}", architecture=view.network(architecture),
                              points=view.labels.points(row["difference"])))  # fmt: skip
    if not parts:
        return view("answer.no_baseline", proposal=view.proposal_name)
    return view("answer.against", proposal=view.proposal_name,
                baseline=view.name(str(view.baseline)),
                parts=view.labels.enumerate(parts))  # fmt: skip


def _conclusion(view: View) -> str:
    """What all comparisons with the controls say together: one that says another thing leaves the
    question open."""
    rows = [row for _, _, row in _compared(view)]
    if not rows:
        return view("adapting.untested", proposal=view.proposal_name)
    verdicts = {_verdict(view, row) for row in rows}
    return _verdict_text(view, verdicts.pop() if len(verdicts) == 1 else "open", rows)


def _compared(view: View) -> list[tuple[str, str, pd.Series]]:
    """Network, control and row of differences in RA, of each control that is a tested row."""
    comparisons = [
        (architecture, control, view.results.difference(architecture, control, "RA"))
        for architecture in view.architectures
        for control in view.controls_of_proposal
    ]
    return [(place, control, row) for place, control, row in comparisons
            if row is not None and not isnan(row["detectable"])]  # fmt: skip


def _verdict(view: View, row: pd.Series) -> Verdict:
    """Adapting helps where the proposal's RA is higher and that is resolved; it does not where the
    RA is lower and that is resolved, or where the interval has no relevant difference in it."""
    resolved = view.results.resolved(row["architecture"], "RA", str(view.proposal), row["other"])
    if resolved:
        return "helps" if row["difference"] > 0 else "does_not"
    return "does_not" if row["high"] < RELEVANT else "open"


def _verdict_text(view: View, verdict: Verdict, rows: list[pd.Series]) -> str:
    return view(f"adapting.{verdict}", detectable=_detectable(view, rows),
                relevant=view.labels.percent(RELEVANT))  # fmt: skip


def _detectable(view: View, rows: list[pd.Series]) -> str:
    return view.labels.percent(max(row["detectable"] for row in rows))

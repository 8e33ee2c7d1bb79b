"""A data set's results as one language tells them: what every table, figure and sentence takes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from tradeoff.core.study import Cell, Study
from tradeoff.core.tables import ENSEMBLE, EXTRACTION
from tradeoff.reporting.estimates import Estimate, estimate_of
from tradeoff.reporting.labels import Labels
from tradeoff.reporting.results import Results
from tradeoff.reporting.style import Look, looks
from tradeoff.reporting.tellings import load_tellings

Place = tuple[str, str]
"""(architecture, defense)"""


@dataclass(frozen=True)
class View:
    study: Study
    results: Results
    labels: Labels

    def __call__(self, key: str, **values: object) -> str:
        """A text of the language."""
        return self.labels(key, **values)

    @property
    def defenses(self) -> list[str]:
        return self.study.axes.defenses

    @cached_property
    def architectures(self) -> list[str]:
        """The networks of which a cell is evaluated; all where none is."""
        return self._begun("architecture", self.study.axes.architectures)

    @cached_property
    def seeds(self) -> list[int]:
        """The seeds of which a cell is evaluated; all where none is."""
        return self._begun("seed", self.study.axes.seeds)

    def _begun(self, column: str, axis: list[Any]) -> list[Any]:
        there = set(self.results.cells[column])
        return [value for value in axis if value in there] or axis

    @cached_property
    def expected(self) -> list[Cell]:
        """The study's cells of these networks and seeds, which all tables and figures are of."""
        return [cell for cell in self.results.expected
                if cell.architecture in self.architectures and cell.seed in self.seeds]  # fmt: skip

    @property
    def proposal(self) -> str | None:
        """The defense that all others are compared with; None if the study has none."""
        return self._row(self.study.axes.proposal)

    @property
    def baseline(self) -> str | None:
        """The defense with the proposal's objective and one weight for all images, if any."""
        return self._row(self.study.axes.baseline)

    @property
    def control(self) -> str | None:
        """What is trained without any defense, if the study has it."""
        return self._row(self.study.axes.control)

    @property
    def controls_of_proposal(self) -> list[str]:
        """Rows that differ from the proposal in that their weight does not depend on the image."""
        return [name for name in self.study.axes.controls_of_proposal if self._row(name)]

    def _row(self, role: str | None) -> str | None:
        return role if role in self.defenses else None

    def name(self, defense: str) -> str:
        """What a defense, an ensemble of surrogates or a substitute is called."""
        if defense in (ENSEMBLE, EXTRACTION):
            return self(f"roles.{defense}")
        return self.labels.name("defenses", defense)

    @property
    def proposal_name(self) -> str:
        """The name of the study's proposal, also where it is no row."""
        role = self.study.axes.proposal
        return self("words.proposal") if role is None else self.name(role)

    @property
    def control_name(self) -> str:
        role = self.study.axes.control
        return self("words.control") if role is None else self.name(role)

    def network(self, architecture: str) -> str:
        return self.labels.name("architectures", architecture)

    def detector(self, place: Place) -> str:
        """What the defense of a place is called, with its network where there are several."""
        architecture, defense = place
        several = len(self.architectures) > 1
        return self.name(defense) + (f", {self.network(architecture)}" if several else "")

    def places(self) -> Iterator[Place]:
        """Every (architecture, defense), in the order of the tables."""
        for architecture in self.architectures:
            for defense in self.defenses:
                yield architecture, defense

    def cells(self, place: Place) -> list[Cell]:
        """The expected cells of a place, in the order of their seeds."""
        return [cell for cell in self.expected if (cell.architecture, cell.defense) == place]

    def histories(self, place: Place) -> list[pd.DataFrame]:
        """The training histories of a place, one for each seed that has one."""
        histories = self.results.histories
        return [histories[cell.key] for cell in self.cells(place) if cell.key in histories]

    @cached_property
    def looks(self) -> dict[str, Look]:
        tellings = load_tellings()
        families = {name: tellings[name].family or name if name in tellings else name
                    for name in self.defenses}  # fmt: skip
        return looks(families, self.control)

    def means(self, metric: str) -> dict[Place, Estimate]:
        """The means of a column of the table of cells."""
        return means(self.results.metric(metric))

    def with_seed_count(self, estimate: Estimate) -> str:
        """ "85.3 ± 0.4 %", and if it rests on fewer seeds than the study has, on how many."""
        return self.labels.estimate(estimate) + self.seed_count(estimate.seeds)

    def seed_count(self, count: int) -> str:
        """ "; 2 of 3 seeds" behind a value; empty if it rests on all of them."""
        if count >= len(self.seeds):
            return ""
        return self("sentences.of_seeds", there=count, all=self.labels.seeds(len(self.seeds)))

    def per_architecture(self, subject: str, values: Mapping[Place, Mapping[str, object]]) -> str:
        """The text in place of a figure: what it is, then by architecture the defenses' values.

        Args:
            values: of each place what the text alt_value is filled in with beside the defense.
        """
        parts = [self(f"figures.{subject}.alt")]
        for architecture in self.architectures:
            items = [
                self(f"figures.{subject}.alt_value", defense=self.name(defense),
                     **values[architecture, defense])
                for defense in self.defenses if (architecture, defense) in values
            ]  # fmt: skip
            parts.append(
                self(f"figures.{subject}.alt_part", architecture=self.network(architecture),
                     values="; ".join(items) or self("words.nothing"))
            )  # fmt: skip
        return " ".join(parts)


def means(values: pd.Series, left_out: pd.Series | None = None) -> dict[Place, Estimate]:
    """Means over the seeds of numbers that are indexed by architecture, defense and more.

    Args:
        left_out: likewise, the shares of the images that the numbers are not of.
    """
    shares = {} if left_out is None else means(left_out)
    found: dict[Place, Estimate] = {}
    groups: Any = values.groupby(level=["architecture", "defense"], sort=False)
    for place, numbers in groups:
        share = shares[place].mean if place in shares else 0.0
        estimate = estimate_of(numbers, share)
        if estimate is not None:
            found[place] = estimate
    return found

"""What the first page and the chapter tell of the studies beside the table.

Scripts in the folder `studies` run these; what is to be told of each is in plots/beside/NAME.json.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tradeoff.core.files import write_json
from tradeoff.core.study import Study
from tradeoff.reporting.answer import adapting
from tradeoff.reporting.labels import load_labels
from tradeoff.reporting.results import read_results
from tradeoff.reporting.view import View

FOLDER = Path("plots", "beside")


@dataclass(frozen=True)
class Beside:
    """A study beside the table.

    Attributes:
        name: of the folder in reports/ that has its pages.
        said: by language, what it says of whether adapting helps, if it asks nothing else.
    """

    name: str
    dataset: str
    said: Mapping[str, Sequence[str]]


def sum_up(name: str, dataset: str, folder: Path) -> Beside:
    """Read the results of a study that ran in a folder of its own, and say what they answer.

    Raises:
        BadResults: as `read_results`.
    """
    study = Study.load(folder / "params.yaml")
    results = read_results(study, dataset, folder)
    axes, said = study.axes, dict[str, list[str]]()
    asks_this_alone = set(axes.defenses) == {axes.proposal, *axes.controls_of_proposal}
    for language in study.report.languages:
        labels = load_labels(language, folder / "report_templates")
        said[language] = adapting(View(study, results, labels)) if asks_this_alone else []
    return Beside(name, dataset, said)


def write_beside(told: Beside, root: Path = Path()) -> None:
    """Write plots/beside/NAME.json in the repository at `root`."""
    write_json(asdict(told), root / FOLDER / f"{told.name}.json")


def read_beside(root: Path = Path()) -> list[Beside]:
    """All of them, by name."""
    files = sorted((root / FOLDER).glob("*.json"))
    return [Beside(**json.loads(file.read_text("utf-8"))) for file in files]

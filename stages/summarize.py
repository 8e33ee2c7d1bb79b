"""Turn the ledgers of a data set's cells into tables: plots/{cells,attacks}/ and means."""

import _environment

from tradeoff.evaluation.ledger import load_ledger
from tradeoff.evaluation.summary import attack_table, cell_table, means, write_table
from tradeoff.files import write_json
from tradeoff.study import Study

SUITE = "bounded"


def main(dataset: str) -> None:
    study = Study.load()
    chosen = study.dataset(dataset)
    cells = study.cells(dataset)
    print(f"[summarize] {dataset}: {len(cells)} cells", flush=True)
    ledgers = [(cell, load_ledger(cell.ledger(SUITE), cell.key, SUITE)) for cell in cells]
    table = cell_table(ledgers)
    write_table(table, chosen.cells_table)
    write_table(attack_table(ledgers), chosen.attacks_table)
    write_json(means(table), chosen.summary)


if __name__ == "__main__":
    _environment.run(main, __doc__, dataset="a data set of params.yaml, such as digits")

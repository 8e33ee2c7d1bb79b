"""Fetch, verify and split a data set: data/DATASET.safetensors."""

import importlib
from pathlib import Path

import _environment

from tradeoff.core.study import Study
from tradeoff.datasets.prepared import save_prepared, split

DOWNLOADS = Path("data", "raw")


def main(dataset: str) -> None:
    chosen = Study.load().dataset(dataset)
    print(f"[prepare] {dataset}: reading", flush=True)
    module = importlib.import_module(f"tradeoff.datasets.{chosen.source.module}")
    knobs = chosen.source.knobs
    source = module.read(DOWNLOADS) if knobs is None else module.read(chosen.own, knobs)
    prepared = split(dataset, source, **chosen.split.model_dump())
    save_prepared(prepared, chosen.prepared)
    print(
        f"[prepare] {dataset}: {len(prepared.train)} images for training, "
        f"{len(prepared.validation)} for validation, {len(prepared.test)} for the test",
        flush=True,
    )


if __name__ == "__main__":
    _environment.run(main, __doc__, dataset="a data set of params.yaml, such as digits")

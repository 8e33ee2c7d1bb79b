"""What everybody must install is light, but for the libraries that the study is built on."""

import tomllib
from importlib.metadata import distribution, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
BUILT_ON = {
    "torch", "torchvision", "dvc", "numpy", "pandas", "matplotlib", "scipy", "scikit-learn"
}  # fmt: skip
LARGEST = 20e6  # bytes

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OTHERS = sorted({Requirement(line).name for line in PROJECT["dependencies"]} - BUILT_ON)


def with_needs(name: str, found: set[str]) -> set[str]:
    """A distribution and all that it needs, added to `found`."""
    name = name.lower().replace("_", "-")
    if name not in found:
        found.add(name)
        for line in requires(name) or ():
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                with_needs(needed.name, found)
    return found


@pytest.mark.parametrize("name", OTHERS)
def test_a_dependency_is_light_with_all_that_comes_with_it(name: str) -> None:
    there: set[str] = set()
    for library in BUILT_ON:
        with_needs(library, there)
    more = with_needs(name, set()) - there
    sizes = {
        other: sum(file.size or 0 for file in distribution(other).files or ()) for other in more
    }
    assert sum(sizes.values()) < LARGEST, sizes

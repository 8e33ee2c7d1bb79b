"""What is listed of the code that a stage runs, and what its hashes know."""

import ast
import io
import shutil
import tokenize
from collections.abc import Iterator
from functools import partial
from itertools import takewhile
from operator import ne
from pathlib import Path

import pytest

from tradeoff.core import code
from tradeoff.core.plugins import PACKAGE
from tradeoff.core.study import Study

ROOT = Path(__file__).resolve().parents[2]
LAYOUT = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENDMARKER,
}  # fmt: skip

SOURCE = '''"""A module."""

import torch  # not numpy


def area(radius: float) -> float:
    """Of a circle.

    Not of a disk.
    """
    # by pi
    text = """
not a docstring # nor a comment

"""
    return 3.14 * radius**2, text, "#", 'it\\'s "#"'
'''
BARE = '''import torch
def area(radius: float) -> float:
    text = """
not a docstring # nor a comment

"""
    return 3.14 * radius**2, text, "#", 'it\\'s "#"\''''


def bare(text: str) -> str:
    return code.bare(text, ast.walk(ast.parse(text)))


def test_docstrings_comments_and_blank_lines_are_no_code() -> None:
    assert bare(SOURCE) == BARE
    assert bare(bare(SOURCE)) == BARE


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("3.14", "3.15"),
        ("not a docstring # nor", "not a docstring # or"),
        ("comment\n\n", "comment\n"),  # a line of a string
        ('"#"', '"# "'),
        ("    return", "  \n    return 1\n    return"),
        ("import torch", "import numpy"),
    ],
)
def test_everything_else_is_code(before: str, after: str) -> None:
    assert bare(SOURCE.replace(before, after)) != BARE


def test_a_docstring_beside_code_hides_none_of_it() -> None:
    assert bare('def f(): "text"; return 1') != bare('def f(): "text"; return 2')
    assert bare('"""text"""; x = 1') != bare('"""text"""; x = 2')


def test_of_no_file_anything_but_docstrings_and_comments_is_left_out() -> None:
    """By the tokens of Python's own tokenizer."""
    for path in sorted(PACKAGE.rglob("*.py")):
        before, after = path.read_text(), bare(path.read_text())
        assert not any(token.type == tokenize.COMMENT for token in tokens(after)), path
        left, kept = iter(code_tokens(before)), code_tokens(after)
        out = [other for string in kept for other in takewhile(partial(ne, string), left)] + [*left]
        assert all(string.startswith(('"""', 'r"""')) for string in out), path
        assert len(kept) + len(out) == len(code_tokens(before)), path


def tokens(text: str) -> Iterator[tokenize.TokenInfo]:
    return tokenize.generate_tokens(io.StringIO(text).readline)


def code_tokens(text: str) -> list[str]:
    return [token.string for token in tokens(text) if token.type not in LAYOUT]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of what is code."""
    for name in ("src", "stages"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    return tmp_path


STUDY = Study.load(ROOT / "params.yaml")


def listed(use: str, root: Path = ROOT) -> list[str]:
    text = code.texts(root, STUDY)[code.FOLDER / use]
    return [line.split()[0].removeprefix("src/tradeoff/") for line in text.splitlines()]


def test_the_folder_in_git_is_that_of_the_code() -> None:
    wanted = {str(path): text for path, text in code.texts(ROOT, STUDY).items()}
    there = {
        path.relative_to(ROOT).as_posix(): path.read_text()
        for path in (ROOT / code.FOLDER).rglob("*")
        if path.is_file()
    }
    stale = sorted(path for path in {*wanted, *there} if wanted.get(path) != there.get(path))
    assert not stale, "run `dvc repro code` and commit what it changes"


def test_training_depends_on_what_makes_the_weights_and_on_nothing_else() -> None:
    assert listed("train/dtrades") == [
        # its inner attack
        "attacks/outcome.py",
        "attacks/pgd.py",
        # of which a hash is in the model
        "classifiers/plain.py",
        # what it reads
        "datasets/prepared.py",
        "datasets/published.py",
        # its objective, which is TRADES's with other weights
        "defenses/dtrades.py",
        "defenses/trades.py",
        # a network, its input and its arithmetic
        "networks/arithmetic.py",
        "networks/ascent.py",
        "networks/cpu_kernels.py",
        "networks/device.py",
        "networks/elementary.py",
        "networks/folding.py",
        "networks/layouts.py",
        "networks/losses.py",
        "networks/models.py",
        "networks/passes.py",
        "networks/preprocess.py",
        "networks/provenance.py",
        "networks/randomness.py",
        "networks/threat.py",
        # the loop
        "training/acceleration.py",
        "training/augment.py",
        "training/averaging.py",
        "training/checkpoint.py",
        "training/contract.py",
        "training/history.py",
        "training/loop.py",
        "training/perturbation.py",
        "training/plan.py",
        "training/pretrained.py",
        "training/run.py",
        "training/schedules.py",
        "training/validation.py",
        "stages/train.py",
    ]
    assert listed("archs/resnet18") == ["archs/resnet18.py", "networks/preprocess.py"]


def test_a_suite_depends_on_its_attacks_and_on_no_defense() -> None:
    minimal = listed("attack/minimal")
    assert [path for path in minimal if path.startswith("attacks/")] == [
        # those of params.yaml
        "attacks/carlini_wagner.py",
        "attacks/ddn.py",
        "attacks/deepfool.py",
        # what two of them share, and how a classifier that rejects is evaded
        "attacks/evading.py",
        "attacks/fmn.py",
        "attacks/jsma.py",
        "attacks/lbfgs.py",
        "attacks/nearest.py",
        "attacks/outcome.py",
        "attacks/pgd.py",
        "attacks/sigma_zero.py",
        # who runs them and writes the ledger
        "attacks/suites/asking.py",
        "attacks/suites/gradients.py",
        "attacks/suites/kept.py",
        "attacks/suites/ledger.py",
        "attacks/suites/run.py",
        "attacks/superdeepfool.py",
    ]
    folders = {path.partition("/")[0] for path in minimal}
    assert folders == {"attacks", "datasets", "networks", "stages"}


def test_what_a_module_reads_beside_code_is_listed() -> None:
    of_no_stage = {
        "evaluation/params.yaml": "evaluation/anymodel.py",
        "reporting/evaluation.html.j2": "reporting/page.py",
        "reporting/style.css.j2": "reporting/page.py",
    }
    beside = {path for path in PACKAGE.rglob("*.*") if path.suffix not in (".py", ".pyc")}
    told = {path for pattern in code.READS.values() for path in PACKAGE.glob(pattern)}
    assert {path.relative_to(PACKAGE).as_posix() for path in beside - told} == {*of_no_stage}
    for use in code.texts(ROOT, STUDY):
        files = listed(use.relative_to(code.FOLDER).as_posix())
        assert not set(of_no_stage.values()) & {*files}
        assert ("defenses/trades.yaml" in files) == (use.name in ("report", "chapter", "index"))


def test_a_module_imported_by_an_unknown_name_is_told(copy: Path) -> None:
    run = copy / "src" / "tradeoff" / "training" / "run.py"
    run.write_text(
        'import importlib\nname = ""\nimportlib.import_module(f"tradeoff.attacks.{name}")\n'
    )
    says = "train: core/code.py does not tell which of attacks tradeoff.training.run takes"
    with pytest.raises(code.BadCode, match=f"^{says}$"):
        listed("train/at", copy)


def test_the_folder_is_written_where_it_differs(copy: Path) -> None:
    files = code.texts(copy, STUDY)
    assert code.write(copy, files) == sorted(files)
    left = copy / "code" / "train" / "gone"
    left.write_text("")
    same = copy / "code" / "train" / "at"
    before = same.stat().st_mtime_ns
    (copy / "src" / "tradeoff" / "defenses" / "mart.py").open("a").write("\nCHANGED = True\n")
    changed = code.write(copy, code.texts(copy, STUDY))
    assert changed == [Path("code/train/gone"), Path("code/train/mart")]
    assert not left.exists() and same.stat().st_mtime_ns == before


def test_no_import_is_relative() -> None:
    """They would not be followed."""
    for path in (*PACKAGE.rglob("*.py"), *(ROOT / "stages").glob("*.py")):
        assert "\nfrom ." not in path.read_text(), path

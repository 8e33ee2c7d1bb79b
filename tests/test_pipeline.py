"""dvc.yaml: a change reruns the cells it touches and no others.

The pipeline is the real one; its stage scripts are replaced by stubs that write something new
whenever they run, so that what runs, or would, is what DVC holds to be stale.
"""

import ast
import contextlib
import re
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from tests.stubs import OUTPUTS, replace_stages
from tradeoff.cluster.pipeline import Pipeline
from tradeoff.core import code
from tradeoff.core.plugins import constant, module_names
from tradeoff.core.study import Study

ROOT = Path(__file__).resolve().parents[1]

STUB = f"""
import sys, uuid
from pathlib import Path
{OUTPUTS}
for out in map(Path, outputs(Path(sys.argv[0]).stem, sys.argv[1:])):
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text('{{"value": "%s"}}' % uuid.uuid4())
"""

STAGES = sorted(path.stem for path in (ROOT / "stages").glob("[!_]*.py"))
LISTS = Study.load(ROOT / "params.yaml").axes.trained

# Two rows that stand on nothing, and one of each kind that stands on other models; of the bases
# only `standard` is a row, and two rows stand on `at`.
SMALL = {
    "defenses": ["standard", "trades", "faal", "mixing", "smoothing"],
    "architectures": ["resnet18"],
    "datasets": ["digits"],
    "seeds": [0],
    "trained": {name: [] for name in LISTS}
    | {
        "alone": ["standard", "at", "trades", "mart", "gaussian"],
        "on_robust": ["faal"],
        "on_noisy": ["smoothing"],
        "on_natural_and_robust": ["mixing"],
    },
    "certified": ["smoothing"],
}
BLOCKS = {"faal": "_on_robust", "smoothing": "_on_noisy", "mixing": "_on_natural_and_robust"}


class Toy:
    """A copy of the repository with stub stages, a small matrix and everything done once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = ["dvc.yaml", "params.yaml", ".dvcignore", ".gitignore"]
        for name in names:
            shutil.copy(ROOT / name, folder / name)
        for name in ("src", "stages", "report_templates"):
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        replace_stages(folder / "stages", lambda stage: STUB)
        (folder / ".dvc").mkdir()
        (folder / "data" / "own").mkdir(parents=True)
        (folder / ".dvc" / "config").write_text(
            "[core]\n    analytics = false\n    no_scm = true\n"
        )
        self.change(lambda params: params["study"].update(SMALL))
        self.reproduce("report@digits")

    def change(self, edit: Callable[[dict], object]) -> None:  # type: ignore[type-arg]
        """Edit params.yaml in place."""
        yaml = YAML()
        path = self.folder / "params.yaml"
        params = yaml.load(path.read_text())
        edit(params)
        with path.open("w") as file:
            yaml.dump(params, file)

    def touch(self, name: str) -> None:
        """Change a file: of Python the code, though not what it does."""
        with (self.folder / name).open("a") as file:
            file.write("\nCHANGED = True\n" if name.endswith(".py") else "\n# changed\n")

    def reproduce(self, *targets: str) -> set[str]:
        """The names of the stages that ran, but for `code`, which takes a second."""
        with contextlib.chdir(self.folder), Repo() as repo:
            return {stage.addressing for stage in repo.reproduce(list(targets))} - {"code"}

    def stale(self, *targets: str) -> set[str]:
        """The names of the stages that would run. What stands on one of them would too: a stub
        writes something new whenever it runs."""
        with (
            contextlib.chdir(self.folder),
            contextlib.closing(Pipeline(self.folder, Study.load(), targets, print)) as pipeline,
        ):
            return set(pipeline.stale())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return Toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def toy(finished: Toy, tmp_path: Path) -> Toy:
    copy = Toy.__new__(Toy)
    copy.folder = tmp_path / "toy"
    shutil.copytree(finished.folder, copy.folder, symlinks=True)
    return copy


def cells(*defenses: str, dataset: str = "digits", seeds: tuple[int, ...] = (0,)) -> set[str]:
    """The train and attack stages of these rows."""
    keys = [f"{defense}-resnet18-{dataset}-{seed}" for defense in defenses for seed in seeds]
    suites = YAML(typ="safe").load((ROOT / "params.yaml").read_text())["study"]["suites"]
    certified = {f"certify@{key}" for key in keys if key.startswith("smoothing")}
    attacked = {f"attack@{key}-{suite}" for key in keys for suite in suites}
    return models(*defenses, dataset=dataset, seeds=seeds) | attacked | certified


def models(*defenses: str, dataset: str = "digits", seeds: tuple[int, ...] = (0,)) -> set[str]:
    """The train stages of these defenses."""
    return {
        f"train{BLOCKS.get(defense, '')}@{defense}-resnet18-{dataset}-{seed}"
        for defense in defenses
        for seed in seeds
    }


ROWS = tuple(SMALL["defenses"])
BASES = ("at", "gaussian")  # that are no rows


SUMMARY = {"transfer@digits", "examples@digits", "summarize@digits", "report@digits"}


def test_nothing_runs_when_nothing_changed(toy: Toy) -> None:
    assert toy.stale("report@digits") == set()


def test_a_knob_reruns_its_defense_only(toy: Toy) -> None:
    toy.change(lambda params: params["trades"].update(beta=0.5))
    assert toy.reproduce("report@digits") == cells("trades") | SUMMARY


def test_what_stands_on_a_model_reruns_with_it_and_nothing_else_does(toy: Toy) -> None:
    toy.touch("src/tradeoff/defenses/standard.py")
    assert toy.stale("report@digits") == cells("standard", "mixing") | SUMMARY


def test_a_base_is_trained_once_and_attacked_only_as_a_row(toy: Toy) -> None:
    toy.touch("src/tradeoff/defenses/gaussian.py")
    assert toy.stale("report@digits") == models("gaussian") | cells("smoothing") | SUMMARY
    toy.change(lambda params: params["train"].update(epochs=7))
    assert toy.stale("report@digits") == models(*BASES) | cells(*ROWS) | SUMMARY


def test_a_classifiers_knob_retrains_nothing(toy: Toy) -> None:
    toy.change(lambda params: params["mixing"]["classifier"].update(alpha=0.7))
    assert toy.stale("report@digits") == cells("mixing") | SUMMARY


def test_a_certificates_budget_certifies_anew_and_attacks_nothing(toy: Toy) -> None:
    toy.change(lambda params: params["certificates"]["smoothing"].update(samples=50))
    expected = {"certify@smoothing-resnet18-digits-0"} | SUMMARY
    assert toy.stale("report@digits") == expected


def test_a_list_of_defenses_pulls_the_foundations_that_it_needs_and_no_others(toy: Toy) -> None:
    """`mart` is trained by nobody's wish: it is listed, and no row needs it."""
    shutil.rmtree(toy.folder / "models")
    (toy.folder / "dvc.lock").unlink()
    toy.change(lambda params: params["study"].update(defenses=["faal"], certified=[]))
    ran = toy.stale("report@digits")
    assert {name for name in ran if name.startswith("train")} == models("at", "faal")


def test_a_new_seed_runs_the_new_cells_only(toy: Toy) -> None:
    toy.change(lambda params: params["study"].update(seeds=[0, 2]))
    new = models(*BASES, seeds=(2,)) | cells(*ROWS, seeds=(2,))
    assert toy.stale("report@digits") == new | SUMMARY


def test_a_dropped_defense_reruns_no_cell(toy: Toy) -> None:
    toy.change(lambda params: params["study"].update(defenses=["trades"], certified=[]))
    assert toy.stale("report@digits") == SUMMARY


def test_a_data_sets_epsilon_reruns_its_cells(toy: Toy) -> None:
    toy.change(lambda params: params["datasets"]["mnist"]["threat"].update(epsilon=0.2))
    assert toy.stale("report@digits") == {"report@digits"}  # it prints all params
    toy.change(lambda params: params["datasets"]["digits"]["threat"].update(epsilon=0.2))
    assert toy.stale("report@digits") == models(*BASES) | cells(*ROWS) | SUMMARY


def test_a_width_reruns_the_cells_of_its_architecture(toy: Toy) -> None:
    """Training by the parameter, attacks by the new model."""
    toy.change(lambda params: params["datasets"]["digits"]["models"]["resnet18"].update(width=0.5))
    assert toy.stale("report@digits") == models(*BASES) | cells(*ROWS) | SUMMARY


def test_a_defenses_source_reruns_its_cells_only(toy: Toy) -> None:
    toy.touch("src/tradeoff/defenses/faal.py")
    assert toy.stale("report@digits") == cells("faal") | SUMMARY


def test_a_defenses_source_reruns_what_imports_it(toy: Toy) -> None:
    toy.touch("src/tradeoff/defenses/trades.py")
    assert toy.stale("report@digits") == cells("trades") | SUMMARY
    toy.touch("src/tradeoff/defenses/at.py")  # of which FAAL has its first network
    assert toy.stale("report@digits") == models("at") | cells("trades", "faal", "mixing") | SUMMARY


def test_the_inner_attacks_source_reruns_all_training_and_all_attacks(toy: Toy) -> None:
    toy.touch("src/tradeoff/attacks/pgd.py")
    assert toy.stale("report@digits") == models(*BASES) | cells(*ROWS) | SUMMARY


def test_an_attacks_source_reruns_its_suite_only(toy: Toy) -> None:
    toy.touch("src/tradeoff/attacks/fmn.py")
    minimal = {name for name in cells(*ROWS) if name.endswith("-minimal")}
    assert toy.stale("report@digits") == minimal | SUMMARY


def test_new_modules_rerun_nothing(toy: Toy) -> None:
    for folder in ("archs", "attacks", "certificates", "classifiers", "datasets", "defenses"):
        (toy.folder / "src" / "tradeoff" / folder / "mine.py").write_text("HERE = True\n")
    assert toy.stale("report@digits") == set()


DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef


def test_a_corrected_sentence_reruns_nothing(toy: Toy) -> None:
    """In any file: a comment, a docstring, a blank line."""
    scripts = [*(toy.folder / "src").rglob("*.py"), *(toy.folder / "stages").glob("*.py")]
    for path in scripts:
        lines = path.read_text().split("\n")
        nodes = ast.walk(ast.parse(path.read_text()))
        documented = [node for node in nodes if isinstance(node, DOCUMENTED)]
        for node in documented:
            if ast.get_docstring(node):
                first = node.body[0].lineno - 1
                lines[first] = lines[first].replace('"""', '"""Corrected: ', 1)
        path.write_text("\n".join(["# Corrected.", "", *lines]))
    assert toy.stale("report@digits") == set()
    assert toy.reproduce("report@digits") == set()


def test_code_that_is_being_edited_ends_no_run(toy: Toy) -> None:
    said: list[str] = []
    with (
        contextlib.chdir(toy.folder),
        contextlib.closing(Pipeline(toy.folder, Study.load(), [], said.append)) as pipeline,
    ):
        assert "summarize@digits" not in pipeline.stale()
        toy.touch("src/tradeoff/evaluation/summary.py")
        pipeline.watch(["summarize@digits"])
        assert said == ["code: changed: code/summarize"]
        (toy.folder / "src" / "tradeoff" / "evaluation" / "summary.py").write_text("def half(")
        assert pipeline.commit(["summarize@digits"]) == []
        assert "summary.py:1: '(' was never closed" in said[-1]
        with pytest.raises(code.BadCode):
            pipeline.stale()


def test_what_decides_no_numbers_of_cells_trains_and_attacks_nothing(toy: Toy) -> None:
    for name in ("core/schema.py", "core/code.py", "running/estimate.py", "cluster/status.py"):
        toy.touch(f"src/tradeoff/{name}")
    assert toy.stale("report@digits") == set()
    toy.touch("src/tradeoff/reporting/report.py")
    toy.touch("src/tradeoff/defenses/trades.yaml")
    assert toy.stale("report@digits") == {"report@digits"}
    toy.touch("src/tradeoff/evaluation/summary.py")
    assert toy.stale("report@digits") == {"summarize@digits", "report@digits"}


def test_a_template_reruns_the_report_only(toy: Toy) -> None:
    toy.touch("report_templates/report.html.j2")
    assert toy.stale("report@digits") == {"report@digits"}


def test_chapter_and_index_are_built_of_what_is_there(toy: Toy) -> None:
    """By themselves, while the data sets that were not run stay so."""
    toy.change(lambda params: params["study"]["datasets"].append("mnist"))
    alone = {"chapter@es", "chapter@en", "index"}
    with contextlib.chdir(toy.folder), Repo() as repo:
        ran = repo.reproduce(["chapter", "index"], single_item=True)
        assert {stage.addressing for stage in ran} == alone
        assert repo.reproduce(["chapter", "index"], single_item=True) == []
    toy.touch("plots/summary/digits/cells.csv")
    with contextlib.chdir(toy.folder), Repo() as repo:
        ran = repo.reproduce(["chapter", "index"], single_item=True)
        assert {stage.addressing for stage in ran} == alone


def test_a_suite_reruns_its_attacks_and_no_training(toy: Toy) -> None:
    toy.change(lambda params: params["suites"]["bounded"].update(images=100))
    ran = toy.stale("report@digits")
    assert {name for name in ran if name.startswith("attack@")} == {
        name for name in cells(*ROWS) if name.endswith("-bounded")
    }
    assert not any(name.startswith("train@") for name in ran)


def test_a_split_reruns_its_data_set_from_its_preparation_on(toy: Toy) -> None:
    toy.change(lambda params: params["datasets"]["digits"]["split"].update(limit=600))
    everything = {"prepare@digits"} | models(*BASES) | cells(*ROWS) | SUMMARY
    assert toy.stale("report@digits") == everything


def test_a_data_set_concerns_its_own_stages_alone() -> None:
    """Reports apart, which print all of params.yaml and take seconds."""
    datasets = YAML(typ="safe").load((ROOT / "params.yaml").read_text())["study"]["datasets"]
    name = re.compile(rf"\b({'|'.join(datasets)})\b")
    with contextlib.chdir(ROOT), Repo() as repo:
        stages = repo.index.stages
    for stage in stages:
        if not stage.addressing.startswith(("report", "chapter", "index")):
            files = " ".join(str(dep) for dep in [*stage.deps, *stage.outs])
            assert {*name.findall(files)} == {*name.findall(stage.addressing)}, stage.addressing


def test_what_decides_results_does_not_look_at_what_goes_on_around_it() -> None:
    deciding = ("archs", "attacks", "core", "datasets", "defenses", "networks", "training")
    for package in (*deciding, "reporting"):
        for path in (ROOT / "src" / "tradeoff" / package).rglob("*.py"):
            assert "tradeoff.running" not in code.source(path).imports, path


def test_what_a_classifier_imports_is_in_its_models_hash() -> None:
    """But for `networks`, on which all depends, and the attack with which one is calibrated."""
    package = ROOT / "src" / "tradeoff"
    modules = code.find_modules(ROOT)
    named = {"archs": (), "classifiers": ()}
    for name in module_names("classifiers", "build"):
        patterns = constant("classifiers", name, "CODE", ())
        hashed = {file for pattern in patterns for file in package.glob(pattern)}
        reached = code.reached(modules, f"tradeoff.classifiers.{name}", named)
        used = {modules[module] for module in reached}
        known = ("classifiers", "core", "networks", "attacks")
        missing = {
            file
            for file in used - hashed
            if file.stat().st_size and not any(package / folder in file.parents for folder in known)
        }
        assert not missing, name


def test_every_stage_of_the_flow_has_a_script_that_explains_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())
    commands = [stage["cmd"] for stage in flow["stages"].values()]
    assert sorted({*re.findall(r"stages/(\w+)\.py", " ".join(commands))}) == STAGES
    for stage in STAGES:
        script = ROOT / "stages" / f"{stage}.py"
        monkeypatch.setattr(sys, "argv", [str(script), "--help"])
        monkeypatch.syspath_prepend(script.parent)
        with pytest.raises(SystemExit, match=r"^0$"):
            runpy.run_path(str(script), run_name="__main__")
        docstring = ast.get_docstring(ast.parse(script.read_text()))
        printed = " ".join(capsys.readouterr().out.split())
        assert docstring and " ".join(docstring.split()) in printed

"""dvc.yaml: a change reruns the cells it touches and no others, and no dependency is forgotten.

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

from tests.stubs import OUTPUTS
from tradeoff.cluster.pipeline import Pipeline
from tradeoff.core.plugins import constant

ROOT = Path(__file__).resolve().parents[1]

STUB = f"""
import sys, uuid
from pathlib import Path
{OUTPUTS}
for out in map(Path, outputs(Path(sys.argv[0]).stem, sys.argv[1:])):
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text('{{"value": "%s"}}' % uuid.uuid4())
"""

# No dependencies, so that a mended message retrains nothing: what reads params.yaml, whose values
# are dependencies themselves, and what goes on around a stage's work.
NO_DEPENDENCIES = (Path("src/tradeoff/core"), Path("src/tradeoff/running"))

# A classifier's code is a dependency of attacks through the model, which holds a hash of it.
BY_THE_MODEL = Path("src/tradeoff/classifiers")

TELLINGS = Path("src", "tradeoff", "reporting", "tellings.py")
STAGES = sorted(path.stem for path in (ROOT / "stages").glob("[!_]*.py"))

# Two rows that stand on nothing, and one of each kind that stands on other models; of the bases
# only `standard` is a row, and two rows stand on `at`.
SMALL = {
    "defenses": ["standard", "trades", "faal", "mixing", "smoothing"],
    "architectures": ["resnet18"],
    "datasets": ["digits"],
    "seeds": [0],
    "trained": {
        "alone": ["standard", "at", "trades", "mart", "gaussian"],
        "of_dtrades": [],
        "of_tempered": [],
        "of_distillation_on_natural": [],
        "of_distillation_on_teacher_10": [],
        "on_natural": [],
        "on_robust": ["faal"],
        "on_teacher": [],
        "on_noisy": ["smoothing"],
        "on_labeller": [],
        "on_protected": [],
        "on_natural_and_robust": ["mixing"],
        "on_natural_and_noisy": [],
        "on_first": [],
        "on_first_and_second": [],
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
        for script in STAGES:
            (folder / "stages" / f"{script}.py").write_text(STUB)
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
        """Change a source file without changing what it does."""
        with (self.folder / name).open("a") as file:
            file.write("\n# changed\n")

    def reproduce(self, *targets: str) -> set[str]:
        """The names of the stages that ran."""
        with contextlib.chdir(self.folder), Repo() as repo:
            return {stage.addressing for stage in repo.reproduce(list(targets))}

    def stale(self, *targets: str) -> set[str]:
        """The names of the stages that would run. What stands on one of them would too: a stub
        writes something new whenever it runs."""
        with (
            contextlib.chdir(self.folder),
            contextlib.closing(Pipeline(self.folder, targets, print)) as pipeline,
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
    suites = YAML(typ="safe").load((ROOT / "params.yaml").read_text())["suites"]
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


def test_a_roots_source_reruns_all_that_may_import_it(toy: Toy) -> None:
    toy.touch("src/tradeoff/defenses/trades.py")
    assert toy.stale("report@digits") == models(*BASES) | cells(*ROWS) | SUMMARY


CORRECTED = ("core/schema.py", "core/study.py", "core/tables.py", "running/estimate.py",
             "running/interruption.py", "running/failures.py", "running/training_checkpoints.py",
             "reporting/report.py", "cluster/status.py", "evaluation/summary.py")  # fmt: skip


def test_a_corrected_sentence_trains_and_attacks_nothing(toy: Toy) -> None:
    for name in CORRECTED:
        toy.touch(f"src/tradeoff/{name}")
    ran = toy.stale("report@digits")
    assert ran and not any(name.startswith(("train", "attack", "certify")) for name in ran)


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


# --- dependencies ------------------------------------------------------------------------------


def imports(path: Path) -> set[Path]:
    """The package's files that a file imports, anywhere in it; a module imported by an f-string
    stands for every file of its folder that such a name can mean."""
    found: set[Path] = set()
    tree = ast.parse(path.read_text())
    # What a package exports lazily, inside __getattr__, is loaded by those who ask for it only.
    for node in tree.body if path.name == "__init__.py" else ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
            prefix = str(node.values[0].value)
            if prefix.startswith("tradeoff.") and prefix.endswith("."):
                found |= {Path("src", *prefix.rstrip(".").split("."), "*")}
        for name in names:
            folder = Path("src", *name.split("."))
            files = [folder.with_suffix(".py"), folder.parent / "__init__.py"]
            found |= {
                file
                for file in files
                if name.startswith("tradeoff.")
                and (ROOT / file).exists()
                and (ROOT / file).stat().st_size  # an empty __init__.py does nothing
            }
            if name == "_environment":  # finds the package and decides no result itself
                found |= imports(ROOT / "stages" / "_environment.py")
    return found


def closure(start: Path, classifiers: bool = True) -> set[Path]:
    """All files that a stage script may load, itself included; without `classifiers`, none that
    only these import, which their models speak for."""
    reached, waiting = set(), [start]
    while waiting:
        path = waiting.pop()
        if path in reached:
            continue
        reached.add(path)
        if BY_THE_MODEL in path.parents and path.name != "*" and not classifiers:
            continue
        if path.name == "*":
            waiting += [file.relative_to(ROOT) for file in (ROOT / path.parent).glob("[!_]*.py")]
        else:
            waiting += imports(ROOT / path)
    return {path for path in reached if path.name != "*"}


def dependencies(stage: str) -> list[str]:
    """A stage's file dependencies in dvc.yaml, `${...}` as a glob."""
    flow = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())
    deps = flow["stages"][stage]["deps"]
    return [re.sub(r"\$\{[^}]*\}", "*", dep) for dep in deps]


BLOCKS_OF_THE_FLOW = sorted(YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"])


def script_of(block: str) -> Path:
    return Path("stages", f"{re.split('_(?:on|of)_', block)[0]}.py")


@pytest.mark.parametrize("stage", BLOCKS_OF_THE_FLOW)
def test_every_module_that_a_stage_imports_is_a_dependency(stage: str) -> None:
    deps = dependencies(stage)
    missing = {
        str(path)
        for path in closure(script_of(stage), classifiers=False)
        if not any(path.match(dep) or Path(dep) in path.parents for dep in deps)
        and not {*NO_DEPENDENCIES, BY_THE_MODEL} & set(path.parents)
    }
    assert not missing


def test_what_decides_results_does_not_look_at_what_goes_on_around_it() -> None:
    deciding = (
        "archs",
        "attacks",
        "core",
        "datasets",
        "defenses",
        "networks",
        "training",
        "reporting",
    )
    for package in deciding:
        for path in (ROOT / "src" / "tradeoff" / package).rglob("*.py"):
            assert not {found for found in imports(path) if NO_DEPENDENCIES[1] in found.parents}, (
                path
            )


def test_what_a_classifier_imports_is_in_its_models_hash() -> None:
    """But for `networks`, on which all depends, and the attack with which one is calibrated."""
    for path in sorted((ROOT / BY_THE_MODEL).glob("[!_]*.py")):
        patterns = constant("classifiers", path.stem, "CODE", ())
        hashed = {file for pattern in patterns for file in (ROOT / "src/tradeoff").glob(pattern)}
        used = {ROOT / found for found in closure(path.relative_to(ROOT))}
        known = {f"src/tradeoff/{name}" for name in ("classifiers", "core", "networks")}
        missing = {
            file
            for file in used - hashed
            if not any(ROOT / folder in file.parents for folder in known)
            and "attacks" not in file.parts
        }
        assert not missing, path


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_told_of_defenses_is_a_dependency_of_what_reads_it(stage: str) -> None:
    folder = "src/tradeoff/defenses"
    reads = TELLINGS in closure(Path("stages", f"{stage}.py"))
    assert reads == (folder in dependencies(stage))
    assert reads == (stage in ("report", "chapter", "index"))


@pytest.mark.parametrize("stage", STAGES)
def test_no_dependency_is_superfluous(stage: str) -> None:
    used = closure(Path("stages", f"{stage}.py"))
    if TELLINGS in used:  # it reads what the defenses are called
        used |= {path.relative_to(ROOT) for path in ROOT.glob("src/tradeoff/defenses/*.yaml")}
    code = [dep for dep in dependencies(stage) if dep.startswith(("src/", "stages/"))]
    idle = [
        dep
        for dep in code
        if not any(path.match(dep) or Path(dep) in path.parents for path in used)
    ]
    assert not idle


def test_every_stage_of_the_flow_has_a_script_that_explains_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())
    assert sorted({script_of(stage).stem for stage in flow["stages"]}) == STAGES
    for stage in STAGES:
        script = ROOT / "stages" / f"{stage}.py"
        monkeypatch.setattr(sys, "argv", [str(script), "--help"])
        monkeypatch.syspath_prepend(script.parent)
        with pytest.raises(SystemExit, match=r"^0$"):
            runpy.run_path(str(script), run_name="__main__")
        docstring = ast.get_docstring(ast.parse(script.read_text()))
        printed = " ".join(capsys.readouterr().out.split())
        assert docstring and " ".join(docstring.split()) in printed

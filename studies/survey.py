"""All defenses of the project on one network, one page: `make survey`.

    python studies/survey.py [SEED ...]        of fewer seeds than 0, 1 and 2
    python studies/survey.py --check           is what is committed that of this code and params?

The study's own flow, with other rows: ResNet-18 on the digits. Missing are the
defenses that train with bounds, which there are none of for BatchNorm in train mode. Beside RA it
has the attacks of suite `beyond`. It runs in checkpoints/survey, which git does not see and which
shares DVC's cache with the study, so that no cell is computed twice; interrupted, it goes on there.
What it finds is kept in reports/survey: the pages, and the dvc.lock that says of which code and
params they are.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from ruamel.yaml import YAML  # noqa: E402

from tradeoff.cluster import lockfile  # noqa: E402
from tradeoff.core import foundations  # noqa: E402
from tradeoff.core.plugins import constant  # noqa: E402

FOLDER, KEPT = ROOT / "checkpoints" / "survey", ROOT / "reports" / "survey"
CHECKED = ROOT / "checkpoints" / "survey-check"
LINKS = (".dvcignore", "dvc.yaml", "src", "stages", "report_templates")
ARCHITECTURE = "resnet18"
DEFENSES = (
    "standard", "at", "trades", "dtrades", "mart", "faal",
    # does adapting the weight help?
    "dtrades_shuffled", "dtrades_batch_mean", "dtrades_class_mean", "dtrades_alpha",
    "dtrades_beta", "dtrades_differentiable", "trades_matched",
    "ewat", "arow", "mail", "weat", "vir",
    # other losses and curricula
    "fgsm", "fast", "alp", "clp", "vat", "igr", "arda", "fat", "hat", "act", "trix", "cusp", "rst",
    # known to mask their gradients, or to rest on something else than robustness
    "distillation_1", "distillation_10", "distillation", "ccat", "squeezing", "squeezing_detector",
    "pixeldefend",
    # mixtures, and networks with a proof
    "mixing", "mixing_75", "mixing_90", "mixednuts",
    "gaussian", "smoothing", "smoothed_mixing", "lbrs",
)  # fmt: skip


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        return check()
    if not all(argument.isdecimal() for argument in arguments):
        print(__doc__, file=sys.stderr)
        return 2
    lay_out(FOLDER, [int(seed) for seed in arguments] or [0, 1, 2])
    command = [sys.executable, "-m", "tradeoff", "reproduce", "digits"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    status = subprocess.run(command, cwd=FOLDER, env=environment, check=False).returncode
    if (FOLDER / "reports" / "digits").exists():
        shutil.rmtree(KEPT, ignore_errors=True)
        shutil.copytree(FOLDER / "reports" / "digits", KEPT)
        shutil.copy(FOLDER / "dvc.lock", KEPT)
        print(f"survey: {KEPT.relative_to(ROOT)}/report.en.html")
    return status


def check() -> int:
    """Whether DVC, with the committed lock and without models, would have anything to do."""
    shutil.rmtree(CHECKED, ignore_errors=True)
    entry = lockfile.read(KEPT)["summarize@digits"]
    seeds = [int(seed) for seed in re.findall(r"- (\d+)$", entry.split("study.seeds:")[1], re.M)]
    lay_out(CHECKED, seeds)
    shutil.copytree(KEPT, CHECKED / "reports" / "digits", ignore=shutil.ignore_patterns("dvc.lock"))
    command = [sys.executable, "-m", "dvc", "repro", "--allow-missing", "--dry", "report@digits"]
    found = subprocess.run(command, cwd=CHECKED, capture_output=True, text=True, check=False)
    stale = [line for line in found.stdout.splitlines() if line.startswith("Running stage")]
    shutil.rmtree(CHECKED)
    if found.returncode or stale:
        print(found.stderr, *stale[:10], f"{len(stale)} stages are stale.", sep="\n")
        print("reports/survey is stale: run make survey and commit what it changes.")
        return 1
    print(f"reports/survey, of {len(seeds)} seeds, belongs to the committed code and params.")
    return 0


def lay_out(folder: Path, seeds: list[int]) -> None:
    """Make a folder: the study's own files by links, and params.yaml with other rows."""
    (folder / ".dvc").mkdir(parents=True, exist_ok=True)
    for name in LINKS:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(ROOT / name)
    (folder / "data" / "own").mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "data" / "own" / "README.md", folder / "data" / "own")
    config = (
        f"[core]\n    no_scm = true\n    analytics = false\n[cache]\n    dir = {ROOT}/.dvc/cache\n"
    )
    (folder / ".dvc" / "config").write_text(config)
    if (KEPT / "dvc.lock").exists() and not (folder / "dvc.lock").exists():
        shutil.copy(KEPT / "dvc.lock", folder)
    with (folder / "params.yaml").open("w") as file:
        YAML().dump(params(seeds), file)


def params(seeds: list[int]) -> Any:
    """The study's params.yaml with the survey's rows."""
    changed = YAML().load((ROOT / "params.yaml").read_text("utf-8"))
    study = changed["study"]
    trained = list(DEFENSES)
    for name in trained:  # grows: what a base stands on is trained too
        bases = [study["bases"][role] for role in foundations.roles(name)]
        trained += [base for base in bases if base not in trained]
    for listed in study["trained"]:
        study["trained"][listed] = [d for d in trained if foundations.list_of(d) == listed]
    certified = [name for name in DEFENSES if provable(name)]
    study.update(
        defenses=list(DEFENSES), architectures=[ARCHITECTURE], datasets=["digits"],
        seeds=seeds, certified=certified, suites=[*study["suites"], "beyond"],
    )  # fmt: skip
    # So many defenses are each tried on each other, and nearly all have a certificate.
    changed["transfer"]["images"] = 100
    changed["transfer"]["extraction"]["augmentations"] = 3
    changed["datasets"]["digits"]["certificates"]["interval"] = {"images": 100}
    return changed


def provable(defense: str) -> bool:
    """Whether there is a certificate for what a defense's networks make."""
    proof = foundations.certificate(defense)
    if proof is None or ARCHITECTURE not in constant(
        "certificates", proof, "NETWORKS", (ARCHITECTURE,)
    ):
        return False
    return foundations.classifier(defense) in constant("certificates", proof, "CLASSIFIERS", ())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""All defenses of the project on one network, one page: `make survey`.

    python studies/survey.py [SEED ...]        of fewer seeds than 0, 1 and 2
    python studies/survey.py --check           is what is committed that of this code and params?

The study's own flow, with other rows: ResNet-18 on the digits. Missing are the
defenses that train with bounds, which there are none of for BatchNorm in train mode. Beside RA it
has the attacks of suite `beyond`. It runs in checkpoints/survey, which git does not see and which
shares DVC's cache with the study, so that no cell is computed twice; interrupted, it goes on there.
What it finds is kept in reports/survey: the pages, the dvc.lock that says of which code and params
each stage is, and a hash of all of it, by which CI tells that the pages are stale.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from ruamel.yaml import YAML  # noqa: E402

from tradeoff.core import code, foundations  # noqa: E402
from tradeoff.core.plugins import constant  # noqa: E402
from tradeoff.core.study import Study  # noqa: E402

FOLDER, KEPT = ROOT / "checkpoints" / "survey", ROOT / "reports" / "survey"
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
    seeds = [int(seed) for seed in arguments] or [0, 1, 2]
    lay_out(seeds)
    command = [sys.executable, "-m", "tradeoff", "reproduce", "digits"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    status = subprocess.run(command, cwd=FOLDER, env=environment, check=False).returncode
    if (FOLDER / "reports" / "digits").exists():
        shutil.rmtree(KEPT, ignore_errors=True)
        shutil.copytree(FOLDER / "reports" / "digits", KEPT)
        shutil.copy(FOLDER / "dvc.lock", KEPT)
        if status == 0:
            (KEPT / "made_from.json").write_text(json.dumps(made_from(seeds)) + "\n")
        print(f"survey: {KEPT.relative_to(ROOT)}/report.en.html")
    return status


def check() -> int:
    """Whether what is kept is of this code, these templates and params."""
    told = KEPT / "made_from.json"
    kept = json.loads(told.read_text()) if told.exists() else {"seeds": []}
    if kept != made_from(kept["seeds"]):
        print("reports/survey is stale: run make survey and commit what it changes.")
        return 1
    print(f"reports/survey, of {len(kept['seeds'])} seeds, belongs to this code and params.")
    return 0


def made_from(seeds: list[int]) -> dict[str, Any]:
    """The seeds, and a hash of all else that decides the pages."""
    if not seeds:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "params.yaml")
        YAML().dump(params(seeds), file)
        listed, plain = code.texts(ROOT, Study.load(file)), YAML(typ="safe").load(file)
    parts = [json.dumps(plain, sort_keys=True)]
    parts += [text for use, text in sorted(listed.items()) if use.name not in ("chapter", "index")]
    parts += [path.read_text("utf-8") for path in sorted(ROOT.glob("report_templates/*"))]
    return {"seeds": seeds, "sha256": hashlib.sha256("\0".join(parts).encode()).hexdigest()}


def lay_out(seeds: list[int]) -> None:
    """Make the folder: the study's own files by links, and params.yaml with other rows."""
    (FOLDER / ".dvc").mkdir(parents=True, exist_ok=True)
    for name in LINKS:
        if not (FOLDER / name).is_symlink():
            (FOLDER / name).symlink_to(ROOT / name)
    (FOLDER / "data" / "own").mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "data" / "own" / "README.md", FOLDER / "data" / "own")
    config = (
        f"[core]\n    no_scm = true\n    analytics = false\n[cache]\n    dir = {ROOT}/.dvc/cache\n"
    )
    (FOLDER / ".dvc" / "config").write_text(config)
    if (KEPT / "dvc.lock").exists() and not (FOLDER / "dvc.lock").exists():
        shutil.copy(KEPT / "dvc.lock", FOLDER)
    with (FOLDER / "params.yaml").open("w") as file:
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
    changed["datasets"] = {"digits": changed["datasets"]["digits"]}
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

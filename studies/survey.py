"""All defenses of the project on one network, one page: `make survey`.

    python studies/survey.py [SEED ...]        of fewer seeds than 0, 1 and 2
    python studies/survey.py --check           is what is committed that of this code and params?

ResNet-18 on the digits. Missing are the defenses that train with bounds, which there are none of
for BatchNorm in train mode. Beside RA it has the attacks of suite `beyond`. How it is run and what
is kept of it: studies/beside.py.
"""

import sys
from functools import partial
from typing import Any

from beside import kept_from, list_trained, made_from, reproduce

from tradeoff.core import foundations
from tradeoff.core.plugins import constant

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
    return reproduce("survey", "digits", partial(change, seeds=seeds))


def check() -> int:
    """Whether what is kept is of this code, these templates and params."""
    kept = kept_from("survey")
    if not kept or kept != made_from(partial(change, seeds=kept["seeds"])):
        print("reports/survey is stale: run make survey and commit what it changes.")
        return 1
    print(f"reports/survey, of {len(kept['seeds'])} seeds, belongs to this code and params.")
    return 0


def change(params: Any, seeds: list[int]) -> None:
    """Give the study's params the survey's rows, in place."""
    study = params["study"]
    trained = list(DEFENSES)
    for name in trained:  # grows: what a base stands on is trained too
        bases = [study["bases"][role] for role in foundations.roles(name)]
        trained += [base for base in bases if base not in trained]
    list_trained(study, trained)
    certified = [name for name in DEFENSES if provable(name)]
    study.update(
        defenses=list(DEFENSES), architectures=[ARCHITECTURE], datasets=["digits"],
        seeds=seeds, certified=certified, suites=[*study["suites"], "beyond"],
    )  # fmt: skip
    params["datasets"] = {"digits": params["datasets"]["digits"]}
    # So many defenses are each tried on each other, and nearly all have a certificate.
    params["transfer"]["images"] = 100
    params["transfer"]["extraction"]["augmentations"] = 3
    params["datasets"]["digits"]["certificates"]["interval"] = {"images": 100}


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

"""Settings with which the real stages take seconds, for tests that run all of them."""

from typing import Any

from tradeoff.core.plugins import module_names

CELLS = ("standard-resnet18-digits-0", "trades-resnet18-digits-0")


def shrink(params: Any) -> None:
    """Change params.yaml to two cells of digits with few images and small budgets."""
    params["study"].update(architectures=["resnet18"], datasets=["digits"], seeds=[0])
    keep_defenses(params, ["standard", "trades"])
    digits = params["datasets"]["digits"]
    digits["split"].update(validation=40, test=60, limit=200)
    digits["train"].update(epochs=2)
    digits["suites"]["bounded"].update(images=20, attacks={})
    digits["suites"]["autoattack"].update(images=10)
    digits["suites"]["minimal"] = {"images": 5}
    keep_few_attacks(params)
    params["datasets"] = {"digits": digits}  # DVC reads all of it anew for every stage
    params["transfer"].update(images=20, steps=2)
    params["transfer"]["extraction"].update(images=10, augmentations=1, epochs=1)
    params["report"]["languages"] = ["en"]


def keep_defenses(params: Any, names: list[str]) -> None:
    """Leave these defenses and their sections, and train no other."""
    params["study"]["defenses"] = names
    for trained in params["study"]["trained"].values():
        trained[:] = [name for name in trained if name in names]
    for name in {*module_names("defenses", "Knobs")} - {*names}:
        params.pop(name, None)


def keep_few_attacks(params: Any) -> None:
    """Leave of the suites' attacks what a report needs."""
    for suite, names in {"bounded": ("fgsm", "pgd"), "minimal": ("fmn_linf",)}.items():
        attacks = params["suites"][suite]["attacks"]
        params["suites"][suite]["attacks"] = {name: attacks[name] for name in names}

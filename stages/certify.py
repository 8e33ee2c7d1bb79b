"""Prove what no attack can break of one cell's model: its ledger of certificates."""

import importlib
import time
from functools import partial

import _environment
import torch

from tradeoff.certificates.ledger import save_certificates
from tradeoff.core import foundations
from tradeoff.core.study import Study
from tradeoff.datasets.prepared import load_prepared
from tradeoff.networks.device import describe, pick_device
from tradeoff.networks.models import load_classifier
from tradeoff.networks.randomness import sample_keys
from tradeoff.networks.threat import Threat
from tradeoff.running.progress import Progress
from tradeoff.running.words import duration


def main(cell: str) -> None:
    study = Study.load()
    chosen = study.cell(cell)
    dataset = chosen.dataset
    name = foundations.certificate(chosen.defense)
    knobs = dataset.certificate(chosen.defense)
    device = pick_device(dataset.threads, dataset.arithmetic)
    data = load_prepared(dataset.prepared, dataset.name)
    test = data.test.first(knobs.images).to(device)
    threat = Threat(dataset.threat.norm, dataset.threat.epsilon)
    progress = Progress("certify", cell, study.position(chosen))
    proof = importlib.import_module(f"tradeoff.certificates.{name}")
    certify = partial(
        proof.certify,
        load_classifier(chosen, "best", data, device),
        threat=threat,
        batch_size=knobs.batch_size,
        knobs=knobs,
    )
    keys = sample_keys(torch.arange(len(test), device=device), "certify")
    begin = time.perf_counter()
    certify(test.images[:1], keys=keys[:1])  # together they take less
    left = duration(len(test) * (time.perf_counter() - begin))
    progress.say(f"{len(test)} images on {describe(device)} will take at most about {left}")
    certificate = certify(test.images, keys=keys)
    about = {
        "cell": cell,
        "certificate": name,
        "certain": getattr(proof, "CERTAIN", False),
        "threat": dataset.threat.model_dump(),
        "knobs": knobs.model_dump(),
    }
    save_certificates(certificate, test.labels, about, chosen.certificates)
    held = (certificate.prediction == test.labels.cpu()) & (certificate.radius >= threat.epsilon)
    progress.say(f"{held.float().mean():.1%} correct and certified at epsilon {threat.epsilon:g}")


if __name__ == "__main__":
    _environment.run(
        main, __doc__, cell="a cell of study.certified, such as smoothing-vgg16-digits-0"
    )

"""Adversarial examples to look at, on a tiny network."""

import numpy as np
import torch
from PIL import Image

from tests.tiny import THREAT, batch, network
from tradeoff.attacks.pgd import Knobs
from tradeoff.core.tables import TABLES
from tradeoff.evaluation.examples import (
    amplification,
    attack_model,
    example_table,
    parameter_count,
    save_sheet,
    sheet,
)
from tradeoff.networks.randomness import sample_keys

PGD = Knobs(loss="cross_entropy", steps=5, relative_step_size=0.3, restarts=1)


def shown(seed: int = 0):
    images, labels = batch(3)
    model = network(seed).eval().requires_grad_(False)
    keys = sample_keys(torch.arange(3), "examples")
    one = attack_model(model, images, labels, PGD, THREAT, keys)
    return images, labels, model, one


def test_examples_are_inside_the_threat_and_said_of_what_they_are() -> None:
    images, _, model, one = shown()
    assert (one.adversarial - images).abs().max() <= THREAT.epsilon + 1e-6
    assert one.adversarial.min() >= 0 and one.adversarial.max() <= 1
    torch.testing.assert_close(one.attacked, model(one.adversarial).softmax(1))
    torch.testing.assert_close(one.clean, model(images).softmax(1))


def test_the_sheet_holds_every_tile_where_the_table_says(tmp_path) -> None:
    images, labels, _, one = shown()
    other = shown(1)[3]
    factor = amplification(images, [one, other])
    assert factor == 0.5 / max(float((x.adversarial - images).abs().max()) for x in (one, other))
    save_sheet(sheet(images, [one, other], factor), tmp_path / "sheet.png")
    tiles = np.asarray(Image.open(tmp_path / "sheet.png")).reshape(5, 8, 3, 8).swapaxes(1, 2) / 255
    models = {("resnet18", "at"): one, ("resnet18", "trades"): other}
    table = example_table(labels, models, factor)
    assert list(table.columns) == TABLES["examples"].names
    for row in table.to_dict("records"):
        model = models[row["architecture"], row["defense"]]
        image, place = row["image"], row["row"]
        np.testing.assert_allclose(tiles[0, image], images[image, 0], atol=1 / 255)
        np.testing.assert_allclose(
            tiles[place + 1, image], model.adversarial[image, 0], atol=1 / 255
        )
        difference = (model.adversarial - images)[image, 0]
        np.testing.assert_allclose(tiles[place, image], 0.5 + factor * difference, atol=1 / 255)
        assert row["prediction"] == int(model.attacked[image].argmax())
        assert row["clean_confidence"] == float(model.clean[image].max())


def test_colour_is_kept(tmp_path) -> None:
    images = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    save_sheet(sheet(images, [], 1.0), tmp_path / "sheet.png")
    pixels = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert pixels.shape == (4, 8, 3)
    np.testing.assert_allclose(pixels[:, 4:] / 255, images[1].permute(1, 2, 0), atol=1 / 255)


def test_parameters_are_counted() -> None:
    assert parameter_count(network()) == 4 * 9 + 2 * 4 + 64 * 4 + 4

"""Extraction: what is asked, what is learned from the answers, and what that is worth."""

from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.attacks.trained import digits
from tradeoff.core.settings import ExtractionSettings
from tradeoff.core.study import Study
from tradeoff.evaluation.extraction import Extracted, answer, augmented, extract
from tradeoff.evaluation.surrogates import labelled
from tradeoff.evaluation.transfer import Transferred, transfer, transfer_table
from tradeoff.networks.ascent import InnerAttack
from tradeoff.networks.randomness import generator, sample_keys
from tradeoff.networks.threat import Threat

SETTINGS = ExtractionSettings(
    architecture="mlp", images=100, augmentations=3, step_size=0.1, epochs=10, batch_size=32,
    learning_rate=0.003,
)  # fmt: skip


def new_network(seed: int, hidden: int = 64) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))


class Victim(nn.Module):
    """A network that counts what it is asked, and whose logits say nothing but a class."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.asked = network, 0

    def forward(self, images: Tensor) -> Tensor:
        self.asked += len(images)
        return F.one_hot(self.network(images).argmax(1), 10).float()


@cache
def network() -> nn.Module:
    """Trained on digits in a blink."""
    images, labels = (part[600:] for part in digits())
    model = new_network(0, 100)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


def extracted(settings: ExtractionSettings = SETTINGS, seed: str = "victim") -> Extracted:
    images, _ = digits()
    own = images[500 : 500 + settings.images]
    return extract(network(), own, new_network(1), settings, seed, others=images[:400])


def test_a_victim_answers_as_many_queries_as_are_told() -> None:
    victim, images = Victim(network()), digits()[0][:30]
    found = extract(victim, images[:20], new_network(1), SETTINGS, "victim", others=images[20:])
    assert found.queries == 20 * 2**3
    assert victim.asked == found.queries + 10  # the others
    assert found.architecture == "mlp"


def test_a_class_alone_is_answered() -> None:
    """Of a victim that hides its logits the same substitute is made."""
    images, _ = digits()
    hidden, open_ = (
        extract(victim, images[:40], new_network(1), SETTINGS, 3, others=images[400:500])
        for victim in (Victim(network()), network())
    )
    for mine, other in zip(
        hidden.substitute.parameters(), open_.substitute.parameters(), strict=True
    ):
        assert torch.equal(mine, other) and not mine.requires_grad
    assert hidden.agreement == open_.agreement


def test_a_new_query_is_where_the_probability_of_its_answer_grows() -> None:
    """By the paper's own formula, with the Jacobian of the probabilities."""
    images = digits()[0][:20].double() * 0.6 + 0.2
    substitute = new_network(2).double()
    answers = answer(network(), images.float(), 7)
    found = augmented(substitute, images, answers, 0.1)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda x: substitute(x[None]).softmax(1)[0]))(
        images
    )
    slope = jacobian[torch.arange(20), answers]
    torch.testing.assert_close(found, (images + 0.1 * slope.sign()).clamp(0, 1))


def test_queries_are_images() -> None:
    images = digits()[0][:20]
    found = augmented(new_network(2), images, torch.zeros(20, dtype=torch.long), 0.5)
    assert found.min() == 0 and found.max() == 1


def test_more_queries_make_a_substitute_that_agrees_more() -> None:
    few = SETTINGS.model_copy(update={"images": 10, "augmentations": 0})
    assert extracted().agreement > 0.85
    assert extracted().agreement > extracted(few).agreement + 0.1


def test_a_seed_makes_the_same_substitute_again() -> None:
    first, again, other = (extracted(seed=seed).substitute for seed in ("a", "a", "b"))
    weights = [model.get_parameter("1.weight") for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_examples_of_a_substitute_are_tried_on_its_victim_alone() -> None:
    images, labels = (part[:200] for part in digits())
    keys = sample_keys(torch.arange(200), "transfer")
    models = {"a": network(), "b": new_network(5).eval()}
    outcome = transfer(
        models, images, labels, InnerAttack(Threat("linf", 0.15), 10, 0.03), keys=keys, sources=[],
        substitutes={"a": extracted().substitute}, batch_size=64,
    )  # fmt: skip
    assert set(outcome.fooled) == {("extraction-a", "a")}
    noise = torch.randn(images.shape, generator=generator("noise")).sign()
    moved = network()((images + 0.15 * noise).clamp(0, 1)).argmax(1) != labels
    fooled = transfer_table(outcome)["fooled"].item()
    assert fooled > 0.3 and fooled > 2 * moved.float().mean()


def test_the_table_tells_what_a_substitute_took() -> None:
    cells = {cell.key: cell for cell in Study.load().cells("digits")[:2]}
    (victim, other), size = cells, torch.ones(5, dtype=torch.bool).numpy()
    found = {victim: Extracted(nn.Identity(), "mlp", 2400, 0.875)}
    fooled = {(f"extraction-{victim}", victim): size, (other, victim): size}
    outcome = Transferred(dict.fromkeys(cells, size), fooled)
    table = labelled(transfer_table(outcome), cells, "standard", found)
    first, second = table.to_dict("records")
    assert (first["role"], first["source_defense"]) == ("extraction", "extraction")
    assert first["source_architecture"] == "mlp"
    assert (first["queries"], first["agreement"]) == (2400, 0.875)
    assert second["role"] == "gray_box" and second["source_defense"] == "standard"
    assert table["queries"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    "change", [{"images": 1}, {"augmentations": 17}, {"step_size": 1.5}, {"architecture": "mpl"}]
)
def test_budgets_that_make_no_sense_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        ExtractionSettings(**(SETTINGS.model_dump() | change))

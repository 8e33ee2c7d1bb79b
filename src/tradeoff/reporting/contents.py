"""What a report says of a data set, for a page as for the chapter: texts, tables and figures."""

from collections.abc import Sequence
from typing import Any

from tradeoff.reporting import accuracy, answer, coverage, discussion, evidence, sentences, setting
from tradeoff.reporting.pictures import pictures
from tradeoff.reporting.published import Published, published_table
from tradeoff.reporting.view import View


def contents(view: View, published: Sequence[Published]) -> dict[str, Any]:
    """The values that the templates of a data set fill in.

    Args:
        published: what others have published, of any data set.
    """
    results = view.results
    name = view.labels.name("datasets", results.dataset.name)
    return {
        "dataset": results.dataset.name,
        "title": view("title", dataset=name),
        "name": name,
        "setting": setting.describe_setting(view),
        "software": setting.software(view),
        "limit": setting.limit_note(view),
        "missing": coverage.missing(view),
        "coverage": coverage.coverage(view),
        "complete": not (results.missing_cells or results.missing_histories),
        "single": len(view.seeds) == 1,
        "answer": answer.answer(view),
        "adapting": answer.adapting(view),
        "leaders": sentences.leaders(view),
        "rule": sentences.rule(view),
        "differences": sentences.differences(view),
        "attack_images": sentences.attack_images(view),
        "masking": sentences.masking(view),
        "collapses": sentences.collapses(view),
        "flag_lines": evidence.flag_lines(view),
        "gaps": coverage.gaps(view),
        "fairness": discussion.fairness(view),
        "lambda_text": discussion.weights(view),
        "cost_text": sentences.cost(view),
        "limits": discussion.limits(view),
        "tables": {
            "main": accuracy.main_table(view),
            "differences": evidence.difference_table(view),
            "published": published_table(view, published),
            "attacks": accuracy.attack_table(view),
            "beyond": accuracy.beyond_table(view),
            "norms": evidence.norm_table(view),
            "certified": evidence.certified_table(view),
            "asking": evidence.asking_table(view),
            "detection": evidence.detection_table(view),
            "detection_by_attack": evidence.detection_by_attack_table(view),
            "gradients": evidence.gradient_table(view),
            "transfer": evidence.transfer_table(view),
            "masking": evidence.masking_table(view),
            "overfitting": accuracy.overfitting_table(view),
            "classes": accuracy.class_table(view),
            "fairness": accuracy.fairness_table(view),
            "cost": accuracy.cost_table(view),
        },
        "pictures": pictures(view),
    }

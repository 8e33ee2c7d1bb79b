"""What a report says of a data set, for a page as for the chapter: texts, tables and figures."""

from typing import Any

from tradeoff.core.study import Study
from tradeoff.reporting import ablation, accuracy, discussion, evidence
from tradeoff.reporting import sentences as say
from tradeoff.reporting.cost import cost_sentences, cost_table
from tradeoff.reporting.figures import adaptive_defenses
from tradeoff.reporting.labels import Labels
from tradeoff.reporting.missing import missing
from tradeoff.reporting.pictures import pictures
from tradeoff.reporting.results import Results
from tradeoff.reporting.setting import describe_setting, limit_note, software


def contents(study: Study, dataset: str, results: Results, labels: Labels) -> dict[str, Any]:
    """The values that the templates of a data set fill in."""
    chosen = study.dataset(dataset)
    everything = (study, results, labels)
    return {
        "dataset": dataset,
        "title": labels("title", dataset=labels.name("datasets", dataset)),
        "name": labels.name("datasets", dataset),
        "setting": describe_setting(study, chosen, results, labels),
        "software": software(results, labels),
        "limit": limit_note(chosen, labels),
        "missing": missing(results, labels),
        "coverage": say.coverage(results, labels),
        "complete": not (results.missing_cells or results.missing_histories),
        "single": len(study.axes.seeds) == 1,
        "leaders": say.leaders(*everything),
        "rule": say.rule(study, labels),
        "differences": say.differences(*everything),
        "attack_images": say.attack_images(results, labels),
        "masking": say.masking(*everything),
        "flag_lines": evidence.flag_lines(results, labels),
        "gaps": say.gaps(results, labels),
        "fairness": discussion.fairness(*everything),
        "lambda_text": [
            text
            for defense in adaptive_defenses(study, results)
            for text in discussion.weights(defense, *everything)
        ],
        "cost_text": cost_sentences(*everything),
        "ablation_text": ablation.sweep_sentences(*everything),
        "limits": discussion.limits(*everything),
        "tables": {
            "main": accuracy.main_table(*everything),
            "differences": evidence.difference_table(*everything),
            "attacks": accuracy.attack_table(*everything),
            "norms": evidence.norm_table(*everything),
            "transfer": evidence.transfer_table(*everything),
            "masking": evidence.masking_table(*everything),
            "overfitting": accuracy.overfitting_table(*everything),
            "classes": accuracy.class_table(*everything),
            "fairness": accuracy.fairness_table(*everything),
            "cost": cost_table(*everything),
            "sweep": ablation.sweep_table(*everything),
        },
        "pictures": pictures(*everything),
    }

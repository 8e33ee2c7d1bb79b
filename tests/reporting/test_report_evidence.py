"""Differences, norms, transfer and masking flags: their tables and what is said about them."""

from dataclasses import replace

import pandas as pd
import pytest
from made_up import THRESHOLDS, made_up_study, made_up_tables, write_made_up

from tradeoff.core.plugins import knobs_class
from tradeoff.core.study import Attack, Suite
from tradeoff.core.tables import TABLES
from tradeoff.evaluation import masking as checks
from tradeoff.evaluation.transfer import role
from tradeoff.reporting import accuracy, coverage, evidence, results, sentences
from tradeoff.reporting.labels import load_labels
from tradeoff.reporting.pictures import curve, gradients, mixtures, roc
from tradeoff.reporting.pictures.drawing import FIELD_HEIGHT
from tradeoff.reporting.report import build_report
from tradeoff.reporting.results import read_results
from tradeoff.reporting.view import View

SPATIAL, TURN = knobs_class("attacks", "spatial"), {"degrees": 30, "shift": 0.1, "tries": 10}
OPTIONAL = ["norms", "curve", "differences", "masking", "transfer"]


@pytest.fixture(scope="module")
def english(templates):
    return load_labels("en", templates)


def with_gaps(study, root, gaps, resolved=None):
    """Results in which the proposal is so far from each other defense in NA and RA."""
    tables = made_up_tables(study)
    gap = tables.differences["other"].map(gaps)
    tables.differences = tables.differences.assign(
        difference=gap, low=gap - 0.02, high=gap + 0.02, detectable=0.03
    )
    pairs = tables.detectable
    other = pairs["one"].where(pairs["other"] == "dtrades", pairs["other"])
    gap = other.map(gaps).abs()
    tables.detectable = pairs.assign(resolved=gap.ge(0.03) if resolved is None else resolved)
    write_made_up(study, root, tables=tables)
    return read_results(study, "digits", root)


def test_one_test_decides_in_tables_and_in_sentences(tmp_path, english):
    """An interval that excludes 0 and a difference above what is detectable decide nothing."""
    study = made_up_study(["at", "dtrades"], ["resnet18"])
    for resolved in (True, False):
        found = with_gaps(study, tmp_path, {"at": 0.05}, resolved)
        assert found.resolved("resnet18", "RA", "dtrades", "at") is resolved
        (block,) = evidence.difference_table(View(study, found, english)).blocks
        assert [block.rows[0].numbers[place].best for place in (0, 3)] == [resolved] * 2
        said = "is resolved" if resolved else "is not resolved"
        for texts in (sentences.differences, sentences.leaders):
            assert all(said in text for text in texts(View(study, found, english)))


def test_what_could_not_be_tested_is_said_to_be_so(tmp_path, english):
    study = made_up_study(["at", "dtrades"], ["resnet18"])
    found = with_gaps(study, tmp_path, {"at": 0.05}, float("nan"))
    assert found.resolved("resnet18", "RA", "at", "dtrades") is None
    _, text = sentences.differences(View(study, found, english))
    assert "The difference from AT (+5.0) could not be tested." in text
    assert "could not be tested" in sentences.leaders(View(study, found, english))[1]


@pytest.mark.parametrize(
    ("gap", "said"),
    [
        (0.05, "mean of D-TRADES is higher than that of AT (+5.0); the difference is resolved."),
        (-0.05, "mean of D-TRADES is lower than that of AT (\N{MINUS SIGN}5.0); the difference is"),
        (0.0, "The difference from AT (0.0) is not resolved."),
        (0.025, "The difference from AT (+2.5) is not resolved."),
    ],
)
def test_the_proposal_wins_loses_and_ties(tmp_path, english, gap, said):
    study = made_up_study(["at", "dtrades"], ["resnet18"])
    found = with_gaps(study, tmp_path, {"at": gap})
    natural, robust = sentences.differences(View(study, found, english))
    assert natural.startswith("ResNet-18, natural accuracy (NA). ")
    assert said in robust
    (block,) = evidence.difference_table(View(study, found, english)).blocks
    assert block.rows[0].numbers[3].best is (abs(gap) == 0.05)


def test_sides_are_told_apart_in_one_sentence(tmp_path, english):
    study = made_up_study(["at", "trades", "dtrades", "mart", "faal"], ["vgg16"])
    gaps = {"at": 0.05, "trades": -0.05, "mart": 0.01, "faal": 0.06}
    _, text = sentences.differences(View(study, with_gaps(study, tmp_path, gaps), english))
    assert "higher than those of AT (+5.0) and FAAL (+6.0)" in text
    assert "lower than that of TRADES (\N{MINUS SIGN}5.0)" in text
    assert "The difference from MART (+1.0) is not resolved." in text


def test_a_missing_comparison_is_named(tmp_path, english):
    study = made_up_study(["at", "dtrades", "mart"], ["vgg16"])
    tables = made_up_tables(study)
    tables.differences = tables.differences.query("other == 'at'")
    write_made_up(study, tmp_path, tables=tables)
    texts = sentences.differences(View(study, read_results(study, "digits", tmp_path), english))
    assert all("The comparison with MART is missing." in text for text in texts)


@pytest.mark.parametrize("content", [None, "", "\n", "header"])
def test_a_study_without_the_proposal_or_its_evidence(tmp_path, templates, content):
    study = made_up_study(["at"], ["vgg16"], [0])
    write_made_up(study, tmp_path, without_history=frozenset({"at-vgg16-digits-0"}))
    for name in OPTIONAL:
        path = tmp_path / study.dataset("digits").table(name)
        if content is None:
            path.unlink()
        elif content == "header":
            path.write_text(",".join(TABLES[name].names) + "\n")
        else:
            path.write_text(content)
    found = read_results(study, "digits", tmp_path)
    english = load_labels("en", templates)
    assert sentences.differences(View(study, found, english)) == [
        "There is nothing to compare: D-TRADES is not part of this study."
    ]
    gaps = coverage.gaps(View(study, found, english))
    assert all("0 of 1 evaluated cells" in gaps[name][0] for name in gaps)
    assert "neither an alarm nor an all-clear" in sentences.masking(View(study, found, english))[0]
    if content == "":
        text = build_report(study, found, templates, ["en"])["report.en.html"].decode()
        assert "0 of 1 evaluated cells have minimum norms. Missing: at-vgg16-digits-0." in text


def test_missing_rows_are_named(tmp_path, english):
    study = made_up_study(["at", "dtrades"], ["vgg16"])
    tables = made_up_tables(study)
    tables.norms = tables.norms.query("defense != 'at' or seed != 1")
    tables.transfer = tables.transfer.query("target != 'dtrades-vgg16-digits-2'")
    write_made_up(study, tmp_path, frozenset({"at-vgg16-digits-2"}), tables=tables)
    gaps = coverage.gaps(View(study, read_results(study, "digits", tmp_path), english))
    assert gaps["norms"] == [
        "4 of 5 evaluated cells have minimum norms. Missing: at-vgg16-digits-1."
    ]
    assert "Missing: dtrades-vgg16-digits-2." in gaps["transfer"][0]
    assert gaps["curve"] == gaps["masking"] == []


def test_a_mean_that_leaves_images_out_says_how_many(complete, english):
    study, found = complete
    table = evidence.norm_table(View(study, found, english))
    assert [header for header, _ in table.groups] == [
        english(f"norms.{norm}") for norm in ("l0", "l2", "linf")
    ]
    assert "upper bound of the least norm" in table.caption
    row = table.blocks[0].rows[study.axes.defenses.index("mart")]
    norms = made_up_tables(study).norms
    mine = norms.query("defense == 'mart' and architecture == 'resnet18' and norm == 'l2'")
    assert row.numbers[2].mean == f"{mine['APN'].mean():.3f}"
    assert row.numbers[2].sd == f"{mine['APN'].std():.3f}"
    assert row.numbers[2].extra == "4.0 % not fooled"
    assert row.numbers[3].mean == f"{mine['APN_fooled_median'].mean():.3f}"
    # The mean of some of the images may be higher or lower than that of all of them.
    assert not any(n.best or n.second for row in table.blocks[0].rows for n in row.numbers)
    assert "".join(n.extra for row in table.blocks[1].rows for n in row.numbers) == ""


def test_transfer_equals_pandas(complete, english):
    study, found = complete
    table = evidence.transfer_table(View(study, found, english))
    rows = made_up_tables(study).transfer
    mine = rows.query("target_defense == 'faal' and target_architecture == 'vgg16'")
    means = 100 * mine.groupby("role")["fooled"].mean()
    row = table.blocks[1].rows[study.axes.defenses.index("faal")]
    assert [n.mean for n in row.numbers] == [f"{means[role]:.1f}" for role in results.ROLES]
    matrix = found.transfer_matrix()
    assert list(matrix.index) == [*study.axes.defenses, "ensemble", "extraction"]
    assert "answered to 2400 queries" in table.caption
    assert "agrees with it on 90.0 to 91.1 % of" in table.caption
    pair = rows.query("source_defense == 'at' and target_defense == 'mart'")["fooled"].mean()
    assert matrix.loc["at", "mart"] == pytest.approx(pair)


@pytest.mark.parametrize("language", ["en", "es"])
def test_the_roles_of_transfer_are_defined(complete, templates, language):
    """An ensemble holds the defense of each target of its own architecture: it is no black box."""
    study, found = complete
    labels = load_labels(language, templates)
    caption = evidence.transfer_table(View(study, found, labels)).caption
    for name in results.ROLES:
        assert labels(f"roles.{name}").lower() in caption.lower()
    control = labels("defenses.standard")
    assert {"en": f"Natural source: made on {control},", "es": f"natural: con {control},"}[
        language
    ] in caption
    members = [cell for cell in found.expected if cell.architecture == "vgg16" and cell.seed == 0]
    targets = [cell for cell in found.expected
               if cell.architecture == "vgg16" and cell not in members]  # fmt: skip
    assert {role(members, target, "standard") for target in targets} == {"ensemble"}
    assert {target.defense for target in targets} == {member.defense for member in members}
    ensemble = {
        "en": "a gray box for targets of that architecture, whose defense is among them.",
        "es": "caja gris para los atacados de esa arquitectura, cuya defensa está entre",
    }
    assert ensemble[language] in caption


@pytest.mark.parametrize("key", ["sentences.rule", "chapter.statistics"])
def test_the_families_of_tests_are_told(templates, key):
    values = {"alpha": 5, "proposal": "D-TRADES", "level": 95, "power": 80}
    english, spanish = (load_labels(name, templates)(key, **values) for name in ("en", "es"))
    assert (
        "(i) all differences of D-TRADES in NA and RA; (ii) for each metric, all other" in english
    )
    assert "(i) todas las diferencias de D-TRADES en NA y RA; (ii) de cada métrica, tod" in spanish


def test_flags_are_counted_and_explained(complete, english):
    study, found = complete
    table = evidence.masking_table(View(study, found, english))
    numbers = {row.header: row.numbers for row in table.blocks[0].rows}
    place = study.axes.defenses.index("trades")
    number = numbers["FOSC > 0.1"][place]
    assert (number.mean, number.best) == ("1/3", True)
    assert number.extra.startswith("[")
    assert numbers["Cosine of gradients < 0.1"][study.axes.defenses.index("faal")].mean == "0/2"
    fosc, cosine, unknown = sentences.masking(View(study, found, english))
    assert fosc.startswith("FOSC: raised in 2 of 36 cells. The loss could still rise")
    assert cosine.startswith("Cosine of gradients: raised in 2 of 34 cells.")
    assert "Measurements without a result: 2" in unknown
    share = found.masking.query("flag == 'square_alone' and defense == 'at'")["number"]
    extra = numbers["Only Square fools > 1 %"][study.axes.defenses.index("at")].extra
    first = share[: len(study.axes.seeds)]
    assert extra == f"[{100 * first.min():.1f}; {100 * first.max():.1f}]"


def test_each_flag_is_explained_whether_it_is_raised_or_not(tmp_path, english):
    study = made_up_study(["at"], ["vgg16"], [0])
    write_made_up(study, tmp_path)
    lines = evidence.flag_lines(View(study, read_results(study, "digits", tmp_path), english))
    assert len(lines) == len(THRESHOLDS)
    assert "RA of PGD \N{MINUS SIGN} AutoAttack: RA under PGD less" in lines[0]
    assert "raised above 5 %" in lines[0]
    assert "raised above 0.1 nats" in lines[2]
    assert "raised below 0.1" in lines[3]
    assert "with ε = 1, within which lies every image, raised above 2 %" in lines[5]


def test_no_flag_is_said_in_words(tmp_path, english):
    study = made_up_study(["at", "mart"], ["vgg16"])
    write_made_up(study, tmp_path)
    found = read_results(study, "digits", tmp_path)
    assert sentences.masking(View(study, found, english)) == [
        "No flag is raised in any of the 6 measured cells."
    ]
    assert evidence.flag_remarks(View(study, found, english)) == {}


def test_images_per_attack_are_told_where_they_differ(complete, tmp_path, english):
    study, found = complete
    assert sentences.attack_images(View(study, found, english)) == "Images per attack: 360."
    tables = made_up_tables(study)
    parts = tables.attacks["attack"].isin(["apgd-ce", "square", "all"])
    tables.attacks.loc[parts & (tables.attacks["class"] == "all"), "images"] = 100
    write_made_up(study, tmp_path, tables=tables)
    text = sentences.attack_images(View(study, read_results(study, "digits", tmp_path), english))
    assert "; 100 for APGD-CE, Square and All." in text


def test_labels_and_names_are_those_of_the_evaluation(english):
    assert list(THRESHOLDS) == list(checks.SENTENCES)
    for flag, sentence in checks.SENTENCES.items():
        assert english(f"flags.{flag}.suggests") == sentence


def test_an_unknown_flag_keeps_its_name_and_sentence(tmp_path, english):
    study = made_up_study(["at"], ["vgg16"], [0])
    tables = made_up_tables(study)
    tables.masking = pd.DataFrame([tables.masking.iloc[0]]).assign(
        flag="new_sign", raised=True, suggests="It looks odd."
    )
    write_made_up(study, tmp_path, tables=tables)
    found = read_results(study, "digits", tmp_path)
    (text,) = sentences.masking(View(study, found, english))
    assert text == "new_sign: raised in 1 of 1 cells. It looks odd."


def test_what_is_proved_stands_beside_what_attacks_left_and_as_steps_in_the_curve(
    tmp_path, english
):
    study = made_up_study(["at", "dtrades"], ["resnet18"], [0])
    write_made_up(study, tmp_path)
    epsilon, proved = study.dataset("digits").threat.epsilon, [0.9, 0.5, 0.25]
    at = pd.DataFrame({
        "defense": "at", "architecture": "resnet18", "seed": 0, "images": 40, "abstained": 0.0,
        "epsilon": [0.0, epsilon / 2, epsilon], "certified_accuracy": proved,
        "gap": [None, None, 0.125],
    })  # fmt: skip
    at.to_csv(tmp_path / study.dataset("digits").table("certified"), index=False)
    view = View(study, read_results(study, "digits", tmp_path), english)
    (block,) = evidence.certified_table(view).blocks
    (row,) = block.rows
    assert [row.numbers[place].mean for place in (0, 1, 2, 4)] == ["90.0", "50.0", "25.0", "12.5"]
    (picture,) = curve.pictures(view)
    assert picture.caption.endswith("no attack can undercut it.")
    (panel,) = picture.drawn().axes
    (steps,) = (line for line in panel.lines if line.get_drawstyle() == "steps-pre")
    assert list(steps.get_ydata()) == [100 * share for share in proved]


def with_a_detector(view):
    """The results with a made-up detector: rows of a defense, and no row of the others."""
    name, rows = view.defenses[1], view.results.cells
    mine = rows[rows["defense"] == name][["defense", "architecture", "seed"]]
    asking = mine.assign(forward_passes=3, calibration_images=150)
    numbers = {"images": 100, "examples": 40, "threshold": 1.0, "area": 0.9, "false_alarms": 0.05}
    rates = {"NA_rejecting": 0.9, "coverage": 0.95, "selective_accuracy": 0.95, "evaded": 0.1}
    rates |= {"RErr_all": 0.8, "RErr": 0.3, "RErr_99": 0.405}
    detection = pd.concat(
        mine.assign(attack=attack, detected=share, RA_rejecting=robust, **numbers, **rates)
        .assign(**{"detected_at_0%": 0.1, "detected_at_5%": share, "detected_at_50%": 1.0})
        for attack, share, robust in (
            ("pgd", 0.75, 0.813), ("pgd_evading", 0.25, 0.563), ("bounded", 0.25, 0.5),
        )
    )  # fmt: skip
    found = replace(view.results, asking=asking, detection=detection)
    return replace(view, results=found), name


def test_what_a_detector_is_worth_stands_beside_who_ignores_it(complete, english):
    view, name = with_a_detector(View(*complete, english))
    for table, shown in (
        (evidence.asking_table(view), ["3", "150"]),
        (
            evidence.detection_table(view),
            ["90.0", "75.0", "90.0", "81.3", "25.0", "90.0", "56.3", "80.0", "30.0", "40.5"],
        ),
    ):
        for block in table.blocks:
            (row,) = block.rows
            assert row.header == view.name(name)
            assert [number.mean for number in row.numbers if number.mean][-len(shown) :] == shown
    assert evidence.asking_table(View(*complete, english)) is None


def test_a_detector_has_a_roc_curve_and_a_row_for_each_attack(complete, english):
    view, _ = with_a_detector(View(*complete, english))
    (picture,) = roc.pictures(view)
    assert "AT 25.0 % (PGD, evading)" in picture.description
    for panel in picture.drawn().axes:
        _, unaware, evading = panel.lines  # the first is at 5 % false alarms
        assert list(unaware.get_xdata()) == [0, 5, 50]
        assert list(unaware.get_ydata()) == pytest.approx([10, 75, 100])
        assert list(evading.get_ydata()) == pytest.approx([10, 25, 100])
    table = evidence.detection_by_attack_table(view)
    assert [block.header for block in table.blocks] == ["AT, ResNet-18", "AT, VGG16"]
    assert [row.header for row in table.blocks[0].rows] == [
        "PGD",
        "PGD, evading",
        "suite bounded, all",
    ]
    assert [number.mean for number in table.blocks[0].rows[1].numbers] == ["90.0", "25.0", "56.3"]
    fooled_none = view.results.detection.assign(area=float("nan"), detected=float("nan"))
    view = replace(view, results=replace(view.results, detection=fooled_none))
    row = evidence.detection_by_attack_table(view).blocks[0].rows[0]
    assert [number.mean for number in row.numbers] == ["", "", "81.3"]
    assert roc.pictures(View(*complete, english)) == []


def test_mixtures_are_lines_over_their_weight_between_the_two_networks(tmp_path, english):
    mixed = {"mixing_75": 0.75, "mixing": 0.5}  # in any order
    study = made_up_study(["standard", "at", "dtrades", *mixed], ["resnet18"], [0])
    write_made_up(study, tmp_path)
    found = read_results(study, "digits", tmp_path)
    (picture,) = mixtures.pictures(View(study, found, english))
    (panel,) = picture.drawn().axes
    robust = found.metric("RA")["resnet18"][["standard", "mixing", "mixing_75", "at"]]
    lines = {tuple(line.get_xdata()): line.get_ydata() for line in panel.lines}
    assert list(lines[0.0, 0.5, 0.75, 1.0]) == pytest.approx(100 * robust.to_numpy())
    levels = [line.get_ydata()[0] for line in panel.lines if tuple(line.get_xdata()) == (0, 1)]
    ours = found.cells.set_index("defense").loc["dtrades"]
    assert levels == pytest.approx([100 * ours["NA"], 100 * ours["RA"]])
    alone = made_up_study(["standard", "at", "dtrades", "mixing"], ["resnet18"], [0])
    write_made_up(alone, tmp_path)
    view = View(alone, read_results(alone, "digits", tmp_path), english)
    assert mixtures.pictures(view) == []


def test_attacks_beyond_ra_have_a_table_beside_it_and_are_no_column_of_the_others(
    complete, templates, english
):
    study, found = complete
    assert (
        View(study, found, english) and accuracy.beyond_table(View(study, found, english)) is None
    )
    spatial = Attack("spatial", "spatial", SPATIAL.model_validate(TURN))
    dataset = found.dataset
    suites = dataset.suites | {"beyond": Suite("beyond", None, 64, ["best"], None, (spatial,))}
    rows = found.attacks[(found.attacks["attack"] == "pgd") & (found.attacks["version"] == "best")]
    turned = rows.assign(attack="spatial", accuracy=0.25)
    more = replace(
        found,
        dataset=replace(dataset, suites=suites),
        attacks=pd.concat([found.attacks, turned]),
    )
    view = View(study, more, english)
    table = accuracy.beyond_table(view)
    headers = [column.header for column in table.columns]
    assert headers[:3] == ["NA", "RA", "Rotations and shifts"]
    assert {row.numbers[2].mean for block in table.blocks for row in block.rows[:-1]} == {"25.0"}
    assert more.bounded_attacks == found.bounded_attacks
    assert more.autoattack_parts == found.autoattack_parts


def test_gradients_of_many_defenses_fit_their_pages(tmp_path, english):
    """Two halves side by side, each below the images; what does not fit is in another picture."""
    names = [f"row_{number}" for number in range(25)]
    study = made_up_study(names, ["resnet18"], [0])
    write_made_up(study, tmp_path)
    view = View(study, read_results(study, "digits", tmp_path), english)
    first, second = (picture.drawn() for picture in gradients.pictures(view))
    for figure, shown in ((first, names[:24]), (second, names[24:])):
        (panel,) = figure.axes
        texts = [text.get_text() for text in panel.texts]
        assert [text for text in texts if text != "x"] == shown
        images = len(panel.images) / len(texts)
        assert images == gradients.read_tiles(view.results).shape[1]
        assert figure.get_size_inches()[1] <= FIELD_HEIGHT

"""The vocabulary of params.yaml: quotients, sections, and what is said of a wrong value."""

import importlib
from fractions import Fraction as Exact

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tradeoff.core import schema
from tradeoff.core.plugins import knobs_class, module_names
from tradeoff.core.schema import BadParams, Fraction, Number, Section, dotted, unknown, validate


class Inner(Section):
    size: schema.PositiveInt


class Outer(Section):
    number: Number = 0.0
    share: Fraction = 0.0
    flag: bool = False
    inner: Inner | None = None


def read(**values: object) -> Outer:
    return validate(Outer, values, file="some.yaml")


def complaint(**values: object) -> str:
    with pytest.raises(BadParams) as caught:
        read(**values)
    return str(caught.value)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 10**6), st.sampled_from(["/", " / ", "/ "]))
def test_quotients_are_numbers(above: int, below: int, slash: str) -> None:
    assert read(number=f"{above}{slash}{below}").number == pytest.approx(float(Exact(above, below)))


def test_quotients_of_decimals_and_plain_numbers() -> None:
    assert read(number="0.5/2").number == 0.25
    assert read(number=3).number == 3.0
    assert read(number=0.1).number == 0.1


@pytest.mark.parametrize(
    "value",
    ["8/0", "8/0.0", "8", "8/", "/8", "8/2/2", "-8/255", "8/-255", "eight", "1e3/2", "", "8:255"],
)
def test_what_is_no_quotient_is_refused(value: str) -> None:
    message = complaint(number=value)
    assert message == (
        f"some.yaml: number: is {value!r}; it should be a number or a quotient such as 8/255"
    )


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), "9" * 400 + "/1"])
def test_infinite_numbers_are_refused(value: object) -> None:
    assert "some.yaml: number: is " in complaint(number=value)
    assert "should be a finite number" in complaint(number=value)


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"number": True}, "number: is True; it should be a valid number"),
        ({"number": None}, "number: is None; it should be a valid number"),
        ({"number": [1]}, "number: is [1]; it should be a valid number"),
        ({"share": 1.5}, "share: is 1.5; it should be less than or equal to 1"),
        ({"share": "3/2"}, "share: is '3/2'; it should be less than or equal to 1"),
        ({"flag": 1}, "flag: is 1; it should be a valid boolean"),
        ({"flag": "yes"}, "flag: is 'yes'; it should be a valid boolean"),
        ({"inner": {"size": 0}}, "inner.size: is 0; it should be greater than 0"),
        ({"inner": {"size": 1.0}}, "inner.size: is 1.0; it should be a valid integer"),
        ({"inner": {"size": True}}, "inner.size: is True; it should be a valid integer"),
        ({"inner": {}}, "inner.size: is missing"),
        ({"inner": 5}, "inner: is 5; it should be a section with keys size"),
        ({"inner": []}, "inner: is []; it should be a section with keys size"),
        (
            {"inner": {"siez": 3}},
            "inner: 'siez' is not known; allowed: size; did you mean size?",
        ),
        ({"inner": {3: 3}}, "inner: '3' is not known; allowed: size"),
    ],
)
def test_wrong_values_are_told_with_key_value_and_rule(
    values: dict[str, object], rule: str
) -> None:
    (line,) = complaint(**values).splitlines()
    assert line.startswith(f"some.yaml: {rule}")


def test_every_wrong_value_gets_its_own_line() -> None:
    lines = complaint(number="x", share=2.0, inner={"size": -1}).splitlines()
    assert [line.split(": ")[1] for line in lines] == ["number", "share", "inner.size"]


def test_the_place_of_a_part_is_named() -> None:
    with pytest.raises(BadParams, match=r"^f\.yaml: a\.b\.inner\.size: is 'x'"):
        validate(Outer, {"inner": {"size": "x"}}, file="f.yaml", at="a.b")


def test_an_empty_section_says_how_it_is_written() -> None:
    class Empty(Section):
        """None."""

    with pytest.raises(BadParams, match=r"\(none: write \{\}\)"):
        validate(Empty, None, file="f.yaml", at="standard")
    assert validate(Empty, {}, file="f.yaml") == Empty()


def test_unknown_names_list_the_allowed_ones_and_the_nearest() -> None:
    assert unknown("trade", ["at", "trades"]).endswith("allowed: at, trades; did you mean trades?")
    assert "did you mean" not in unknown("zzz", ["at", "trades"])
    assert "(nothing)" in unknown("zzz", [])


@pytest.mark.parametrize("folder", ["defenses", "attacks"])
def test_knobs_are_those_of_the_module_without_importing_it(folder: str) -> None:
    names = module_names(folder, "Knobs")
    assert names
    for name in names:
        real = importlib.import_module(f"tradeoff.{folder}.{name}").Knobs
        mine = knobs_class(folder, name)
        assert mine is not real
        assert mine.model_json_schema() == real.model_json_schema()


def test_members_are_the_modules_that_define_what_is_asked_for() -> None:
    known = module_names("datasets", "read")
    assert {"digits", "mnist_5k", "mnist", "cifar10", "folder", "npz"} <= set(known)
    assert "prepared" not in known
    assert {"resnet18", "vgg16", "mlp"} <= set(module_names("archs", "build"))
    assert {"at", "trades", "dtrades", "mart", "faal", "standard"} <= set(
        module_names("defenses", "Knobs")
    )
    assert "nearest" not in module_names("attacks", "Knobs")


def test_values_are_named_by_their_place_and_an_empty_section_is_one() -> None:
    settings = {"train": {"epochs": 3, "attack": {"steps": 10}}, "at": {}, "limit": None}
    assert dotted(settings) == {
        "train.epochs": 3, "train.attack.steps": 10, "at": {}, "limit": None,
    }  # fmt: skip

"""Levels and the arguments they stand for."""

import json
import math

import numpy as np
import pytest

import autoaugment
from autoaugment import dispatch, magnitudes, policies
from tests import golden_data

GOLDEN = json.loads(golden_data.path("augmentation.json").read_text())


def test_arguments_at_level_9_by_hand():
    args = {n: autoaugment.level_to_args(n, 9) for n in magnitudes.OP_NAMES}
    assert args == {
        "AutoContrast": (),
        "Equalize": (),
        "Invert": (),
        "Rotate": (27.0,),
        "Posterize": (3,),
        "Solarize": (230,),
        "Color": (pytest.approx(1.72),),
        "Contrast": (pytest.approx(1.72),),
        "Brightness": (pytest.approx(1.72),),
        "Sharpness": (pytest.approx(1.72),),
        "ShearX": (pytest.approx(0.27),),
        "ShearY": (pytest.approx(0.27),),
        "TranslateX": (90.0,),
        "TranslateY": (90.0,),
        "SolarizeAdd": (99,),
        "Cutout": (36,),
    }


def test_constants_scale_cutout_and_translations_only():
    for name in magnitudes.OP_NAMES:
        args = autoaugment.level_to_args(
            name, 27, cutout_const=4, translate_const=5
        )
        if name == "Cutout":
            assert args == (10,)
        elif name in ("TranslateX", "TranslateY"):
            assert args == (13.5,)
        else:
            assert args == autoaugment.level_to_args(name, 27)


@pytest.mark.parametrize("repository", ["noisystudent", "efficientnet"])
def test_all_arguments_equal_the_originals(repository):
    compared = 0
    for constants, table in GOLDEN["levels"][repository].items():
        keywords = {
            key: int(value)
            for key, value in (part.split("=") for part in constants.split(","))
        }
        for name, levels in table.items():
            for level, args in levels.items():
                ours = magnitudes.level_to_args(name, int(level), **keywords)
                assert list(ours) == args, (name, level, constants)
                assert [type(a) for a in ours] == [type(a) for a in args]
                compared += 1
    assert compared == 3 * 16 * 19


def test_the_order_of_operations_is_the_originals():
    assert list(magnitudes.OP_NAMES) == GOLDEN["op_order"]
    assert list(dispatch.OPS) == GOLDEN["op_order"]


def test_the_learned_policy_is_the_originals():
    expected = tuple(
        tuple((op["op"], op["prob"], op["level"]) for op in sub_policy)
        for sub_policy in GOLDEN["policy_v0"]
    )
    assert expected == policies.V0
    assert len(expected) == 25


def test_numpy_numbers_are_numbers():
    assert magnitudes.level_to_args("Rotate", np.float32(10)) == (30.0,)
    assert magnitudes.level_to_args("Cutout", np.int64(10)) == (40,)


def test_both_signs_negate_signed_arguments_only():
    both = magnitudes.with_both_signs("ShearX", (0.25,))
    assert both == [("ShearX", (0.25,)), ("ShearX", (-0.25,))]
    both = magnitudes.with_both_signs("Posterize", (3,))
    assert both == [("Posterize", (3,))] * 2


def test_an_unknown_operation_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="one of.*'Rotate'.*: 'Rotation'"):
        magnitudes.level_to_args("Rotation", 9)


@pytest.mark.parametrize("value", [-1, -0.5, math.nan, math.inf, "9", None])
@pytest.mark.parametrize("name", ["level", "cutout_const", "translate_const"])
def test_a_bad_number_is_refused_by_name(name, value):
    arguments = {"level": 9, name: value}
    with pytest.raises(
        ValueError, match=f"`{name}` must be a finite.*: {value!r}"
    ):
        magnitudes.level_to_args("Invert", **arguments)

"""Every stored output of the original code, to the last pixel.

`augmentation.npz` holds the input images and, for the small ones, all outputs;
`augmentation.json` describes each output and has its SHA-256.
"""

import functools
import hashlib
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from autoaugment import dispatch, geometry, magnitudes, policies
from tests import golden_data

GOLDEN = json.loads(golden_data.path("augmentation.json").read_text())
ARRAYS = np.load(golden_data.path("augmentation.npz"))

SINGLE = [case for case in GOLDEN["cases"] if "op" in case]
COMPOSED = [case for case in GOLDEN["cases"] if "composed" in case]
SUB_POLICIES = [case for case in GOLDEN["cases"] if "policy" in case]

# The original's draws were fixed at this value: no operation of a probability
# above 0 is left out, and every sign is positive.
DRAW = 0.999


def assert_golden(image, case):
    """Compares pixels where they are stored, and the hash in any case."""
    image = image.numpy()
    if "row" in case:
        expected = ARRAYS["output/" + case["image"]][case["row"]]
        np.testing.assert_array_equal(image, expected, err_msg=case["key"])
    digest = hashlib.sha256(image.tobytes()).hexdigest()
    assert digest == case["sha256"], case["key"]


def input_image(case):
    return ARRAYS["input/" + case["image"]]


def fractions(case):
    size = input_image(case).shape[:2]
    centre = np.array(case.get("centre", [0, 0]))
    return tf.constant((centre + 0.5) / size, tf.float32)


def test_all_of_the_golden_data_is_here():
    assert len(SINGLE) == 457
    assert len(COMPOSED) == 20
    assert len(SUB_POLICIES) == 50
    assert {case["op"] for case in SINGLE} == set(dispatch.OPS)


def apply_case(case, image):
    """Applies the case's single operation to a tensor of its image."""
    if case["op"] == "Cutout":
        pad_size, replace = case["args"]
        return geometry.cutout_at(image, pad_size, case["centre"], replace)
    return dispatch.OPS[case["op"]](image, *case["args"])


@pytest.mark.parametrize("name", dispatch.OPS)
def test_an_operation_equals_the_original(name):
    for case in SINGLE:
        if case["op"] == name:
            assert_golden(apply_case(case, input_image(case)), case)


@pytest.mark.parametrize("name", dispatch.OPS)
def test_an_operation_equals_the_original_in_a_dataset(name):
    """One case for each image: optimised graphs must not reorder floats."""
    cases = {case["image"]: case for case in SINGLE if case["op"] == name}
    for case in cases.values():
        dataset = tf.data.Dataset.from_tensors(input_image(case)).map(
            functools.partial(apply_case, case)
        )
        assert_golden(next(iter(dataset)), case)


@pytest.mark.slow
@pytest.mark.parametrize("switch", ["0", "1"])
def test_sums_are_exact_with_onednn_on_and_off(switch):
    """Its convolutions and products add in an order of their own."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        + ["-k", "an_operation_equals and (Sharpness or Color)", __file__],
        env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": switch},
        cwd=pathlib.Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert "4 passed" in done.stdout, done.stdout[-2000:]


def compose(case, image):
    for name in case["composed"]:
        args = magnitudes.level_to_args(name, case["magnitude"])
        choices = magnitudes.with_both_signs(name, args)
        negated = int(case["sign"] < 0)
        image = dispatch.apply_one_of(image, choices, negated, fractions(case))
    return image


@pytest.mark.parametrize("case", COMPOSED, ids=lambda case: case["key"])
def test_two_operations_of_randaugment_equal_the_original(case):
    image = tf.constant(input_image(case))
    assert_golden(compose(case, image), case)
    dataset = tf.data.Dataset.from_tensors(image).map(
        functools.partial(compose, case)
    )
    assert_golden(next(iter(dataset)), case)


def test_sub_policies_of_autoaugment_equal_the_original():
    for case in SUB_POLICIES:
        image = input_image(case)
        for name, probability, level in policies.V0[case["policy"]]:
            if DRAW + probability >= 1:
                args = magnitudes.level_to_args(
                    name, level, **GOLDEN["autoaugment_hparams"]
                )
                image = dispatch.apply_op(image, name, args, fractions(case))
        assert_golden(image, case)

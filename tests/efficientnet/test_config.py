"""The architectures against the original's, without building a model."""

import dataclasses
import json
import subprocess
import sys

import pytest

import efficientnet
from efficientnet import scaling
from tests import golden_data

GOLDEN = json.loads(
    golden_data.path("efficientnet_architectures.json").read_text()
)["models"]

# All parameters, moving statistics included, and the trainable ones. L0 and L1
# were never released; their trainable counts are the paper's architecture's.
ALL_PARAMS = {
    "efficientnet-b0": 5_330_564,
    "efficientnet-b1": 7_856_232,
    "efficientnet-b2": 9_177_562,
    "efficientnet-b3": 12_320_528,
    "efficientnet-b4": 19_466_816,
    "efficientnet-b5": 30_562_520,
    "efficientnet-b6": 43_265_136,
    "efficientnet-b7": 66_658_680,
    "efficientnet-b8": 87_793_174,
    "efficientnet-l2": 481_399_996,
    "efficientnet-l2_475": 481_399_996,
}
TRAINABLE_PARAMS = {
    "efficientnet-b0": 5_288_548,
    "efficientnet-b1": 7_794_184,
    "efficientnet-b2": 9_109_994,
    "efficientnet-b3": 12_233_232,
    "efficientnet-b4": 19_341_616,
    "efficientnet-b5": 30_389_784,
    "efficientnet-b6": 43_040_704,
    "efficientnet-b7": 66_347_960,
    "efficientnet-b8": 87_413_142,
    "efficientnet-l0": 140_764_664,
    "efficientnet-l1": 272_630_564,
    "efficientnet-l2": 480_309_308,
    "efficientnet-l2_475": 480_309_308,
}


def config_of(golden_name):
    """Returns the configuration that a golden row was recorded with."""
    if golden_name in efficientnet.MODEL_NAMES:
        return efficientnet.get_config(golden_name)
    row = GOLDEN[golden_name]
    return dataclasses.replace(
        efficientnet.get_config("efficientnet-b0"),
        width_coefficient=row["width_coefficient"],
        depth_coefficient=row["depth_coefficient"],
        num_classes=row["overrides"]["num_classes"],
        image_size=row["resolution"],
        small_image=golden_name == "small_image",
    )


def count_params(config):
    """Returns the trainable and the moving-statistics parameter counts."""
    stem = scaling.round_filters(config.stem_filters, config.width_coefficient)
    head = scaling.round_filters(config.head_filters, config.width_coefficient)
    kernels, normalized = 27 * stem, stem
    for block in scaling.scaled_blocks(config):
        expanded = block.input_filters * block.expand_ratio
        if block.expand_ratio != 1:
            kernels += block.input_filters * expanded
            normalized += expanded
        kernels += block.kernel_size**2 * expanded
        kernels += 2 * expanded * block.se_filters
        kernels += block.se_filters + expanded
        kernels += expanded * block.output_filters
        normalized += expanded + block.output_filters
        last = block.output_filters
    kernels += last * head + (head + 1) * config.num_classes
    normalized += head
    return kernels + 2 * normalized, 2 * normalized


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_blocks_equal_the_originals(name):
    row, config = GOLDEN[name], config_of(name)
    assert config.dropout_rate == row["dropout_rate"]
    assert config.image_size == row["resolution"]
    size = -(-config.image_size // 2)
    blocks = []
    for block in scaling.scaled_blocks(config):
        size = -(-size // block.strides)
        blocks.append(
            [
                block.kernel_size,
                block.strides,
                block.expand_ratio,
                block.input_filters,
                block.output_filters,
                block.se_filters,
                size,
            ]
        )
    assert blocks == row["blocks"]


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_stem_and_head_filters_equal_the_originals(name):
    row, config = GOLDEN[name], config_of(name)
    width = config.width_coefficient
    stem = scaling.round_filters(config.stem_filters, width)
    head = scaling.round_filters(config.head_filters, width)
    assert (stem, head) == (row["stem_filters"], row["head_filters"])


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_parameter_counts_equal_the_originals(name):
    row = GOLDEN[name]
    trainable, moving = count_params(config_of(name))
    assert trainable == row["trainable_params"]
    assert trainable + moving == row.get("all_params", trainable + moving)


@pytest.mark.parametrize("name", efficientnet.MODEL_NAMES)
def test_every_model_has_its_published_size(name):
    trainable, moving = count_params(efficientnet.get_config(name))
    assert trainable == TRAINABLE_PARAMS[name]
    assert trainable + moving == ALL_PARAMS.get(name, trainable + moving)


@pytest.mark.parametrize(
    "name", sorted(name for name in GOLDEN if "survival_probs" in GOLDEN[name])
)
def test_survival_probs_equal_the_originals(name):
    row, config = GOLDEN[name], config_of(name)
    blocks = scaling.scaled_blocks(config)
    skips = [index for index, block in enumerate(blocks) if block.has_skip]
    assert skips == row["blocks_with_skip"]
    probs = scaling.linear_survival_probs(len(blocks), config.survival_prob)
    assert probs == pytest.approx(row["survival_probs"], abs=1e-12)


def test_survival_probs_decay_from_one_to_just_above_the_final_layers():
    probs = efficientnet.survival_probs("efficientnet-l2")
    assert len(probs) == 88
    assert probs[0] == 1
    assert probs[-1] == pytest.approx(1 - 0.2 * 87 / 88)
    assert efficientnet.survival_probs(
        "efficientnet-b0", survival_prob=0.5
    ) == pytest.approx([1 - 0.5 * index / 16 for index in range(16)])
    assert set(
        efficientnet.survival_probs("efficientnet-b0", survival_prob=1)
    ) == {1.0}


@pytest.mark.parametrize(
    "name,train_image_size,image_size",
    [
        ("efficientnet-b0", 224, 224),
        ("efficientnet-b7", 600, 600),
        ("efficientnet-l0", 380, 600),
        ("efficientnet-l1", 380, 600),
        ("efficientnet-l2", 475, 800),
        ("efficientnet-l2_475", 475, 475),
    ],
)
def test_image_sizes_at_training_and_evaluation(
    name, train_image_size, image_size
):
    config = efficientnet.get_config(name)
    assert config.train_image_size == train_image_size
    assert config.image_size == image_size


@pytest.mark.parametrize(
    "filters,width,expected",
    [
        (32, 1.0, 32),
        (32, 0.1, 8),  # never below 8
        (40, 1.1, 48),  # 44 is halfway and goes up
        (19, 1.0, 24),  # 16 would lose more than a tenth
        (17, 1.0, 16),
        (1280, 4.3, 5504),
    ],
)
def test_filters_round_to_a_multiple_of_eight(filters, width, expected):
    assert scaling.round_filters(filters, width) == expected


def test_repeats_round_up():
    assert scaling.round_repeats(4, 1.1) == 5
    assert scaling.round_repeats(3, 1.0) == 3


def test_squeeze_excite_has_at_least_one_filter():
    block = efficientnet.BlockConfig(1, 3, 1, 6, 3, 8)
    assert block.se_filters == 1


def test_an_unknown_name_lists_the_choices():
    with pytest.raises(ValueError, match="efficientnet-b0.*'efficientnet-b9'"):
        efficientnet.get_config("efficientnet-b9")


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"width_coefficient": 0}, "`width_coefficient` must be > 0"),
        ({"depth_coefficient": -1.0}, "`depth_coefficient` must be > 0"),
        ({"dropout_rate": 1.0}, "`dropout_rate` must be in .* Received: 1.0"),
        ({"survival_prob": 0.0}, "`survival_prob` must be in .* Received: 0.0"),
        ({"num_classes": 0}, "`num_classes` must be >= 1. Received: 0"),
        ({"image_size": 0}, "`image_size` must be >= 1. Received: 0"),
        ({"mean_rgb": (1.0, 2.0)}, "`mean_rgb` must have 3 values"),
        ({"stddev_rgb": (1.0, 0.0, 1.0)}, "`stddev_rgb` must be > 0"),
    ],
)
def test_a_config_refuses_values_out_of_range(changes, message):
    config = efficientnet.get_config("efficientnet-b0")
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(config, **changes)


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"num_repeats": 0}, "`num_repeats` must be >= 1. Received: 0"),
        ({"strides": 0}, "`strides` must be >= 1. Received: 0"),
        ({"se_ratio": 0.0}, "`se_ratio` must be in .* Received: 0.0"),
    ],
)
def test_a_block_refuses_values_out_of_range(changes, message):
    block = efficientnet.BlockConfig(1, 3, 1, 6, 16, 24)
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(block, **changes)


def test_configuration_needs_no_tensorflow():
    code = (
        "import sys, efficientnet\n"
        "efficientnet.get_config('efficientnet-b0')\n"
        "efficientnet.survival_probs('efficientnet-b0')\n"
        "assert 'build_model' in dir(efficientnet)\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'build_modell'"):
        _ = efficientnet.build_modell

import dataclasses
import json
import subprocess
import sys

import pytest
import tensorflow as tf

import efficientnet
from noisy_student import config, info, models
from tests import golden_data

ARCHITECTURES = json.loads(
    golden_data.path("efficientnet_architectures.json").read_text()
)["models"]
B0 = config.ModelConfig("efficientnet-b0", 1000, 224)
TINY = config.ModelConfig(
    "efficientnet-b0", 10, 224, width_coefficient=0.25, depth_coefficient=0.1
)
SMALL_IMAGE = config.ModelConfig("efficientnet-b0", 7, 33, small_image=True)
# The paper's "FLOPs" are multiply-adds. Source: EfficientNet, arXiv
# 1905.11946, Table 2.
PAPERS_MULTIPLY_ADDS = {
    "efficientnet-b0": 0.39e9,
    "efficientnet-b1": 0.70e9,
    "efficientnet-b2": 1.0e9,
    "efficientnet-b3": 1.8e9,
    "efficientnet-b4": 4.2e9,
    "efficientnet-b5": 9.9e9,
    "efficientnet-b6": 19e9,
    "efficientnet-b7": 37e9,
}

# Of the models that the golden data leaves out.
TRAINABLE_PARAMS = {
    "efficientnet-l0": 140_764_664,
    "efficientnet-l1": 272_630_564,
    "efficientnet-l2_475": 480_309_308,
}


def card_of(model, **arguments):
    return info.model_card(model, **{"batch_size": 8, **arguments})


def published(name):
    """Returns the `ModelConfig` of a table row at its nominal resolution."""
    resolution = ARCHITECTURES[name]["resolution"]
    return config.ModelConfig(name, 1000, resolution)


@pytest.mark.parametrize(
    "name", sorted({*efficientnet.MODEL_NAMES} - {*TRAINABLE_PARAMS})
)
def test_layers_are_those_of_the_original(name):
    expected = ARCHITECTURES[name]
    card = card_of(published(name))
    assert card.params == expected["all_params"]
    assert card.trainable_params == expected["trainable_params"]
    assert card.dropout_rate == expected["dropout_rate"]
    stem, *blocks, head, dense = card.layers
    assert stem.output_filters == expected["stem_filters"]
    assert head.output_filters == expected["head_filters"]
    assert [dense.input_filters, dense.output_filters] == [
        expected["head_filters"],
        1000,
    ]
    assert [
        [
            block.kernel_size,
            block.strides,
            block.expand_ratio,
            block.input_filters,
            block.output_filters,
            block.se_filters,
            block.output_size,
        ]
        for block in blocks
    ] == expected["blocks"]


@pytest.mark.parametrize("name", sorted(TRAINABLE_PARAMS))
def test_models_without_golden_data_have_the_published_parameters(name):
    card = card_of(config.ModelConfig(name, 1000, 380))
    assert card.trainable_params == TRAINABLE_PARAMS[name]


@pytest.mark.parametrize("name", ["efficientnet-b0", "efficientnet-b7"])
def test_survival_is_given_for_blocks_that_may_be_dropped(name):
    blocks = card_of(published(name)).layers[1:-2]
    probs = efficientnet.survival_probs(name)
    with_skip = ARCHITECTURES[name]["blocks_with_skip"]
    assert [block.survival_prob for block in blocks] == [
        prob if index in with_skip else None for index, prob in enumerate(probs)
    ]


def test_a_rate_of_stochastic_depth_and_of_dropout_overrides_the_tables():
    changed = dataclasses.replace(
        B0, stochastic_depth_rate=0.4, dropout_rate=0.0
    )
    card = card_of(changed)
    assert card.dropout_rate == 0
    assert card.layers[3].name == "blocks_2"
    assert card.layers[3].survival_prob == pytest.approx(1 - 0.4 * 2 / 16)


def counted_multiply_adds(network, image_size):
    """Counts the multiply-adds of one image in the network's own graph."""
    function = tf.function(
        lambda images: network(images, training=False), autograph=False
    ).get_concrete_function(tf.TensorSpec([1, image_size, image_size, 3]))
    total = 0
    for op in function.graph.get_operations():
        if op.type in ("Conv2D", "DepthwiseConv2dNative", "MatMul"):
            kernel = op.inputs[1].shape.as_list()
            # Each output sums over the kernel, but for its outputs' axis; a
            # depthwise kernel ends in (channels, 1).
            terms = {
                "Conv2D": lambda k: k[0] * k[1] * k[2],
                "DepthwiseConv2dNative": lambda k: k[0] * k[1],
                "MatMul": lambda k: k[0],
            }[op.type](kernel)
            total += terms * op.outputs[0].shape.num_elements()
    return total


@pytest.mark.parametrize(
    "model",
    [
        B0,
        TINY,
        SMALL_IMAGE,
        pytest.param(published("efficientnet-b3"), marks=pytest.mark.long),
    ],
    ids=["b0", "tiny", "small_image", "b3"],
)
def test_figures_equal_those_of_the_built_network(model):
    network = models.build(model)
    card = card_of(model)
    assert card.params == network.count_params()
    assert card.trainable_params == sum(
        weight.shape.num_elements() for weight in network.trainable_weights
    )
    layers = {layer.name: layer for layer in network.layers if layer.weights}
    assert [layer.name for layer in card.layers] == list(layers)
    for layer in card.layers:
        assert layer.params == layers[layer.name].count_params()
    for layer in card.layers[:-2]:
        shape = layers[layer.name].output_shape
        assert shape[1:] == (
            layer.output_size,
            layer.output_size,
            layer.output_filters,
        )
    assert card.multiply_adds == counted_multiply_adds(
        network, model.image_size
    )


@pytest.mark.parametrize("name", sorted(PAPERS_MULTIPLY_ADDS))
def test_multiply_adds_are_the_papers(name):
    card = card_of(published(name))
    # The paper gives two digits, and for two models a little less.
    tolerance = 0.05 if name in ("efficientnet-b4", "efficientnet-b5") else 0.03
    assert card.multiply_adds == pytest.approx(
        PAPERS_MULTIPLY_ADDS[name], rel=tolerance
    )
    assert card.flops == 2 * card.multiply_adds
    assert card.step_flops == 3 * 8 * card.flops


def test_memory_is_that_of_weights_and_kept_activations():
    card = card_of(B0, batch_size=3)
    memory = card.memory
    assert memory.weights == memory.moving_average == 4 * 5_330_564
    assert memory.gradients == 4 * 5_288_548
    assert memory.slots == 2 * 4 * 5_288_548
    # Input and three outputs.
    stem = 224**2 * 3 + 3 * 112**2 * 32
    assert card.layers[0].kept_values == stem
    # Expanded three times before and after the stride, once more after
    # squeeze-excite; the projection's and the block's outputs.
    block_1 = 3 * 112**2 * 96 + 4 * 56**2 * 96 + 2 * 56**2 * 24
    assert card.layers[2].kept_values == block_1
    # No expansion.
    block_0 = 4 * 112**2 * 32 + 2 * 112**2 * 16
    assert card.layers[1].kept_values == block_0
    kept = 3 * sum(layer.kept_values for layer in card.layers)
    assert memory.activations == {
        "float32": 4 * kept,
        "mixed_bfloat16": 2 * kept,
    }
    # The widest block, expanded at the resolution of its input.
    live = 3 * 3 * 112**2 * 96
    assert memory.inference_activations["float32"] == 4 * live
    assert memory.inference("float32") == memory.weights + 4 * live
    assert memory.training("mixed_bfloat16") == (
        2 * memory.weights + 3 * memory.gradients + 2 * kept
    )


def test_a_skip_holds_its_input_at_inference():
    layer = card_of(B0).layers[3]
    assert layer.name == "blocks_2"
    assert layer.live_values == 56**2 * 24 + 3 * 56**2 * 144


def test_the_text_is_a_table_and_figures_with_units():
    text = info.format_card(card_of(B0))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 92
    assert lines[0] == "efficientnet-b0 at 224x224, 1,000 classes"
    assert " ".join(lines[5].split()) == (
        "blocks_1 3x3 2 6 16 24 4 56 - 6,436 29,203,200"
    )
    assert lines[6].split()[8] == "0.9750"
    for expected in (
        "Dropout before the classifier: 0.2.",
        "Parameters: 5,330,564, of which 5,288,548 are trained",
        "One image: 385,814,752 multiply-adds, 771,629,504 FLOPs\n",
        "Training step of 8 images: about 18.5 G FLOPs\n",
        "Memory of 8 images on one device, about",
    ):
        assert expected in text
    rows = {tuple(line.split()) for line in lines}
    assert ("weights", "20.3", "MiB", "20.3", "MiB") in rows
    assert ("slots", "of", "rmsprop", "40.3", "MiB", "40.3", "MiB") in rows
    assert ("activations", "675", "MiB", "337", "MiB") in rows
    assert ("training", "in", "all", "776", "MiB", "439", "MiB") in rows
    assert ("inference", "in", "all", "131", "MiB", "75.5", "MiB") in rows


def test_the_table_of_the_largest_model_keeps_its_width():
    card = card_of(config.ModelConfig("efficientnet-l2", 1000, 800))
    lines = info.format_card(card).splitlines()
    assert max(map(len, lines)) <= 92
    assert sum(line.startswith("blocks_") for line in lines) == 88


def test_the_summary_is_two_lines():
    model = config.ModelConfig("efficientnet-l2", 1000, 475)
    assert info.summary(card_of(model, batch_size=2048)) == (
        "efficientnet-l2 at 475x475, 1,000 classes: 481 M parameters, 171 G "
        "multiply-adds per image.\n"
        "Training step of 2,048 images on one device: about 2.10 P FLOPs; "
        "memory about 15.1 TiB in float32, 7.58 TiB in mixed_bfloat16."
    )


def test_the_card_needs_no_tensorflow():
    code = (
        "import sys\n"
        "from noisy_student import config, info\n"
        "model = config.ModelConfig('efficientnet-l2', 1000, 475)\n"
        "card = info.model_card(model, batch_size=2048)\n"
        "assert info.format_card(card)\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_batch_size_is_checked():
    with pytest.raises(ValueError, match="`batch_size` must be .*Received: 0"):
        card_of(TINY, batch_size=0)


def test_an_unknown_model_is_refused():
    with pytest.raises(ValueError, match="must be one of .*'resnet'"):
        card_of(dataclasses.replace(TINY, model_name="resnet"))

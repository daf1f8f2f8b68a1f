"""Freezing: what trains afterwards, and what stays."""

import numpy as np
import pytest
import tensorflow as tf

import efficientnet
from efficientnet.normalization import BatchNorm
from tests.efficientnet import helpers


def trained_layers(model):
    return {weight.name.split("/")[0] for weight in model.trainable_weights}


@pytest.mark.parametrize(
    ("num_blocks", "head", "expected"),
    [
        (0, False, {"head", *(f"blocks_{i}" for i in range(7))}),
        (5, False, {"head", "blocks_5", "blocks_6"}),
        (7, False, {"head"}),
    ],
)
def test_the_stem_and_the_first_blocks_are_frozen(num_blocks, head, expected):
    model = helpers.build_tiny(small_image=True)
    efficientnet.freeze_layers(model, num_blocks, head=head)
    assert trained_layers(model) == expected


def test_with_the_head_frozen_only_the_classifier_is_left():
    model = helpers.build_tiny(small_image=True)
    efficientnet.freeze_layers(model, 7, head=True)
    names = [weight.name for weight in model.trainable_weights]
    assert names == ["head/dense/kernel:0", "head/dense/bias:0"]


def test_a_frozen_head_may_train_the_normalization_before_the_pooling():
    model = helpers.build_tiny(small_image=True)
    efficientnet.freeze_layers(model, 7, head=True, head_batch_norm=True)
    norm = "head/tpu_batch_normalization"
    assert [weight.name for weight in model.trainable_weights] == [
        f"{norm}/gamma:0",
        f"{norm}/beta:0",
        "head/dense/kernel:0",
        "head/dense/bias:0",
    ]
    norms = [m for m in model.submodules if isinstance(m, BatchNorm)]
    before = [norm.moving_mean.numpy() for norm in norms]
    model(tf.random.uniform([4, 32, 32, 3], 0, 255), training=True)
    moved = [
        norm is model.get_layer("head").batch_norm
        for norm, old in zip(norms, before)
        if not np.array_equal(norm.moving_mean, old)
    ]
    assert moved == [True]


def test_the_parts_that_are_trained_are_counted():
    model = helpers.build_tiny(small_image=True)
    everything = efficientnet.trained_parts(model)
    assert everything.frozen == everything.layers_of_frozen_norms == ()
    assert everything.trained == (
        *("stem", *(f"blocks_{i}" for i in range(7))),
        *("head", "head/dense"),
    )
    assert everything.params == model.count_params()
    efficientnet.freeze_layers(model, 2)
    parts = efficientnet.trained_parts(model)
    assert parts.frozen == ("stem", "blocks_0", "blocks_1")
    assert parts.layers_of_frozen_norms == parts.frozen
    # The first block expands nothing, and has one less.
    assert (parts.frozen_norms, parts.norms) == (1 + 2 + 3, 1 + 2 + 6 * 3 + 1)
    frozen = [model.get_layer(name).count_params() for name in parts.frozen]
    statistics = everything.params - everything.trained_params
    assert parts.trained_params > everything.params - sum(frozen) - statistics
    assert parts.trained_params == sum(
        int(np.prod(weight.shape)) for weight in model.trainable_weights
    )


def test_frozen_batch_norm_is_no_frozen_layer():
    model = helpers.build_tiny(small_image=True)
    efficientnet.freeze_batch_norm(model)
    parts = efficientnet.trained_parts(model)
    assert parts.frozen == ()
    assert parts.frozen_norms == parts.norms == 22
    assert parts.layers_of_frozen_norms == parts.trained[:-1]


def test_frozen_layers_compute_as_at_inference():
    model = helpers.build_tiny(
        small_image=True, survival_prob=0.1, dropout_rate=0.0
    )
    efficientnet.freeze_layers(model, 7, head=True)
    images = tf.random.uniform([2, 32, 32, 3], 0, 255, seed=0)
    np.testing.assert_array_equal(
        model(images, training=True), model(images, training=False)
    )


def test_frozen_batch_norm_keeps_statistics_scale_and_offset():
    model = helpers.build_tiny(small_image=True)
    efficientnet.freeze_batch_norm(model)
    norms = [m for m in model.submodules if isinstance(m, BatchNorm)]
    before = [weight.numpy() for norm in norms for weight in norm.weights]
    model(tf.random.uniform([4, 32, 32, 3], 0, 255), training=True)
    after = [weight.numpy() for norm in norms for weight in norm.weights]
    assert len(norms) > 7
    for old, new in zip(before, after):
        np.testing.assert_array_equal(old, new)
    names = {weight.name for weight in model.trainable_weights}
    assert "stem/conv2d/kernel:0" in names
    assert not any("batch_normalization" in name for name in names)


@pytest.mark.parametrize("num_blocks", [8, -1])
def test_more_blocks_than_there_are_are_refused(num_blocks):
    model = helpers.build_tiny(small_image=True)
    with pytest.raises(
        ValueError, match=rf"in 0\.\.7, .*Received: {num_blocks}\."
    ):
        efficientnet.freeze_layers(model, num_blocks)

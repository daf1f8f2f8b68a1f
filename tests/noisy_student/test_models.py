"""Networks of checkpoints: what they are, their weights, what is frozen."""

import dataclasses
import re

import numpy as np
import pytest
import tensorflow as tf
from absl import logging

import efficientnet
from noisy_student import config, models, run_dir
from tests.noisy_student import fixtures

pytestmark = pytest.mark.slow

TINY = {"width_coefficient": 0.1, "depth_coefficient": 0.1}


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """Returns a function: model name -> prefix of a small checkpoint of it."""

    def save(name, num_classes=7):
        model = efficientnet.build_model(name, num_classes, **TINY)
        shadows = [2 * weight for weight in model.get_weights()]
        prefix = str(tmp_path_factory.mktemp(name) / "model.ckpt")
        efficientnet.save_tf1_checkpoint(model, prefix, shadows)
        return prefix

    return save


@pytest.fixture(scope="module")
def b1(released):
    return released("efficientnet-b1")


def test_a_released_checkpoint_tells_architecture_and_classes(b1):
    expected = config.ModelConfig("efficientnet-b1", 7, 240)
    assert models.resolve(b1) == expected
    assert models.resolve(b1, head="drop_background").num_classes == 6


def test_what_is_given_and_what_the_flags_describe_complete_it(b1):
    fallback = config.ModelConfig(
        "efficientnet-b5", 1000, 456, mean_rgb=(1.0, 2.0, 3.0)
    )
    found = models.resolve(
        b1, fallback=fallback, width_coefficient=0.1, image_size=None
    )
    assert found == dataclasses.replace(
        fallback,
        model_name="efficientnet-b1",
        num_classes=7,
        image_size=240,
        width_coefficient=0.1,
    )
    assert models.resolve(b1, image_size=99).image_size == 99
    small = dataclasses.replace(fallback, small_image=True, image_size=32)
    assert models.resolve(b1, fallback=small).image_size == 32


def test_the_two_released_l2_must_be_told_apart(released):
    l2 = released("efficientnet-l2")
    with pytest.raises(ValueError, match="--model_name=efficientnet-l2_475"):
        models.resolve(l2)
    with pytest.raises(ValueError, match="at 475 as --other=efficientnet-l2_"):
        models.resolve(l2, name_flag="other")
    for name, size in (("efficientnet-l2", 800), ("efficientnet-l2_475", 475)):
        assert models.resolve(l2, model_name=name).image_size == size


def test_a_runs_own_network_is_taken_at_any_size(tmp_path):
    run_dir.claim(str(tmp_path), {"model": config.to_dict(fixtures.MODEL)})
    assert models.resolve(str(tmp_path)) == fixtures.MODEL
    found = models.resolve(
        str(tmp_path), image_size=24, crop_padding="proportional", num_classes=3
    )
    # Small images are stored at the size that it was trained at.
    larger = dataclasses.replace(
        fixtures.MODEL,
        image_size=24,
        stored_size=16,
        crop_padding="proportional",
    )
    assert found == larger
    run_dir.claim(f"{tmp_path}/tuned", {"model": config.to_dict(larger)})
    found = models.resolve(f"{tmp_path}/tuned", image_size=32)
    assert found == dataclasses.replace(larger, image_size=32)
    assert models.resolve(f"{tmp_path}/tuned", image_size=24) == larger


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model_name": "efficientnet-b7"}, "--model_name asks for .*-b7"),
        ({"num_classes": 5}, "--num_label_classes asks for 5, .* with 3"),
        ({"mean_rgb": (127.5,) * 3}, "--advprop_preprocessing asks for"),
    ],
)
def test_a_runs_own_network_may_not_be_contradicted(tmp_path, given, message):
    run_dir.claim(str(tmp_path), {"model": config.to_dict(fixtures.MODEL)})
    with pytest.raises(ValueError, match=message):
        models.resolve(str(tmp_path), **given)


def test_weights_without_a_configuration_need_a_description(tmp_path):
    prefix = tf.train.Checkpoint(v=tf.Variable(1.0)).save(str(tmp_path / "c"))
    with pytest.raises(ValueError, match="no config.json beside it"):
        models.resolve(prefix)
    fallback = config.ModelConfig("efficientnet-l2", 5, 475)
    assert models.resolve(prefix, fallback=fallback).image_size == 800


def test_averaged_weights_are_loaded_unless_raw_ones_are_asked_for(b1):
    model = dataclasses.replace(models.resolve(b1), **TINY)
    raw = models.load(model, b1, use_ema=False).get_weights()
    averaged = models.load(model, b1).get_weights()
    for weight, shadow in zip(raw, averaged):
        np.testing.assert_array_equal(2 * weight, shadow)


def test_a_fresh_classifier_fits_any_number_of_classes(b1):
    model = dataclasses.replace(models.resolve(b1), **TINY, num_classes=3)
    with pytest.raises(ValueError, match="fresh"):
        models.load(model, b1)
    network = models.load(model, b1, head="fresh")
    seven = dataclasses.replace(model, num_classes=7)
    expected = models.load(seven, b1)
    np.testing.assert_array_equal(
        network.get_layer("stem").get_weights()[0],
        expected.get_layer("stem").get_weights()[0],
    )
    assert network.output_shape == (None, 3)


@pytest.mark.parametrize(
    ("freeze", "num_trained"),
    [
        (config.FreezeConfig(trainable_blocks=0), 2),
        (config.FreezeConfig(trainable_blocks=0, head_batch_norm=True), 4),
        # Seven blocks: what is left is the last convolution, its batch
        # normalization and the classifier.
        (config.FreezeConfig(fixed_blocks=7), 5),
        (config.FreezeConfig(batch_norm=True), None),
        (config.FreezeConfig(), None),
    ],
)
def test_a_network_is_frozen_as_configured(freeze, num_trained):
    network = models.build(fixtures.MODEL)
    everything = len(network.trainable_weights)
    models.freeze(network, freeze)
    norms = sum("normalization" in w.name for w in network.trainable_weights)
    if num_trained is not None:
        assert len(network.trainable_weights) == num_trained
    elif freeze.batch_norm:
        assert norms == 0 and len(network.trainable_weights) > 10
    else:
        assert len(network.trainable_weights) == everything and norms > 0


def test_blocks_are_counted_from_either_end_and_the_log_says_which(
    monkeypatch, caplog
):
    monkeypatch.setattr(logging.get_absl_logger(), "propagate", True)
    trained = []
    for freeze in (
        config.FreezeConfig(trainable_blocks=5),
        config.FreezeConfig(fixed_blocks=2),
    ):
        network = models.build(fixtures.MODEL)
        with caplog.at_level("INFO", logger="absl"):
            models.freeze(network, freeze)
        trained.append([layer.trainable for layer in network.layers])
        trained_params = sum(
            int(np.prod(weight.shape)) for weight in network.trainable_weights
        )
    assert trained[0] == trained[1]
    told = caplog.messages
    assert told[:3] == told[3:]
    assert told[0] == "Frozen: stem, blocks_0..1."
    assert told[1] == (
        "Batch normalization in inference mode: 6 of 22, those of stem, "
        "blocks_0..1."
    )
    assert re.fullmatch(
        rf"Trained: {trained_params:,} of {network.count_params():,} "
        r"parameters \(moving statistics included\), of blocks_2\.\.6, head, "
        r"head/dense\.",
        told[2],
    )


def test_frozen_batch_norm_leaves_no_whole_layer_frozen(monkeypatch, caplog):
    monkeypatch.setattr(logging.get_absl_logger(), "propagate", True)
    network = models.build(fixtures.MODEL)
    with caplog.at_level("INFO", logger="absl"):
        models.freeze(network, config.FreezeConfig(batch_norm=True))
        models.freeze(network, config.FreezeConfig())
    assert caplog.messages[:2] == [
        "Frozen: no whole layer.",
        "Batch normalization in inference mode: 22 of 22, those of stem, "
        "blocks_0..6, head.",
    ]
    # Nothing to tell where nothing is frozen.
    assert len(caplog.messages) == 3


def test_a_fixed_stem_leaves_the_blocks_to_train():
    network = models.build(fixtures.MODEL)
    models.freeze(network, config.FreezeConfig(fixed_blocks=0))
    frozen = [layer.name for layer in network.layers if not layer.trainable]
    assert frozen == ["stem"]


def test_a_class_of_imagenet_is_not_dropped_as_background(released):
    prefix = released("efficientnet-b0", 1000)
    with pytest.raises(ValueError, match="1000 classes, no background"):
        models.resolve(prefix, head="drop_background")

"""Models survive every format that Keras saves."""

import numpy as np
import pytest
import tensorflow as tf

import efficientnet
from tests.efficientnet import helpers


@pytest.fixture(scope="module")
def model():
    """Returns a model whose every weight is away from its initial value."""
    model = helpers.build_tiny(small_image=True, mean_rgb=[1.0, 2.0, 3.0])
    generator = np.random.default_rng(0)
    for weight in model.weights:
        noise = generator.uniform(-0.1, 0.1, weight.shape)
        weight.assign(weight * (1 + noise) + noise / 10)
    return model


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).uniform(0, 255, [2, 32, 32, 3])


def assert_same_model(restored, model, images):
    assert isinstance(restored, efficientnet.EfficientNet)
    assert restored.name == model.name
    assert helpers.weight_names(restored) == helpers.weight_names(model)
    assert list(restored.endpoints) == list(model.endpoints)
    np.testing.assert_array_equal(restored(images), model(images))
    for index in range(7):
        name = f"blocks_{index}"
        config = model.get_layer(name).get_config()
        assert restored.get_layer(name).get_config() == config


@pytest.mark.parametrize("file_name", ["model.keras", "model.h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_a_saved_file_restores_the_model(file_name, model, images, tmp_path):
    model.save(tmp_path / file_name)
    restored = tf.keras.models.load_model(tmp_path / file_name)
    assert_same_model(restored, model, images)


def test_a_saved_model_restores_the_model(model, images, tmp_path):
    # Without traces of every layer's own call, which take most of the time.
    model.save(tmp_path / "model", save_traces=False)
    restored = tf.keras.models.load_model(tmp_path / "model")
    assert_same_model(restored, model, images)


def test_an_exported_model_serves(model, images, tmp_path):
    model.export(tmp_path / "model")
    restored = tf.saved_model.load(tmp_path / "model")
    np.testing.assert_allclose(
        restored.serve(tf.constant(images, tf.float32)),
        model(images),
        atol=1e-4,
    )


@pytest.mark.parametrize("file_name", ["weights.h5", "checkpoint"])
def test_saved_weights_restore_into_a_fresh_model(
    file_name, model, images, tmp_path
):
    model.save_weights(tmp_path / file_name)
    fresh = helpers.build_tiny(small_image=True, mean_rgb=[1.0, 2.0, 3.0])
    assert np.any(fresh(images) != model(images))
    fresh.load_weights(tmp_path / file_name)
    np.testing.assert_array_equal(fresh(images), model(images))


def test_a_clone_is_a_model_of_its_own(model, images):
    clone = tf.keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    assert_same_model(clone, model, images)
    clone.layers[-1].bias.assign_add(tf.ones([10]))
    assert np.any(clone(images) != model(images))

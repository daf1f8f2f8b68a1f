import numpy as np
import pytest
import tensorflow as tf

from noisy_student import config, evaluate, models
from tests.noisy_student import fixtures

LOGITS = np.array(
    [
        [9, 1, 2, 3, 4, 5, 6],
        [1, 9, 2, 3, 4, 5, 6],
        [1, 2, 3, 4, 5, 6, 9],
        [9, 8, 7, 6, 5, 4, 3],
    ],
    np.float32,
)


def look_up(images, training):
    """Stands in for a model: the image's pixel says which logits to give."""
    assert not training
    return tf.gather(LOGITS, tf.cast(images[:, 0, 0, 0], tf.int32))


def batches(labels, mask):
    images = np.arange(4, dtype=np.float32).reshape(4, 1, 1, 1)
    yield {
        "images": tf.constant(images),
        "labels": tf.constant(labels, tf.int64),
        "mask": tf.constant(mask, tf.float32),
    }


def test_accuracy_and_loss_by_hand():
    figures = evaluate.evaluate(look_up, batches([0, 0, 0, 4], [1, 1, 1, 1]))
    # Right, in the top five at no place, neither, in the top five.
    assert figures["num_images"] == 4
    assert figures["top_1"] == 0.25
    assert figures["top_5"] == 0.5
    log_probs = LOGITS - np.log(np.exp(LOGITS).sum(-1, keepdims=True))
    expected = -np.mean(log_probs[np.arange(4), [0, 0, 0, 4]])
    assert figures["loss"] == pytest.approx(expected, rel=1e-5)


def test_padding_does_not_count():
    figures = evaluate.evaluate(look_up, batches([0, 1, 0, 0], [1, 1, 0, 0]))
    assert figures["num_images"] == 2
    assert figures["top_1"] == 1.0


def test_top_five_needs_more_than_five_classes():
    few = evaluate.evaluate(
        lambda images, training: look_up(images, training)[:, :5],
        batches([0, 1, 2, 3], [1, 1, 1, 1]),
    )
    assert "top_5" not in few


def test_no_image_is_an_error():
    with pytest.raises(ValueError, match="no image"):
        evaluate.evaluate(look_up, batches([0, 0, 0, 0], [0, 0, 0, 0]))


@pytest.mark.parametrize("batch_size", [1, 4, 50])
@pytest.mark.parametrize("replicas", [1, 2])
def test_every_image_counts_once_for_any_batch_and_replica_count(
    tmp_path, batch_size, replicas
):
    fixtures.write_labeled(tmp_path, "validation", 7)
    data = config.DataConfig(label_data_dir=str(tmp_path))
    tf.keras.utils.set_random_seed(0)
    reference = models.build(fixtures.MODEL)
    expected = evaluate.evaluate_split(
        reference,
        fixtures.MODEL,
        data,
        strategy=tf.distribute.get_strategy(),
        batch_size=7,
    )
    strategy = (
        tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
        if replicas == 2
        else tf.distribute.OneDeviceStrategy("/cpu:0")
    )
    with strategy.scope():
        model = models.build(fixtures.MODEL)
    model.set_weights(reference.get_weights())
    figures = evaluate.evaluate_split(
        model, fixtures.MODEL, data, strategy=strategy, batch_size=batch_size
    )
    assert figures["num_images"] == 7
    assert figures["top_1"] == expected["top_1"]
    assert figures["loss"] == pytest.approx(expected["loss"], rel=1e-5)

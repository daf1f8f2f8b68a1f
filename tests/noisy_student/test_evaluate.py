import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from noisy_student import config, evaluate, labeled_images, steps_ahead
from tests import replicas as replicas_lib
from tests.noisy_student import fixtures

pytestmark = pytest.mark.slow

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


@pytest.mark.parametrize("label", [-1, 7])
def test_labels_out_of_range_are_refused(label):
    # In the padding they do not matter.
    batch = next(batches([0, 0, 0, label], [1, 1, 1, 0]))
    assert evaluate.evaluate(look_up, [batch])["num_images"] == 3
    with pytest.raises(evaluate.LabelError, match="none of the model's class"):
        evaluate.evaluate(look_up, batches([0, 0, 0, label], [1, 1, 1, 1]))


def test_pixels_scaled_to_one_are_refused():
    batch = next(batches([0, 1, 0, 0], [1, 1, 1, 1]))
    batch["images"] = batch["images"] / 3
    with pytest.raises(ValueError, match=r"in \[0, 255\].* Received"):
        evaluate.evaluate(look_up, [batch])


def evaluate_tiny(
    label_data_dir,
    *,
    model=fixtures.MODEL,
    strategy=None,
    batch_size=4,
    num_eval_images=None,
):
    """Evaluates a classifier of the mean colour, the same at each call."""
    strategy = strategy or tf.distribute.get_strategy()
    tf.keras.utils.set_random_seed(0)
    with strategy.scope():
        network = tf.keras.Sequential(
            [
                tf.keras.layers.GlobalAveragePooling2D(),
                tf.keras.layers.Dense(model.num_classes),
            ]
        )
        network.build((None, 16, 16, 3))
    return evaluate.evaluate_split(
        network,
        model,
        config.DataConfig(
            label_data_dir=str(label_data_dir), num_eval_images=num_eval_images
        ),
        strategy=strategy,
        batch_size=batch_size,
    )


@pytest.mark.parametrize("batch_size", [1, 4, 50])
@pytest.mark.parametrize("replicas", [1, 2])
def test_every_image_counts_once_for_any_batch_and_replica_count(
    tmp_path, batch_size, replicas
):
    fixtures.write_labeled(tmp_path, "validation", 7)
    expected = evaluate_tiny(tmp_path, batch_size=7)
    strategy = (
        replicas_lib.two_replicas()
        if replicas == 2
        else tf.distribute.OneDeviceStrategy("/cpu:0")
    )
    figures = evaluate_tiny(tmp_path, strategy=strategy, batch_size=batch_size)
    assert figures["num_images"] == 7
    assert figures["top_1"] == expected["top_1"]
    assert figures["loss"] == pytest.approx(expected["loss"], rel=1e-5)


def as_class_folders(folder):
    for i in range(7):
        path = folder / "abc"[i % 3] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(fixtures.image_bytes(i % 3, i))
    return folder


def as_list(folder):
    as_class_folders(folder)
    lines = [f"{'abc'[i % 3]}/{i}.png {i % 3}\n" for i in range(7)]
    (folder / "list.txt").write_text("".join(lines))
    return folder / "list.txt"


@pytest.mark.parametrize("make", [as_class_folders, as_list])
def test_files_give_the_figures_of_the_same_records(tmp_path, make):
    fixtures.write_labeled(tmp_path / "shards", "validation", 7)
    expected = evaluate_tiny(tmp_path / "shards")
    assert expected["num_images"] == 7
    source = make(tmp_path / "files")
    replicas = replicas_lib.two_replicas()
    for strategy, batch_size in ((None, 1), (replicas, 4), (replicas, 50)):
        figures = evaluate_tiny(
            source, strategy=strategy, batch_size=batch_size
        )
        assert figures == pytest.approx(expected, rel=1e-5)


def test_images_that_cannot_be_evaluated_are_named(tmp_path):
    folder = as_class_folders(tmp_path)
    (folder / "b" / "x.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"1 of 8 .*b/x.png \(an empty file"):
        evaluate_tiny(folder)
    large = tf.io.encode_png(np.zeros((9, 16, 3), np.uint8)).numpy()
    (folder / "b" / "x.png").write_bytes(large)
    with pytest.raises(
        ValueError, match=r"b/x.png \(9 pixels high and 16 wide, not 16x16\)\."
    ):
        evaluate_tiny(folder)


def test_a_bad_label_in_a_record_is_named(tmp_path):
    fixtures.write_labeled(tmp_path, "validation", 3, num_shards=1)
    few = dataclasses.replace(fixtures.MODEL, num_classes=2)
    with pytest.raises(
        ValueError, match=r"1 of 3 .*: record 2 \(label 2, not in 0..1\)"
    ):
        evaluate_tiny(tmp_path, model=few)


def test_shards_of_several_folders_are_evaluated_together(tmp_path):
    for folder, number in (("a", 4), ("b", 3)):
        fixtures.write_labeled(tmp_path / folder, "validation", number)
    both = evaluate_tiny(f"{tmp_path}/a;{tmp_path}/b")
    assert both["num_images"] == 7


def test_the_first_images_may_be_evaluated_alone(tmp_path):
    fixtures.write_labeled(tmp_path / "all", "validation", 9, num_shards=1)
    fixtures.write_labeled(tmp_path / "five", "validation", 5, num_shards=1)
    some = evaluate_tiny(str(tmp_path / "all"), num_eval_images=5)
    assert some["num_images"] == 5
    assert some == pytest.approx(evaluate_tiny(str(tmp_path / "five")))
    with pytest.raises(ValueError, match="9 images, 10 are to be"):
        evaluate_tiny(str(tmp_path / "all"), num_eval_images=10)


@pytest.mark.parametrize(("replicas", "threads"), [(1, 2), (2, 0)])
def test_several_replicas_compute_one_step_at_a_time(
    monkeypatch, replicas, threads
):
    asked = []

    class Watched(steps_ahead.StepsAhead):
        def __init__(self, step, threads):
            asked.append(threads)
            super().__init__(step, threads)

    monkeypatch.setattr(steps_ahead, "StepsAhead", Watched)
    strategy = tf.distribute.get_strategy()
    if replicas > 1:
        strategy = replicas_lib.two_replicas()
    per_replica = next(batches([0, 1, 0, 0], [1, 1, 0, 0]))
    distributed = {
        name: strategy.experimental_distribute_values_from_function(
            lambda _, value=value: value
        )
        for name, value in per_replica.items()
    }
    figures = evaluate.evaluate(look_up, [distributed], strategy=strategy)
    assert figures["num_images"] == 2 * replicas
    assert asked == [threads]


@pytest.mark.parametrize("count", [1, 3, 6, 7, None])
def test_a_sample_is_spread_over_all_images(tmp_path, count):
    fixtures.write_labeled(tmp_path, "validation", 7, num_shards=1)
    source = labeled_images.open_source(
        str(tmp_path), split="validation", num_classes=3
    )
    sample = evaluate.sample(source, count)
    found = [row["image_bytes"] for row in sample.dataset().as_numpy_iterator()]
    every = [fixtures.image_bytes(i % 3, i) for i in range(7)]
    positions = [every.index(data) for data in found]
    assert len(positions) == sample.num_images == (count or 7)
    assert [int(sample.describe(i).split()[-1]) for i in range(len(found))] == (
        positions
    )
    # No gap is more than an image wider than another.
    gaps = np.diff([-1, *positions])
    assert gaps.max() - gaps.min() <= 1
    assert positions[-1] == 6


@pytest.mark.parametrize("count", [0, 8])
def test_a_sample_has_no_more_images_than_there_are(tmp_path, count):
    fixtures.write_labeled(tmp_path, "validation", 7, num_shards=1)
    source = labeled_images.open_source(
        str(tmp_path), split="validation", num_classes=3
    )
    with pytest.raises(ValueError, match=rf"in 1\.\.7. Received: {count}"):
        evaluate.sample(source, count)

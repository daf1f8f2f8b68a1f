import collections
import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from data_prep import records
from noisy_student import config, input_pipeline
from tests.noisy_student import fixtures

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    fixtures.write_labeled(directory, "train", 10)
    fixtures.write_labeled(directory, "validation", 7)
    fixtures.write_unlabeled(directory, "unlabeled", 9)
    fixtures.write_pseudo_labeled(directory, "pseudo", 8)
    return directory


def batches_of(train_config, number, **kwargs):
    dataset = input_pipeline.train_batches(train_config, **kwargs)
    return list(dataset.take(number).as_numpy_iterator())


def soft_config(data_dir, **pseudo):
    base = fixtures.train_config(data_dir, unlabel_data_dir=data_dir)
    return dataclasses.replace(
        base,
        data=dataclasses.replace(base.data, unlabel_split="pseudo"),
        step=dataclasses.replace(
            base.step,
            pseudo_labels=dataclasses.replace(
                base.step.pseudo_labels, **pseudo
            ),
        ),
    )


def test_labeled_batches_have_static_shapes_and_labels_from_zero(data_dir):
    train_config = fixtures.train_config(data_dir)
    spec = input_pipeline.train_batches(train_config).element_spec
    assert spec["labeled_images"].shape == (4, 16, 16, 3)
    labels = np.concatenate(
        [b["labeled_labels"] for b in batches_of(train_config, 5)]
    )
    counts = collections.Counter(labels.tolist())
    # Ten images of classes 0, 1, 2 in turn, twice.
    assert counts == {0: 8, 1: 6, 2: 6}


def test_training_batches_are_known_to_be_endless(data_dir):
    # Else several workers ask each other before every step whether each has a
    # batch, and the shapes are not static any more.
    batches = input_pipeline.train_batches(soft_config(data_dir))
    assert batches.cardinality() == tf.data.INFINITE_CARDINALITY
    assert all(
        s.shape.is_fully_defined() for s in batches.element_spec.values()
    )


def test_soft_batches_hold_the_stored_distribution(data_dir):
    batch = batches_of(soft_config(data_dir), 1)[0]
    assert batch["unlabeled_images"].shape == (8, 16, 16, 3)
    assert batch["unlabeled_probs"].shape == (8, fixtures.NUM_CLASSES)
    np.testing.assert_allclose(batch["unlabeled_probs"].max(-1), 0.8)
    np.testing.assert_array_equal(
        batch["unlabeled_labels"], batch["unlabeled_probs"].argmax(-1)
    )


def test_hard_batches_hold_the_stored_label(data_dir):
    batch = batches_of(soft_config(data_dir, label_type="hard"), 1)[0]
    assert set(batch["unlabeled_labels"]) <= {0, 1, 2}
    assert "unlabeled_probs" not in batch


def online_config(data_dir, **switches):
    """Returns a run with a teacher of another image size in the step."""
    base = soft_config(data_dir)
    pseudo = dataclasses.replace(
        base.step.pseudo_labels, online=True, **switches
    )
    return dataclasses.replace(
        base,
        data=dataclasses.replace(base.data, unlabel_split="unlabeled"),
        step=dataclasses.replace(base.step, pseudo_labels=pseudo),
        teacher=dataclasses.replace(
            fixtures.MODEL, small_image=False, image_size=24
        ),
    )


def test_online_batches_hold_the_clean_view_at_the_teachers_size(data_dir):
    batch = batches_of(online_config(data_dir), 1)[0]
    assert batch["unlabeled_teacher_images"].shape == (8, 24, 24, 3)
    assert batch["unlabeled_images"].shape == (8, 16, 16, 3)


def test_a_noised_teacher_sees_augmented_images_of_its_own(data_dir):
    clean = online_config(data_dir)
    noised = online_config(data_dir, noise_teacher=True)
    same_size = dataclasses.replace(noised, teacher=noised.model)
    (expected,), (batch,), (alike,) = (
        batches_of(run, 1) for run in (clean, noised, same_size)
    )
    np.testing.assert_array_equal(
        batch["unlabeled_images"], expected["unlabeled_images"]
    )
    images = batch["unlabeled_teacher_images"]
    assert images.shape == (8, 24, 24, 3)
    assert np.any(images != expected["unlabeled_teacher_images"])
    # Not the student's draws either.
    assert np.any(
        alike["unlabeled_teacher_images"] != alike["unlabeled_images"]
    )


def test_batches_continue_where_a_run_stopped(data_dir):
    train_config = soft_config(data_dir)
    whole = batches_of(train_config, 7)
    rest = batches_of(train_config, 4, start_step=3)
    for batch, expected in zip(rest, whole[3:]):
        for name, value in expected.items():
            np.testing.assert_array_equal(batch[name], value, err_msg=name)


def test_cached_batches_have_every_image_of_an_epoch_once(data_dir):
    base = fixtures.train_config(data_dir, batch_size=5)
    cached = dataclasses.replace(
        base, data=dataclasses.replace(base.data, cache=True, shuffle_buffer=1)
    )
    labels = [b["labeled_labels"] for b in batches_of(cached, 4)]
    expected = [0] * 4 + [1] * 3 + [2] * 3
    for epoch in (labels[:2], labels[2:]):
        assert sorted(np.concatenate(epoch)) == expected
    np.testing.assert_array_equal(
        batches_of(cached, 1, start_step=3)[0]["labeled_labels"], labels[3]
    )


def test_training_may_read_the_first_labeled_shards_alone(data_dir):
    base = fixtures.train_config(data_dir, batch_size=5)
    first = dataclasses.replace(
        base, data=dataclasses.replace(base.data, num_train_shards=1)
    )
    # The first of two shards has every other image.
    for batch in batches_of(first, 2):
        assert sorted(batch["labeled_labels"]) == [0, 0, 1, 2, 2]


def test_labeled_and_unlabeled_images_are_augmented_by_their_own_config(
    data_dir,
):
    train_config = dataclasses.replace(
        soft_config(data_dir),
        unlabeled_augment=config.AugmentConfig(random_crop=False),
    )
    first, second = batches_of(train_config, 2)
    clean = {fixtures.image_bytes(i % 3, 2000 + i) for i in range(8)}
    pixels = {
        tf.io.decode_png(data).numpy().astype(np.float32).tobytes()
        for data in clean
    }
    for image in first["unlabeled_images"]:
        assert image.tobytes() in pixels
    for image in second["labeled_images"]:
        assert image.tobytes() not in pixels


def test_a_batch_that_replicas_cannot_share_is_refused(data_dir):
    context = tf.distribute.InputContext(num_replicas_in_sync=3)
    with pytest.raises(ValueError, match="multiple of .* 3. Received: 4"):
        input_pipeline.train_batches(fixtures.train_config(data_dir), context)


def eval_batches(data_dir, batch_size, **kwargs):
    shards = records.list_shards(str(data_dir), "validation")
    return list(
        input_pipeline.eval_batches(
            tf.data.TFRecordDataset(shards),
            lambda data: tf.reshape(
                tf.cast(tf.io.decode_png(data), tf.float32), [16, 16, 3]
            ),
            parse=records.parse_labeled,
            per_replica_batch_size=batch_size,
            num_images=7,
            **kwargs,
        ).as_numpy_iterator()
    )


@pytest.mark.parametrize("batch_size", [1, 3, 7, 20])
def test_evaluation_pads_and_masks_the_last_batch(data_dir, batch_size):
    batches = eval_batches(data_dir, batch_size)
    assert len(batches) == -(-7 // batch_size)
    assert all(b["images"].shape[0] == batch_size for b in batches)
    mask = np.concatenate([b["mask"] for b in batches])
    labels = np.concatenate([b["labels"] for b in batches])
    assert mask.sum() == 7
    assert sorted(labels[mask == 1]) == [1, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("replicas_each", [1, 2])
def test_evaluation_pipelines_share_every_step_in_order(
    data_dir, replicas_each
):
    pipelines = 3
    steps = []
    for reader in range(pipelines):
        context = tf.distribute.InputContext(
            num_input_pipelines=pipelines,
            input_pipeline_id=reader,
            num_replicas_in_sync=pipelines * replicas_each,
        )
        batches = eval_batches(data_dir, 1, context=context)
        steps.append(
            [
                batches[i : i + replicas_each]
                for i in range(0, len(batches), replicas_each)
            ]
        )
    # One step after the other, one pipeline after the other.
    rows = [batch for step in zip(*steps) for share in step for batch in share]
    mask = np.concatenate([row["mask"] for row in rows])
    labels = np.concatenate([row["labels"] for row in rows])
    assert mask.tolist() == [1] * 7 + [0] * (len(mask) - 7)
    expected = np.concatenate([b["labels"] for b in eval_batches(data_dir, 7)])
    np.testing.assert_array_equal(labels[:7], expected)

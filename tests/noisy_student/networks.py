"""Networks of two blocks, which trace and compile in seconds."""

import tensorflow as tf

import efficientnet
from efficientnet import layers, noise

NUM_CLASSES = 4
IMAGE_SIZE = 16
_BATCH_NORM = {"batch_norm_momentum": 0.99, "batch_norm_epsilon": 1e-3}


def two_blocks(
    *,
    survival_prob=1.0,
    dropout_rate=0.0,
    num_shards_per_group=-1,
    image_size=IMAGE_SIZE,
):
    """Returns a small network made of the layers of an EfficientNet.

    The second block has a skip, and so stochastic depth.

    Args:
        survival_prob: Of the second block.
        dropout_rate: Before the classifier.
        num_shards_per_group: Of its batch normalization.
        image_size: Height and width of its input.
    """
    shared = {**_BATCH_NORM, "num_shards_per_group": num_shards_per_group}
    images = tf.keras.Input([image_size, image_size, 3])
    outputs = layers.PixelNormalization((127.5,) * 3, (127.5,) * 3)(images)
    outputs = layers.Stem(8, name="stem", **shared)(outputs)
    for index, block in enumerate(
        (
            efficientnet.BlockConfig(1, 3, 1, 1, 8, 8),
            efficientnet.BlockConfig(1, 3, 1, 2, 8, 8),
        )
    ):
        outputs = layers.MBConv(
            block,
            survival_prob if index else 1.0,
            name=f"blocks_{index}",
            **shared,
        )(outputs)
    outputs = layers.Head(16, name="head", **shared)(outputs)
    outputs = noise.SeededDropout(
        dropout_rate, dtype=tf.float32, name="dropout"
    )(outputs)
    outputs = tf.keras.layers.Dense(
        NUM_CLASSES,
        kernel_initializer=layers.DenseKernelInitializer(),
        dtype=tf.float32,
        name="head/dense",
    )(outputs)
    return tf.keras.Model(images, outputs)


def batch(num_labeled=4, num_unlabeled=0, *, teacher_size=None, seed=0):
    """Returns a batch of random images and labels for `train.train_step`.

    Args:
        num_labeled: Labeled images.
        num_unlabeled: Unlabeled images, with soft stored labels.
        teacher_size: Height and width of clean images for an online teacher
            in place of stored labels.
        seed: Of the draws.
    """

    def images(number, salt, size=IMAGE_SIZE):
        return tf.random.stateless_uniform(
            [number, size, size, 3], [seed, salt], maxval=255.0
        )

    values = {
        "labeled_images": images(num_labeled, 1),
        "labeled_labels": tf.range(num_labeled) % NUM_CLASSES,
    }
    if num_unlabeled:
        values["unlabeled_images"] = images(num_unlabeled, 2)
        if teacher_size is not None:
            clean = images(num_unlabeled, 3, teacher_size)
            values["unlabeled_teacher_images"] = clean
        else:
            logits = tf.random.stateless_normal(
                [num_unlabeled, NUM_CLASSES], [seed, 4]
            )
            values["unlabeled_probs"] = tf.nn.softmax(logits)
    return values

"""Changes of images that a network's own gradient makes: FGSM and PGD.

Pixels are float32 [batch, height, width, 3] in [0, 255], and stay there;
epsilon is in the same units.
"""

import tensorflow as tf

_LEAST, _MOST = 0.0, 255.0


def input_gradient(model, pixels, labels):
    """Returns the gradient of each image's cross entropy by its pixels.

    Args:
        model: `tf.keras.Model`: pixels -> logits, run in inference mode.
        pixels: float32 [b, h, w, 3].
        labels: int64 [b].

    Returns:
        float32 [b, h, w, 3].
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(pixels)
        logits = tf.cast(model(pixels, training=False), tf.float32)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=labels, logits=logits
        )
    return tape.gradient(losses, pixels)


def fgsm(pixels, gradient, epsilon):
    """Returns images moved by one step, the fast gradient sign method.

    Args:
        pixels: float32 [b, h, w, 3].
        gradient: What `input_gradient` returned for them.
        epsilon: float, by how much each pixel moves.
    """
    moved = pixels + epsilon * tf.sign(gradient)
    return tf.clip_by_value(moved, _LEAST, _MOST)


def pgd(
    model, pixels, labels, epsilon, *, num_steps=10, step_size=None, noise=None
):
    """Returns images changed by several steps, projected gradient descent.

    Args:
        model: As in `input_gradient`.
        pixels: float32 [b, h, w, 3].
        labels: int64 [b].
        epsilon: float, the most that a pixel moves.
        num_steps: How many steps.
        step_size: By how much a pixel moves in each; None is 2.5 epsilon /
            steps.
        noise: float32 of the shape of `pixels`, in [-1, 1]: where in the cube
            of epsilon to start; None starts at the images.
    """
    if step_size is None:
        step_size = 2.5 * epsilon / num_steps
    low = tf.maximum(pixels - epsilon, _LEAST)
    high = tf.minimum(pixels + epsilon, _MOST)
    start = pixels
    if noise is not None:
        start = tf.clip_by_value(pixels + epsilon * noise, low, high)

    def step(number, changed):
        signs = tf.sign(input_gradient(model, changed, labels))
        changed = tf.clip_by_value(changed + step_size * signs, low, high)
        return number + 1, changed

    # One copy of the network in the graph, however many steps.
    _, changed = tf.while_loop(
        lambda number, _: number < num_steps,
        step,
        (tf.constant(0), start),
        parallel_iterations=1,
    )
    return changed


def start_noise(pixels, seed):
    """Returns where PGD starts, float32 in [-1, 1] of the shape of pixels.

    A function of each image and the seed alone, whatever batch it is in.

    Args:
        pixels: float32 [b, h, w, 3] in [0, 255].
        seed: int.
    """
    shape = pixels.shape[1:]

    def draw(image):
        # Below 2**24 float32 tells whole numbers apart.
        number = tf.cast(tf.reduce_sum(image) % 2.0**24, tf.int32)
        return tf.random.stateless_uniform(shape, [seed, number], -1.0, 1.0)

    return tf.map_fn(draw, pixels)


def measure(model, config):
    """Returns what `evaluate.counter` measures of an attack.

    The images are clipped to [0, 255] first: the bicubic overshoots.

    Args:
        model: `tf.keras.Model`.
        config: `adversarial.AttackConfig`.

    Returns:
        Function of logits and batch that returns `top_1` (of the images as the
        evaluation sees them) float32 [b], and where there are epsilons, `fgsm`
        and `pgd` float32 [b, epsilons], whether the answer is right.
    """

    def hits(pixels, labels):
        logits = model(pixels, training=False)
        is_right = tf.equal(tf.argmax(logits, axis=-1), labels)
        return tf.cast(is_right, tf.float32)

    def over(epsilons, attack, labels):
        # One after the other: a copy of the network, and of its activations.
        right = tf.map_fn(
            lambda epsilon: hits(attack(epsilon), labels),
            tf.constant(epsilons, tf.float32),
            parallel_iterations=1,
        )
        return tf.transpose(right)

    def measure_batch(logits, batch):
        labels = batch["labels"]
        pixels = tf.clip_by_value(batch["images"], _LEAST, _MOST)
        is_right = tf.equal(tf.argmax(logits, axis=-1), labels)
        values = {"top_1": tf.cast(is_right, tf.float32)}
        if config.fgsm_epsilons:
            gradient = input_gradient(model, pixels, labels)
            values["fgsm"] = over(
                config.fgsm_epsilons,
                lambda epsilon: fgsm(pixels, gradient, epsilon),
                labels,
            )
        if config.pgd_epsilons:
            noise = None
            if config.pgd_random_start:
                noise = start_noise(pixels, config.seed)
            values["pgd"] = over(
                config.pgd_epsilons,
                lambda epsilon: pgd(
                    model,
                    pixels,
                    labels,
                    epsilon,
                    num_steps=config.pgd_steps,
                    step_size=config.pgd_step_size,
                    noise=noise,
                ),
                labels,
            )
        return values

    return measure_batch

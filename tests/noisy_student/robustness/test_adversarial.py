"""Tests of attacks, and of the command that reports them."""

import json

import numpy as np
import pytest
import tensorflow as tf

from noisy_student import evaluate, models
from noisy_student.robustness import adversarial, attacks
from tests import replicas
from tests.noisy_student import networks
from tests.noisy_student.robustness import images

pytestmark = pytest.mark.slow

NUM_IMAGES = 200
EPSILONS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)


def textures(seed, number=NUM_IMAGES):
    """Returns noise with one of three patterns or none, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, networks.NUM_CLASSES, number)
    size = networks.IMAGE_SIZE
    down, right = np.mgrid[:size, :size] // 2 % 2
    patterns = np.stack([down, right, down ^ right, 0 * down])
    pixels = rng.normal(128, 40, (number, size, size, 3))
    pixels += 24 * (patterns[labels] - 0.5)[..., np.newaxis]
    return pixels.clip(0, 255).astype(np.float32), labels


@pytest.fixture(name="trained", scope="module")
def _trained():
    """A small network of the project's own layers that knows the patterns."""
    tf.keras.utils.set_random_seed(0)
    model = networks.two_blocks()
    for layer in model.submodules:
        if hasattr(layer, "momentum"):
            # Its statistics keep up with so few steps.
            layer.momentum = 0.8
    model.compile(
        tf.keras.optimizers.Adam(
            tf.keras.optimizers.schedules.CosineDecay(0.02, 96)
        ),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(*textures(0, 800), batch_size=50, epochs=6, verbose=0)
    return model


def loss_of(model, pixels, label):
    logits = model(pixels[np.newaxis], training=False)
    return float(
        tf.keras.losses.sparse_categorical_crossentropy(
            [label], tf.cast(logits, tf.float64), from_logits=True
        )[0]
    )


def test_gradients_equal_finite_differences(trained):
    pixels, labels = textures(1, 2)
    gradient = attacks.input_gradient(
        trained, tf.constant(pixels), tf.constant(labels)
    ).numpy()
    rng = np.random.default_rng(2)
    for image in range(2):
        for _ in range(5):
            # Along a direction, as single pixels drown in float32.
            direction = rng.choice([-1.0, 1.0], pixels[0].shape)
            step = 0.05 * direction.astype(np.float32)
            numeric = (
                loss_of(trained, pixels[image] + step, labels[image])
                - loss_of(trained, pixels[image] - step, labels[image])
            ) / 0.1
            analytic = np.sum(gradient[image] * direction)
            assert analytic == pytest.approx(numeric, rel=0.02, abs=1e-3)


def test_statistics_do_not_move_and_images_do_not_meet(trained):
    pixels, labels = map(tf.constant, textures(1, 4))
    before = [weight.numpy() for weight in trained.weights]
    together = attacks.input_gradient(trained, pixels, labels)
    alone = attacks.input_gradient(trained, pixels[:1], labels[:1])
    np.testing.assert_allclose(together[:1], alone, atol=1e-6)
    for weight, value in zip(trained.weights, before):
        np.testing.assert_array_equal(weight, value)


def fgsm(model, pixels, labels, epsilon):
    gradient = attacks.input_gradient(model, pixels, labels)
    return attacks.fgsm(pixels, gradient, epsilon)


def random_pgd(model, pixels, labels, epsilon):
    noise = attacks.start_noise(pixels, 1)
    return attacks.pgd(model, pixels, labels, epsilon, noise=noise)


def coarse_pgd(model, pixels, labels, epsilon):
    return attacks.pgd(
        model, pixels, labels, epsilon, step_size=100.0, num_steps=3
    )


@pytest.mark.parametrize("epsilon", [0.5, 3.0, 40.0])
@pytest.mark.parametrize("attack", [fgsm, attacks.pgd, random_pgd, coarse_pgd])
def test_pixels_stay_within_epsilon_and_range(trained, attack, epsilon):
    pixels, labels = textures(3, 4)
    pixels[:, :4] = 0
    pixels[:, -4:] = 255
    changed = attack(
        trained, tf.constant(pixels), tf.constant(labels), epsilon
    ).numpy()
    assert changed.min() >= 0
    assert changed.max() <= 255
    # float32 near 255 rounds by 1e-5.
    assert np.abs(changed - pixels).max() <= epsilon + 2e-5
    assert np.abs(changed - pixels).max() >= 0.9 * epsilon


def test_fgsm_moves_every_pixel_by_epsilon(trained):
    pixels, labels = textures(4, 2)
    pixels = pixels.clip(10, 245)
    gradient = attacks.input_gradient(
        trained, tf.constant(pixels), tf.constant(labels)
    )
    changed = attacks.fgsm(tf.constant(pixels), gradient, 4.0)
    np.testing.assert_allclose(
        changed - pixels, 4 * np.sign(gradient), atol=2e-5
    )


def test_one_large_step_of_pgd_is_fgsm(trained):
    pixels, labels = map(tf.constant, textures(5, 3))
    once = attacks.pgd(trained, pixels, labels, 4.0, num_steps=1, step_size=4.0)
    np.testing.assert_allclose(
        once, fgsm(trained, pixels, labels, 4.0), atol=2e-5
    )


def curves(model, config):
    pixels, labels = textures(6)
    batch = {
        "images": tf.constant(pixels),
        "labels": tf.constant(labels),
        "mask": tf.ones(NUM_IMAGES),
    }
    count = evaluate.counter(model, measure=attacks.measure(model, config))
    return evaluate.evaluate(model, [batch], count=count)


def test_attacks_take_accuracy_away(trained):
    config = adversarial.AttackConfig(EPSILONS, EPSILONS)
    figures = curves(trained, config)
    fgsm, pgd = figures["fgsm"], figures["pgd"]
    assert figures["top_1"] > 0.9
    assert fgsm[0] == pgd[0] == figures["top_1"]
    assert pgd[EPSILONS.index(16)] < 0.5
    assert np.all(pgd <= fgsm)
    for curve in (fgsm, pgd):
        error = np.sqrt(curve * (1 - curve) / NUM_IMAGES)
        assert np.all(np.diff(curve) <= 2 * error[:-1] + 1e-9)


def test_figures_equal_attacks_one_by_one(trained):
    config = adversarial.AttackConfig(
        (2.0, 8.0), (8.0,), pgd_steps=3, pgd_step_size=4.0
    )
    figures = curves(trained, config)
    pixels, labels = map(tf.constant, textures(6))

    def accuracy(changed):
        answers = tf.argmax(trained(changed, training=False), -1)
        return np.mean(answers == labels)

    assert figures["fgsm"].tolist() == pytest.approx(
        [accuracy(fgsm(trained, pixels, labels, e)) for e in (2.0, 8.0)]
    )
    changed = attacks.pgd(
        trained, pixels, labels, 8.0, num_steps=3, step_size=4.0
    )
    assert figures["pgd"].tolist() == pytest.approx([accuracy(changed)])


def test_a_random_start_is_the_images_own():
    pixels = tf.constant(textures(7, 3)[0])
    noise = attacks.start_noise(pixels, 0)
    assert np.abs(noise).max() <= 1
    assert np.std(noise) == pytest.approx(3**-0.5, rel=0.1)
    # Of another batch, at another place.
    again = attacks.start_noise(pixels[::-1][:2], 0)
    np.testing.assert_array_equal(again, noise[::-1][:2])
    assert np.any(noise[0] != noise[1])
    assert np.any(attacks.start_noise(pixels, 1) != noise)


@pytest.mark.long
def test_replicas_attack_their_shares(trained):
    config = adversarial.AttackConfig(
        (4.0,), (4.0,), pgd_steps=2, pgd_random_start=True
    )
    alone = curves(trained, config)
    strategy = replicas.two_replicas()
    with strategy.scope():
        model = tf.keras.models.clone_model(trained)
    model.set_weights(trained.get_weights())
    pixels, labels = textures(6)

    def share(context):
        half = slice(context.replica_id_in_sync_group, None, 2)
        return {
            "images": tf.constant(pixels[half]),
            "labels": tf.constant(labels[half]),
            "mask": tf.ones(NUM_IMAGES // 2),
        }

    batch = strategy.experimental_distribute_values_from_function(share)
    count = evaluate.counter(
        model, strategy=strategy, measure=attacks.measure(model, config)
    )
    shared = evaluate.evaluate(model, [batch], strategy=strategy, count=count)
    assert shared["num_images"] == NUM_IMAGES
    for name in ("top_1", "fgsm", "pgd"):
        np.testing.assert_allclose(shared[name], alone[name], atol=0.011)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"fgsm_epsilons": (300.0,)}, r"fgsm_epsilons must be in \[0, 255\]"),
        ({"fgsm_epsilons": ()}, "are both empty"),
        ({"pgd_steps": 0}, "pgd_steps must be >= 1. Received: 0"),
        ({"pgd_step_size": 0.0}, "pgd_step_size must be > 0"),
    ],
)
def test_wrong_attacks_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        adversarial.AttackConfig(**{"fgsm_epsilons": (1.0,), **changes})


def write_images(root):
    pixels, labels = textures(8, 12)
    for number, (image, label) in enumerate(zip(pixels, labels)):
        path = root / str(label) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        encoded = tf.io.encode_png(image.astype(np.uint8))
        path.write_bytes(encoded.numpy())


def test_the_command_writes_the_curve(
    tmp_path, use, run, trained, monkeypatch, warned
):
    checkpoint, _ = use(networks.NUM_CLASSES, networks.IMAGE_SIZE)
    monkeypatch.setattr(models, "load", lambda *_, **__: trained)
    write_images(tmp_path / "set")
    arguments = {
        "label_data_dir": tmp_path / "set",
        "checkpoint": checkpoint,
        "output_dir": tmp_path / "out",
        "fgsm_epsilons": "0,16",
        "pgd_epsilons": "16",
        "pgd_steps": 2,
        "resize": "whole",
        "eval_batch_size": 5,
        "num_images": 10,
    }
    run(adversarial, **arguments)
    report = json.loads((tmp_path / "out/adversarial.json").read_text())
    curve = report["curve"]
    assert [(p["attack"], p["epsilon"]) for p in curve] == [
        ("fgsm", 0),
        ("fgsm", 16),
        ("pgd", 16),
    ]
    assert curve[0]["top_1"] == report["figures"]["top_1"]
    assert report["figures"]["num_images"] == 10
    assert report["image_size"] == networks.IMAGE_SIZE
    assert report["attack"]["pgd_steps"] == 2
    for changes, message in (
        ({"fgsm_epsilons": ""}, "`attack.fgsm_epsilons`: .* before, .* now"),
        ({"num_images": 9}, "`num_images`: 10 before, 9 now"),
    ):
        with pytest.raises(ValueError, match=message):
            run(adversarial, **{**arguments, **changes})
    assert not warned()
    small = {"fgsm_epsilons": "0,0.03", "pgd_epsilons": ""}
    run(adversarial, **{**arguments, **small, "output_dir": tmp_path / "small"})
    assert "above 0.03; they are of pixels from 0 to 255" in warned()[0]


def test_words_are_no_epsilons(tmp_path, use, run):
    checkpoint, _ = use(4)
    images.write(tmp_path / "0/a.png", 9)
    with pytest.raises(ValueError, match="--fgsm_epsilons must be numbers"):
        run(
            adversarial,
            label_data_dir=tmp_path,
            checkpoint=checkpoint,
            fgsm_epsilons="much",
        )

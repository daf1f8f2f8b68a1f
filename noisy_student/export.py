"""Writes a network in formats that other programs take, and checks them.

Each exported file is loaded again and looks at the sample images; how far its
logits are from the network's is logged, written into `export.json`, and where
it is too far the file is not published.
"""

import contextlib
import dataclasses
import hashlib
import os
import shutil
import tempfile
import time
import warnings

import numpy as np
import tensorflow as tf
from absl import logging

from data_prep import files
from noisy_student import config as config_lib
from noisy_student import (
    export_formats,
    labeled_images,
    models,
    moving_average,
    preprocessing,
    run_dir,
)

# The largest difference of a logit, as a fraction of the spread of the logits
# (the largest less the smallest, over all samples), because only differences
# between logits decide. Measured on B0 at 224, on a B0 of a quarter of the
# width, and on trained ones of that width for images of 32x32.
BOUNDS = {
    # 0: the same operations on the same weights. The bound allows for sums in
    # another order.
    "keras": 1e-6,
    "h5": 1e-6,
    # Up to 1e-6, from another fusion of operations. The smallest mistake of
    # preprocessing that was tried, another kernel of the resize, moved the
    # logits of every image that was resized by 6e-5 or more.
    "saved_model": 1e-5,
    # Up to 2e-6, from other kernels. Another framework's epsilon of batch
    # normalization moved those of every image by 2e-4 or more.
    "tflite": 1e-4,
    # Up to 1e-3: a weight keeps 11 bits.
    "tflite_float16": 1e-2,
    # Up to 0.08 with random weights, 0.03 with trained ones: the ranges of
    # swish and squeeze-excite suit 8 bits badly. Beyond a quarter of the spread
    # the order of the classes means little; what less than that costs is told
    # by `top_1_agreement`.
    "tflite_int8": 0.25,
}
_NUM_BLOTS = 8
_SCRATCH = ".export-"
_STALE_SECONDS = 24 * 60 * 60


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """What to export, and where to.

    Attributes:
        model: The network.
        checkpoint: Where its weights came from, for the record.
        output_dir: Local folder of the exported files: Keras and TensorFlow
            Lite write to local disks.
        formats: Names of `config.EXPORT_FORMATS`.
    """

    model: config_lib.ModelConfig
    checkpoint: str
    output_dir: str
    formats: tuple

    def __post_init__(self):
        known = config_lib.EXPORT_FORMATS
        if not self.formats or set(self.formats) - set(known):
            raise ValueError(
                f"`formats` must be one or more of {', '.join(known)}. "
                f"Received: {', '.join(self.formats) or 'none'}."
            )
        if files.is_remote(self.output_dir):
            raise ValueError(
                "`output_dir` must be a local folder, to be copied from. "
                f"Received: {self.output_dir!r}."
            )


def export(config, network, samples):
    """Exports a network in some formats, and measures each.

    Everything is exported in float32 and at `model.image_size`, whatever
    policy, strategy and input size the network was built with. A format that
    was exported before, of the same weights and samples, is not made again;
    another one is added to it.

    Args:
        config: `ExportConfig`.
        network: The Keras model of `config.model`, weights loaded.
        samples: Encoded images (JPEG or PNG bytes), at least one. They show
            whether the exported files work, and give "tflite_int8" the range
            of each activation: for it take some hundred, like those to come.

    Returns:
        The content of `export.json`: `settings` (model, digests of weights
        and samples), `checkpoint`, `num_samples`, `logit_spread` and
        `formats`: by name a dict of `file`, `bytes`, `max_logit_difference`,
        `bound`, `top_1_agreement` (fraction of the samples), `seconds` and
        `made_with` (versions).

    Raises:
        ValueError: If the folder holds the export of another network or other
            samples; or if an exported file is too far from the network. Then
            the other formats are there, and that one is not.
    """
    source = _source(config.model, network, list(samples))
    report = _open_report(config, source)
    expected = _expected_logits(source)
    _remove_stale_scratch(config.output_dir)
    report["logit_spread"] = float(np.ptp(expected))
    refused = []
    for name in config.formats:
        if _is_finished(config, report, name):
            logging.info("%s: exported before.", name)
            continue
        figures = _export_format(config, name, source, expected)
        if figures["max_logit_difference"] <= figures["bound"]:
            report["formats"][name] = run_dir.add_versions(figures)
            files.write_json(_report_path(config), report)
        else:
            refused.append(_refusal(name, figures))
    if refused:
        raise ValueError(f"Not exported: {' '.join(refused)}")
    return report


def read_samples(data, model, num_samples):
    """Returns images to export a network with.

    Args:
        data: `config.DataConfig`; without a `label_data_dir` the images are
            blots of random colours, which show that a format works and are no
            basis for the ranges of int8.
        model: `config.ModelConfig`.
        num_samples: The most images to take, the first ones.

    Returns:
        List of encoded images.
    """
    if data.label_data_dir is None:
        return _blots(min(num_samples, _NUM_BLOTS), model.image_size)
    source = labeled_images.open_source(
        data.label_data_dir,
        split=data.eval_split,
        num_classes=model.num_classes,
    )
    source.check()
    elements = source.dataset().take(num_samples)
    try:
        return [element["image_bytes"].numpy() for element in elements]
    except tf.errors.InvalidArgumentError:
        source.explain_failure(
            preprocessing.eval_view(model), model.num_classes
        )
        raise


def _blots(number, size):
    seeds = [tf.constant([0, index]) for index in range(number)]
    coarse = [
        tf.random.stateless_uniform([8, 8, 3], seed, 0, 255) for seed in seeds
    ]
    return [
        tf.io.encode_png(
            tf.cast(tf.image.resize(image, [size, size]), tf.uint8)
        ).numpy()
        for image in coarse
    ]


def _source(model, network, samples):
    if not samples:
        raise ValueError("`samples` must hold at least one image.")
    view = preprocessing.eval_view(model)
    return export_formats.Source(
        network=_float32_copy(model, network),
        model=model,
        samples=samples,
        pixels=np.stack([view(sample).numpy() for sample in samples]),
    )


def _float32_copy(model, network):
    """Returns the network in float32, on one device, with a static size."""
    policy = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy("float32")
    try:
        copy = models.build(model)
    finally:
        tf.keras.mixed_precision.set_global_policy(policy)
    weights = moving_average.named_weights(network)
    for name, variable in moving_average.named_weights(copy).items():
        variable.assign(weights[name].numpy())
    return copy


def _open_report(config, source):
    """Returns the report to add to: a former one, or an empty one."""
    settings = {
        "model": config_lib.to_dict(config.model),
        "weights": _digest(
            weight.numpy().tobytes() for weight in source.network.weights
        ),
        "samples": _digest(source.samples),
    }
    path = _report_path(config)
    if files.exists(path):
        report = files.read_json(path)
        changed = files.describe_difference(report["settings"], settings)
        if changed:
            raise ValueError(
                f"{config.output_dir!r} holds an export with other settings: "
                f"{changed}. Use another directory, or the settings it was "
                "made with."
            )
        return report
    return {
        "settings": settings,
        "checkpoint": config.checkpoint,
        "num_samples": len(source.samples),
        "formats": {},
    }


def _report_path(config):
    return os.path.join(config.output_dir, "export.json")


def _digest(parts):
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(b"%d\0" % len(part))
        digest.update(part)
    return digest.hexdigest()


def _expected_logits(source):
    """Returns the network's own logits, float32 [samples, classes]."""
    logits = np.concatenate(
        list(export_formats.keras_logits(source.network, source.pixels))
    )
    if not np.isfinite(logits).all():
        raise ValueError(
            "The network is of no use: some of its logits are not finite."
        )
    return logits


def _is_finished(config, report, name):
    figures = report["formats"].get(name)
    return figures is not None and files.exists(
        os.path.join(config.output_dir, figures["file"])
    )


def _export_format(config, name, source, expected):
    """Writes and measures a format; returns its figures.

    The file is under its name only if it is near enough.
    """
    start = time.monotonic()
    form = export_formats.FORMATS[name]
    files.make_dirs(config.output_dir)
    with tempfile.TemporaryDirectory(
        prefix=_SCRATCH, dir=config.output_dir
    ) as scratch:
        # Under its final name: Keras tells formats by it.
        made = os.path.join(scratch, form.file_name)
        with _quiet():
            form.write(source, made)
            logits = np.concatenate(list(form.read(made, source)))
        figures = {
            "file": form.file_name,
            "bytes": export_formats.size(made),
            **_compare(logits, expected),
            "bound": BOUNDS[name] * float(np.ptp(expected)),
            "seconds": round(time.monotonic() - start, 3),
        }
        _log(name, figures)
        if figures["max_logit_difference"] <= figures["bound"]:
            _publish(made, os.path.join(config.output_dir, form.file_name))
    return figures


def _remove_stale_scratch(directory):
    """Removes what killed exports left, once no export can be using it."""
    for name in files.list_names(directory):
        path = os.path.join(directory, name)
        if name.startswith(_SCRATCH) and (
            time.time() - os.path.getmtime(path) > _STALE_SECONDS
        ):
            logging.info("Removing %s of an export that was killed.", path)
            shutil.rmtree(path)


@contextlib.contextmanager
def _quiet():
    """Keeps what Keras and TensorFlow say of their own formats to errors."""
    verbosity, level = logging.get_verbosity(), tf.get_logger().level
    logging.set_verbosity(logging.ERROR)
    tf.get_logger().setLevel("ERROR")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        tf.get_logger().setLevel(level)


def _compare(logits, expected):
    same = logits.argmax(axis=1) == expected.argmax(axis=1)
    return {
        "max_logit_difference": float(np.abs(logits - expected).max()),
        "top_1_agreement": float(same.mean()),
    }


def _publish(made, path):
    if files.is_dir(path):
        # A folder replaces an empty one only.
        shutil.rmtree(path)
    files.publish(made, path)


def _log(name, figures):
    logging.info(
        "%s: %s, %s bytes; largest logit difference %.3g (bound %.3g), "
        "top-1 agreement %.1f %%; %.1f s.",
        name,
        figures["file"],
        f"{figures['bytes']:,}",
        figures["max_logit_difference"],
        figures["bound"],
        100 * figures["top_1_agreement"],
        figures["seconds"],
    )


def _refusal(name, figures):
    return (
        f"{name}: the largest logit difference to the network is "
        f"{figures['max_logit_difference']:.3g}, beyond the bound "
        f"{figures['bound']:.3g} ({BOUNDS[name]:g} of the logits' spread)."
    )

"""How each format of an exported network is written, and read again.

Written networks compute in float32 and take images of one size:

keras, h5: Keras files, pixels in, logits out. `tf.keras.models.load_model`
    loads a `.keras` file after `import efficientnet`, a `.h5` file after
    `import efficientnet.model`: HDF5 holds names of classes, not of modules.
saved_model: images as JPEG or PNG bytes in; loads without this project.
    Signature "serving_default": `image_bytes` string [batch]; signature
    "pixels": `pixels` float32 [batch, size, size, 3] in [0, 255]. Both give
    `logits` and `probabilities`, float32 [batch, classes].
tflite, tflite_float16, tflite_int8: float32 pixels [1, size, size, 3] in
    [0, 255] in, float32 logits [1, classes] out, with operations that every
    TensorFlow Lite has. float16 halves the weights and computes in float32;
    int8 has weights and activations of 8 bits. Input and output stay float32
    there: quantizing them would save two operations, and leave it to users to
    scale pixels and logits.
"""

import dataclasses
import functools
import os
import tempfile
from typing import Callable

import numpy as np
import tensorflow as tf

from data_prep import files
from noisy_student import config as config_lib
from noisy_student import preprocessing


@dataclasses.dataclass(frozen=True)
class Source:
    """What is exported, and the images that show whether it still works.

    Attributes:
        network: Keras model in float32 with inputs of static size.
        model: Its `config.ModelConfig`.
        samples: Encoded images, a list of bytes.
        pixels: What the network sees of them, float32 [samples, size, size,
            3].
    """

    network: tf.keras.Model
    model: config_lib.ModelConfig
    samples: list
    pixels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        file_name: Name of the file, or of the folder.
        write: (source, path) -> None.
        read: (path, source) -> iterable of the logits of each sample, float32
            [1, classes], computed by what lies at `path`.
    """

    file_name: str
    write: Callable
    read: Callable


def keras_logits(network, pixels):
    """Yields the logits of each image, float32 [1, classes]."""
    forward = tf.function(
        lambda images: network(images, training=False), autograph=False
    )
    # One at a time: large images of a large network take gigabytes.
    for image in pixels:
        yield forward(tf.constant(image[np.newaxis])).numpy()


def _write_keras(source, path):
    source.network.save(path)


def _read_keras(path, source):
    network = tf.keras.models.load_model(path, compile=False)
    return keras_logits(network, source.pixels)


def _write_saved_model(source, path):
    size = source.model.image_size
    view = preprocessing.eval_view(source.model)
    pixels_spec = tf.TensorSpec([size, size, 3], tf.float32)

    def from_bytes(image_bytes):
        pixels = tf.map_fn(view, image_bytes, fn_output_signature=pixels_spec)
        return _answer(source.network, pixels)

    bytes_spec = tf.TensorSpec([None], tf.string, "image_bytes")
    batch_spec = tf.TensorSpec([None, size, size, 3], tf.float32, "pixels")
    signatures = {
        "serving_default": _trace(from_bytes, bytes_spec),
        "pixels": _trace(
            lambda pixels: _answer(source.network, pixels), batch_spec
        ),
    }
    tf.saved_model.save(_Weights(source.network), path, signatures=signatures)


def _answer(network, pixels):
    logits = network(pixels, training=False)
    return {"logits": logits, "probabilities": tf.nn.softmax(logits)}


def _trace(function, spec):
    return tf.function(
        function, input_signature=[spec], autograph=False
    ).get_concrete_function()


class _Weights(tf.Module):
    """A network's weights alone, to be saved beside a function of them.

    Saving the network itself would add a trace of each of its layers: minutes
    for what is of no use without this project.
    """

    def __init__(self, network):
        super().__init__()
        self.weights = list(network.variables)


def _read_saved_model(path, source):
    serve = tf.saved_model.load(path).signatures["serving_default"]
    for sample in source.samples:
        answer = serve(image_bytes=tf.constant([sample]))
        yield answer["logits"].numpy()


def _write_tflite(source, path, *, configure=None):
    size = source.model.image_size
    function = _trace(
        lambda pixels: {"logits": source.network(pixels, training=False)},
        tf.TensorSpec([1, size, size, 3], tf.float32, "pixels"),
    )
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as folder:
        # Most of the time would go into gradients that nobody asks for.
        tf.saved_model.save(
            _Weights(source.network),
            folder,
            signatures={"serving_default": function},
            options=tf.saved_model.SaveOptions(
                experimental_custom_gradients=False
            ),
        )
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        # Fails for an operation that would need TensorFlow beside.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if configure is not None:
            configure(converter, source)
        content = converter.convert()
    files.write_bytes(path, content)


def _use_float16(converter, source):
    del source
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]


def _use_int8(converter, source):
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.representative_dataset = lambda: (
        [image[np.newaxis]] for image in source.pixels
    )


def _read_tflite(path, source):
    interpreter = tf.lite.Interpreter(path)
    interpreter.allocate_tensors()
    (pixels,) = interpreter.get_input_details()
    (logits,) = interpreter.get_output_details()
    for image in source.pixels:
        interpreter.set_tensor(pixels["index"], image[np.newaxis])
        interpreter.invoke()
        yield interpreter.get_tensor(logits["index"])


FORMATS = {
    "keras": Format("model.keras", _write_keras, _read_keras),
    "h5": Format("model.h5", _write_keras, _read_keras),
    "saved_model": Format("saved_model", _write_saved_model, _read_saved_model),
    "tflite": Format("model.tflite", _write_tflite, _read_tflite),
    "tflite_float16": Format(
        "model_float16.tflite",
        functools.partial(_write_tflite, configure=_use_float16),
        _read_tflite,
    ),
    "tflite_int8": Format(
        "model_int8.tflite",
        functools.partial(_write_tflite, configure=_use_int8),
        _read_tflite,
    ),
}


def size(path):
    """Returns the bytes of a file, or of all files in a folder."""
    if not os.path.isdir(path):
        return os.path.getsize(path)
    return sum(
        os.path.getsize(os.path.join(folder, name))
        for folder, _, names in os.walk(path)
        for name in names
    )

"""The EfficientNet family as Keras models: pixels in, logits out.

Importing this package does not import TensorFlow; the public names are resolved
on first use. It selects Keras 2 for `tf.keras` at once, and the names that need
Keras make sure of it (see `keras_version`).
"""

import importlib

from efficientnet import keras_version

_MODULE_OF_NAME = {
    "MODEL_NAMES": "config",
    "BlockConfig": "config",
    "EfficientNetConfig": "config",
    "get_config": "config",
    "survival_probs": "scaling",
    "require_keras_2": "keras_version",
    "noise_seed": "noise",
    "recompute_activations": "recompute",
    "EfficientNet": "model",
    "build_model": "model",
    "Tf1Checkpoint": "tf1_checkpoint",
    "describe_tf1_checkpoint": "tf1_checkpoint",
    "is_tf1_checkpoint": "tf1_checkpoint",
    "load_tf1_checkpoint": "tf1_checkpoint",
    "save_tf1_checkpoint": "tf1_checkpoint",
    "freeze_batch_norm": "freezing",
    "freeze_layers": "freezing",
    "TrainedParts": "freezing",
    "trained_parts": "freezing",
}

__all__ = sorted(_MODULE_OF_NAME)

keras_version.select_keras_2()


def __getattr__(name):
    if name not in _MODULE_OF_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULE_OF_NAME[name]}")
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__():
    return __all__

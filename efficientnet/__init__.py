"""The EfficientNet family as Keras models: pixels in, logits out.

Importing this package does not import TensorFlow; the public names are resolved
on first use. Those that need Keras make sure that `tf.keras` is Keras 2 (see
`keras_version.require_keras_2`).
"""

import importlib

_MODULE_OF_NAME = {
    "MODEL_NAMES": "config",
    "BlockConfig": "config",
    "EfficientNetConfig": "config",
    "get_config": "config",
    "survival_probs": "scaling",
    "require_keras_2": "keras_version",
    "noise_seed": "noise",
    "EfficientNet": "model",
    "build_model": "model",
}

__all__ = sorted(_MODULE_OF_NAME)


def __getattr__(name):
    if name not in _MODULE_OF_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_MODULE_OF_NAME[name]}")
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__():
    return __all__

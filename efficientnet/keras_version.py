"""Makes sure that `tf.keras` is Keras 2, whatever TensorFlow is installed."""

import importlib.metadata
import importlib.util
import os

_VARIABLE = "TF_USE_LEGACY_KERAS"
_TRUE_VALUES = ("1", "true", "True")
# The first release of TensorFlow whose `tf.keras` is Keras 3 by default.
_FIRST_KERAS_3_RELEASE = (2, 16)


def select_keras_2():
    """Makes TensorFlow 2.16 and later take `tf_keras`, if it is installed.

    Imports nothing. Called before TensorFlow is imported, it also spares the
    second that loading Keras 3 beside would take.
    """
    if _installed_release("tf_keras") >= _FIRST_KERAS_3_RELEASE:
        os.environ[_VARIABLE] = "1"


def require_keras_2():
    """Makes `tf.keras` resolve to Keras 2, or says what stands in the way.

    TensorFlow resolves `tf.keras` at its first use, not when TensorFlow is
    imported. So on TensorFlow 2.16 and later this sets TF_USE_LEGACY_KERAS=1,
    overriding another value, which makes TensorFlow take the `tf_keras`
    package. On TensorFlow 2.15 `tf.keras` is Keras 2 already and the
    environment is left alone. Cheap to call again.

    Raises:
        ImportError: If the `tf_keras` package is needed and missing, or if
            something used `tf.keras` before and got Keras 3.
    """
    select_keras_2()
    import tensorflow as tf

    release = _release(tf.__version__)
    if release >= _FIRST_KERAS_3_RELEASE:
        os.environ[_VARIABLE] = "1"
    needs_tf_keras = os.environ.get(_VARIABLE) in _TRUE_VALUES
    if needs_tf_keras and importlib.util.find_spec("tf_keras") is None:
        raise ImportError(
            "The models need Keras 2: install the `tf_keras` package of the "
            "release of TensorFlow at hand, for example with "
            f"`pip install 'tf_keras=={release[0]}.{release[1]}.*'`. "
            f"Received: TensorFlow {tf.__version__}, {_VARIABLE}="
            f"{os.environ[_VARIABLE]}, no `tf_keras`."
        )
    # Keras 2 gives its version in some releases only, Keras 3 in all.
    keras_version = getattr(tf.keras, "__version__", "2")
    if not keras_version.startswith("2"):
        raise ImportError(
            "`tf.keras` is already Keras 3, and the models need Keras 2. "
            "Import `efficientnet` and call `efficientnet.require_keras_2()` "
            "before anything uses `tf.keras`, or set the environment variable "
            f"{_VARIABLE}=1. Received: Keras {keras_version}."
        )


def _installed_release(package):
    try:
        return _release(importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return (0, 0)


def _release(version):
    return tuple(int(part) for part in version.split(".")[:2])

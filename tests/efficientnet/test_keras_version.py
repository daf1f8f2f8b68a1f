"""`tf.keras` becomes Keras 2, or the error says what to do.

Most cases need a fresh interpreter, since `tf.keras` is resolved once.
"""

import os
import pathlib
import subprocess
import sys

import pytest
import tensorflow as tf

import efficientnet

KERAS_3_BY_DEFAULT = [int(v) for v in tf.__version__.split(".")[:2]] >= [2, 16]
only_where_keras_3_is_the_default = pytest.mark.skipif(
    not KERAS_3_BY_DEFAULT, reason="tf.keras is Keras 2 here in any case"
)


def run(code, **variables):
    """Runs Python code; returns its last line of output or of its error."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if key != "TF_USE_LEGACY_KERAS"
    }
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "TF_CPP_MIN_LOG_LEVEL": "3", **variables},
        capture_output=True,
        text=True,
    )
    output = result.stdout if result.returncode == 0 else result.stderr
    return output.strip().splitlines()[-1]


PRINT_RESULT = (
    "import os\n"
    "print(tf.keras.layers.Layer.__module__.split('.')[0], "
    "os.environ.get('TF_USE_LEGACY_KERAS'))"
)
RESULT = "tf_keras 1" if KERAS_3_BY_DEFAULT else "keras None"


def test_keras_2_even_where_tensorflow_is_imported_first():
    code = "import tensorflow as tf, efficientnet\nefficientnet.build_model\n"
    # A wish for Keras 3 is overridden.
    variables = {"TF_USE_LEGACY_KERAS": "0"} if KERAS_3_BY_DEFAULT else {}
    assert run(code + PRINT_RESULT, **variables) == RESULT


def test_missing_tf_keras_is_reported_with_the_package_to_install():
    code = (
        "import sys; sys.modules['tf_keras'] = None\n"
        "import efficientnet\n"
        "efficientnet.build_model"
    )
    message = run(code, TF_USE_LEGACY_KERAS="1")
    release = ".".join(tf.__version__.split(".")[:2])
    assert message.startswith("ImportError: The models need Keras 2: install")
    assert f"pip install 'tf_keras=={release}.*'" in message


@only_where_keras_3_is_the_default
def test_keras_3_in_use_is_reported_with_the_remedy():
    code = (
        "import tensorflow as tf\n"
        "tf.keras.layers.Dense(1)\n"
        "import efficientnet\n"
        "efficientnet.build_model"
    )
    message = run(code)
    assert message.startswith("ImportError: `tf.keras` is already Keras 3")
    assert "Import `efficientnet`" in message


@only_where_keras_3_is_the_default
def test_every_module_that_uses_keras_asks_for_keras_2():
    folder = pathlib.Path(efficientnet.__file__).parent
    users = {
        path.stem: "\nrequire_keras_2()\n" in path.read_text()
        for path in folder.glob("*.py")
        if "tf.keras." in path.read_text() and path.stem != "keras_version"
    }
    assert users["layers"] and users["model"]
    assert all(users.values()), users

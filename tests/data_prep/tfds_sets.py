"""Tiny data sets of tensorflow_datasets, prepared on the spot."""

import contextlib

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.utils import file_utils

NUM_IMAGES = 40
NUM_CLASSES = 3


class ThreeShades(tfds.core.GeneratorBasedBuilder):
    """Forty images of one shade each; image i has class i % 3."""

    VERSION = tfds.core.Version("1.0.0")
    # Where checksums of downloads would be; there are none.
    code_path = None

    def _info(self):
        image = tfds.features.Image(
            shape=(None, None, 3), encoding_format="png"
        )
        label = tfds.features.ClassLabel(num_classes=NUM_CLASSES)
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {"image": image, "label": label}
            )
        )

    def _split_generators(self, dl_manager):
        return {"test": self._generate_examples()}

    def _generate_examples(self):
        for index in range(NUM_IMAGES):
            image = np.full((5, 4, 3), index, np.uint8)
            yield index, {"image": image, "label": index % NUM_CLASSES}


class HalfLabeled(ThreeShades):
    """The same, but every other image has no class, as in some test splits."""

    def _generate_examples(self):
        for index, example in super()._generate_examples():
            yield index, {**example, **({"label": -1} if index % 2 else {})}


class OnlyText(ThreeShades):
    """No images."""

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({"text": tfds.features.Text()})
        )

    def _generate_examples(self):
        yield 0, {"text": "a"}


@contextlib.contextmanager
def prepared(folder, *builders):
    """Prepares them, or others, in a folder where `tfds.builder` finds them."""
    for builder in builders or (ThreeShades, HalfLabeled, OnlyText):
        builder(data_dir=str(folder)).download_and_prepare()
    tfds.core.add_data_dir(str(folder))
    try:
        yield
    finally:
        file_utils.clear_registered_data_dirs()

"""A corpus of 300 images in four shards, one of them empty, to be filtered."""

from data_prep import balancing, filter_unlabel
from tests.data_prep import corpus

NUM_CLASSES = 5
NUM_IMAGES = 300
# Confidences tie often, so that a cutoff lies among equal ones.
PROBS = corpus.random_probs(NUM_IMAGES, NUM_CLASSES, seed=3, step=1 / 64)
KEYS = [b"key/%d" % i for i in range(NUM_IMAGES)]
RULE = balancing.BalanceConfig(num_image=40, min_threshold=0.4)


def make(tmp_path_factory):
    """Returns a folder that holds it."""
    folder = tmp_path_factory.mktemp("corpus")
    corpus.write_corpus(folder, PROBS, KEYS, [0, 100, 100, 180, 300])
    return folder


def config(folder, output_dir, **changes):
    """Returns the `FilterConfig` of a run on it, with some values changed."""
    return filter_unlabel.FilterConfig(
        **{
            "input_dir": str(folder / "images"),
            "prediction_dir": str(folder / "probs"),
            "output_dir": str(output_dir),
            "num_label_classes": NUM_CLASSES,
            "balance": RULE,
            **changes,
        }
    )

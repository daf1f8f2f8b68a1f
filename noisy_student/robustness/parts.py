"""A benchmark of many sets of images: each is measured once."""

import dataclasses
import os
from typing import Callable

import numpy as np
from absl import logging

from data_prep import files
from efficientnet.messages import first_names
from noisy_student import image_places
from noisy_student.robustness import benchmark, views
from noisy_student.robustness import look as look_lib


@dataclasses.dataclass(frozen=True)
class Part:
    """One set of images of a benchmark.

    Attributes:
        name: What its figures are kept under.
        place: Where its images are.
        open: Returns its `labeled_images.LabeledImages`.
        view: image_bytes -> pixels.
    """

    name: str
    place: str
    open: Callable
    view: Callable


class PartFolder:
    """The figures of a benchmark's parts, kept one by one.

    Args:
        kind: Name of the benchmark.
        config: `benchmark.BenchmarkConfig`; without an `output_dir` nothing
            is kept.
        network: `network.Network`.
        stored_size: [height, width] of the stored images in pixels.

    Raises:
        ValueError: If the folder holds figures of another network or of other
            images.
    """

    def __init__(self, kind, config, network, stored_size):
        self._folder = None
        if config.output_dir is None:
            return
        self._folder = os.path.join(config.output_dir, kind)
        settings = benchmark.settings(config, network, stored_size=stored_size)
        files.check_settings(self._folder, settings)
        files.write_settings(self._folder, settings)

    def _path(self, name):
        return os.path.join(self._folder, f"{name}.json")

    def read(self, name, **expected):
        """Returns the figures of a part, None if they are not known.

        Args:
            name: Of the part.
            **expected: Values that its figures must have, so as to be of the
                images that are there now.
        """
        if self._folder is None or not files.exists(self._path(name)):
            return None
        figures = files.read_json(self._path(name))
        kept = {key: v for key, v in figures.items() if key in expected}
        difference = files.describe_difference(kept, expected)
        if difference:
            logging.info(
                "%s: measured anew, as its images are others than those of "
                "the figures that are kept: %s.",
                name,
                difference,
            )
            return None
        return figures

    def write(self, name, figures):
        """Keeps the figures of a part."""
        if self._folder is not None:
            files.write_json(self._path(name), figures)


def measure_all(kind, config, network, parts):
    """Measures accuracy on sets of the same images; finished ones are kept.

    Args:
        kind: Name of the benchmark.
        config: `benchmark.BenchmarkConfig`.
        network: `network.Network`.
        parts: Sequence of `Part`.

    Returns:
        ({name: what `evaluate.evaluate` returned}, [height, width] of the
        first stored image).

    Raises:
        FileNotFoundError: If the images of a set are not there.
        ValueError: If a set has another number of images than the first, or
            cannot be evaluated; the first is said before anything is computed.
    """
    found = _look_at_files(parts)
    stored_size = views.stored_size(parts[0].open().dataset())
    folder = PartFolder(kind, config, network, stored_size)
    figures, look = {}, None
    for number, part in enumerate(parts, start=1):
        images = found[part.name]
        known = folder.read(part.name, **images)
        if known is None:
            source = part.open()
            source.check()
            look = look or look_lib.Look(network)
            values = look(source, part.view)
            known = {
                **{key: np.asarray(v).item() for key, v in values.items()},
                **images,
            }
            folder.write(part.name, known)
        figures[part.name] = known
        logging.info(
            "%s, %d of %d: top-1 %.2f %% of %d images.",
            part.name,
            number,
            len(parts),
            100 * known["top_1"],
            known["num_images"],
        )
    return figures, stored_size


def _look_at_files(parts):
    """Returns what tells each part's images, {name: dict}; reads no image.

    Raises:
        ValueError: If parts have not the same number of images.
    """
    found = {}
    for part in parts:
        # Not kept open: names of millions of files are gigabytes.
        source = part.open()
        with files.naming(source.origin):
            fingerprint = source.fingerprint()
        found[part.name] = {
            "images": image_places.absolute(part.place),
            "num_images": source.num_images,
            "fingerprint": fingerprint,
        }
    require_equal(
        {name: values["num_images"] for name, values in found.items()}, "images"
    )
    return found


def require_equal(counts, what):
    """Raises ValueError unless all parts have as many images, or sequences.

    Args:
        counts: {name: number}.
        what: What is counted, as the message says it.
    """
    first = next(iter(counts))
    wrong = [
        f"{name} has {count}"
        for name, count in counts.items()
        if count != counts[first]
    ]
    if wrong:
        raise ValueError(
            f"{first} has {counts[first]} {what}, {first_names(wrong)}: some "
            "are missing."
        )

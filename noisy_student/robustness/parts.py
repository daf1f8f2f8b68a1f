"""A benchmark of many sets of images: each is measured once."""

import dataclasses
import hashlib
import os
from typing import Callable

import numpy as np
from absl import logging

from data_prep import files
from efficientnet.messages import first_names
from noisy_student import image_places
from noisy_student.robustness import benchmark, views
from noisy_student.robustness import look as look_lib
from noisy_student.robustness import network as network_lib


@dataclasses.dataclass(frozen=True)
class Part:
    """One set of images of a benchmark.

    Attributes:
        name: What its figures are kept under.
        place: Where its images are.
        open: Returns its `labeled_images.LabeledImages`.
        view: image_bytes -> pixels.
        is_altered: Whether the images are corrupted, and so of one size.
    """

    name: str
    place: str
    open: Callable
    view: Callable
    is_altered: bool = True


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
        ValueError: If a set has not as many images of each class as the first,
            or of another size, or cannot be evaluated; all but the last is said
            before anything is computed.
    """
    found, stored_size = _look_at_files(parts)
    folder = PartFolder(kind, config, network, stored_size)
    figures = {p.name: folder.read(p.name, **found[p.name]) for p in parts}
    _check_labels(parts, found, figures, network.model_config.num_classes)
    look = None
    for number, part in enumerate(parts, start=1):
        known = figures[part.name]
        if known is None:
            source = part.open()
            source.check()
            look = look or look_lib.Look(network)
            values = look(source, part.view)
            known = {
                **{key: np.asarray(v).item() for key, v in values.items()},
                **found[part.name],
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
    """Looks at the files of parts; reads one image of each.

    Returns:
        ({name: dict that tells the part's images}, [height, width] of the
        first stored image).

    Raises:
        ValueError: If parts have not the same number of images, or images of
            other sizes.
    """
    found, sizes = {}, {}
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
        if part.is_altered:
            sizes[part.name] = views.stored_size(source.dataset())
    _require_equal(
        {name: values["num_images"] for name, values in found.items()}
    )
    return found, one_size(sizes)


def one_size(sizes):
    """Returns the size of the first images of parts, [height, width].

    Args:
        sizes: {name: [height, width]}.

    Raises:
        ValueError: If they are not equal: then the parts are of two releases.
    """
    first = next(iter(sizes))
    wrong = [
        f"{name} {height}x{width}"
        for name, (height, width) in sizes.items()
        if [height, width] != list(sizes[first])
    ]
    if wrong:
        raise ValueError(
            f"The first image of {first} has {sizes[first][0]}x"
            f"{sizes[first][1]} pixels, that of {first_names(wrong)}."
        )
    return sizes[first]


def _check_labels(parts, found, figures, num_classes):
    """Checks that all parts have as many images of every class.

    Reads the labels of parts whose figures are not known.

    Args:
        parts: Sequence of `Part`.
        found: {name: dict that tells the part's images}; gets `labels`, a
            digest of how many images there are of each class.
        figures: {name: figures that are kept, None if they are not known}.
        num_classes: Number of classes of the network.

    Raises:
        ValueError: If a class is missing or unknown, or numbers differ.
    """
    for part in parts:
        known = figures[part.name] or {}
        digest = known.get("labels")
        if digest is None:
            digest = _digest_labels(part.open(), num_classes)
        found[part.name]["labels"] = digest
    first = parts[0].name
    wrong = [
        part.name
        for part in parts
        if found[part.name]["labels"] != found[first]["labels"]
    ]
    if wrong:
        raise ValueError(
            f"{first_names(wrong)}: not as many images of each class as in "
            f"{first}."
        )


def _digest_labels(source, num_classes):
    """Returns a digest of how many images a source has of each class."""
    labels = source.read_labels()
    if unknown := sorted(set(labels.tolist()) - set(range(num_classes))):
        raise ValueError(
            f"{source.origin}: the network's labels are 0 to {num_classes - 1}."
            f" Received: {first_names(list(map(str, unknown)))}."
            f"{network_lib.background_hint(num_classes)}"
        )
    counts = np.bincount(labels, minlength=num_classes)
    if missing := np.flatnonzero(counts == 0).tolist():
        raise ValueError(
            f"{source.origin}: no image of {len(missing)} of the network's "
            f"{num_classes} classes, labels "
            f"{first_names(list(map(str, missing)))}."
        )
    return hashlib.sha256(counts.astype("<i8").tobytes()).hexdigest()[:16]


def _require_equal(counts):
    """Raises ValueError unless all parts have as many images.

    Args:
        counts: {name: number}.
    """
    first = next(iter(counts))
    wrong = [
        f"{name} has {count}"
        for name, count in counts.items()
        if count != counts[first]
    ]
    if wrong:
        raise ValueError(
            f"{first} has {counts[first]} images, {first_names(wrong)}: some "
            "are missing."
        )

"""A benchmark of many sets of images: each is measured once."""

import dataclasses
import os
from typing import Callable

import numpy as np
from absl import logging

from data_prep import files
from efficientnet import checkpoint_archive
from noisy_student import checkpoints, evaluate
from noisy_student.robustness import views


@dataclasses.dataclass(frozen=True)
class Part:
    """One set of images of a benchmark.

    Attributes:
        name: What its figures are kept under.
        open: Returns its `labeled_images.LabeledImages`, checked.
        view: image_bytes -> pixels.
    """

    name: str
    open: Callable
    view: Callable


class PartFolder:
    """The figures of a benchmark's parts, kept one by one.

    Args:
        kind: Name of the benchmark.
        config: `benchmark.BenchmarkConfig`; without an `output_dir` nothing
            is kept.
        network: `network.Network`.

    Raises:
        ValueError: If the folder holds figures of another network or of other
            images.
    """

    def __init__(self, kind, config, network):
        self._folder = None
        if config.output_dir is None:
            return
        self._folder = os.path.join(config.output_dir, kind)
        settings = {
            "label_data_dir": config.label_data_dir,
            "eval_split": config.eval_split,
            **network.describe(),
            "weights": checkpoints.fingerprint(
                checkpoint_archive.find(config.network.checkpoint)
            ),
        }
        files.check_settings(self._folder, settings)
        files.write_settings(self._folder, settings)

    def _path(self, name):
        return os.path.join(self._folder, f"{name}.json")

    def read(self, name):
        """Returns the figures of a part, None if they are not known."""
        if self._folder is None or not files.exists(self._path(name)):
            return None
        return files.read_json(self._path(name))

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
        {name: what `evaluate.evaluate` returned, and `stored_size`, [height,
        width] of its first image}.

    Raises:
        ValueError: If a set has another number of images than the first.
    """
    folder = PartFolder(kind, config, network)
    figures, look = {}, None
    for number, part in enumerate(parts, start=1):
        known = folder.read(part.name)
        if known is None:
            source = part.open()
            if look is None:
                look = _Look(network)
            known = look(source, part.view)
            folder.write(part.name, known)
        figures[part.name] = known
        first = next(iter(figures))
        if known["num_images"] != figures[first]["num_images"]:
            raise ValueError(
                f"{first} has {figures[first]['num_images']} images, "
                f"{part.name} has {known['num_images']}: some are missing."
            )
        logging.info(
            "%s, %d of %d: top-1 %.2f %% of %d images.",
            part.name,
            number,
            len(parts),
            100 * known["top_1"],
            known["num_images"],
        )
    return figures


class _Look:
    """A network that is loaded, and compiled once for all sets."""

    def __init__(self, network):
        self._network = network
        self._model = network.load()
        self._count = evaluate.counter(self._model, strategy=network.strategy)

    def __call__(self, source, view):
        figures = evaluate.evaluate_source(
            self._model,
            self._network.model_config,
            source,
            strategy=self._network.strategy,
            batch_size=self._network.config.batch_size,
            view=view,
            count=self._count,
        )
        figures = {name: np.asarray(v).item() for name, v in figures.items()}
        return {**figures, "stored_size": views.stored_size(source.dataset())}

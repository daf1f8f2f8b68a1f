"""How a network looks at labeled images."""

from noisy_student import evaluate, labeled_images, run_dir


class Look:
    """A network that is loaded, and compiled once for all sets of images.

    Args:
        network: `network.Network`.
        measure: Function of the loaded model that returns `measure` of
            `evaluate.counter`; None measures accuracy.
    """

    def __init__(self, network, measure=None):
        self._network = network
        self._model = network.load()
        self._count = evaluate.counter(
            self._model,
            strategy=network.strategy,
            measure=measure and measure(self._model),
        )

    def __call__(self, source, view=None):
        """Returns what `evaluate.evaluate` does of a set of images.

        Args:
            source: `labeled_images.LabeledImages`.
            view: image_bytes -> pixels; None is the network's.
        """
        return evaluate.evaluate_source(
            self._model,
            self._network.model_config,
            source,
            strategy=self._network.strategy,
            batch_size=self._network.config.batch_size,
            view=view or self._network.view,
            count=self._count,
        )


def open_images(network, place, *, split, flag="label_data_dir"):
    """Opens labeled images of the classes that a network was trained on.

    Args:
        network: `network.Network`.
        place: As `labeled_images.open_source` takes it.
        split: Prefix of shards, or the split of a tfds data set.
        flag: The flag that names the place, for messages.
    """
    return labeled_images.open_source(
        place,
        split=split,
        num_classes=network.model_config.num_classes,
        class_names=run_dir.trained_class_names(network.config.checkpoint),
        flag=flag,
    )

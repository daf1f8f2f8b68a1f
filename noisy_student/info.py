"""What a model is made of, and what it costs, before anything is built.

All figures follow from the configuration by arithmetic, so they are there at
once for any model, and without TensorFlow.
"""

import dataclasses

from efficientnet import config as efficientnet_config
from noisy_student import layer_cards, loop_metrics

# Bytes of one value of an activation, by precision policy.
ACTIVATION_BYTES = {"float32": 4, "mixed_bfloat16": 2}

_WEIGHT_BYTES = 4
# Values that RMSprop with momentum keeps for each trainable weight.
_NUM_SLOTS = 2

_HEADINGS = (
    "layer",
    "kernel",
    "stride",
    "expand",
    "in",
    "out",
    "se",
    "size",
    "survival",
    "params",
    "multiply-adds",
)
_ROW = "{:<11}{:>7}{:>7}{:>7}{:>6}{:>6}{:>5}{:>6}{:>9}{:>12}{:>16}"
_MEMORY_ROW = "{:<46}{:>14}{:>18}"


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on one device; an estimate, see `model_card`.

    Attributes:
        weights: The weights, float32 under every policy.
        moving_average: Their averages.
        slots: What the optimizer keeps.
        gradients: One value per trainable weight.
        activations: {policy: bytes} of a training step.
        inference_activations: {policy: bytes} of a step at inference.
    """

    weights: int
    moving_average: int
    slots: int
    gradients: int
    activations: dict
    inference_activations: dict

    def training(self, policy):
        """Returns the bytes of a training step, all parts together."""
        return (
            self.weights
            + self.moving_average
            + self.slots
            + self.gradients
            + self.activations[policy]
        )

    def inference(self, policy):
        """Returns the bytes of a step at inference."""
        return self.weights + self.inference_activations[policy]


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """A model and its costs.

    Attributes:
        model_name: Name in the table.
        image_size: Height and width of the input in pixels.
        num_classes: Number of logits.
        dropout_rate: Before the classifier.
        batch_size: Images per step on one device.
        layers: Tuple of `layer_cards.LayerCard`, from first to last.
        memory: `Memory` at that batch size.
    """

    model_name: str
    image_size: int
    num_classes: int
    dropout_rate: float
    batch_size: int
    layers: tuple
    memory: Memory

    @property
    def num_blocks(self):
        """Number of blocks between stem and head."""
        return sum(layer.name.startswith("blocks_") for layer in self.layers)

    @property
    def params(self):
        """Number of weights, moving statistics included."""
        return sum(layer.params for layer in self.layers)

    @property
    def trainable_params(self):
        """Number of weights that are trained."""
        return sum(layer.trainable_params for layer in self.layers)

    @property
    def multiply_adds(self):
        """Multiply-adds of one image, what the paper calls FLOPs."""
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def flops(self):
        """Floating-point operations of one image: two per multiply-add.

        Those of normalizations, activations and means are left out.
        """
        return 2 * self.multiply_adds

    @property
    def step_flops(self):
        """Floating-point operations of a training step, about.

        The gradients by inputs and by weights cost as much again, each.
        """
        return 3 * self.flops * self.batch_size


def model_card(model, *, batch_size):
    """Returns what a model is made of and what it costs.

    The memory is an estimate of what the tensors of a step need at its peak. It
    counts weights, their averages, slots and gradients in float32; for a
    training step the outputs of each convolution, normalization, activation,
    squeeze-excite and block, which the backward pass needs; at inference an
    activation of the widest block three times, and the input of its skip. It
    leaves out the program, kernels' scratch space, the input pipeline and an
    online teacher.

    Measured on a CPU, B0 at 224 in float32: each further image of a training
    step takes 5 % more than estimated, at inference 4 % more; besides, the
    program takes 0.45 GiB and a step 0.3 to 0.5 GiB whatever its batch, so
    that 8 images peak at 1.9 GiB, estimated 0.8. What mixed_bfloat16 saves is
    seen on devices that compute in it.

    Args:
        model: `config.ModelConfig`.
        batch_size: Images per step on one device, unlabeled ones included.

    Returns:
        `ModelCard`.

    Raises:
        ValueError: If there is no such model, or the batch size is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be >= 1. Received: {batch_size}.")
    architecture = _architecture(model)
    layers = tuple(layer_cards.layer_cards(architecture))
    return ModelCard(
        model_name=model.model_name,
        image_size=model.image_size,
        num_classes=model.num_classes,
        dropout_rate=architecture.dropout_rate,
        batch_size=batch_size,
        layers=layers,
        memory=_memory(layers, batch_size),
    )


def training_card(config, *, num_replicas=1):
    """Returns the `ModelCard` of a `config.TrainConfig`.

    That of what one replica works on at a time.
    """
    images = loop_metrics.images_per_step(config)
    parts = num_replicas * config.step.accumulate_steps
    return model_card(config.model, batch_size=-(-images // parts))


def _architecture(model):
    """Returns the `EfficientNetConfig` that `models.build` builds."""
    rate = model.stochastic_depth_rate
    overrides = {
        "num_classes": model.num_classes,
        "image_size": model.image_size,
        "small_image": model.small_image,
        "width_coefficient": model.width_coefficient,
        "depth_coefficient": model.depth_coefficient,
        "dropout_rate": model.dropout_rate,
        "survival_prob": None if rate is None else 1.0 - rate,
    }
    return dataclasses.replace(
        efficientnet_config.get_config(model.model_name),
        **{key: value for key, value in overrides.items() if value is not None},
    )


def _memory(layers, batch_size):
    weights = _WEIGHT_BYTES * sum(layer.params for layer in layers)
    trainable = _WEIGHT_BYTES * sum(layer.trainable_params for layer in layers)
    kept = batch_size * sum(layer.kept_values for layer in layers)
    live = batch_size * max(layer.live_values for layer in layers)
    sizes = ACTIVATION_BYTES.items()
    return Memory(
        weights=weights,
        moving_average=weights,
        slots=_NUM_SLOTS * trainable,
        gradients=trainable,
        activations={policy: size * kept for policy, size in sizes},
        inference_activations={policy: size * live for policy, size in sizes},
    )


def format_card(card):
    """Returns a `ModelCard` as text, at most 92 columns wide.

    A table of the layers comes first, then what they cost.
    """
    lines = [_title(card), "", _ROW.format(*_HEADINGS)]
    lines += [_ROW.format(*_cells(layer)) for layer in card.layers]
    lines += [
        "",
        "Survival is the probability that an example keeps a block's branch "
        "in training; a block",
        "without a skip is never dropped. Dropout before the classifier: "
        f"{card.dropout_rate}.",
        "",
        f"Parameters: {card.params:,}, of which {card.trainable_params:,} are "
        "trained; the others are moving statistics",
        f"One image: {card.multiply_adds:,} multiply-adds, "
        f"{card.flops:,} FLOPs",
        f"Training step of {card.batch_size:,} images: about "
        f"{_count(card.step_flops, 'FLOPs')}",
        "",
        *_memory_lines(card),
    ]
    return "\n".join(lines)


def summary(card):
    """Returns a `ModelCard` in two lines, to be logged."""
    training = ", ".join(
        f"{in_bytes(card.memory.training(policy))} in {policy}"
        for policy in ACTIVATION_BYTES
    )
    return (
        f"{_title(card)}: {_count(card.params, 'parameters')}, "
        f"{_count(card.multiply_adds, 'multiply-adds')} per image.\n"
        f"Training step of {card.batch_size:,} images on one device: about "
        f"{_count(card.step_flops, 'FLOPs')}; memory about {training}."
    )


def _title(card):
    size = card.image_size
    return f"{card.model_name} at {size}x{size}, {card.num_classes:,} classes"


def _cells(layer):
    prob = layer.survival_prob
    return (
        layer.name,
        f"{layer.kernel_size}x{layer.kernel_size}",
        layer.strides,
        _or_dash(layer.expand_ratio),
        layer.input_filters,
        layer.output_filters,
        _or_dash(layer.se_filters),
        layer.output_size,
        _or_dash(None if prob is None else f"{prob:.4f}"),
        f"{layer.params:,}",
        f"{layer.multiply_adds:,}",
    )


def _or_dash(value):
    return "-" if value is None else value


def _memory_lines(card):
    """Yields the table of memory, a column per precision policy."""
    memory = card.memory
    policies = list(ACTIVATION_BYTES)
    rows = {
        "weights": [memory.weights for _ in policies],
        "their moving average": [memory.moving_average for _ in policies],
        "slots of rmsprop": [memory.slots for _ in policies],
        "gradients": [memory.gradients for _ in policies],
        "activations": [memory.activations[p] for p in policies],
        "training in all": [memory.training(p) for p in policies],
        "inference in all": [memory.inference(p) for p in policies],
    }
    title = f"Memory of {card.batch_size:,} images on one device, about"
    yield _MEMORY_ROW.format(title, *policies)
    for label, sizes in rows.items():
        yield _MEMORY_ROW.format(f"  {label}", *map(in_bytes, sizes))


def in_bytes(number):
    """Returns a size in binary units, for example "20.3 MiB"."""
    return _in_unit(number, 1024, ("bytes", "KiB", "MiB", "GiB", "TiB"))


def _count(number, what):
    """Returns a number of things, for example "5.33 M parameters"."""
    return f"{in_thousands(number)} {what}"


def in_thousands(number):
    """Returns a number in decimal units, for example "5.33 M"."""
    return _in_unit(number, 1000, ("", "K", "M", "G", "T", "P"))


def _in_unit(number, base, units):
    exponent = 0
    while number >= 0.9995 * base and exponent < len(units) - 1:
        number /= base
        exponent += 1
    digits = max(0, 3 - len(str(int(number))))
    return f"{number:.{digits}f} {units[exponent]}".strip()

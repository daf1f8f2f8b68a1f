"""The architectures: blocks, scaling coefficients, image sizes, noise."""

import dataclasses

_IMAGENET_MEAN_RGB = (0.485 * 255, 0.456 * 255, 0.406 * 255)
_IMAGENET_STDDEV_RGB = (0.229 * 255, 0.224 * 255, 0.225 * 255)


def _check_at_least(field, value, minimum):
    if value < minimum:
        raise ValueError(f"`{field}` must be >= {minimum}. Received: {value}.")


@dataclasses.dataclass(frozen=True)
class BlockConfig:
    """A stage of equal blocks, or (num_repeats 1) a single block.

    Attributes:
        num_repeats: Number of blocks in the stage.
        kernel_size: Height and width of the depthwise kernel.
        strides: Stride of the first block; the others have stride 1.
        expand_ratio: Expanded filters per input filter; 1 leaves the expansion
            out.
        input_filters: Channels of the first block's input.
        output_filters: Channels of each block's output.
        se_ratio: Squeeze-excite filters per *input* filter of the block, in
            (0, 1].
    """

    num_repeats: int
    kernel_size: int
    strides: int
    expand_ratio: int
    input_filters: int
    output_filters: int
    se_ratio: float = 0.25

    def __post_init__(self):
        for field in (
            "num_repeats",
            "kernel_size",
            "strides",
            "expand_ratio",
            "input_filters",
            "output_filters",
        ):
            _check_at_least(field, getattr(self, field), 1)
        if not 0 < self.se_ratio <= 1:
            raise ValueError(
                f"`se_ratio` must be in (0, 1]. Received: {self.se_ratio}."
            )

    @property
    def se_filters(self):
        """Filters between squeeze and excite."""
        return max(1, int(self.input_filters * self.se_ratio))

    @property
    def has_skip(self):
        """Whether a single block adds its input to its output."""
        return self.strides == 1 and self.input_filters == self.output_filters


# Before scaling. Source: EfficientNet, arXiv 1905.11946, Table 1.
STAGES = (
    BlockConfig(1, 3, 1, 1, 32, 16),
    BlockConfig(2, 3, 2, 6, 16, 24),
    BlockConfig(2, 5, 2, 6, 24, 40),
    BlockConfig(3, 3, 2, 6, 40, 80),
    BlockConfig(3, 5, 1, 6, 80, 112),
    BlockConfig(4, 5, 2, 6, 112, 192),
    BlockConfig(1, 3, 1, 6, 192, 320),
)


@dataclasses.dataclass(frozen=True)
class EfficientNetConfig:
    """One model: its architecture, its image sizes and its noise.

    Attributes:
        name: One of `MODEL_NAMES`.
        width_coefficient: Factor on the filters, > 0.
        depth_coefficient: Factor on the repeats, > 0.
        image_size: Height and width, in pixels, at which the model is
            evaluated.
        train_image_size: Height and width, in pixels, at which it is trained.
        dropout_rate: Rate of the dropout before the last layer, in [0, 1).
        survival_prob: Stochastic depth's survival probability at the final
            layer, in (0, 1]; 1 turns stochastic depth off.
        num_classes: Number of logits.
        mean_rgb: Mean of the pixels, in [0, 255], by channel.
        stddev_rgb: Standard deviation of the pixels, in [0, 255] units, by
            channel.
        small_image: Whether the second and third stage keep the resolution,
            for images of about 32x32.
        stages: The stages before scaling.
        stem_filters: Filters of the first convolution, before scaling.
        head_filters: Filters of the last convolution, before scaling.
        batch_norm_momentum: Share of the moving statistics that a step keeps.
        batch_norm_epsilon: Added to the variance.
    """

    name: str
    width_coefficient: float
    depth_coefficient: float
    image_size: int
    train_image_size: int
    dropout_rate: float
    survival_prob: float = 0.8
    num_classes: int = 1000
    mean_rgb: tuple = _IMAGENET_MEAN_RGB
    stddev_rgb: tuple = _IMAGENET_STDDEV_RGB
    small_image: bool = False
    stages: tuple = STAGES
    stem_filters: int = 32
    head_filters: int = 1280
    batch_norm_momentum: float = 0.99
    batch_norm_epsilon: float = 1e-3

    def __post_init__(self):
        for field in ("width_coefficient", "depth_coefficient"):
            if getattr(self, field) <= 0:
                raise ValueError(
                    f"`{field}` must be > 0. Received: {getattr(self, field)}."
                )
        for field in ("image_size", "train_image_size", "num_classes"):
            _check_at_least(field, getattr(self, field), 1)
        if not 0 <= self.dropout_rate < 1:
            raise ValueError(
                "`dropout_rate` must be in [0, 1). "
                f"Received: {self.dropout_rate}."
            )
        if not 0 < self.survival_prob <= 1:
            raise ValueError(
                "`survival_prob` must be in (0, 1]. "
                f"Received: {self.survival_prob}."
            )
        self._check_pixel_statistics()

    def _check_pixel_statistics(self):
        for field in ("mean_rgb", "stddev_rgb"):
            values = tuple(float(value) for value in getattr(self, field))
            if len(values) != 3:
                raise ValueError(
                    f"`{field}` must have 3 values. Received: {values}."
                )
            object.__setattr__(self, field, values)
        if min(self.stddev_rgb) <= 0:
            raise ValueError(
                f"`stddev_rgb` must be > 0. Received: {self.stddev_rgb}."
            )


def _configs():
    # Width, depth, size at evaluation, size at training, dropout rate.
    table = {
        "efficientnet-b0": (1.0, 1.0, 224, 224, 0.2),
        "efficientnet-b1": (1.0, 1.1, 240, 240, 0.2),
        "efficientnet-b2": (1.1, 1.2, 260, 260, 0.3),
        "efficientnet-b3": (1.2, 1.4, 300, 300, 0.3),
        "efficientnet-b4": (1.4, 1.8, 380, 380, 0.4),
        "efficientnet-b5": (1.6, 2.2, 456, 456, 0.4),
        "efficientnet-b6": (1.8, 2.6, 528, 528, 0.5),
        "efficientnet-b7": (2.0, 3.1, 600, 600, 0.5),
        "efficientnet-b8": (2.2, 3.6, 672, 672, 0.5),
        "efficientnet-l0": (2.8, 3.7, 600, 380, 0.5),
        "efficientnet-l1": (3.9, 3.7, 600, 380, 0.5),
        "efficientnet-l2": (4.3, 5.3, 800, 475, 0.5),
        "efficientnet-l2_475": (4.3, 5.3, 475, 475, 0.5),
    }
    return {
        name: EfficientNetConfig(name, *values)
        for name, values in table.items()
    }


_CONFIGS = _configs()

MODEL_NAMES = tuple(_CONFIGS)


def get_config(name):
    """Returns the `EfficientNetConfig` of a model.

    Args:
        name: One of `MODEL_NAMES`, for example "efficientnet-b0".

    Raises:
        ValueError: If there is no such model.
    """
    if name not in _CONFIGS:
        raise ValueError(
            f"`name` must be one of {', '.join(MODEL_NAMES)}. "
            f"Received: {name!r}."
        )
    return _CONFIGS[name]

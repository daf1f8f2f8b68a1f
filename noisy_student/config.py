"""What a run is made of: small frozen dataclasses that check themselves.

Flags become these once (`flags.py`); everything below receives the smallest
one it needs. No TensorFlow here, so a wrong setting ends a command at once.
"""

import dataclasses
import json
import math
from typing import Optional

from noisy_student.data_config import AugmentConfig, DataConfig, require

LABEL_TYPES = ("soft", "hard")
CROP_PADDINGS = ("32", "proportional")
CHECKPOINT_HEADS = ("load", "drop_background", "fresh")
FIXRES_VARIANTS = ("classifier", "head_batch_norm", "full")
# AdvProp's networks take pixels scaled to [-1, 1]: this mean, this deviation.
ADVPROP_RGB = (127.5, 127.5, 127.5)
EXPORT_FORMATS = (
    "keras",
    "h5",
    "saved_model",
    "tflite",
    "tflite_float16",
    "tflite_int8",
)
# The flags that ask for a network, by the field of `ModelConfig`.
FLAG_OF_MODEL_FIELD = {
    "model_name": "model_name",
    "num_classes": "num_label_classes",
    "image_size": "input_image_size",
    "width_coefficient": "width_coefficient",
    "depth_coefficient": "depth_coefficient",
    "small_image": "small_image_model",
    "crop_padding": "crop_padding",
    "fused_decode": "fused_decode",
}


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Which network, and what overrides its table row.

    Attributes:
        model_name: A name of `efficientnet.MODEL_NAMES`.
        num_classes: Number of classes, at least 2.
        image_size: Height and width of the input in pixels.
        width_coefficient: Multiplies the filters; None keeps the table's.
        depth_coefficient: Multiplies the repeats; None keeps the table's.
        dropout_rate: Before the classifier; None keeps the table's.
        stochastic_depth_rate: Drop rate at the last block; None keeps the
            table's (0.2).
        small_image: The variant for 32x32 images.
        stored_size: Height and width in pixels of the images that such a
            variant enlarges to `image_size`; None takes images as they are.
        mean_rgb: Subtracted from the pixels, three values in 0-255.
        stddev_rgb: Divides them afterwards, three values in 0-255.
        crop_padding: The centre crop of an evaluated image, one of
            `CROP_PADDINGS`; see `preprocessing.preprocess_for_eval`.
        num_shards_per_group: Which replicas share the statistics of batch
            normalization; see `efficientnet.build_model`.
        fused_decode: Whether only the crop of an evaluated JPEG is decoded;
            see `preprocessing.preprocess_for_eval`.
    """

    model_name: str
    num_classes: int
    image_size: int
    width_coefficient: Optional[float] = None
    depth_coefficient: Optional[float] = None
    dropout_rate: Optional[float] = None
    stochastic_depth_rate: Optional[float] = None
    small_image: bool = False
    stored_size: Optional[int] = None
    mean_rgb: Optional[tuple] = None
    stddev_rgb: Optional[tuple] = None
    crop_padding: str = "32"
    num_shards_per_group: int = -1
    fused_decode: bool = False

    def __post_init__(self):
        require(
            self.crop_padding in CROP_PADDINGS,
            "crop_padding",
            f"one of {CROP_PADDINGS}",
            self.crop_padding,
        )
        require(self.num_classes >= 2, "num_classes", ">= 2", self.num_classes)
        require(self.image_size >= 8, "image_size", ">= 8", self.image_size)
        require(
            self.stored_size is None or self.small_image,
            "stored_size",
            "None without `small_image`: other images are of any size",
            self.stored_size,
        )
        require(
            self.num_shards_per_group >= -2 and self.num_shards_per_group != 0,
            "num_shards_per_group",
            "-2, -1 or >= 1",
            self.num_shards_per_group,
        )
        for name in ("width_coefficient", "depth_coefficient"):
            value = getattr(self, name)
            require(value is None or value > 0, name, "> 0", value)
        for name in ("dropout_rate", "stochastic_depth_rate"):
            value = getattr(self, name)
            require(value is None or 0 <= value < 1, name, "in [0, 1)", value)


@dataclasses.dataclass(frozen=True)
class PseudoLabelConfig:
    """How unlabeled images enter the loss.

    Attributes:
        unlabeled_ratio: Unlabeled images per labeled image in a batch, and
            the weight of their loss; 0 turns both off.
        label_type: `'soft'` or `'hard'`.
        temperature: Teacher softmax temperature of soft labels, > 0.
        online: Whether the teacher labels inside the step; otherwise its
            stored labels are read.
        noise_teacher: Whether the online teacher labels with dropout and
            stochastic depth, and looks at augmented images.
        dropout: Whether the student's dropout acts on unlabeled images.
        stochastic_depth: Whether its stochastic depth does.
    """

    unlabeled_ratio: float = 0.0
    label_type: str = "hard"
    temperature: float = 1.0
    online: bool = False
    noise_teacher: bool = False
    dropout: bool = True
    stochastic_depth: bool = True

    def __post_init__(self):
        require(
            self.unlabeled_ratio >= 0,
            "unlabeled_ratio",
            ">= 0",
            self.unlabeled_ratio,
        )
        require(
            self.label_type in LABEL_TYPES,
            "label_type",
            f"one of {LABEL_TYPES}",
            self.label_type,
        )
        require(self.temperature > 0, "temperature", "> 0", self.temperature)
        require(
            self.online or not self.noise_teacher,
            "noise_teacher",
            "False without an online teacher: stored labels are without noise",
            self.noise_teacher,
        )

    def unlabeled_batch_size(self, batch_size):
        """Returns the unlabeled images that accompany `batch_size` labeled."""
        return math.ceil(batch_size * self.unlabeled_ratio)


@dataclasses.dataclass(frozen=True)
class StepConfig:
    """What one training step computes.

    Attributes:
        num_classes: Number of classes.
        label_smoothing: On labeled images and hard pseudo labels, in [0, 1).
        weight_decay: Coefficient of half the squared norm of the weights.
        normalization: One of `losses.NORMALIZATIONS`.
        pseudo_labels: How unlabeled images enter the loss.
        label_data_sample_prob: Probability of a labeled image to count in
            the loss, in (0, 1]; it stands for a smaller labeled batch where
            every replica needs an image.
        accumulate_steps: Micro-batches that the batch of a replica is worked
            through in, >= 1. The gradient is that of the whole batch, but
            each has its own statistics of batch normalization, and moves the
            moving ones.
        recompute_activations: Whether the backward pass computes the insides
            of the blocks anew, for less memory. It changes no result.
        seed: Seed of dropout, stochastic depth and the choice of images.
    """

    num_classes: int
    label_smoothing: float = 0.1
    weight_decay: float = 1e-5
    normalization: str = "labeled"
    pseudo_labels: PseudoLabelConfig = PseudoLabelConfig()
    label_data_sample_prob: float = 1.0
    accumulate_steps: int = 1
    recompute_activations: bool = False
    seed: int = 0

    def __post_init__(self):
        require(
            0 <= self.label_smoothing < 1,
            "label_smoothing",
            "in [0, 1)",
            self.label_smoothing,
        )
        require(
            self.weight_decay >= 0, "weight_decay", ">= 0", self.weight_decay
        )
        require(
            0 < self.label_data_sample_prob <= 1,
            "label_data_sample_prob",
            "in (0, 1]",
            self.label_data_sample_prob,
        )
        require(
            self.accumulate_steps >= 1,
            "accumulate_steps",
            ">= 1",
            self.accumulate_steps,
        )

    def unlabeled_batch_size(self, batch_size):
        """Returns the unlabeled images that accompany `batch_size` labeled.

        They follow the labeled images that count, as in the original.
        """
        return self.pseudo_labels.unlabeled_batch_size(
            batch_size * self.label_data_sample_prob
        )


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Learning rate, its schedule, and the moving average.

    Attributes:
        base_learning_rate: Rate per 256 labeled images.
        final_base_lr: Rate per 256 labeled images at the end of the run; it
            derives the decay interval. None decays every `decay_epochs`.
        decay_epochs: Epochs of labeled images per stair of 0.97.
        warmup_epochs: Epochs of linear warm-up.
        moving_average_decay: Upper bound of the decay of the average.
        start_step: Steps of the schedule that lie before this run, which
            then trains its tail.
    """

    base_learning_rate: float = 0.016
    final_base_lr: Optional[float] = None
    decay_epochs: float = 2.4
    warmup_epochs: float = 5
    moving_average_decay: float = 0.9999
    start_step: int = 0

    def __post_init__(self):
        for name in ("base_learning_rate", "decay_epochs"):
            value = getattr(self, name)
            require(value > 0, name, "> 0", value)
        final = self.final_base_lr
        require(
            final is None or 0 < final < self.base_learning_rate,
            "final_base_lr",
            f"between 0 and base_learning_rate={self.base_learning_rate}",
            final,
        )
        for name in ("warmup_epochs", "start_step"):
            value = getattr(self, name)
            require(value >= 0, name, ">= 0", value)
        require(
            0 <= self.moving_average_decay < 1,
            "moving_average_decay",
            "in [0, 1)",
            self.moving_average_decay,
        )


@dataclasses.dataclass(frozen=True)
class FreezeConfig:
    """Which weights of an initialised network stay as they are.

    Attributes:
        trainable_blocks: Blocks, counted from the last one, that are trained
            together with the head; 0 trains the classifier alone, None
            everything.
        fixed_blocks: The same said from the other end: blocks, counted from
            the first one, that are frozen together with the stem; 0 freezes
            the stem alone, None nothing.
        batch_norm: Whether batch normalization is frozen in trained layers
            too.
        head_batch_norm: Whether the last one, before the pooling, is trained
            beside the classifier alone.
    """

    trainable_blocks: Optional[int] = None
    fixed_blocks: Optional[int] = None
    batch_norm: bool = False
    head_batch_norm: bool = False

    def __post_init__(self):
        for name in ("trainable_blocks", "fixed_blocks"):
            blocks = getattr(self, name)
            require(blocks is None or blocks >= 0, name, ">= 0", blocks)
        if None not in (self.trainable_blocks, self.fixed_blocks):
            raise ValueError(
                "`trainable_blocks` and `fixed_blocks` say the same from two "
                f"ends. Received: {self.trainable_blocks} and "
                f"{self.fixed_blocks}."
            )
        require(
            not self.head_batch_norm
            or (self.trainable_blocks == 0 and not self.batch_norm),
            "head_batch_norm",
            "False unless the classifier alone is trained otherwise",
            self.head_batch_norm,
        )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        model: The student.
        data: Its images.
        labeled_augment: Input noise of labeled images.
        unlabeled_augment: Input noise of unlabeled images.
        step: The loss.
        optimizer: Learning rate and moving average.
        teacher: The online teacher's network; None when labels are stored.
        teacher_checkpoint: Its weights.
        init_checkpoint: Weights the student starts from; None for scratch.
        init_head: What becomes of their classifier, one of
            `CHECKPOINT_HEADS`; see `checkpoints.load_weights`.
        init_ema: Whether they are the moving averages.
        freeze: Which of the weights are not trained.
        batch_size: Labeled images per step over all replicas.
        train_steps: Steps of the run.
        num_train_images: Labeled images per epoch; None until the records
            were counted.
        iterations_per_loop: Steps between visits to the host.
        save_checkpoints_steps: Steps between checkpoints.
        steps_per_eval: Steps between evaluations in `train_and_eval`.
        evaluate_start: Whether it evaluates what it starts from as step 0.
        keep_checkpoint_max: Checkpoints kept.
        async_checkpoints: Whether checkpoints are written while training goes
            on, from a copy of the state in the host's memory, where
            TensorFlow can make one.
        eval_batch_size: Images per evaluation step over all replicas.
        seed: Seed of everything random in the run.
    """

    model: ModelConfig
    data: DataConfig
    labeled_augment: AugmentConfig
    unlabeled_augment: AugmentConfig
    step: StepConfig
    optimizer: OptimizerConfig
    teacher: Optional[ModelConfig] = None
    teacher_checkpoint: Optional[str] = None
    init_checkpoint: Optional[str] = None
    init_head: str = "load"
    init_ema: bool = True
    freeze: FreezeConfig = FreezeConfig()
    batch_size: int = 4096
    train_steps: int = 109474
    num_train_images: Optional[int] = None
    iterations_per_loop: int = 1000
    save_checkpoints_steps: int = 1000
    steps_per_eval: int = 3000
    evaluate_start: bool = False
    keep_checkpoint_max: int = 5
    async_checkpoints: bool = True
    eval_batch_size: int = 8
    seed: int = 0

    def __post_init__(self):
        for name in (
            "batch_size",
            "train_steps",
            "num_train_images",
            "iterations_per_loop",
            "save_checkpoints_steps",
            "steps_per_eval",
            "keep_checkpoint_max",
            "eval_batch_size",
        ):
            value = getattr(self, name)
            require(value is None or value >= 1, name, ">= 1", value)
        require(
            self.init_head in CHECKPOINT_HEADS,
            "init_head",
            f"one of {CHECKPOINT_HEADS}",
            self.init_head,
        )
        frozen = self.freeze != FreezeConfig()
        if self.init_checkpoint is None and (
            frozen or self.init_head != "load"
        ):
            raise ValueError(
                "Frozen weights and a replaced classifier need "
                "`init_checkpoint`: without it every weight is random."
            )
        online = self.step.pseudo_labels.online
        if online != (self.teacher is not None):
            raise ValueError(
                "An online teacher needs `teacher`, stored labels exclude it. "
                f"Received: online={online}, teacher={self.teacher}."
            )

    @property
    def counted_batch_size(self):
        """Labeled images of a step that count in the loss, on average."""
        return self.batch_size * self.step.label_data_sample_prob

    @property
    def steps_per_epoch(self):
        """Steps until as many labeled images have counted, a float."""
        return self.num_train_images / self.counted_batch_size


def to_dict(config):
    """Returns a config as plain JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def model_from_dict(values):
    """Returns the `ModelConfig` that `to_dict` wrote."""
    values = dict(values)
    for name in ("mean_rgb", "stddev_rgb"):
        if values.get(name) is not None:
            values[name] = tuple(values[name])
    return ModelConfig(**values)

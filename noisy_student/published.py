"""Published results: those of the paper, and of its released checkpoints.

Everything is in percent, as it was printed. Each figure names its source; one
that could not be checked against a second place is not `confirmed`, and is
shown with a mark. Left out for want of a second place are B0 to B7 with a
teacher of their own size.
"""

import dataclasses
from typing import Optional

from efficientnet import config as efficientnet_config

# Ways in which a row's network came about, and what compares with it.
NOISY_STUDENT = "noisy_student"
SUPERVISED = "supervised"
REEVALUATED = "reevaluated"
OTHER = "other"
METHODS = (NOISY_STUDENT, SUPERVISED, REEVALUATED)

PAPER = "Xie et al., CVPR 2020 (arXiv 1911.04252)"
RELEASE = "the EfficientNet release's table of Noisy Student checkpoints"
REEVALUATION = "timm's re-evaluation of the released checkpoints"

# Images of a set, or of each of its parts.
NUM_IMAGES = {
    "evaluation": 50_000,
    "imagenet_a": 7_500,
    "imagenet_c": 50_000,
    "adversarial": 50_000,
}

# How their networks looked and were attacked, by the names of the flags; what
# the paper leaves open is as `docs/robustness.md` takes it to be.
_CROP = {"resize": "crop", "use_ema": True, "advprop_preprocessing": False}
_WHOLE = {**_CROP, "resize": "whole"}
LOOKED_WITH = {
    "imagenet_a": _CROP,
    "imagenet_c": _WHOLE,
    "imagenet_p": _WHOLE,
    "adversarial": _CROP,
}
PGD_WITH = {"pgd_steps": 10, "pgd_step_size": None, "pgd_random_start": False}

_L2 = "efficientnet-l2"
# The tables of robustness are of L2 before it is tuned at 800 pixels.
_L2_BEFORE_TUNING = "efficientnet-l2_475"
_SIZE_BEFORE_TUNING = 475


@dataclasses.dataclass(frozen=True)
class Value:
    """One published figure.

    Attributes:
        percent: As printed.
        source: Who published it, and where.
        confirmed: Whether it was found in more than one place.
    """

    percent: float
    source: str
    confirmed: bool = True


@dataclasses.dataclass(frozen=True)
class Row:
    """The published figures of one network on one set of images.

    Attributes:
        name: As the table calls it.
        kind: Which images; one of `measured.KINDS`.
        method: `NOISY_STUDENT`, `SUPERVISED`, `REEVALUATED` or `OTHER`.
        figures: dict name as in reports -> `Value`.
        model_name: Network, in the names of `efficientnet.MODEL_NAMES`; None
            if it is none of them.
        stored_size: Height and width of the stored images; None if they are
            of all sizes.
        params: Trainable parameters in millions; None if not printed.
        extra_images: Images besides ImageNet's that it was trained on.
    """

    name: str
    kind: str
    method: str
    figures: dict
    model_name: Optional[str] = None
    stored_size: Optional[int] = None
    params: Optional[float] = None
    extra_images: str = ""


def _values(source, *, unconfirmed=(), **percents):
    return {
        name: Value(percent, source, name not in unconfirmed)
        for name, percent in percents.items()
        if percent is not None
    }


def _table_2(name, params, extra, top_1, top_5, method=OTHER, model=None):
    return Row(
        name,
        "evaluation",
        method,
        _values(f"{PAPER}, Table 2", top_1=top_1, top_5=top_5),
        model_name=model,
        params=params,
        extra_images=extra,
    )


_TAGGED = "3.5B with tags"
TABLE_2 = (
    _table_2("ResNet-50", 26, "", 76.0, 93.0),
    _table_2("ResNet-152", 60, "", 77.8, 93.8),
    _table_2("DenseNet-264", 34, "", 77.9, 93.9),
    _table_2("Inception-v3", 24, "", 78.8, 94.4),
    _table_2("Xception", 23, "", 79.0, 94.5),
    _table_2("Inception-v4", 48, "", 80.0, 95.0),
    _table_2("Inception-resnet-v2", 56, "", 80.1, 95.1),
    _table_2("ResNeXt-101", 84, "", 80.9, 95.6),
    _table_2("PolyNet", 92, "", 81.3, 95.8),
    _table_2("SENet", 146, "", 82.7, 96.2),
    _table_2("NASNet-A", 89, "", 82.7, 96.2),
    _table_2("AmoebaNet-A", 87, "", 82.8, 96.1),
    _table_2("PNASNet", 86, "", 82.9, 96.2),
    _table_2("AmoebaNet-C", 155, "", 83.5, 96.5),
    _table_2("GPipe", 557, "", 84.3, 97.0),
    _table_2(
        "EfficientNet-B7", 66, "", 85.0, 97.2, SUPERVISED, "efficientnet-b7"
    ),
    _table_2("EfficientNet-L2", 480, "", 85.5, 97.5, SUPERVISED, _L2),
    _table_2("ResNet-50 Billion-scale", 26, _TAGGED, 81.2, 96.0),
    _table_2("ResNeXt-101 Billion-scale", 193, _TAGGED, 84.8, None),
    _table_2("ResNeXt-101 WSL", 829, _TAGGED, 85.4, 97.6),
    _table_2("FixRes ResNeXt-101 WSL", 829, _TAGGED, 86.4, 98.0),
    _table_2(
        "Noisy Student (EfficientNet-L2)",
        480,
        "300M unlabeled",
        88.4,
        98.7,
        NOISY_STUDENT,
        _L2,
    ),
)


def _table_3(name, top_1, top_5=None, method=OTHER, model=None, unconfirmed=()):
    return Row(
        name,
        "imagenet_a",
        method,
        _values(
            f"{PAPER}, Table 3",
            top_1=top_1,
            top_5=top_5,
            unconfirmed=unconfirmed,
        ),
        model_name=model,
    )


TABLE_3 = (
    _table_3("ResNet-101", 4.7),
    _table_3("ResNeXt-101 (32x4d)", 5.9),
    _table_3("ResNet-152", 6.1),
    _table_3("ResNeXt-101 (64x4d)", 7.3),
    _table_3("DPN-98", 9.4),
    _table_3("ResNeXt-101+SE (32x4d)", 14.2),
    _table_3("ResNeXt-101 WSL", 61.0),
    _table_3("EfficientNet-L2", 49.6, 78.6, SUPERVISED, _L2_BEFORE_TUNING),
    _table_3(
        "Noisy Student (L2)",
        83.7,
        95.2,
        NOISY_STUDENT,
        _L2_BEFORE_TUNING,
        unconfirmed=("top_5",),
    ),
)


def _table_4(name, size, top_1, error, method=OTHER, unconfirmed=()):
    return Row(
        name,
        "imagenet_c",
        method,
        _values(
            f"{PAPER}, Table 4",
            top_1=top_1,
            mean_corruption_error=error,
            unconfirmed=unconfirmed,
        ),
        model_name=None if method == OTHER else _L2_BEFORE_TUNING,
        stored_size=size,
    )


TABLE_4 = (
    _table_4("ResNet-50", 224, 39.0, 76.7),
    _table_4("SIN", 224, 45.2, 69.3),
    _table_4("Patch Gaussian", 299, 52.3, 60.4),
    _table_4("ResNeXt-101 WSL", 224, None, 45.7),
    _table_4("EfficientNet-L2", 224, 62.6, 47.5, SUPERVISED),
    _table_4(
        "Noisy Student (L2)",
        224,
        76.5,
        30.0,
        NOISY_STUDENT,
        unconfirmed=("top_1", "mean_corruption_error"),
    ),
    _table_4("EfficientNet-L2", 299, 66.6, 42.5, SUPERVISED),
    _table_4(
        "Noisy Student (L2)",
        299,
        77.8,
        28.3,
        NOISY_STUDENT,
        unconfirmed=("top_1",),
    ),
)


def _table_5(name, size, top_1, rate, method=OTHER, unconfirmed=()):
    return Row(
        name,
        "imagenet_p",
        method,
        _values(
            f"{PAPER}, Table 5",
            top_1=top_1,
            mean_flip_rate=rate,
            unconfirmed=unconfirmed,
        ),
        model_name=None if method == OTHER else _L2_BEFORE_TUNING,
        stored_size=size,
    )


TABLE_5 = (
    _table_5("ResNet-50", 224, None, 58.0),
    _table_5("Low Pass Filter Pooling", 224, None, 51.2),
    _table_5("ResNeXt-101 WSL", 224, None, 27.8),
    _table_5("EfficientNet-L2", 224, 80.4, 27.2, SUPERVISED),
    _table_5(
        "Noisy Student (L2)",
        224,
        85.2,
        14.2,
        NOISY_STUDENT,
        unconfirmed=("top_1",),
    ),
    _table_5("EfficientNet-L2", 299, 81.6, 23.7, SUPERVISED),
    _table_5(
        "Noisy Student (L2)",
        299,
        86.4,
        12.2,
        NOISY_STUDENT,
        unconfirmed=("top_1",),
    ),
)

# At 800x800 pixels; ten iterations, epsilon 16 of 255.
ADVERSARIAL = tuple(
    Row(
        name,
        "adversarial",
        method,
        _values(f"{PAPER}, on adversarial robustness", pgd_16=top_1),
        model_name=_L2,
    )
    for name, method, top_1 in (
        ("EfficientNet-L2", SUPERVISED, 1.1),
        ("Noisy Student (L2)", NOISY_STUDENT, 4.4),
    )
)

_LARGE = dict(zip((r.name for r in TABLE_2), TABLE_2))
# Millions of parameters, then top-1 and top-5 without Noisy Student, and the
# top-1 of the released students, whose teacher is L2.
_SMALL = {
    "b0": (5.3, 77.3, 93.4, 78.8),
    "b1": (7.8, 79.2, 94.4, 81.5),
    "b2": (9.2, 80.0, 94.9, 82.4),
    "b3": (12, 81.7, 95.7, 84.1),
    "b4": (19, 83.2, 96.4, 85.3),
    "b5": (30, 84.0, 96.8, 86.1),
    "b6": (43, 84.5, 97.0, 86.4),
    "b7": (66, 85.0, 97.2, 86.9),
}


def _small(size, method):
    params, top_1, top_5, student = _SMALL[size]
    if method == SUPERVISED:
        source = f"{PAPER}, appendix on the teacher's size"
        figures = _values(source, top_1=top_1, top_5=top_5)
        name = f"EfficientNet-{size.upper()}"
    else:
        figures = _values(RELEASE, top_1=student)
        name = f"Noisy Student ({size.upper()}, L2)"
    return Row(
        name,
        "evaluation",
        method,
        figures,
        model_name=f"efficientnet-{size}",
        params=params,
    )


# Accuracy over parameters: without Noisy Student, then with it.
FIGURE_2 = (
    *(_small(size, SUPERVISED) for size in _SMALL),
    _LARGE["EfficientNet-L2"],
    *(_small(size, NOISY_STUDENT) for size in _SMALL),
    _LARGE["Noisy Student (EfficientNet-L2)"],
)
_L2_475 = Row(
    "Noisy Student (L2-475)",
    "evaluation",
    NOISY_STUDENT,
    _values(RELEASE, top_1=88.2),
    model_name=_L2_BEFORE_TUNING,
    params=480,
)


def _reevaluated(kind, top_1_and_5):
    return tuple(
        Row(
            f"Noisy Student ({size.upper().replace('_', '-')})",
            kind,
            REEVALUATED,
            _values(REEVALUATION, top_1=top_1, top_5=top_5),
            model_name=f"efficientnet-{size}",
        )
        for size, (top_1, top_5) in top_1_and_5.items()
    )


REEVALUATIONS = (
    *_reevaluated(
        "evaluation",
        {
            "b0": (78.670, 94.374),
            "b1": (81.394, 95.736),
            "b2": (82.378, 96.254),
            "b3": (84.056, 96.918),
            "b4": (85.162, 97.470),
            "b5": (86.088, 97.754),
            "b6": (86.456, 97.884),
            "b7": (86.840, 98.094),
            "l2_475": (88.234, 98.546),
            "l2": (88.352, 98.648),
        },
    ),
    *_reevaluated(
        "imagenet_a",
        {
            "b3": (35.52, 67.77),
            "b4": (51.27, 79.17),
            "b5": (60.32, 84.45),
            "b6": (62.23, 85.16),
            "b7": (67.03, 88.67),
            "l2_475": (83.39, 95.45),
            "l2": (84.75, 96.15),
        },
    ),
)

_OF_A_NETWORK = tuple(
    row
    for row in (
        *FIGURE_2,
        _L2_475,
        *TABLE_3,
        *TABLE_4,
        *TABLE_5,
        *ADVERSARIAL,
        *REEVALUATIONS,
    )
    if row.method != OTHER
)


def find(kind, model_name, *, method, image_size=None, stored_size=None):
    """Returns what is published of a network on some images.

    Args:
        kind: Which images; one of `measured.KINDS`.
        model_name: Name of the network. L2 at 475 pixels is found under both
            of its names.
        method: One of `METHODS`.
        image_size: Height and width that the network looks at; at another
            one than its own nothing is published. None if unknown.
        stored_size: (height, width) of the stored images; None if unknown.

    Returns:
        `Row`, or None if nothing is published.
    """
    if model_name == _L2 and image_size == _SIZE_BEFORE_TUNING:
        model_name = _L2_BEFORE_TUNING
    for row in _OF_A_NETWORK:
        if (row.kind, row.model_name, row.method) != (kind, model_name, method):
            continue
        own_size = efficientnet_config.get_config(model_name).image_size
        if image_size not in (None, own_size):
            return None
        size = row.stored_size
        if size is None or tuple(stored_size or ()) == (size, size):
            return row
    return None

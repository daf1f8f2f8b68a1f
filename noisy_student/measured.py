"""What runs and benchmarks measured, read back from their reports.

Read are the `report.json` of training and self-training runs, the `eval.json`
of `--mode=eval`, the reports of the robustness benchmarks, which say their
`kind`, and directories that hold such files. Figures become percent here.
"""

import dataclasses
import math
import os
import re
from typing import Optional

from data_prep import files
from efficientnet.messages import first_names
from noisy_student import config as config_lib
from noisy_student import report_text, run_dir

# What was looked at, and how it is called.
KINDS = {
    "evaluation": "ImageNet",
    "imagenet_a": "ImageNet-A",
    "imagenet_c": "ImageNet-C",
    "imagenet_p": "ImageNet-P",
    "imagenet_r": "ImageNet-R",
    "imagenet_v2": "ImageNet-V2",
    "imagenet_real": "ImageNet ReaL",
    "adversarial": "adversarial",
}
# Figures in the order of their columns.
HEADINGS = {
    "top_1": "top-1 %",
    "top_5": "top-5 %",
    "top_1_1000_way": "top-1 % of 1000",
    "top_5_1000_way": "top-5 % of 1000",
    "mean_corruption_error": "mCE",
    "relative_mean_corruption_error": "relative mCE",
    "unnormalised_error": "error %",
    "mean_flip_rate": "mFR",
    "mean_top_5_distance": "mT5D",
    "fgsm_2": "FGSM 2, top-1 %",
    "fgsm_16": "FGSM 16, top-1 %",
    "pgd_16": "PGD 16, top-1 %",
    "calibration_error": "calibration error %",
}
_FRACTIONS = frozenset(
    {
        "top_1",
        "top_5",
        "top_1_1000_way",
        "top_5_1000_way",
        "calibration_error",
    }
)
# Of these networks an evaluation is one on ImageNet.
_NUM_IMAGENET_CLASSES = 1000
_CHANGED_NETWORK = ("width_coefficient", "depth_coefficient")
_LOOK = ("resize", "use_ema", "advprop_preprocessing")
_TOP = re.compile(r"(?P<split>.+)[/_](?P<figure>top_1|top_5)")
_BEFORE = "_before"
FILES = ("report.json", "eval.json")


@dataclasses.dataclass(frozen=True)
class Measured:
    """What one report says of one network.

    Attributes:
        name: The report's path, and which of its networks it is.
        kind: Which images; one of `KINDS`.
        data: The images, in words.
        figures: dict name, of `HEADINGS` -> percent.
        checkpoint: Of the network; None where the report does not tell.
        model: Its `config.ModelConfig`; None where it does not tell.
        is_imagenet: Whether networks of ImageNet's classes compare with it.
        stored_size: (height, width) of the stored images; None if they are
            of all sizes.
        num_images: How many were looked at; None where it does not tell.
        settings: dict flag -> value, how the network looked and was attacked,
            as far as the report tells.
        curve: Tuple of dicts `attack`, `epsilon` and `top_1`, a fraction.
        corruptions: dict name -> dict `error` (five fractions) and
            `corruption_error` (percent).
        unknown: Names of figures that have no column.
    """

    name: str
    kind: str
    data: str
    figures: dict
    checkpoint: Optional[str] = None
    model: Optional[config_lib.ModelConfig] = None
    is_imagenet: bool = True
    stored_size: Optional[tuple] = None
    num_images: Optional[int] = None
    settings: dict = dataclasses.field(default_factory=dict)
    curve: tuple = ()
    corruptions: dict = dataclasses.field(default_factory=dict)
    unknown: tuple = ()

    @property
    def network(self):
        """The network and the size it looks at, in words."""
        if self.model is None:
            return "unknown"
        return f"{self.model.model_name} at {self.model.image_size}"


def read(paths):
    """Reads reports.

    Args:
        paths: Sequence of str: reports, or directories of runs.

    Returns:
        List of `Measured`, in order; one for each model of a self-training
        run, and for each benchmark with a report in a directory.

    Raises:
        FileNotFoundError: If there is no such file, or no report in a
            directory.
        ValueError: If a file is named twice, is no report, or has no figure
            that is known.
    """
    if not paths:
        raise ValueError("Which reports? Name at least one file.")
    found, seen = [], {}
    for path in paths:
        for name, file in _find(path):
            key = files.absolute(file)
            if key in seen:
                raise ValueError(
                    f"{seen[key]} and {name} are the same report: name it once."
                )
            seen[key] = name
            found += _read(name, file)
    return found


def _find(path):
    """Returns pairs of what a report is called and its file."""
    if not files.is_dir(path):
        if not files.exists(path):
            raise FileNotFoundError(f"{path}: no such file or directory.")
        return [(path, path)]
    for name in FILES:
        file = os.path.join(path, name)
        if files.exists(file):
            return [(path, file)]
    reports = [os.path.join(path, f"{kind}.json") for kind in KINDS]
    if found := list(filter(files.exists, reports)):
        return [(file, file) for file in found]
    raise FileNotFoundError(
        f"{path}: neither {' nor '.join(FILES)} nor the report of a benchmark "
        "in this directory. A run writes its report when it is finished, "
        "--mode=eval and a benchmark when they have an --output_dir."
    )


def _read(path, file):
    report = files.read_json(file)
    if not isinstance(report, dict):
        raise ValueError(f"{path}: no report, which is a JSON object.")
    if "kind" in report:
        return [_of_benchmark(path, report)]
    if _is_self_training(report):
        return list(_of_self_training(path, file, report))
    return [_of_run(path, _model_of_run(path, file, report), report)]


def _is_self_training(report):
    rounds = report.get("rounds")
    return (
        isinstance(rounds, list)
        and bool(rounds)
        and all(
            isinstance(figures, dict) and {"round", "role"} <= set(figures)
            for figures in rounds
        )
    )


def _of_benchmark(path, report):
    kind = report["kind"]
    if kind not in KINDS:
        raise ValueError(
            f"{path}: `kind` must be one of {', '.join(KINDS)}. Received: "
            f"{kind!r}."
        )
    size = report.get("stored_size")
    if size is not None and not _is_size(size):
        raise ValueError(
            f"{path}: `stored_size` must be [height, width]. Received: "
            f"{size!r}."
        )
    curve = _curve(path, report.get("curve") or ())
    figures = dict(_mapping(path, "figures", report.get("figures") or {}))
    for name, value in figures.items():
        _check(path, name, value, top=1 if name in _FRACTIONS else None)
    shown = _in_percent({**figures, **_of_curve(curve)})
    num_images = figures.pop("num_images", report.get("num_images"))
    known = (*HEADINGS, "loss", "clean_top_1", "num_sequences")
    unknown = tuple(name for name in figures if name not in known)
    is_partial = report.get("corruptions") or report.get("perturbations")
    if not (shown or curve or is_partial):
        raise _nothing_known(path, unknown)
    return Measured(
        name=str(path),
        kind=kind,
        data=", ".join(filter(None, (KINDS[kind], _in_words(size)))),
        figures=shown,
        checkpoint=report.get("checkpoint"),
        model=_model_of_benchmark(path, report),
        is_imagenet=report.get("num_classes", _NUM_IMAGENET_CLASSES)
        == _NUM_IMAGENET_CLASSES,
        stored_size=None if size is None else tuple(size),
        num_images=num_images,
        settings=_settings(path, report),
        curve=curve,
        corruptions=_corruptions(path, report.get("corruptions") or {}),
        unknown=unknown,
    )


def _settings(path, report):
    look = {name: report[name] for name in _LOOK if name in report}
    return {**look, **_mapping(path, "attack", report.get("attack") or {})}


def _curve(path, points):
    for point in points:
        _mapping(path, "curve", point)
        _check(path, "curve: epsilon", point.get("epsilon"))
        _check(path, "curve: top_1", point.get("top_1"), top=1)
    return tuple(points)


def _of_curve(curve):
    """Returns the points of a curve that have a column, in percent."""
    points = {
        f"{point.get('attack')}_{point['epsilon']:g}": 100 * point["top_1"]
        for point in curve
    }
    return {name: value for name, value in points.items() if name in HEADINGS}


def _corruptions(path, corruptions):
    for name, values in _mapping(path, "corruptions", corruptions).items():
        error = _mapping(path, name, values).get("corruption_error")
        _check(path, f"{name}: corruption_error", error)
    return corruptions


def _model_of_benchmark(path, report):
    for name, kind in (("model_name", str), ("image_size", int)):
        if not isinstance(report.get(name), kind):
            raise ValueError(
                f"{path}: `{name}` is missing, so that its network is unknown."
            )
    return config_lib.ModelConfig(
        report["model_name"],
        report.get("num_classes", _NUM_IMAGENET_CLASSES),
        report["image_size"],
    )


def _of_self_training(path, file, report):
    config_path = os.path.join(os.path.dirname(file), "config.json")
    config = files.read_json(config_path) if files.exists(config_path) else {}
    for figures in report_text.models(report):
        model = _model_of_round(config, figures)
        title = report_text.title(figures)
        yield _of_run(f"{path}: {title}", model, figures)


def _model_of_round(config, figures):
    """Returns the `ModelConfig` of a round's model, None if unknown."""
    if figures["role"] == "fixres":
        run = config.get("tuning")
    elif figures["round"]:
        runs = config.get("rounds", [])
        run = runs[figures["round"] - 1] if runs else None
    else:
        run = config.get("teacher") or {"model": config.get("teacher_model")}
    values = (run or {}).get("model")
    return None if values is None else config_lib.model_from_dict(values)


def _model_of_run(path, file, report):
    values = report.get("model", (report.get("config") or {}).get("model"))
    if values is None:
        return run_dir.trained_model_config(os.path.dirname(file) or ".")
    try:
        return config_lib.model_from_dict(values)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: its network is not one of this version: {error}"
        ) from error


def _of_run(name, model, report):
    """Returns what an evaluation in the course of a run measured."""
    by_split = {}
    for key, value in report.items():
        match = _TOP.fullmatch(key)
        if match and not match["split"].endswith(_BEFORE):
            _check(name, key, value, top=1)
            by_split.setdefault(match["split"], {})[match["figure"]] = value
    if not by_split:
        raise _nothing_known(name, list(report))
    split, figures = list(by_split.items())[-1]
    is_imagenet = model is not None and _is_of_imagenet(model)
    return Measured(
        name=name,
        kind="evaluation",
        data=f"ImageNet, {split}" if is_imagenet else split,
        figures=_in_percent(figures),
        checkpoint=report.get("checkpoint"),
        model=model,
        is_imagenet=is_imagenet,
        num_images=report.get(f"{split}/num_images", report.get("num_images")),
    )


def _is_of_imagenet(model):
    return (
        model.num_classes == _NUM_IMAGENET_CLASSES
        and not model.small_image
        and all(getattr(model, name) is None for name in _CHANGED_NETWORK)
    )


def _nothing_known(path, names):
    return ValueError(
        f"{path}: no figure that is known, but "
        f"{first_names(list(names))}. Known are {', '.join(HEADINGS)}."
    )


def _in_percent(figures):
    return {
        name: 100 * figures[name] if name in _FRACTIONS else figures[name]
        for name in HEADINGS
        if name in figures
    }


def _mapping(path, name, value):
    if not isinstance(value, dict):
        raise ValueError(
            f"{path}: `{name}` must hold JSON objects. Received: {value!r}."
        )
    return value


def _check(path, name, value, *, top=None):
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):
        rule = "a finite number"
    elif top is not None and not 0 <= value <= top:
        rule = f"in 0..{top}"
    else:
        return
    raise ValueError(f"{path}: `{name}` must be {rule}. Received: {value!r}.")


def _is_size(size):
    return (
        isinstance(size, list)
        and len(size) == 2
        and all(isinstance(side, int) and side > 0 for side in size)
    )


def _in_words(size):
    return None if size is None else f"{size[0]}x{size[1]}"

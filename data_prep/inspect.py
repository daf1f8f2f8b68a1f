"""Shows what is in shards: counts, labels, confidences and the images.

Reads labeled, unlabeled, pseudo-labeled or prediction shards, checks every
record, and writes report.html, report.json and pictures to figures/. With
--prediction_dir the images are shown with a teacher's labels, with --filter_dir
with what filtering made of them. Charts need matplotlib; without it the rest is
written.
"""

import collections
import dataclasses
import os

import numpy as np
from absl import logging

from data_prep import class_names as class_names_lib
from data_prep import (
    command_line,
    files,
    filter_report,
    inspect_page,
    progress,
    shard_summary,
    shards,
)

REPORT_FILE = "report.json"
PAGE_FILE = "report.html"

_FILTER_FILES = ("report.json", "config.json")


@dataclasses.dataclass(frozen=True)
class InspectConfig:
    """What to look at.

    Attributes:
        data_dir: Folder, pattern or file of shards, as in
            `shards.list_shards`.
        output_dir: Folder of everything written.
        split: Split of the shards; None takes all.
        prediction_dir: Folder of the predictions for image shards, or None.
        filter_dir: Output folder of `filter_unlabel`, or None.
        num_classes: Upper bound of labels; None takes what is found.
        class_list_file: Class names in label order; None takes those of the
            shards' manifest.
        classes: Tuple of labels, 0-based, whose images are shown; None shows
            the first `num_classes_shown`.
        num_classes_shown: int >= 0.
        num_examples: Images shown of each class at random, of the most and of
            the least confident; >= 0.
    """

    data_dir: str
    output_dir: str
    split: str = None
    prediction_dir: str = None
    filter_dir: str = None
    num_classes: int = None
    class_list_file: str = None
    classes: tuple = None
    num_classes_shown: int = 10
    num_examples: int = 8

    def __post_init__(self):
        for name in ("data_dir", "output_dir"):
            if not getattr(self, name):
                raise ValueError(f"--{name} is needed.")
        if self.num_classes is not None and self.num_classes < 1:
            raise ValueError(
                f"`num_classes` must be >= 1. Received: {self.num_classes}."
            )
        for name in ("num_classes_shown", "num_examples"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"`{name}` must be >= 0. Received: {getattr(self, name)}."
                )
        for label in self.classes or ():
            last = None if self.num_classes is None else self.num_classes - 1
            if label < 0 or (last is not None and label > last):
                bound = ">= 0" if last is None else f"in 0..{last}"
                raise ValueError(
                    f"`classes` must be {bound}. Received: {label}."
                )

    @property
    def shown(self):
        """Tuple of the labels whose images are shown; None is all together."""
        labels = self.classes
        if labels is None:
            labels = range(self.num_classes_shown)
        return (None, *labels)


def run(config):
    """Reads the shards, then writes the page and its pictures.

    Args:
        config: `InspectConfig`.

    Returns:
        dict, the content of report.json.

    Raises:
        FileNotFoundError: Shards or files are missing; names them.
        ValueError: A record is malformed, or inputs do not fit together; says
            which.
    """
    files.check_folder("output_dir", config.output_dir)
    filtered = _read_filtered(config.filter_dir)
    paths = _list_shards(config)
    summary = shard_summary.ShardSummary(config.shown, config.num_examples)
    facts, kind = _summarize(config, paths, summary)
    names = _class_names(config, paths, summary, filtered)
    report = _make_report(summary, facts, kind, len(paths), filtered)
    page = inspect_page.make(
        config.output_dir,
        report=report,
        summary=summary,
        names=names,
        shown=config.shown,
        has_images=kind != "prediction",
    )
    files.write_bytes(os.path.join(config.output_dir, PAGE_FILE), page.encode())
    files.write_json(os.path.join(config.output_dir, REPORT_FILE), report)
    return report


def _list_shards(config):
    with files.naming(f"--data_dir={config.data_dir}"):
        return shards.list_shards(config.data_dir, config.split)


def _read_filtered(filter_dir):
    """Returns (`FilterReport`, least confidence) or None."""
    if filter_dir is None:
        return None
    paths = [os.path.join(filter_dir, name) for name in _FILTER_FILES]
    for path in paths:
        if not files.exists(path):
            raise FileNotFoundError(
                f"--filter_dir={filter_dir}: no file {path!r}; is it the "
                "finished --output_dir of filter_unlabel?"
            )
    values, settings = map(files.read_json, paths)
    try:
        return (
            filter_report.report_from_json(values),
            settings["min_threshold"],
        )
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"--filter_dir={filter_dir}: {paths[0]!r} is not a report of "
            f"filter_unlabel: {error!r}."
        ) from error


def _summarize(config, paths, summary):
    """Adds all shards to a summary; returns (`RecordFacts`, kind)."""
    # Imported here, so that --help and wrong flags need no TensorFlow.
    from data_prep import inspected_shards

    kind = inspected_shards.find_kind(paths)
    facts = inspected_shards.RecordFacts(collections.Counter())
    predictions = None
    if config.prediction_dir is not None:
        if kind == "prediction":
            raise ValueError(
                f"--data_dir={config.data_dir} must hold images where "
                "--prediction_dir is given. Received: prediction records."
            )
        predictions = inspected_shards.find_predictions(
            config.prediction_dir, paths
        )
    meter = progress.Progress("shards read", total=len(paths))
    for index, path in enumerate(paths):
        rows = inspected_shards.read(path, kind, config.num_classes, facts)
        if predictions is not None:
            rows = inspected_shards.read_predictions(
                path, predictions[index], config.num_classes
            )
        summary.add(path, rows)
        meter.advance()
    return facts, kind


def _class_names(config, paths, summary, filtered):
    """Returns the names in label order; numbers where none are known."""
    size = len(summary.class_counts)
    if filtered:
        size = max(size, len(filtered[0].classes))
    names = ()
    if config.class_list_file:
        names = class_names_lib.read_class_names(config.class_list_file)
    else:
        folder, name = os.path.split(paths[0])
        parsed = shards.parse_name(name)
        manifest = parsed and shards.read_manifest(folder, parsed["split"])
        if manifest:
            names = manifest.class_names or ()
    return (*names, *map(str, range(len(names), size)))


def _make_report(summary, facts, kind, num_shards, filtered):
    labels = np.flatnonzero(summary.class_counts)
    has_labels = len(labels) > 0
    has_confidence = bool(summary.confidence_counts.any())
    report = {
        "kind": kind,
        "num_shards": num_shards,
        "num_records": summary.num_images,
        "counters": dict(sorted(facts.counters.items())),
        "image_bytes": facts.num_bytes,
        "label_min": int(labels[0]) if has_labels else None,
        "label_max": int(labels[-1]) if has_labels else None,
        "confidence_counts": None,
        "classes": [],
        "filtered": None,
    }
    if has_confidence:
        report["confidence_counts"] = summary.confidence_counts.tolist()
    for count, total in zip(
        summary.class_counts.tolist(), summary.class_confidence.tolist()
    ):
        mean = total / count if count and has_confidence else None
        report["classes"].append({"images": count, "mean_confidence": mean})
    if filtered:
        report["filtered"] = {
            "min_threshold": filtered[1],
            **dataclasses.asdict(filtered[0]),
        }
    return report


def define_flags(flag_values):
    """Declares the flags of this command."""
    defaults = {f.name: f.default for f in dataclasses.fields(InspectConfig)}
    group = command_line.FlagGroup("Input", flag_values)
    group.string("data_dir", None, "Folder, pattern or file of shards.")
    group.string("split", None, "Split of the shards; without it, all.")
    group.string(
        "prediction_dir", None, "Folder of predictions for image shards."
    )
    group.string("filter_dir", None, "Output folder of filter_unlabel.")
    group.integer(
        "num_classes", None, "Upper bound of labels, if known.", lower_bound=1
    )
    group.string(
        "class_list_file",
        None,
        "Class names in label order, a line each or a JSON list; without it, "
        "those the shards' manifest holds.",
    )
    group = command_line.FlagGroup("Output", flag_values)
    group.string("output_dir", None, "Folder of everything written.")
    group.list(
        "classes",
        None,
        "Labels, 0-based and separated by commas, whose images are shown; "
        "without it, the first --num_classes_shown.",
    )
    group.integer(
        "num_classes_shown",
        defaults["num_classes_shown"],
        "Classes whose images are shown.",
        lower_bound=0,
    )
    group.integer(
        "num_examples",
        defaults["num_examples"],
        "Images of a class at random, most and least confident.",
        lower_bound=0,
    )


def config_from_flags(flag_values):
    """Returns the `InspectConfig` the flags ask for."""
    names = [field.name for field in dataclasses.fields(InspectConfig)]
    values = {name: flag_values[name].value for name in names}
    if values["classes"] is not None:
        try:
            values["classes"] = tuple(map(int, values["classes"]))
        except ValueError as error:
            raise ValueError(
                f"--classes must be whole numbers. Received: "
                f"{','.join(values['classes'])}."
            ) from error
    return InspectConfig(**values)


def main(flag_values):
    """Writes the page as the flags say."""
    config = config_from_flags(flag_values)
    report = run(config)
    logging.info(
        "%d %s records in %d shards; see %s.",
        report["num_records"],
        report["kind"],
        report["num_shards"],
        os.path.join(config.output_dir, PAGE_FILE),
    )


if __name__ == "__main__":
    command_line.run(main, define_flags)

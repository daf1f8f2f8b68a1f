"""Removes evaluation images from an unlabeled corpus.

Reads shards of unlabeled images, and the evaluation images, and writes to
<output_dir>/data the shards without the images that are evaluation images, to
the bytes, to the pixels or nearly. report.html shows what matched, report.json
counts it, pairs.jsonl lists it. A killed run goes on where it stopped, a
finished one returns its report.

Images without structure, such as plain areas, are removed only if they are
equal to an evaluation image. Images that cannot be decoded are kept, unless
their bytes are those of an evaluation image.
"""

import collections
import dataclasses
import functools
import os

import numpy as np
from absl import logging

from data_prep import (
    command_line,
    deduplicate_report,
    files,
    fingerprint_files,
    fingerprint_index,
    image_fingerprints,
    shard_work,
    shard_writer,
    shards,
)

_CORPUS_KINDS = ("unlabeled",)
_EVALUATION_KINDS = ("labeled", "unlabeled")


@dataclasses.dataclass(frozen=True)
class DeduplicateConfig:
    """One deduplication.

    Attributes:
        input_dir: Folder of the corpus' shards.
        eval_dir: Folders of shards or images, or patterns of shards, of the
            evaluation images; several are separated by semicolons.
        output_dir: Folder of everything written.
        fingerprint_dir: Folder of the fingerprints, which runs with other rules
            can share; None is below `output_dir`.
        split: Split of the corpus' shards.
        near_duplicates: Whether near duplicates are removed, too.
        max_distance: int in 0..11, the bits of 64 in which the perceptual
            hashes of near duplicates may differ.
        mirrored: Whether near duplicates of mirrored evaluation images count.
        within_corpus: Whether of images of equal bytes in the corpus one is
            kept.
    """

    input_dir: str
    eval_dir: str
    output_dir: str
    fingerprint_dir: str = None
    split: str = "train"
    near_duplicates: bool = True
    max_distance: int = 8
    mirrored: bool = False
    within_corpus: bool = False

    def __post_init__(self):
        for name in ("input_dir", "eval_dir", "output_dir", "split"):
            if not getattr(self, name):
                raise ValueError(f"--{name} is needed.")
        fingerprint_index.check_max_distance(self.max_distance)
        if self.mirrored and not self.near_duplicates:
            raise ValueError("`mirrored` needs `near_duplicates`.")
        if not self.fingerprint_dir:
            folder = os.path.join(self.output_dir, "fingerprints")
            object.__setattr__(self, "fingerprint_dir", folder)
        if files.is_same(self.fingerprint_dir, self.output_dir):
            raise ValueError(
                "--fingerprint_dir must not be --output_dir: each has a "
                f"config.json of its own. Received: {self.output_dir!r}."
            )
        data = files.absolute(self.data_dir)
        for name in ("input_dir", "eval_dir"):
            places = shards.separate(getattr(self, name))
            if data in map(files.absolute, places):
                raise ValueError(
                    f"`{name}` must not be where the output goes. Received: "
                    f"{getattr(self, name)!r}, {self.output_dir!r}."
                )

    @property
    def data_dir(self):
        """Folder of the shards written."""
        return os.path.join(self.output_dir, "data")

    @property
    def rule(self):
        """Dict of what decides which images are removed."""
        return {
            "max_distance": self.max_distance if self.near_duplicates else None,
            "mirrored": self.mirrored,
            "within_corpus": self.within_corpus,
        }


_DEFAULTS = {f.name: f.default for f in dataclasses.fields(DeduplicateConfig)}


@dataclasses.dataclass(frozen=True)
class _Inputs:
    """What to compare; lists of `fingerprint_files.Source`."""

    corpus: list
    evaluation: list
    files_left_out: dict


def run(config, only_report=False, workers=None):
    """Takes fingerprints, matches, writes and reports; finished parts are kept.

    Args:
        config: `DeduplicateConfig`.
        only_report: Whether to stop before images are written.
        workers: `shard_work.InThisProcess`, the default, or what stands in
            for it.

    Returns:
        dict, the content of report.json.

    Raises:
        FileNotFoundError: There are no shards or no evaluation images.
        ValueError: Inputs are of a wrong kind or damaged, or the output folder
            holds a run with other settings; says which.
    """
    workers = shard_work.InThisProcess() if workers is None else workers
    for name in ("output_dir", "fingerprint_dir"):
        files.check_folder(name, getattr(config, name))
    inputs = _find_inputs(config)
    digests = {
        "corpus": fingerprint_files.digest(inputs.corpus),
        "evaluation": fingerprint_files.digest(inputs.evaluation),
    }
    settings = {**config.rule, **digests}
    files.check_settings(config.output_dir, settings)
    files.check_settings(config.fingerprint_dir, digests)
    writer = shard_writer.ShardedWriter(
        config.data_dir,
        config.split,
        len(inputs.corpus),
        kind="unlabeled",
        config={"source": "deduplicate", **settings},
    )
    report = deduplicate_report.read(config.output_dir)
    if report and (only_report or not writer.pending):
        return report
    _check_records(inputs, workers)
    files.write_settings(config.output_dir, settings)
    files.write_settings(config.fingerprint_dir, digests)
    corpus, evaluation = (
        fingerprint_files.write(config.fingerprint_dir, name, sources, workers)
        for name, sources in (
            ("corpus", inputs.corpus),
            ("evaluation", inputs.evaluation),
        )
    )
    matches = _match(config, corpus, evaluation, workers)
    if not only_report:
        _write_shards(writer, inputs.corpus, corpus, matches, workers)
    report = deduplicate_report.write(
        config.output_dir,
        deduplicate_report.Findings(
            rule=config.rule,
            corpus_sources=inputs.corpus,
            evaluation_sources=inputs.evaluation,
            corpus=corpus,
            evaluation=evaluation,
            matches=matches,
            files_left_out=inputs.files_left_out,
        ),
    )
    matches_dir = os.path.dirname(matches.paths[0])
    for folder in (config.output_dir, config.fingerprint_dir, matches_dir):
        files.remove_leftovers(folder, files.list_names(folder))
    return report


def _find_inputs(config):
    with files.naming(f"--input_dir={config.input_dir}"):
        corpus = fingerprint_files.find_corpus(config.input_dir, config.split)
    with files.naming(f"--eval_dir={config.eval_dir}"):
        evaluation, left_out = fingerprint_files.find_evaluation(
            config.eval_dir
        )
    _check_apart(config, corpus, evaluation)
    return _Inputs(corpus, evaluation, left_out)


def _check_apart(config, corpus, evaluation):
    """Checks that no shard of the corpus is an evaluation shard, too."""
    own = {files.absolute(source.path) for source in corpus}
    others = {source.path for source in evaluation if source.path}
    both = {path for path in others if files.absolute(path) in own}
    if not both:
        return
    patterns = set(filter(None, map(shards.pattern_of, others - both)))
    advice = ""
    if patterns:
        advice = f" Give a pattern: --eval_dir='{';'.join(sorted(patterns))}'."
    raise ValueError(
        f"--eval_dir={config.eval_dir} holds the corpus itself, such as "
        f"{min(both)!r}: all its images would be removed.{advice}"
    )


def _check_records(inputs, workers):
    fingerprint_files.check_not_empty("input_dir", inputs.corpus)
    fingerprint_files.check_not_empty("eval_dir", inputs.evaluation)
    sources = [("input_dir", _CORPUS_KINDS, s) for s in inputs.corpus]
    sources += [("eval_dir", _EVALUATION_KINDS, s) for s in inputs.evaluation]
    workers.for_each(
        "shards checked", sources, _check_source, total=len(sources)
    )


def _check_source(values):
    fingerprint_files.check_records(*values)


def _match(config, corpus, evaluation, workers):
    """Matches every shard that has not been; returns `Matches`."""
    num_shards = len(corpus.paths)
    matches = deduplicate_report.Matches(
        tuple(
            os.path.join(
                config.output_dir,
                "matches",
                f"{shards.shard_name('corpus', index, num_shards)}.npy",
            )
            for index in range(num_shards)
        )
    )
    pending = [i for i in range(num_shards) if not matches.exists(i)]
    if not pending:
        return matches
    _check_evaluation(config, evaluation)
    repeated = None
    if config.within_corpus:
        repeated = workers.find_in_corpus(corpus)
    work = functools.partial(
        _match_shard, config, corpus, evaluation, matches, repeated
    )
    workers.for_each("shards matched", pending, work, total=num_shards)
    return matches


def _match_shard(config, corpus, evaluation, matches, repeated, shard):
    index = _load_index(
        evaluation, config.rule["max_distance"], config.mirrored
    )
    found = index.match(corpus.read(shard, "rows"))
    if repeated is not None:
        found = _add_repeated(found, repeated[shard])
    matches.write(shard, found)


@functools.lru_cache(maxsize=1)
def _load_index(evaluation, max_distance, mirrored):
    return fingerprint_index.FingerprintIndex(
        evaluation.read_all("rows"),
        max_distance=max_distance,
        mirrored=mirrored,
    )


def _check_evaluation(config, evaluation):
    rows = evaluation.read_all("rows")
    undecodable = rows["state"] == image_fingerprints.UNDECODABLE
    if undecodable.all():
        raise ValueError(
            f"--eval_dir={config.eval_dir}: none of the {len(rows)} images can "
            "be decoded."
        )
    if undecodable.any():
        keys = evaluation.read_all("keys")[undecodable]
        logging.warning(
            "%d of %d evaluation images cannot be decoded and are found by "
            "their bytes only: %s.",
            len(keys),
            len(rows),
            ", ".join(key.decode(errors="replace") for key in keys.tolist()[:5])
            + (", ..." if len(keys) > 5 else ""),
        )


def _add_repeated(found, repeated):
    """Returns matches with those images that the corpus holds already."""
    repeated = repeated.copy()
    repeated[found["row"]] = False
    rows = np.flatnonzero(repeated)
    extra = np.zeros(len(rows), fingerprint_index.MATCH_DTYPE)
    extra["row"] = rows
    extra["kind"] = deduplicate_report.IN_CORPUS
    both = np.concatenate([found, extra])
    return both[np.argsort(both["row"], kind="stable")]


def _write_shards(writer, sources, corpus, matches, workers):
    work = functools.partial(_write_shard, writer, sources, corpus, matches)
    workers.for_each("shards written", writer.pending, work, total=len(sources))
    writer.finish()


def _write_shard(writer, sources, corpus, matches, index):
    # Imported here: what is finished needs no TensorFlow.
    from data_prep import records

    reasons = deduplicate_report.reasons(corpus, matches, index)
    with writer.open_shard(index, num_input=len(reasons)) as shard:
        for reason, number in collections.Counter(reasons).items():
            shard.count(reason, number)
        reader = records.read_records(sources[index].path)
        for reason, serialized in zip(reasons, reader):
            if reason.startswith("kept"):
                shard.write(serialized)


def define_flags(flag_values):
    """Declares the flags of this command."""
    group = command_line.FlagGroup("Input", flag_values)
    group.string("input_dir", None, "Folder of the corpus' shards.")
    group.string("split", _DEFAULTS["split"], "Split of those shards.")
    define_eval_flag(group)
    group = command_line.FlagGroup("Output", flag_values)
    group.string("output_dir", None, "Folder of everything written.")
    group.string(
        "fingerprint_dir",
        None,
        "Folder of the fingerprints, which runs with other rules can share; by "
        "default fingerprints in --output_dir.",
    )
    group.bool("only_report", False, "Report what matches, write no images.")
    define_rule_flags(command_line.FlagGroup("Rule", flag_values))


def define_eval_flag(group):
    """Declares the flag of the evaluation images in a `FlagGroup`."""
    group.string(
        "eval_dir",
        None,
        "Evaluation images: folders of shards or of images, or patterns of "
        "shards (/data/validation-*); several are separated by semicolons.",
    )


def define_rule_flags(group):
    """Declares the flags of the rule in a `FlagGroup`."""
    group.bool(
        "near_duplicates",
        _DEFAULTS["near_duplicates"],
        "Remove images that look like evaluation images, not only equal ones.",
    )
    group.integer(
        "max_distance",
        _DEFAULTS["max_distance"],
        "Bits of 64 in which perceptual hashes of near duplicates may differ.",
        lower_bound=0,
        upper_bound=fingerprint_index.MAX_DISTANCE,
    )
    group.bool(
        "mirrored",
        _DEFAULTS["mirrored"],
        "Remove near duplicates of mirrored evaluation images, too.",
    )
    group.bool(
        "within_corpus",
        _DEFAULTS["within_corpus"],
        "Of corpus images with equal bytes, keep one.",
    )


def config_from_flags(flag_values):
    """Returns the `DeduplicateConfig` the flags ask for."""
    names = [field.name for field in dataclasses.fields(DeduplicateConfig)]
    return DeduplicateConfig(**{n: flag_values[n].value for n in names})


def rule_from_flags(flag_values):
    """Returns dict of what `define_eval_flag` and `define_rule_flags` ask."""
    names = (
        "eval_dir",
        "near_duplicates",
        "max_distance",
        "mirrored",
        "within_corpus",
    )
    return {name: flag_values[name].value for name in names}


def main(flag_values):
    """Removes evaluation images as the flags say."""
    config = config_from_flags(flag_values)
    report = run(config, only_report=flag_values.only_report)
    logging.info(
        "%d images: %s. See %s.",
        report["num_input"],
        ", ".join(f"{name}: {n}" for name, n in report["counters"].items()),
        os.path.join(config.output_dir, deduplicate_report.PAGE_FILE),
    )


if __name__ == "__main__":
    command_line.run(main, define_flags)

"""Speed and memory of deciding which pseudo labels are kept, at corpus size.

Reads tables as labelling writes them beside its predictions; those of a made-up
corpus, 1,000 classes with a long tail, are written to --work_dir first, which
is not timed, and used again by later calls. Needs a checkout:
`python -m benchmarks.filter --help`.
"""

import collections
import concurrent.futures
import multiprocessing
import os
import pathlib
import time

import numpy as np

from benchmarks import turns
from data_prep import (
    balancing,
    command_line,
    confidence_bins,
    counting,
    duplicate_keys,
    filter_report,
    prediction_table,
)

_NUM_CLASSES = 1000
_SHARD_ROWS = 300_000
_PEER_ROWS = 1_000_000
_LIST_ROWS = 10_000
_RULE = balancing.BalanceConfig(num_image=130_000, min_threshold=0.3)


def define_flags(flag_values):
    """Declares the flags of this command."""
    group = command_line.FlagGroup("What to measure", flag_values)
    group.enum(
        "part",
        "all",
        ["all", "scale", "peer", "memory"],
        "Scale is the time and memory of corpora of several sizes, peer the "
        "comparison with a dictionary for each image, memory what these hold "
        "with their probabilities.",
    )
    group.list(
        "rows", ["3000000", "30000000", "300000000"], "Sizes of the corpora."
    )
    group.string(
        "work_dir", None, "Folder of the tables, 14 bytes for each row."
    )
    group.integer("num_workers", 2, "Threads.", lower_bound=1)
    group.integer("runs", 3, "Turns of the comparison.", lower_bound=1)


def main(flag_values):
    """Prints the figures of the parts that the flags name."""
    if not flag_values.work_dir:
        raise ValueError("--work_dir is needed.")
    sizes = [int(rows) for rows in flag_values.rows]
    part, workers = flag_values.part, flag_values.num_workers
    if part in ("all", "scale"):
        make_corpus(flag_values.work_dir, max(sizes), workers)
        for rows in sizes:
            paths = shard_paths(flag_values.work_dir, rows)
            alone(measure_scale, paths, workers)
    if part in ("all", "peer"):
        make_corpus(flag_values.work_dir, _PEER_ROWS, workers)
        paths = shard_paths(flag_values.work_dir, _PEER_ROWS)
        compare_with_dictionaries(paths, workers, flag_values.runs)
    if part in ("all", "memory"):
        size = alone(measure_lists) / _LIST_ROWS
        print(
            f"A dictionary and a list of {_NUM_CLASSES} probabilities for each "
            f"image, the original's method, measured on {_LIST_ROWS} rows: "
            f"{size / 1e3:.1f} kB a row, {size * _SHARD_ROWS / 1e9:.1f} GB for "
            f"a shard of {_SHARD_ROWS} and {size * max(sizes) / 1e9:.0f} GB "
            f"for {max(sizes)}."
        )


def shard_paths(work_dir, rows):
    """Returns the tables, tuples of one file, of the first shards."""
    count = -(-rows // _SHARD_ROWS)
    return tuple(
        (os.path.join(work_dir, f"{index:05d}-{_NUM_CLASSES}.npz"),)
        for index in range(count)
    )


def make_corpus(work_dir, rows, workers):
    """Writes the tables that are not there yet."""
    missing = [
        (index, path)
        for index, (path,) in enumerate(shard_paths(work_dir, rows))
        if not os.path.exists(path)
    ]
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda task: _write_shard(*task), missing))


def _write_shard(index, path):
    """Writes a shard: class c of 1 / (c + 10) of the images, skewed to sure."""
    rng = np.random.default_rng(index)
    share = np.cumsum(1 / (np.arange(_NUM_CLASSES) + 10))
    label = np.searchsorted(share / share[-1], rng.random(_SHARD_ROWS))
    # The square gathers them at both ends: many sure ones, many guesses.
    confidence = 1 - rng.random(_SHARD_ROWS) ** 2 * (1 - 1 / _NUM_CLASSES)
    prediction_table.write(
        path,
        label=np.minimum(label, _NUM_CLASSES - 1),
        confidence=confidence,
        hash=rng.integers(0, 1 << 64, _SHARD_ROWS, np.uint64),
        # There is no file of predictions.
        origin=prediction_table.Origin(_NUM_CLASSES, 0),
    )


def alone(function, *arguments):
    """Returns what a function returns in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        return pool.submit(function, *arguments).result()


def highest_memory():
    """Returns the largest resident memory of this process so far, in bytes."""
    status = pathlib.Path("/proc/self/status").read_text()
    (line,) = (x for x in status.splitlines() if x.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def measure_scale(paths, workers):
    """Goes through the stages of a decision and prints what each takes."""
    tables = counting.Tables(paths, workers)
    bins = _RULE.bins(_NUM_CLASSES)
    rows = len(paths) * _SHARD_ROWS
    _timed("check tables", rows, _describe_all, tables)
    started = time.perf_counter()
    counts = _timed(
        "count", rows, counting.histogram, tables, _NUM_CLASSES, bins
    )
    plan = _timed("choose", rows, balancing.choose, _RULE, counts, tables.map)
    seconds = time.perf_counter() - started
    print(
        f"{rows:10d} rows: count and choose {seconds:.1f} s, "
        f"{rows / seconds / 1e6:.1f} million rows/s, "
        f"{highest_memory() / 1e6:.0f} MB",
        flush=True,
    )
    _timed("report", rows, filter_report.make_report, _RULE, plan, tables)
    _timed("duplicate keys", rows, duplicate_keys.repeated_hashes, tables, rows)


def _describe_all(tables):
    """Reads what tables say of themselves, from which mixes are found."""
    for (path,) in tables.paths:
        prediction_table.describe(path)


def _timed(name, rows, function, *arguments):
    cpu, started = time.process_time(), time.perf_counter()
    result = function(*arguments)
    seconds = time.perf_counter() - started
    print(
        f"{rows:10d} rows: {name} {seconds:.1f} s, "
        f"{time.process_time() - cpu:.1f} s of processor time, "
        f"{highest_memory() / 1e6:.0f} MB so far",
        flush=True,
    )
    return result


def compare_with_dictionaries(paths, workers, runs):
    """Prints how long both ways take to count, choose and copy, by turns."""
    rule = balancing.BalanceConfig("binned", num_image=1000, min_threshold=0.3)
    tables = counting.Tables(paths, workers)

    def ours():
        bins = rule.bins(_NUM_CLASSES)
        counts = counting.histogram(tables, _NUM_CLASSES, bins)
        plan = balancing.choose(rule, counts, tables.map)
        return sum(copies.sum() for copies in tables.map(plan.copies))

    functions = (ours, lambda: filter_by_dictionaries(rule, tables))
    seconds = turns.by_turns([lambda f=f: _seconds(f) for f in functions], runs)
    median, low, high = turns.median_and_middle_half(
        seconds[:, 1] / seconds[:, 0]
    )
    rows = len(paths) * _SHARD_ROWS
    medians = np.median(seconds, axis=0)
    print(
        f"{rows} rows, binned: ours {medians[0]:.2f} s, a dictionary for each "
        f"image {medians[1]:.2f} s; {median:.1f} times as fast (middle half "
        f"{low:.1f} to {high:.1f}, {runs} runs)"
    )


def _seconds(function):
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def filter_by_dictionaries(rule, tables):
    """Returns the records kept, found as the original finds them.

    Written anew after its structure, without the lists of probabilities, in
    which it would not fit: a dictionary for each image, sorted by class, and
    counts and copies one image after the other.

    Source: noisystudent `filter_unlabel.py:get_label_to_image_idx`,
    `get_threshold`, `get_keep_image_idx`.
    """
    edges = confidence_bins.HUNDREDTHS.tolist()
    by_label = collections.defaultdict(list)
    for shard in range(len(tables.paths)):
        table = tables.read(shard, ("label", "confidence"))
        for index in range(len(table)):
            image = {"idx": index, "prob": table.confidence[index]}
            by_label[table.label[index]].append(image)
    rng = np.random.default_rng(0)
    kept = 0
    for images in by_label.values():
        images.sort(key=lambda image: -image["prob"])
        total, threshold = 0, rule.min_threshold
        for edge in reversed(edges):
            while total < len(images) and images[total]["prob"] >= edge:
                total += 1
            if total >= rule.num_image or edge == rule.min_threshold:
                threshold = edge
                break
        for image in images:
            if threshold <= image["prob"] <= rule.max_prob:
                copies = rule.num_image / total
                kept += int(copies) + (rng.random() < copies - int(copies))
    return kept


def measure_lists():
    """Returns the memory, in bytes, of what the original holds of some rows."""
    probs = np.random.default_rng(0).random((_LIST_ROWS, _NUM_CLASSES))
    probs = probs.astype(np.float32)
    before = highest_memory()
    images = [
        {
            "worker_id": 0,
            "idx": i,
            "prob": row[0],
            "probabilities": row.tolist(),
        }
        for i, row in enumerate(probs)
    ]
    held = highest_memory() - before
    return held if images else 0


if __name__ == "__main__":
    command_line.run(main, define_flags)

"""Speed and memory of deduplication: matching, and taking fingerprints.

Needs a checkout: `python -m benchmarks.deduplicate --help`.

- `match`: compares generated fingerprints, near duplicates among them. A tenth
  of the corpus and the whole are matched in processes of their own, a shard at
  a time; the duplicates made are counted as found or missed.
- `fingerprint`: takes fingerprints of generated photos in one thread; processor
  time, and that of decoding alone.
"""

import io
import multiprocessing
import resource
import time

import numpy as np
from PIL import Image

from data_prep import command_line, fingerprint_index, image_fingerprints

_SHARD = 16384
_DUPLICATES = 0.01
_PHOTO_SIZES = ((32, 32), (224, 224), (500, 375))


def make_rows(rng, number):
    """Returns `image_fingerprints.DTYPE` [number] of other images each.

    Half of the bits are set, as the median sets them.
    """
    rows = np.zeros(number, image_fingerprints.DTYPE)
    ranks = rng.random((number, 64)).argsort(axis=1)
    packed = np.packbits(ranks < 32, axis=1)
    rows["perceptual"] = packed.view(">u8")[:, 0]
    for name in ("encoded", "pixels", "mirrored"):
        rows[name] = rng.integers(0, 2**63, number)
    rows["state"] = image_fingerprints.STRUCTURED
    return rows


def make_shard(rng, evaluation, max_distance):
    """Returns (rows, bool [rows]: whether a row is a near duplicate)."""
    rows = make_rows(rng, _SHARD)
    is_duplicate = rng.random(_SHARD) < _DUPLICATES
    for row in np.flatnonzero(is_duplicate):
        value = int(evaluation["perceptual"][rng.integers(len(evaluation))])
        bits = rng.choice(64, rng.integers(max_distance + 1), replace=False)
        for bit in bits.tolist():
            value ^= 1 << bit
        rows["perceptual"][row] = value
    return rows, is_duplicate


def match(num_corpus, num_evaluation, max_distance, queue):
    """Puts (seconds to build, to match, peak bytes, made, missed, others)."""
    rng = np.random.default_rng(0)
    evaluation = make_rows(rng, num_evaluation)
    started = time.perf_counter()
    index = fingerprint_index.FingerprintIndex(
        evaluation, max_distance=max_distance
    )
    built = time.perf_counter() - started
    seconds = made = missed = others = 0
    for _ in range(-(-num_corpus // _SHARD)):
        rows, is_duplicate = make_shard(rng, evaluation, max_distance)
        started = time.perf_counter()
        found = index.match(rows)["row"]
        seconds += time.perf_counter() - started
        is_found = np.zeros(_SHARD, bool)
        is_found[found] = True
        made += int(is_duplicate.sum())
        missed += int((is_duplicate & ~is_found).sum())
        others += int((is_found & ~is_duplicate).sum())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    queue.put((built, seconds, peak, made, missed, others))


def measure_match(num_corpus, num_evaluation, max_distance):
    """Measures in a process of its own; prints a line."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(
        target=match, args=(num_corpus, num_evaluation, max_distance, queue)
    )
    process.start()
    built, seconds, peak, made, missed, others = queue.get()
    process.join()
    images = -(-num_corpus // _SHARD) * _SHARD
    print(
        f"{images:,} images against {num_evaluation:,}, distance up to "
        f"{max_distance}: index {built:.1f} s, matching {seconds:.1f} s "
        f"({images / seconds:,.0f} images/s), peak {peak / 1e6:,.0f} MB; "
        f"{made - missed:,} of {made:,} duplicates found, {others:,} others"
    )


def measure_fingerprints(size, runs):
    """Prints the time of an image's fingerprint, and of decoding it alone."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8))
    encoded = io.BytesIO()
    coarse.resize(size, Image.BICUBIC).save(encoded, "JPEG", quality=90)
    image_bytes = encoded.getvalue()

    def decode():
        Image.open(io.BytesIO(image_bytes)).load()

    def fingerprint():
        image_fingerprints.fingerprint(image_bytes)

    times = []
    for function in (decode, fingerprint):
        function()
        started = time.process_time()
        for _ in range(runs):
            function()
        times.append((time.process_time() - started) / runs * 1e6)
    print(
        f"JPEG of {size[0]}x{size[1]}: fingerprint {times[1]:,.0f} us, of "
        f"which decoding {times[0]:,.0f} us"
    )


def define_flags(flag_values):
    """Declares the flags of this command."""
    group = command_line.FlagGroup("What to measure", flag_values)
    group.enum(
        "part", "all", ["all", "match", "fingerprint"], "What is measured."
    )
    group.integer("corpus", 1_000_000, "Images of the corpus.", lower_bound=10)
    group.integer("evaluation", 50_000, "Evaluation images.", lower_bound=1)
    group.integer(
        "max_distance",
        8,
        "Bits in which near duplicates may differ.",
        lower_bound=0,
        upper_bound=fingerprint_index.MAX_DISTANCE,
    )
    group.integer("runs", 200, "Fingerprints of each size.", lower_bound=1)


def main(flag_values):
    """Prints a line for each measurement."""
    if flag_values.part in ("all", "match"):
        for fraction in (10, 1):
            measure_match(
                flag_values.corpus // fraction,
                flag_values.evaluation,
                flag_values.max_distance,
            )
    if flag_values.part in ("all", "fingerprint"):
        for size in _PHOTO_SIZES:
            measure_fingerprints(size, flag_values.runs)


if __name__ == "__main__":
    command_line.run(main, define_flags)

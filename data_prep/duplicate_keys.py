"""Finds images whose keys are equal, by the hashes of the keys.

Each pass over the tables takes one range of hashes, so that what is held is
bounded however many images there are.
"""

import collections
import concurrent.futures
import itertools

import numpy as np
from absl import logging

from data_prep import balancing, files, prediction_inputs

_RANGE_SIZE = 1 << 24
_MOST_NAMED = 5
_MOST_LOOKED_UP = 1000
# Of a hash; that each of so many has a key of its own is out of the question.
_PLACES_OF_HASH = 5
# Hashes of a table in a range, beyond their share, from which copies are left
# out: of keys that most images share, a range would hold all.
_MANY = 1 << 12


def repeated_hashes(tables, num_images, range_size=_RANGE_SIZE):
    """Returns uint64 array, ascending: the hashes that several images have.

    Args:
        tables: `counting.Tables`.
        num_images: int, images in them.
        range_size: Hashes each thread holds at a time, about.
    """
    num_ranges = _count_ranges(num_images, range_size)

    def repeated(bounds):
        hashes = np.concatenate(
            [
                _few_copies(_within(hashes, bounds), len(hashes) // num_ranges)
                for hashes in (
                    tables.read(shard, ("hash",)).hash
                    for shard in range(len(tables.paths))
                )
            ]
        )
        hashes.sort()
        return np.unique(hashes[1:][hashes[1:] == hashes[:-1]])

    return np.concatenate(
        list(_map_ranges(repeated, tables, num_images, range_size))
    )


def distinct(config, tables, num_classes, num_images, range_size=_RANGE_SIZE):
    """Counts the different keys among the images a rule accepts.

    Args:
        config: `balancing.BalanceConfig`.
        tables: `counting.Tables`.
        num_classes: int.
        num_images: int, images in the tables.
        range_size: Hashes each thread holds at a time, about.

    Returns:
        (int, all of them; int64 [num_classes], those of each class).
    """

    def count(bounds):
        parts = [
            _accepted_within(config, tables.read(shard), bounds)
            for shard in range(len(tables.paths))
        ]
        hashes, labels = map(np.concatenate, zip(*parts))
        order = np.lexsort((labels, hashes))
        hashes, labels = hashes[order], labels[order]
        is_new = np.ones(len(hashes), bool)
        is_new[1:] = hashes[1:] != hashes[:-1]
        first = is_new.copy()
        first[1:] |= labels[1:] != labels[:-1]
        return is_new.sum(), np.bincount(labels[first], minlength=num_classes)

    counted = _map_ranges(count, tables, num_images, range_size)
    total, by_class = zip(*counted)
    return int(sum(total)), sum(by_class)


def _count_ranges(num_images, range_size):
    return max(1, -(-num_images // range_size))


def _few_copies(hashes, share):
    """Returns hashes of a table in a range; of many, two of each at most."""
    if len(hashes) <= 2 * share + _MANY:
        return hashes
    return at_most_two(np.sort(hashes))


def at_most_two(hashes):
    """Returns ascending hashes without further ones of those there twice."""
    return hashes[_first_of_each(hashes, 2)]


def _first_of_each(values, number):
    """Returns the mask of the first `number` of each run of equal values."""
    is_kept = np.ones(len(values), bool)
    is_kept[number:] = values[number:] != values[:-number]
    return is_kept


def _map_ranges(function, tables, num_images, range_size):
    """Yields function((low, high)) for ranges of hashes, in ascending order."""
    count = _count_ranges(num_images, range_size)
    edges = [(index << 64) // count for index in range(count + 1)]
    ranges = [
        (np.uint64(low), np.uint64(high - 1))
        for low, high in zip(edges, edges[1:])
    ]
    with concurrent.futures.ThreadPoolExecutor(tables.num_workers) as pool:
        yield from pool.map(function, ranges)


def _within(hashes, bounds):
    low, high = bounds
    return hashes[(hashes >= low) & (hashes <= high)]


def _accepted_within(config, table, bounds):
    low, high = bounds
    mask = (table.hash >= low) & (table.hash <= high)
    mask &= balancing.eligible(config, table)
    hashes, labels = table.hash[mask], table.label[mask].astype(np.int64)
    order = np.lexsort((labels, hashes))
    hashes, labels = hashes[order], labels[order]
    is_new = _first_of_each(hashes, 1) | _first_of_each(labels, 1)
    return hashes[is_new], labels[is_new]


def check(tables, inputs, num_images, range_size=_RANGE_SIZE):
    """Checks that no two images have the same key.

    Different keys with one hash are no error: of 300 million keys two have
    with a chance of 0.2 %, and a warning names them.

    Args:
        tables: `counting.Tables`.
        inputs: `prediction_inputs.PredictionInputs`.
        num_images: int, images in the tables.
        range_size: Hashes each thread holds at a time, about.

    Raises:
        ValueError: Images have the same key; names it and where they are.
    """
    repeated = tables.repeated_hashes(num_images, range_size)
    if not len(repeated):
        return
    places = _find(tables, repeated[:_MOST_LOOKED_UP])
    by_key = _group_by_key(inputs, places)
    named = [
        f"{key!r} ({', '.join(found)})"
        for key, found in by_key.items()
        if len(found) > 1
    ]
    if not named:
        logging.warning(
            "%d pairs of different keys have the same hash; the order of the "
            "records decides between them where nothing else does.",
            len(repeated),
        )
        return
    raise ValueError(
        f"{len(repeated)} keys belong to several images, such as "
        f"{'; '.join(named[:_MOST_NAMED])}. Keys must be unique; only "
        "--use_all takes a corpus with copies of images."
    )


def _find(tables, hashes):
    """Returns list of (shard, row), the first few images of each hash."""

    def rows(table, shard):
        found = np.flatnonzero(np.isin(table.hash, hashes))
        # Stable, so that those of a hash stay in order.
        found = found[np.argsort(table.hash[found], kind="stable")]
        of_row = table.hash[found]
        is_early = _first_of_each(of_row, _PLACES_OF_HASH)
        return [
            (value, (shard, row))
            for value, row in zip(
                of_row[is_early].tolist(), found[is_early].tolist()
            )
        ]

    places = collections.defaultdict(list)
    for found in tables.map(rows, columns=("hash",)):
        for value, place in found:
            if len(places[value]) < _PLACES_OF_HASH:
                places[value].append(place)
    return sorted(itertools.chain.from_iterable(places.values()))


def _group_by_key(inputs, places):
    """Returns dict key -> list of "<file>: record <index>" of the images."""
    # Imported here: records need TensorFlow, which takes seconds.
    from data_prep import records

    rows_of_shard = collections.defaultdict(set)
    for shard, row in places:
        rows_of_shard[shard].add(row)
    by_key = collections.defaultdict(list)
    for shard, rows in sorted(rows_of_shard.items()):
        path = inputs.images[shard]
        image_keys = prediction_inputs.ImageKeys(path)
        reader = prediction_inputs.read_predictions(inputs.predictions[shard])
        for row, serialized in enumerate(
            itertools.islice(reader, max(rows) + 1)
        ):
            if row in rows:
                with files.naming(f"predictions for {path!r}: record {row}"):
                    stored = records.unpack_prediction(serialized)[2]
                key = image_keys.find(row, stored)
                by_key[key].append(f"{path!r}: record {row}")
    return by_key

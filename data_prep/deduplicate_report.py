"""What deduplication found: counts, a list of pairs, and a page of pictures.

Holds the table of the evaluation images and a sample of pairs; the pairs
themselves go from file to file, a shard at a time.
"""

import collections
import dataclasses
import heapq
import io
import json
import os

import numpy as np
from PIL import Image

from data_prep import (
    files,
    fingerprint_index,
    html_page,
    image_fingerprints,
    thumbnails,
)

REPORT_FILE = "report.json"
PAIRS_FILE = "pairs.jsonl"
PAGE_FILE = "report.html"

IN_CORPUS = len(fingerprint_index.KINDS)

_KINDS = (*fingerprint_index.KINDS, "same_bytes_in_corpus")
_ABOUT = {
    "same_bytes": "Files of equal bytes",
    "same_pixels": "Other files, equal pixels",
    "near": "Near duplicates, the most distant first",
    "near_mirrored": "Near duplicates when mirrored, the most distant first",
}
_PAIRS_SHOWN = 24
_MOST_MATCHED = 20


@dataclasses.dataclass(frozen=True)
class Matches:
    """The matches of each shard, in a file.

    Attributes:
        paths: Tuple of files, in the order of the shards.
    """

    paths: tuple

    def exists(self, shard):
        """Returns whether a shard has been matched."""
        return files.exists(self.paths[shard])

    def read(self, shard):
        """Returns `fingerprint_index.MATCH_DTYPE` [matches]."""
        return np.load(io.BytesIO(files.read_bytes(self.paths[shard])))

    def write(self, shard, matches):
        """Writes the matches of a shard, atomically."""
        buffer = io.BytesIO()
        np.save(buffer, matches)
        files.write_bytes(self.paths[shard], buffer.getvalue())


@dataclasses.dataclass(frozen=True)
class Findings:
    """What the report is about.

    Attributes:
        rule: dict of the settings that decide.
        corpus_sources: List of `fingerprint_files.Source`.
        evaluation_sources: List of `fingerprint_files.Source`.
        corpus: `fingerprint_files.FingerprintFiles`.
        evaluation: `fingerprint_files.FingerprintFiles`.
        matches: `Matches`.
        files_left_out: dict reason -> files of evaluation folders left out.
    """

    rule: dict
    corpus_sources: list
    evaluation_sources: list
    corpus: object
    evaluation: object
    matches: Matches
    files_left_out: dict


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image of the corpus and the evaluation image it duplicates.

    Attributes:
        kind: One of `fingerprint_index.KINDS`.
        distance: Differing bits of the perceptual hashes; 0 for equal images.
        shard: Index of the corpus' shard.
        row: Place in it.
        order: `image_fingerprints.order_of` its key.
        key: Key of the corpus' image.
        evaluation: Index of the evaluation image.
        evaluation_key: Its key.
    """

    kind: str
    distance: int
    shard: int
    row: int
    order: int
    key: str
    evaluation: int
    evaluation_key: str


def reasons(corpus, matches, shard):
    """Returns what becomes of each image of a shard, a list of str."""
    state = corpus.read(shard, "rows")["state"]
    found = ["kept"] * len(state)
    for row in np.flatnonzero(state == image_fingerprints.UNDECODABLE):
        found[row] = "kept:undecodable"
    for match in matches.read(shard):
        found[match["row"]] = f"dropped:{_KINDS[match['kind']]}"
    return found


def read(output_dir):
    """Returns the content of report.json; None if there is none."""
    path = os.path.join(output_dir, REPORT_FILE)
    return files.read_json(path) if files.exists(path) else None


def write(output_dir, findings):
    """Writes pairs.jsonl, report.html and, last, report.json.

    Args:
        output_dir: Where they go.
        findings: `Findings`.

    Returns:
        dict, the content of report.json.
    """
    keys = [_text(key) for key in findings.evaluation.read_all("keys")]
    states = findings.evaluation.read_all("rows")["state"]
    counters = collections.Counter()
    for shard in range(len(findings.corpus.paths)):
        counters.update(reasons(findings.corpus, findings.matches, shard))
    matched = collections.Counter()
    samples = {kind: [] for kind in fingerprint_index.KINDS}
    _write_pairs(output_dir, findings, keys, matched, samples)
    most = sorted(matched.items(), key=lambda item: (-item[1], item[0]))
    undecodable = states == image_fingerprints.UNDECODABLE
    report = {
        "num_input": sum(counters.values()),
        "counters": dict(sorted(counters.items())),
        "evaluation": {
            "num_images": len(keys),
            "num_matched": len(matched),
            "num_plain": int((states == image_fingerprints.PLAIN).sum()),
            "undecodable": [keys[i] for i in np.flatnonzero(undecodable)],
            "files_left_out": findings.files_left_out,
            "most_matched": [
                {"key": keys[index], "num_matches": number}
                for index, number in most[:_MOST_MATCHED]
            ],
        },
        "rule": findings.rule,
    }
    page = _page(report, findings, samples)
    files.write_bytes(os.path.join(output_dir, PAGE_FILE), page.encode())
    files.write_json(os.path.join(output_dir, REPORT_FILE), report)
    return report


def _text(key):
    return key.decode(errors="backslashreplace")


def _write_pairs(output_dir, findings, keys, matched, samples):
    """Writes pairs.jsonl; adds to what is counted and shown.

    Args:
        output_dir: Where the file goes.
        findings: `Findings`.
        keys: Keys of the evaluation images.
        matched: Counter of the evaluation images; added to.
        samples: dict kind -> list of `Pair`s to show; replaced.
    """
    path = os.path.join(output_dir, PAIRS_FILE)
    temporary = files.temporary_path(path)
    with files.open_file(temporary, "wb") as file:
        for shard in range(len(findings.corpus.paths)):
            pairs = _pairs_of_shard(findings, keys, shard)
            matched.update(pair.evaluation for pair in pairs)
            for pair in pairs:
                file.write(_line(pair))
            for kind, shown in samples.items():
                samples[kind] = heapq.nsmallest(
                    _PAIRS_SHOWN,
                    [*shown, *(pair for pair in pairs if pair.kind == kind)],
                    key=lambda p: (-p.distance, p.order, p.shard, p.row),
                )
    files.publish(temporary, path)


def _pairs_of_shard(findings, keys, shard):
    matches = findings.matches.read(shard)
    matches = matches[matches["kind"] != IN_CORPUS]
    order = findings.corpus.read(shard, "order")
    corpus_keys = findings.corpus.read(shard, "keys")
    return [
        Pair(
            kind=_KINDS[kind],
            distance=distance,
            shard=shard,
            row=row,
            order=int(order[row]),
            key=_text(corpus_keys[row]),
            evaluation=evaluation,
            evaluation_key=keys[evaluation],
        )
        for row, evaluation, kind, distance in matches.tolist()
    ]


def _line(pair):
    values = {
        "key": pair.key,
        "evaluation_key": pair.evaluation_key,
        "kind": pair.kind,
        "distance": pair.distance,
    }
    return (json.dumps(values) + "\n").encode()


def _page(report, findings, samples):
    evaluation = report["evaluation"]
    removed = sum(
        number
        for reason, number in report["counters"].items()
        if reason.startswith("dropped:")
    )
    return html_page.page(
        "Evaluation images in an unlabeled corpus",
        [
            f'<p class="headline">{removed:,} of {report["num_input"]:,} '
            f"images are removed; {evaluation['num_matched']:,} of "
            f"{evaluation['num_images']:,} evaluation images were found.</p>",
            _counts(report),
            *_samples(findings, samples),
            _most_matched(evaluation["most_matched"]),
            "<h2>Rule</h2>",
            html_page.facts(report["rule"]),
        ],
    )


def _counts(report):
    rows = [
        (reason, f"{number:,}") for reason, number in report["counters"].items()
    ]
    rows.append(("all", f"{report['num_input']:,}"))
    return html_page.table(("what became of them", "images"), rows)


def _most_matched(most):
    if not most:
        return ""
    rows = [(row["key"], f"{row['num_matches']:,}") for row in most]
    head = ("evaluation image", "duplicates removed")
    return "<h2>Most often found</h2>" + html_page.table(head, rows)


def _samples(findings, samples):
    """Yields a section for each kind: pairs side by side."""
    corpus = _thumbnails(
        findings.corpus_sources,
        ((p.shard, p.row) for pairs in samples.values() for p in pairs),
    )
    first = np.cumsum(
        [0]
        + [
            len(findings.evaluation.read(i, "order"))
            for i in range(len(findings.evaluation.paths))
        ]
    )

    def place(pair):
        source = int(np.searchsorted(first, pair.evaluation, side="right")) - 1
        return source, pair.evaluation - int(first[source])

    evaluation = _thumbnails(
        findings.evaluation_sources,
        (place(pair) for pairs in samples.values() for pair in pairs),
    )
    for kind, pairs in samples.items():
        tiles = [
            html_page.tile(
                _stack(
                    corpus.get((pair.shard, pair.row)),
                    evaluation.get(place(pair)),
                ),
                (
                    pair.key,
                    pair.evaluation_key,
                    f"distance {pair.distance}",
                ),
                key=pair.key,
            )
            for pair in pairs
        ]
        if tiles:
            yield (
                f"<h2>{_ABOUT[kind]}</h2>"
                '<p class="note">Above, the image of the corpus; below, the '
                f"evaluation image.</p>{html_page.tiles(tiles)}"
            )


def _stack(*images):
    """Returns images one above the other; grey for one that is None."""
    images = [image or Image.new("RGB", (8, 8), "grey") for image in images]
    width = max(image.width for image in images)
    images = [
        image.resize((width, max(1, round(image.height * width / image.width))))
        for image in images
    ]
    stack = Image.new("RGB", (width, sum(image.height for image in images)))
    top = 0
    for image in images:
        stack.paste(image, (0, top))
        top += image.height
    return stack


def _thumbnails(sources, places):
    """Returns {(index of the source, place in it): PIL image}."""
    wanted = collections.defaultdict(set)
    for source, index in places:
        wanted[source].add(index)
    return {
        (source, index): image
        for source, indices in wanted.items()
        for index, image in thumbnails.pick(
            sources[source].read(), indices, whole=True
        ).items()
    }

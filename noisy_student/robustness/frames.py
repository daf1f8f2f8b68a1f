"""Sequences of frames: videos, folders of frames, or shards."""

import dataclasses
import itertools
import operator
import os
import re
from typing import Callable

import numpy as np
import tensorflow as tf

from data_prep import cores, files, image_folder, records, shards, tf_data
from efficientnet.messages import first_names
from noisy_student.robustness import layout

_VIDEO = re.compile(r".*\.(mp4|avi|mov|mkv|webm)", re.IGNORECASE)
_IMAGE = re.compile(r".*\.(jpg|jpeg|png)", re.IGNORECASE)
_DIGITS = re.compile(r"(\d+)")
_PADDING = ""
_KEYS_AT_ONCE = 1024


@dataclasses.dataclass(frozen=True)
class Sequences:
    """Frames of sequences in a fixed order, one sequence after the other.

    Attributes:
        origin: Where they come from, as messages say it.
        names: Returns the frozenset of their names, videos without their
            ending; reads the keys of shards, no image.
        fingerprint: Returns a short digest that differs if files have been
            replaced.
        frames: Returns an unbatched `tf.data.Dataset` of dicts `image_bytes`
            (string, an encoded image) and `sequence` (string, its name).
    """

    origin: str
    names: Callable
    fingerprint: Callable
    frames: Callable


def open_sequences(directory, split):
    """Opens the sequences of a perturbation.

    A sequence is a video file, or a folder that holds its frames and nothing
    else, in the order of their names; both lie in class folders or not. In
    shards the key of a record is `<sequence>/<frame>`, and the frames of a
    sequence follow each other. A `classes.json`, which lists the class folders,
    is no sequence.

    Args:
        directory: Local folder.
        split: Prefix of the shards.

    Returns:
        `Sequences`.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If files are neither, a sequence has a single frame, its
            frames have names whose order is not that of their numbers, or some
            are missing, or there are videos and OpenCV is not installed. Of
            shards `names` says it.
    """
    origin = f"--label_data_dir, {directory}"
    classes = os.path.join(directory, image_folder.CLASSES_FILE)
    listed = [classes] if files.exists(classes) else []
    if any(map(shards.parse_name, files.list_names(directory))):
        with files.naming(origin):
            paths = records.list_shards(directory, split)
        return Sequences(
            origin,
            lambda: _name_sequences(_read_keys(paths)),
            lambda: files.fingerprint(paths + listed),
            lambda: _of_shards(paths),
        )
    return _open_files(origin, directory, listed)


def _open_files(origin, directory, listed):
    """Returns the `Sequences` of videos or frames, as `open_sequences`.

    Args:
        origin: As `Sequences.origin`.
        directory: Local folder.
        listed: Paths in it that list its classes.
    """
    found = [path for path in layout.walk(directory) if path not in listed]

    def fingerprint():
        return files.fingerprint_unread(
            (path[len(directory) :], path) for path in found + listed
        )

    videos = [path for path in found if _VIDEO.fullmatch(path)]
    if videos and len(videos) < len(found):
        others = sorted(set(found) - set(videos))
        raise ValueError(
            f"{origin}: {len(videos)} videos, but {len(others)} other files: "
            f"{first_names(others)}."
        )
    if videos:
        _require_opencv()
        stems = (os.path.splitext(path)[0] for path in videos)
        names = frozenset(os.path.relpath(stem, directory) for stem in stems)
        return Sequences(
            origin,
            lambda: names,
            fingerprint,
            lambda: _of_videos(videos, directory),
        )
    if others := [path for path in found if not _IMAGE.fullmatch(path)]:
        raise ValueError(
            f"{origin}: {len(others)} files are neither videos nor JPEG or PNG "
            f"images: {first_names(others)}."
        )
    if not found:
        raise FileNotFoundError(
            f"{origin}: neither videos nor folders of frames nor shards."
        )
    with files.naming(origin):
        names = _name_sequences(
            os.path.split(os.path.relpath(path, directory)) for path in found
        )
    return Sequences(
        origin,
        lambda: names,
        fingerprint,
        lambda: _of_files(found, directory),
    )


def _read_keys(paths):
    """Yields the (sequence, frame) that each record's key tells, in order."""
    keys = tf.data.TFRecordDataset(paths).map(
        lambda serialized: records.parse_unlabeled(serialized)["key"],
        num_parallel_calls=cores.count(),
    )
    keys = tf_data.fixed(keys.batch(_KEYS_AT_ONCE))
    number = 0
    for batch in keys.as_numpy_iterator():
        for key in batch:
            sequence, slash, frame = key.decode().rpartition("/")
            if not (sequence and slash and frame):
                raise ValueError(
                    "the key of a record must be <sequence>/<frame>. Received: "
                    f"{key.decode()!r}, record {number}."
                )
            yield sequence, frame
            number += 1


def _name_sequences(frames):
    """Returns the names of sequences, a frozenset.

    Args:
        frames: Iterable of (sequence, frame), names in the order of the frames.

    Raises:
        ValueError: If the frames of a sequence do not follow each other, or in
            another order than that of their numbers, or some are missing.
    """
    names = set()
    for sequence, pairs in itertools.groupby(frames, operator.itemgetter(0)):
        found = [frame for _, frame in pairs]
        with files.naming(f"sequence {sequence!r}"):
            if sequence in names:
                raise ValueError("its frames do not follow each other.")
            _check_frames(found)
        names.add(sequence)
    return frozenset(names)


def _check_frames(names):
    """Raises ValueError unless frames are two or more, in order and complete.

    Args:
        names: Their names in the order in which they are taken.
    """
    if len(names) < 2:
        raise ValueError("a sequence must have at least two frames.")
    # Digits are at the odd places.
    parts = {name: _DIGITS.split(name) for name in names}
    by_number = sorted(
        names,
        key=lambda name: [
            int(part) if place % 2 else part
            for place, part in enumerate(parts[name])
        ],
    )
    for name, wanted in zip(names, by_number):
        if name != wanted:
            raise ValueError(
                "frames are taken in the order of their names, in which "
                f"{name!r} stands before {wanted!r}. Numbers must be padded "
                "with zeros to one length, as in 000.png, 001.png, ..., "
                "010.png."
            )
    places = [set(values) for values in zip(*parts.values())]
    counted = [place for place, found in enumerate(places) if len(found) > 1]
    if len(parts) < len(names):
        raise ValueError("a frame is there twice.")
    if len(counted) == 1 and counted[0] % 2:
        _check_numbers(names, [int(parts[n][counted[0]]) for n in names])


def _check_numbers(names, numbers):
    """Raises ValueError if frames that are counted one by one leave some out.

    Others may be numbered as they like, by time for instance.

    Args:
        names: Names of frames.
        numbers: int [frames], their numbers, ascending.
    """
    steps = [after - before for before, after in zip(numbers, numbers[1:])]
    if min(steps) == 1 < max(steps):
        place = next(i for i, step in enumerate(steps) if step > 1)
        raise ValueError(
            f"frames are missing between {names[place]!r} and "
            f"{names[place + 1]!r}."
        )


def _of_files(paths, directory):
    names = [os.path.relpath(os.path.dirname(p), directory) for p in paths]
    return tf.data.Dataset.from_tensor_slices((paths, names)).map(
        lambda path, name: {
            "image_bytes": tf.io.read_file(path),
            "sequence": name,
        },
        num_parallel_calls=cores.count(),
    )


def _of_shards(paths):
    def parse(serialized):
        record = records.parse_unlabeled(serialized)
        return {
            "image_bytes": record["image_bytes"],
            "sequence": tf.strings.regex_replace(record["key"], "/[^/]*$", ""),
        }

    return tf.data.TFRecordDataset(paths).map(parse)


def _of_videos(paths, directory):
    def read(path, name):
        encoded = tf.numpy_function(_decode_video, [path], tf.string)
        encoded = tf.ensure_shape(encoded, [None])
        return {
            "image_bytes": encoded,
            "sequence": tf.repeat(name, tf.size(encoded)),
        }

    names = [os.path.relpath(path, directory) for path in paths]
    videos = tf.data.Dataset.from_tensor_slices((paths, names))
    return videos.map(read, num_parallel_calls=cores.count()).unbatch()


def _require_opencv():
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        raise ValueError(
            "Videos need OpenCV: pip install 'noisy-student-training[video]'. "
            "Folders of frames and shards do not."
        ) from error


def _decode_video(path):
    """Returns the frames of a video as PNG files, bytes [frames]."""
    import cv2

    video = cv2.VideoCapture(path.decode())
    expected = round(video.get(cv2.CAP_PROP_FRAME_COUNT))
    encoded = []
    while True:
        is_frame, pixels = video.read()
        if not is_frame:
            break
        png = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
        encoded.append(png.tobytes())
    video.release()
    if not encoded or len(encoded) < expected:
        raise ValueError(
            f"{path.decode()!r}: {len(encoded)} of {expected} frames of this "
            "video can be read."
        )
    return np.array(encoded, object)


def batches(sequences, view, batch_size):
    """Returns batches of frames in order, each frame once, then padding.

    Args:
        sequences: `Sequences`.
        view: image_bytes -> pixels.
        batch_size: Frames of a batch.

    Returns:
        `tf.data.Dataset` of dicts with static shapes: `images` [b, h, w, 3]
        and `sequence` string [b], empty for padding.
    """

    @tf.autograph.experimental.do_not_convert
    def look(element):
        return {
            "images": view(element["image_bytes"]),
            "sequence": element["sequence"],
        }

    dataset = sequences.frames().map(look, num_parallel_calls=cores.count())
    pixels = dataset.element_spec["images"]
    padding = tf.data.Dataset.from_tensors(
        {
            "images": tf.zeros(pixels.shape, pixels.dtype),
            "sequence": tf.constant(_PADDING),
        }
    )
    dataset = dataset.concatenate(padding.repeat(batch_size - 1))
    dataset = dataset.batch(batch_size, drop_remainder=True)
    return tf_data.fixed(dataset.prefetch(tf_data.BATCHES_AHEAD))


def group(frames):
    """Yields the frames of each sequence, in order.

    Args:
        frames: Iterable of (name of the sequence, int [5], classes with the
            largest logits first); padding has no name.

    Yields:
        (name, int [frames, 5]).
    """
    name, answers = None, []
    for sequence, top_5 in frames:
        if sequence == _PADDING:
            continue
        if sequence != name:
            if answers:
                yield name, np.stack(answers)
            name, answers = sequence, []
        answers.append(top_5)
    if answers:
        yield name, np.stack(answers)

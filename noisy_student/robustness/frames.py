"""Sequences of frames: videos, folders of frames, or shards."""

import dataclasses
import itertools
import os
import re
from typing import Callable, Optional

import numpy as np
import tensorflow as tf

from data_prep import cores, files, image_folder, records, shards, tf_data
from efficientnet.messages import first_names
from noisy_student.robustness import layout

_VIDEO = re.compile(r".*\.(mp4|avi|mov|mkv|webm)", re.IGNORECASE)
_IMAGE = re.compile(r".*\.(jpg|jpeg|png)", re.IGNORECASE)
_DIGITS = re.compile(r"(\d+)")
_PADDING = ""


@dataclasses.dataclass(frozen=True)
class Sequences:
    """Frames of sequences in a fixed order, one sequence after the other.

    Attributes:
        origin: Where they come from, as messages say it.
        names: frozenset of their names, videos without their ending; None for
            shards, where it takes reading to know.
        fingerprint: Returns a short digest that differs if files have been
            replaced.
        frames: Returns an unbatched `tf.data.Dataset` of dicts `image_bytes`
            (string, an encoded image) and `sequence` (string, its name).
    """

    origin: str
    names: Optional[frozenset]
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
        ValueError: If files are neither, frames have names whose order is not
            that of their numbers, or there are videos and OpenCV is not
            installed.
    """
    origin = f"--label_data_dir, {directory}"
    classes = os.path.join(directory, image_folder.CLASSES_FILE)
    listed = [classes] if files.exists(classes) else []
    if any(map(shards.parse_name, files.list_names(directory))):
        with files.naming(origin):
            paths = records.list_shards(directory, split)
        return Sequences(
            origin,
            None,
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
            origin, names, fingerprint, lambda: _of_videos(videos, directory)
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
    folders = []
    for folder, paths in itertools.groupby(found, os.path.dirname):
        _check_order(folder, paths)
        folders.append(os.path.relpath(folder, directory))
    return Sequences(
        origin,
        frozenset(folders),
        fingerprint,
        lambda: _of_files(found, directory),
    )


def _check_order(folder, paths):
    """Raises ValueError unless the order of frames is that of their numbers.

    Args:
        folder: Where they are.
        paths: Their paths in the order of the text.
    """
    names = [os.path.basename(path) for path in paths]
    # Digits are at the odd places.
    by_number = sorted(
        names,
        key=lambda name: [
            int(part) if place % 2 else part
            for place, part in enumerate(_DIGITS.split(name))
        ],
    )
    for name, wanted in zip(names, by_number):
        if name != wanted:
            raise ValueError(
                f"--label_data_dir, {folder}: frames are taken in the order of "
                f"their names, in which {name!r} stands before {wanted!r}. "
                "Numbers must be padded with zeros to one length, as in "
                "000.png, 001.png, ..., 010.png."
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

    Raises:
        ValueError: If the frames of a sequence do not follow each other.
    """
    seen, name, answers = set(), None, []
    for sequence, top_5 in frames:
        if sequence == _PADDING:
            continue
        if sequence != name:
            if answers:
                yield name, np.stack(answers)
            if sequence in seen:
                raise ValueError(
                    f"{sequence!r}: its frames do not follow each other."
                )
            seen.add(sequence)
            name, answers = sequence, []
        answers.append(top_5)
    if answers:
        yield name, np.stack(answers)

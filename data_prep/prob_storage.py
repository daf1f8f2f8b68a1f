"""How a teacher's distribution is stored in a record.

full: `probabilities`, a float32 of each class, as the original code has it.
float16: `probabilities_float16`, half the bytes, right to 3 digits.
topk: `top_probabilities` and `top_classes`, those of the k most probable
    classes, the most probable first. Read back, the other classes share the
    rest of the mass evenly.

Records say themselves which of them they have; no reader has to be told.
"""

import dataclasses

import numpy as np

FULL, FLOAT16, TOP_K = KINDS = ("full", "float16", "topk")

PROBS = "probabilities"
HALF_PROBS = "probabilities_float16"
TOP_PROBS = "top_probabilities"
TOP_CLASSES = "top_classes"
NUM_CLASSES = "num_classes"
# What tells that a record has a distribution, and which one.
FIELD_OF_KIND = {FULL: PROBS, FLOAT16: HALF_PROBS, TOP_K: TOP_PROBS}
# Half the distance of two float16 numbers, relative to the smaller.
_HALF_ERROR = 2.0**-11
FIELDS = (PROBS, HALF_PROBS, TOP_PROBS, TOP_CLASSES, NUM_CLASSES)


@dataclasses.dataclass(frozen=True)
class ProbStorage:
    """How distributions are stored.

    Attributes:
        kind: One of `KINDS`.
        num_stored: Classes that `topk` stores of each image, >= 1.
    """

    kind: str = FULL
    num_stored: int = 10

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(
                f"`kind` must be one of {KINDS}. Received: {self.kind!r}."
            )
        if self.num_stored < 1:
            raise ValueError(
                f"`num_stored` must be >= 1. Received: {self.num_stored}."
            )

    def check_classes(self, num_classes):
        """Raises a ValueError if more classes are to be stored than there are.

        Args:
            num_classes: Length of the distributions.
        """
        if self.kind == TOP_K and self.num_stored > num_classes:
            raise ValueError(
                f"`num_stored` must be <= {num_classes}, the number of "
                f"classes. Received: {self.num_stored}."
            )

    def settings(self):
        """Returns what tells this storage from others, a JSON-able dict."""
        if self.kind == TOP_K:
            return {"kind": self.kind, "num_stored": self.num_stored}
        return {"kind": self.kind}


DEFAULT = ProbStorage()


def encode(probs, storage):
    """Returns the fields of a record that hold a distribution.

    Args:
        probs: float [num_classes].
        storage: `ProbStorage`.

    Returns:
        dict field -> bytes, or array of float32 or of int64.
    """
    probs = np.asarray(probs, np.float32)
    if storage.kind == FULL:
        return {PROBS: probs}
    if storage.kind == FLOAT16:
        return {HALF_PROBS: probs.astype("<f2").tobytes()}
    # Of equal ones the first.
    top = np.argsort(-probs, kind="stable")[: storage.num_stored]
    return {
        TOP_PROBS: probs[top],
        TOP_CLASSES: top.astype(np.int64),
        NUM_CLASSES: np.array([len(probs)], np.int64),
    }


def packed_floats(values):
    """Returns numbers as `tf.train.FloatList` serializes them.

    Parsing these bytes is a hundred times faster than filling the list.

    Args:
        values: float, of any shape.
    """
    packed = np.asarray(values, "<f4").tobytes()
    length, prefix = len(packed), bytearray(b"\x0a")
    while length > 127:
        prefix.append(length & 127 | 128)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + packed


def decode(feature):
    """Returns float32 [num_classes], the distribution that a record holds.

    Args:
        feature: Map of its fields to `tf.train.Feature`.

    Raises:
        ValueError: It holds none, or a malformed one; names the field.
    """
    if PROBS in feature:
        return np.array(feature[PROBS].float_list.value, np.float32)
    if HALF_PROBS in feature:
        stored = b"".join(feature[HALF_PROBS].bytes_list.value)
        if len(stored) % 2:
            raise ValueError(
                f"field {HALF_PROBS!r} must hold two bytes a class, has "
                f"{len(stored)}."
            )
        return np.frombuffer(stored, "<f2").astype(np.float32)
    for name in (TOP_CLASSES, NUM_CLASSES):
        # Not `feature[name]` alone: that would insert what is missing.
        if TOP_PROBS in feature and name not in feature:
            raise ValueError(f"field {name!r} is missing.")
    if TOP_PROBS not in feature:
        raise ValueError(f"field {PROBS!r} is missing.")
    return _spread(
        np.array(feature[TOP_PROBS].float_list.value, np.float32),
        np.array(feature[TOP_CLASSES].int64_list.value, np.int64),
        sum(feature[NUM_CLASSES].int64_list.value),
    )


def relative_error(feature):
    """Returns by how much of itself storing changed a stored prob, at most.

    Args:
        feature: As in `decode`.
    """
    return _HALF_ERROR if HALF_PROBS in feature else 0.0


def _spread(top_probs, top_classes, num_classes):
    different = len(set(top_classes.tolist()))
    lengths = {len(top_probs), len(top_classes), different}
    if len(lengths) > 1 or not 0 < different <= num_classes:
        raise ValueError(
            f"fields {TOP_PROBS!r} and {TOP_CLASSES!r} must hold the same "
            f"number of different classes, of {num_classes} at most. Received: "
            f"{len(top_probs)} and {len(top_classes)}."
        )
    if top_classes.min() < 0 or top_classes.max() >= num_classes:
        raise ValueError(
            f"field {TOP_CLASSES!r} must be in 0..{num_classes - 1}. Received: "
            f"{top_classes.min()}..{top_classes.max()}."
        )
    others = max(num_classes - len(top_probs), 1)
    rest = max(np.float32(1) - top_probs.sum(), np.float32(0))
    probs = np.full(num_classes, rest / np.float32(others), np.float32)
    probs[top_classes] = top_probs
    return probs

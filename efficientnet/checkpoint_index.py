"""What a checkpoint by TF1's Saver holds, by name, and its single tensors."""

import dataclasses
import re

import tensorflow as tf

from efficientnet.messages import first_names

SHADOW_SUFFIX = "/ExponentialMovingAverage"
STEP = "global_step"
HEAD = ("head/dense/kernel", "head/dense/bias")
# A weight's own tensors in a checkpoint of the original's trainer.
_SUFFIXES = (SHADOW_SUFFIX, "/RMSProp", "/RMSProp_1", "/Momentum")
# The original's trainer keeps an in-graph teacher there.
_TEACHER_SCOPE = "teacher_model"
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


@dataclasses.dataclass(frozen=True)
class Index:
    """The names in a checkpoint.

    Attributes:
        path: What the user calls the checkpoint.
        prefix: Where it is.
        scope: The name of its network, under which its tensors are.
        tensors: {name under the scope: tf.TensorSpec}.
        unknown: Names of the tensors that belong to no network.
        step_type: Type of the stored step; None without one.
    """

    path: str
    prefix: str
    scope: str
    tensors: dict
    unknown: list
    step_type: "tf.DType | None"

    @property
    def variables(self):
        """Names of the network's variables, a set."""
        return {_without_suffix(name) for name in self.tensors}

    @property
    def has_ema(self):
        """Whether there are moving averages."""
        return any(name.endswith(SHADOW_SUFFIX) for name in self.tensors)

    @property
    def num_classes(self):
        """Number of logits; None without a last layer."""
        bias = self.tensors.get(HEAD[1])
        return bias.shape[0] if bias and bias.shape.rank == 1 else None

    def read(self, name):
        """Returns the tensor of a name under the scope.

        Raises:
            ValueError: If it cannot be read.
        """
        return self._restore(f"{self.scope}/{name}", self.tensors[name].dtype)

    def read_step(self):
        """Returns the stored step, an int, or None.

        Raises:
            ValueError: If it cannot be read.
        """
        if self.step_type is None:
            return None
        reader = tf.train.load_checkpoint(self.prefix)
        try:
            # Runs no operation: devices can be configured afterwards.
            return int(reader.get_tensor(STEP))
        except (tf.errors.OpError, RuntimeError, IndexError) as error:
            raise self._damaged(STEP, str(error)) from error

    def _restore(self, name, dtype):
        try:
            # A reader's `get_tensor` would hold an array beside the tensor.
            with tf.device("/cpu:0"):
                return tf.raw_ops.RestoreV2(
                    prefix=self.prefix,
                    tensor_names=[name],
                    shape_and_slices=[""],
                    dtypes=[dtype],
                )[0]
        except tf.errors.OpError as error:
            raise self._damaged(name, _reason(error)) from error

    def _damaged(self, name, reason):
        return ValueError(
            f"The checkpoint {self.path!r} is truncated or damaged at "
            f"{name!r}: {reason}"
        )


def is_name_based(prefix, path):
    """Returns whether a checkpoint stores tensors by name, not objects.

    Args:
        prefix: Where the checkpoint is.
        path: What the user calls it, for messages.

    Raises:
        ValueError: If its index cannot be read.
    """
    return _OBJECT_GRAPH not in _reader(prefix, path)[0]


def read_index(prefix, path):
    """Returns the `Index` of a checkpoint; needs its index file only.

    Args:
        prefix: Where the checkpoint is.
        path: What the user calls it, for messages.

    Raises:
        ValueError: If it cannot be read, stores objects, or does not hold
            exactly one network besides a teacher.
    """
    shapes, types = _reader(prefix, path)
    if _OBJECT_GRAPH in shapes:
        raise ValueError(
            f"The checkpoint {path!r} is one of TensorFlow 2's, which stores "
            "objects. Expected one by TF1's Saver, which stores names."
        )
    scopes = {name.split("/")[0] for name in shapes if "/" in name}
    scopes -= {_TEACHER_SCOPE}
    if len(scopes) != 1:
        raise ValueError(
            f"The checkpoint {path!r} must hold one network, under one "
            f"top-level name. Received: {first_names(sorted(scopes))}."
        )
    (scope,) = scopes
    return Index(
        path=path,
        prefix=prefix,
        scope=scope,
        tensors={
            name[len(scope) + 1 :]: tf.TensorSpec(shape, types[name])
            for name, shape in sorted(shapes.items())
            if name.startswith(f"{scope}/")
        },
        unknown=sorted({name for name in shapes if "/" not in name} - {STEP}),
        step_type=types.get(STEP),
    )


def _reader(prefix, path):
    """Returns {name: shape} and {name: type}."""
    try:
        reader = tf.compat.v1.train.NewCheckpointReader(prefix)
    except tf.errors.OpError as error:
        raise ValueError(
            f"The index of the checkpoint {path!r} is truncated or damaged: "
            f"{_reason(error)}"
        ) from error
    return (
        reader.get_variable_to_shape_map(),
        reader.get_variable_to_dtype_map(),
    )


def _reason(error):
    """Returns what an error of a TensorFlow operation says, in one line."""
    first_line = error.message.splitlines()[0].split("}} ")[-1]
    return re.sub(r" \[Op:\w+\].*$", "", first_line)


def _without_suffix(name):
    for suffix in _SUFFIXES:
        if name.endswith(suffix):
            return name[: -len(suffix)]
    return name

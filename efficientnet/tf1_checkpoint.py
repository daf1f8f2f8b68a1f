"""Checkpoints in the format of the released models, in and out.

TF1's Saver stores tensors by name: `efficientnet-b0/stem/conv2d/kernel`, its
moving average `.../kernel/ExponentialMovingAverage` and, in a checkpoint of the
original's trainer, its slots `.../kernel/RMSProp` and `.../kernel/RMSProp_1`.
"""

import collections.abc
import dataclasses
import json
import math
import os
import re

import tensorflow as tf

from efficientnet import checkpoint_archive, checkpoint_index
from efficientnet.checkpoint_index import (
    HEAD,
    SHADOW_SUFFIX,
    STEP,
)
from efficientnet.messages import first_names
from efficientnet.model import EfficientNet

_HEADS = ("load", "drop_background", "fresh")
# Writing holds copies of about so many bytes at a time.
_PART_BYTES = 1 << 28


@dataclasses.dataclass(frozen=True)
class Tf1Checkpoint:
    """What a checkpoint of TF1's Saver holds.

    Attributes:
        prefix: Its prefix, or the path of the archive it lies in.
        scope: The name of its network, for example "efficientnet-l2" (of both
            'efficientnet-l2' and 'efficientnet-l2_475').
        num_classes: Number of logits; None without a last layer.
        has_ema: Whether it holds moving averages.
        global_step: Number of training steps. None where it is not stored,
            and where an archive was described but not loaded.
        num_variables: Number of the network's variables, batch norm statistics
            included, without moving averages and slots.
    """

    prefix: str
    scope: str
    num_classes: "int | None"
    has_ema: bool
    global_step: "int | None"
    num_variables: int


def is_tf1_checkpoint(path):
    """Returns whether a checkpoint stores tensors by name, as TF1's Saver does.

    Args:
        path: A checkpoint prefix, a directory or an archive, which counts as
            one of a released model without a look inside.

    Raises:
        FileNotFoundError: If there is nothing.
        ValueError: If it is damaged, or a directory holds several checkpoints
            and does not say which one is meant.
    """
    found = checkpoint_archive.find(path)
    return checkpoint_archive.is_archive(
        found
    ) or checkpoint_index.is_name_based(found, os.fspath(path))


def describe_tf1_checkpoint(path):
    """Returns what a checkpoint holds, as a `Tf1Checkpoint`.

    Reads the index and the step only.

    Args:
        path: As for `load_tf1_checkpoint`.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If it is damaged, or not a checkpoint by TF1's Saver of one
            network.
    """
    path = os.fspath(path)
    with checkpoint_archive.opened(path, index_only=True) as prefix:
        index = checkpoint_index.read_index(prefix, path)
        in_archive = checkpoint_archive.is_archive(path)
        return _description(index, None if in_archive else index.read_step())


def load_tf1_checkpoint(model, path, use_ema=True, *, head="load"):
    """Loads the weights of a released checkpoint, or of the original's trainer.

    Either every weight of the model is given its value, or an error says what
    does not fit and the model is left as it was. A model without a last layer
    (`include_top=False`) leaves out the checkpoint's. Reads one variable at a
    time, twice: first to see that all can be read.

    Args:
        model: An `EfficientNet`, under any `tf.distribute` strategy.
        path: A checkpoint prefix; a directory, whose `checkpoint` file names
            the checkpoint in it, if there are several; or a `.tar.gz` or
            `.tgz` archive of such a directory, as released.
        use_ema: Whether to load the moving averages, which the published
            accuracies were measured with, not the raw weights.
        head: What becomes of the last layer. "load": it must fit.
            "drop_background": the checkpoint has one class more than the model,
            and its class 0, the background, is left out. "fresh": the model
            keeps its own.

    Returns:
        The `Tf1Checkpoint` that was read.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If it does not fit the model, variable by variable in both
            directions; if it is damaged, or not a checkpoint by TF1's Saver of
            one network; or if an argument is out of range.
    """
    if head not in _HEADS:
        raise ValueError(
            f"`head` must be one of {', '.join(_HEADS)}. Received: {head!r}."
        )
    path = os.fspath(path)
    with checkpoint_archive.opened(path) as prefix:
        index = checkpoint_index.read_index(prefix, path)
        if use_ema and not index.has_ema:
            raise ValueError(
                f"`use_ema` is True, but the checkpoint {path!r} holds no "
                "moving averages. use_ema=False (--nouse_ema) loads the raw "
                "weights."
            )
        plan = _plan(model, index, use_ema, head)
        step = index.read_step()
        for _, name in plan:
            index.read(name)
        for weight, name in plan:
            value = index.read(name)
            if head == "drop_background" and _weight_name(weight) in HEAD:
                value = value[..., 1:]
            weight.assign(tf.cast(value, weight.dtype))
        return _description(index, step)


def save_tf1_checkpoint(model, prefix, ema_weights=None, *, global_step=0):
    """Writes the weights as the original's trainer would, without slots.

    Writes `<prefix>.index`, the data files beside it and the directory's
    `checkpoint` file. The index appears last, when all else is in place.

    Args:
        model: An `EfficientNet`.
        prefix: Where to, for example "exported/model.ckpt".
        ema_weights: The moving average of each weight: a sequence in the order
            of `model.weights`, or {name of a weight: value}, each an array, a
            tensor or a variable. None: the weights themselves.
        global_step: Number of training steps.

    Raises:
        ValueError: If `ema_weights` does not fit the model, the model is no
            `EfficientNet`, or the prefix has no file name.
    """
    prefix = os.fspath(prefix)
    directory, name = os.path.split(prefix)
    if not name:
        raise ValueError(
            f"`prefix` must end in a file name. Received: {prefix!r}."
        )
    if not isinstance(model, EfficientNet):
        raise ValueError(
            "`model` must be an EfficientNet of this package, whose weights "
            f"have the original's names. Received: {type(model).__name__}."
        )
    entries = _entries(model, ema_weights, global_step)
    temporary = os.path.join(directory, f".{name}.{os.getpid()}.tmp")
    tf.io.gfile.makedirs(temporary)
    try:
        _write(temporary, name, entries)
        _publish(temporary, directory, name)
    finally:
        tf.io.gfile.rmtree(temporary)


def _description(index, step):
    return Tf1Checkpoint(
        prefix=(
            index.path
            if checkpoint_archive.is_archive(index.path)
            else index.prefix
        ),
        scope=index.scope,
        num_classes=index.num_classes,
        has_ema=index.has_ema,
        global_step=step,
        num_variables=len(index.variables),
    )


def _plan(model, index, use_ema, head):
    """Returns [(weight, its name under the scope)]; raises if one misfits."""
    suffix = SHADOW_SUFFIX if use_ema else ""
    weights = _named_weights(model)
    left_out = HEAD if head == "fresh" or HEAD[0] not in weights else ()
    expected = {
        name: _expected_shape(name, weight, head)
        for name, weight in weights.items()
        if name not in left_out
    }
    stored = {
        name: index.tensors[name + suffix]
        for name in expected
        if name + suffix in index.tensors
    }
    misfits = {
        "missing in the checkpoint": [n for n in expected if n not in stored],
        "without a weight in the model": index.unknown
        + sorted(index.variables.difference(expected, left_out)),
        "of another shape": [
            f"{name} ({spec.dtype.name} {spec.shape} in the checkpoint, "
            f"float {expected[name]} expected)"
            for name, spec in stored.items()
            if spec.shape != expected[name] or not spec.dtype.is_floating
        ],
    }
    if any(misfits.values()):
        raise ValueError(_misfit_message(model, index, head, misfits))
    return [(weights[name], name + suffix) for name in expected]


def _named_weights(model):
    weights = {_weight_name(weight): weight for weight in model.weights}
    if len(weights) != len(model.weights):
        raise ValueError(
            "`model` must be a single network, whose weights have unique "
            f"names. Received: {len(model.weights)} weights with "
            f"{len(weights)} names."
        )
    return weights


def _weight_name(weight):
    return weight.name.split(":")[0]


def _expected_shape(name, weight, head):
    if name in HEAD and head == "drop_background":
        return weight.shape[:-1] + [weight.shape[-1] + 1]
    return weight.shape


def _misfit_message(model, index, head, misfits):
    message = (
        f"The checkpoint {index.path!r} does not fit the model {model.name!r}"
    )
    by_head_alone = sum(map(len, misfits.values())) == len(
        [text for text in misfits["of another shape"] if text.startswith(HEAD)]
    )
    ours = model.output_shape[-1]
    if by_head_alone and index.num_classes != ours:
        return (
            f"{message}: it has {index.num_classes} classes, the model has "
            f"{ours}. Received: head={head!r}. 'load' needs as many; "
            "'drop_background' needs one more and leaves out class 0; 'fresh' "
            "keeps the model's own last layer."
        )
    kinds = [
        f"{len(names)} {kind}: {first_names(names)}"
        for kind, names in misfits.items()
        if names
    ]
    if index.scope != _scope(model):
        message += f": it is of another model, {index.scope!r}"
    return f"{message}: {'; '.join(kinds)}."


def _scope(model):
    # The two evaluation sizes of L2 are one architecture.
    return model.name.removesuffix("_475")


def _entries(model, ema_weights, global_step):
    """Returns [(name in the checkpoint, value)]."""
    weights = _named_weights(model)
    shadows = _shadows(weights, ema_weights)
    scope = _scope(model)
    return [
        (STEP, tf.constant(global_step, tf.int64)),
        *((f"{scope}/{name}", value) for name, value in weights.items()),
        *(
            (f"{scope}/{name}{SHADOW_SUFFIX}", shadows[name])
            for name in weights
        ),
    ]


def _shadows(weights, ema_weights):
    """Returns {name of a weight: moving average}."""
    if ema_weights is None:
        return weights
    if not isinstance(ema_weights, collections.abc.Mapping):
        if len(ema_weights) != len(weights):
            raise ValueError(
                "`ema_weights` must have one value for each of the "
                f"{len(weights)} weights. Received: {len(ema_weights)}."
            )
        ema_weights = dict(zip(weights, ema_weights))
    ema_weights = {
        name.split(":")[0]: value for name, value in ema_weights.items()
    }
    unfit = [
        name
        for name in {**weights, **ema_weights}
        if name not in weights
        or name not in ema_weights
        or list(ema_weights[name].shape) != weights[name].shape.as_list()
    ]
    if unfit:
        raise ValueError(
            "`ema_weights` must have one value for each weight of the model, "
            f"of its shape. Received: {len(unfit)} missing, of another shape "
            f"or of no weight: {first_names(unfit)}."
        )
    return ema_weights


def _write(directory, name, entries):
    """Writes a checkpoint called `name`, one part after the other."""
    parts = []
    with tf.device("/cpu:0"):
        for names, values in _parts(entries):
            parts.append(os.path.join(directory, f"part-{len(parts)}"))
            tf.raw_ops.SaveV2(
                prefix=parts[-1],
                tensor_names=names,
                shape_and_slices=[""] * len(names),
                tensors=[_saved(value) for value in values],
            )
        tf.raw_ops.MergeV2Checkpoints(
            checkpoint_prefixes=parts,
            destination_prefix=os.path.join(directory, name),
            delete_old_dirs=False,
        )


def _parts(entries):
    """Yields (names, values) of bounded size in memory."""
    names, values, size = [], [], 0
    for name, value in entries:
        names.append(name)
        values.append(value)
        size += 4 * math.prod(value.shape)
        if size >= _PART_BYTES:
            yield names, values
            names, values, size = [], [], 0
    if names:
        yield names, values


def _saved(value):
    tensor = tf.convert_to_tensor(value)
    return tensor if tensor.dtype.is_integer else tf.cast(tensor, tf.float32)


def _publish(temporary, directory, name):
    """Moves a checkpoint to its place; without an index there is none."""
    file_names = re.compile(re.escape(name) + r"\.(data-\d{5}-of-\d{5}|index)")
    for old in sorted(tf.io.gfile.listdir(directory or "."), reverse=True):
        if file_names.fullmatch(old):
            tf.io.gfile.remove(os.path.join(directory, old))
    state = "checkpoint"
    quoted = json.dumps(name, ensure_ascii=False)
    with tf.io.gfile.GFile(os.path.join(temporary, state), "w") as file:
        file.write(
            f"model_checkpoint_path: {quoted}\n"
            f"all_model_checkpoint_paths: {quoted}\n"
        )
    written = filter(file_names.fullmatch, tf.io.gfile.listdir(temporary))
    for new in [*sorted(written), state]:
        tf.io.gfile.rename(
            os.path.join(temporary, new),
            os.path.join(directory, new),
            overwrite=True,
        )

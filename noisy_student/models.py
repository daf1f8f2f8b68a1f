"""From a `ModelConfig` to a network, with or without its weights."""

import dataclasses
import itertools
import re

from absl import logging

import efficientnet
from noisy_student import checkpoints, model_view, run_dir
from noisy_student import config as config_lib

# Released twice, at two sizes, under one scope.
_AMBIGUOUS_SCOPE = "efficientnet-l2"
_BLOCK = re.compile(r"blocks_(\d+)")


def build(model):
    """Returns the network of a `config.ModelConfig`, freshly initialised."""
    rate = model.stochastic_depth_rate
    return efficientnet.build_model(
        model.model_name,
        num_classes=model.num_classes,
        width_coefficient=model.width_coefficient,
        depth_coefficient=model.depth_coefficient,
        dropout_rate=model.dropout_rate,
        survival_prob=None if rate is None else 1.0 - rate,
        small_image=model.small_image,
        mean_rgb=model.mean_rgb,
        stddev_rgb=model.stddev_rgb,
        image_size=model.image_size,
        num_shards_per_group=model.num_shards_per_group,
    )


def freeze(network, settings):
    """Freezes what a `config.FreezeConfig` says."""
    if settings == config_lib.FreezeConfig():
        return
    num_blocks = sum("blocks_" in layer.name for layer in network.layers)
    num_frozen, trained = settings.fixed_blocks, settings.trainable_blocks
    if trained is not None:
        num_frozen = num_blocks - trained
    if num_frozen is not None:
        efficientnet.freeze_layers(
            network,
            num_frozen,
            head=trained == 0,
            head_batch_norm=settings.head_batch_norm,
        )
    if settings.batch_norm:
        efficientnet.freeze_batch_norm(network)
    _log_parts(efficientnet.trained_parts(network))


def _log_parts(parts):
    logging.info("Frozen: %s.", _ranges(parts.frozen) or "no whole layer")
    logging.info(
        "Batch normalization in inference mode: %d of %d, those of %s.",
        parts.frozen_norms,
        parts.norms,
        _ranges(parts.layers_of_frozen_norms),
    )
    logging.info(
        "Trained: %s of %s parameters (moving statistics included), of %s.",
        f"{parts.trained_params:,}",
        f"{parts.params:,}",
        _ranges(parts.trained),
    )


def _ranges(names):
    """Returns names of layers as text, blocks in a row as "blocks_0..5"."""
    texts = []
    for is_block, group in itertools.groupby(
        names, lambda name: _BLOCK.fullmatch(name) is not None
    ):
        group = list(group)
        if is_block and len(group) > 1:
            last = _BLOCK.fullmatch(group[-1])[1]
            group = [f"{group[0]}..{last}"]
        texts.extend(group)
    return ", ".join(texts)


def load(model, checkpoint, *, use_ema=True, head="load"):
    """Returns the network of a `ModelConfig` with weights of a checkpoint.

    Args:
        model: `config.ModelConfig`.
        checkpoint: Of a run or a released one; see
            `checkpoints.load_weights` for it and what follows.
        use_ema: Whether to load the moving averages.
        head: What becomes of the checkpoint's classifier.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If the checkpoint does not fit.
    """
    network = build(model)
    found = checkpoints.load_weights(
        network, checkpoint, use_ema=use_ema, head=head
    )
    kind = "averaged" if use_ema else "raw"
    logging.info("Loaded the %s weights of %s.", kind, found)
    return network


def load_teacher(config):
    """Returns the online teacher of a `config.TrainConfig`, or None."""
    if config.teacher is None:
        return None
    teacher = load(config.teacher, config.teacher_checkpoint)
    teacher.trainable = False
    return teacher


def resolve(
    checkpoint,
    *,
    head="load",
    fallback=None,
    flag="checkpoint",
    name_flag="model_name",
    **given,
):
    """Returns the `ModelConfig` of the network a checkpoint belongs to.

    A run's own configuration is taken as it is, but for the view of images. A
    released checkpoint tells the architecture and the number of classes. Where
    neither says, the size of images is that of evaluation. Small images are
    enlarged to a size that the run was not trained at.

    Args:
        checkpoint: As in `load`.
        head: As in `load`.
        fallback: `config.ModelConfig` with what the checkpoint does not tell;
            None takes the table's.
        flag: The flag that names the checkpoint, for messages.
        name_flag: The flag that says which network it is, for messages.
        **given: Fields of `config.ModelConfig` that the user asks for; None
            counts as not given.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If the checkpoint does not tell, or tells something else
            than what is given.
    """
    given = {name: v for name, v in given.items() if v is not None}
    origin = f"--{flag}={checkpoint}"
    trained = run_dir.trained_model_config(checkpoint)
    if trained is not None:
        return model_view.with_view(trained, origin, given)
    if efficientnet.is_tf1_checkpoint(checkpoint):
        found = efficientnet.describe_tf1_checkpoint(checkpoint)
        told = {
            "model_name": given.get("model_name")
            or _released_name(origin, found.scope, name_flag)
        }
        if found.num_classes is not None:
            told["num_classes"] = _num_classes(origin, found, head)
    elif fallback is not None:
        told = {"model_name": fallback.model_name}
    else:
        raise ValueError(
            f"{origin}: no config.json beside it says which network it is of."
        )
    size = efficientnet.get_config(told["model_name"]).image_size
    if fallback is None:
        fallback = config_lib.ModelConfig(told["model_name"], 1000, size)
    elif not fallback.small_image:
        told["image_size"] = size
    return dataclasses.replace(fallback, **{**told, **given})


def _num_classes(origin, found, head):
    if head != "drop_background":
        return found.num_classes
    if found.num_classes == 1000:
        raise ValueError(
            "--checkpoint_head=drop_background would drop a class of ImageNet: "
            f"{origin} has 1000 classes, no background."
        )
    return found.num_classes - 1


def _released_name(origin, scope, name_flag):
    if scope == _AMBIGUOUS_SCOPE:
        raise ValueError(
            f"{origin} is of {scope}, which evaluates at 800 pixels as "
            f"--{name_flag}=efficientnet-l2 and at 475 as "
            f"--{name_flag}=efficientnet-l2_475: say which."
        )
    if scope not in efficientnet.MODEL_NAMES:
        raise ValueError(
            f"{origin}: its scope {scope!r} is no model; say which one with "
            f"--{name_flag}."
        )
    return scope

"""Ends a run whose loss or weights are out of all bounds.

`divergence.json` then lists the images of the step where that showed and of the
step before, whose update may have caused it. They follow from the seed and the
step, so nothing is kept for them while training.
"""

import math

import tensorflow as tf

from data_prep import files
from noisy_student import moving_average

_CROSS_ENTROPIES = frozenset({"train/labeled_loss", "train/unlabeled_loss"})
# Times the cross entropy of a network that knows nothing. Networks with large
# weights may be thousands of times above it at first, and recover.
_LARGEST_LOSS = 1e6


def check_metrics(
    metrics, step, *, num_classes, num_steps, finite_steps, damage, path
):
    """Ends a run that diverged.

    Args:
        metrics: {name: float}, means over the last steps.
        step: Steps finished.
        num_classes: Number of classes.
        num_steps: How many of them `metrics` are about.
        finite_steps: How many of those came before the first loss that is not
            finite.
        damage: `damaged_records.DamageLog` of the run.
        path: The file to write in that case.

    Raises:
        ValueError: If a metric is not finite, or a cross entropy absurd; it
            names the file.
    """
    reason = "not finite"
    broken = [name for name, v in metrics.items() if not math.isfinite(v)]
    if not broken:
        bound = _LARGEST_LOSS * math.log(num_classes)
        reason = f"above {bound:.3g}, absurdly large"
        losses = _CROSS_ENTROPIES.intersection(metrics)
        broken = sorted(name for name in losses if metrics[name] > bound)
    if broken:
        # Where the loss is finite, the last step.
        first = min(step - num_steps + finite_steps + 1, step)
        values = {
            name: value if math.isfinite(value) else str(value)
            for name, value in metrics.items()
        }
        _stop(broken, reason, first, damage, path, metrics=values)


def check_weights(model, step, *, damage, path):
    """Ends a run before it saves weights that it could not go on from.

    Args:
        model: The student.
        step: Steps finished.
        damage: `damaged_records.DamageLog` of the run.
        path: The file to write in that case.

    Raises:
        ValueError: If a weight is not finite; it names the file.
    """
    broken = [
        name
        for name, weight in moving_average.named_weights(model).items()
        if not tf.reduce_all(tf.math.is_finite(weight.read_value()))
    ]
    if broken:
        _stop(broken, "not finite", step, damage, path)


def _stop(broken, reason, step, damage, path, **more):
    dump = {
        "step": step,
        "out_of_bounds": broken,
        **more,
        "images": [
            {"step": number, **damage.records_of_step(number)}
            for number in (step - 1, step)
            if number
        ],
    }
    files.write_json(path, dump)
    more = f" and {len(broken) - 5} more" if len(broken) > 5 else ""
    raise ValueError(
        f"Training diverged at step {step}: {', '.join(broken[:5])}{more} "
        f"{reason}. The images of the last steps are listed in {path}. The "
        "last checkpoint is intact; lower --base_learning_rate."
    )

"""What the line of metrics says of steps beside what they computed."""


def epoch(config, step):
    """Returns the epochs that lay before the last of so many steps.

    Args:
        config: `config.TrainConfig`.
        step: Steps finished, >= 1; those before the tail of a schedule
            (`train_last_step_num`) do not count.

    Source:
        noisystudent `main.py:model_fn`, whose global step is the number of
        the steps before the one reported.
    """
    return (step - 1) / config.steps_per_epoch


def images_per_step(config, num_replicas=1):
    """Returns the images, labeled and not, of a step.

    Args:
        config: `config.TrainConfig`.
        num_replicas: Replicas that share them; each has whole images.
    """
    labeled = config.batch_size // num_replicas
    unlabeled = config.step.unlabeled_batch_size(labeled)
    return num_replicas * (labeled + unlabeled)


def timing(config, *, num_replicas, step_seconds, input_wait):
    """Returns the `timing/` metrics of steps that took so long each.

    Args:
        config: `config.TrainConfig`.
        num_replicas: Replicas that share the images of a step.
        step_seconds: Mean seconds of a step.
        input_wait: How long of it was spent on waiting for the batch; None
            where that is not known.
    """
    images = images_per_step(config, num_replicas)
    values = {
        "timing/steps_per_second": 1 / step_seconds,
        "timing/images_per_second": images / step_seconds,
        "timing/step_seconds": step_seconds,
    }
    if input_wait is not None:
        values["timing/input_wait_seconds"] = input_wait
        values["timing/compute_seconds"] = step_seconds - input_wait
    return values

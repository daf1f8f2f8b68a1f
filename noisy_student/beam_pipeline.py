"""The stages of `data_prep.beam_pipeline` on Apache Beam, with a teacher.

For example, on a few machines of Google Cloud:

    python -m noisy_student.beam_pipeline --input_dir=gs://... --eval_dir=gs://...
        --output_dir=gs://... --checkpoint=gs://... --num_label_classes=1000
        -- --runner=DataflowRunner --project=... --temp_location=gs://...

scripts/beam/dataflow.sh has all of Beam's options that this needs.
"""

import functools

from data_prep import beam_pipeline, command_line
from noisy_student import flag_declarations_labelling


def define_flags(flag_values):
    """Declares the flags of all stages."""
    group = command_line.FlagGroup("Teacher", flag_values)
    group.string(
        "checkpoint",
        None,
        "Run directory or released checkpoint of the teacher (prefix, "
        "directory or .tar.gz).",
    )
    group.string(
        "model_name", None, "Its network, where the checkpoint does not say it."
    )
    group.integer(
        "input_image_size",
        None,
        "Input height and width in pixels; none takes the checkpoint's.",
        lower_bound=8,
    )
    group.integer(
        "eval_batch_size",
        8,
        "Images per step, on each worker.",
        lower_bound=1,
    )
    group.boolean(
        "use_ema", True, "Label with the moving averages, not the raw weights."
    )
    group.enum(
        "checkpoint_head",
        "load",
        ["load", "drop_background"],
        "Load the classifier as it is, or without its first class, the "
        "background.",
    )
    flag_declarations_labelling.define_storage_flags(group)
    beam_pipeline.define_flags(flag_values)


def main(flag_values, options):
    """Prepares data on Beam as the flags say."""
    # First: a wrong flag must not wait for the teacher.
    settings = beam_pipeline.settings_from_flags(flag_values, options)
    label = None
    if "predict" in flag_values.stages:
        label = functools.partial(_label, **_teacher(flag_values))
    beam_pipeline.run(**settings, label=label)


def _teacher(flag_values):
    """Returns dict of what the flags say of a `predict.PredictConfig`."""
    if not flag_values.checkpoint:
        raise ValueError("--checkpoint is needed for --stages=predict.")
    # Imported here: --help and wrong flags need not wait for TensorFlow.
    from noisy_student import models

    model = models.resolve(
        flag_values.checkpoint,
        model_name=flag_values.model_name,
        image_size=flag_values.input_image_size,
        head=flag_values.checkpoint_head,
    )
    num_classes = flag_values.num_label_classes
    if "filter" in flag_values.stages and num_classes != model.num_classes:
        raise ValueError(
            f"--checkpoint={flag_values.checkpoint} has {model.num_classes} "
            f"classes. Received: --num_label_classes={num_classes}."
        )
    return {
        "model": model,
        "checkpoint": flag_values.checkpoint,
        "use_ema": flag_values.use_ema,
        "head": flag_values.checkpoint_head,
        "batch_size": flag_values.eval_batch_size,
        "storage": flag_declarations_labelling.storage(flag_values),
    }


def _label(pipeline, **teacher):
    from noisy_student import beam_predict, predict

    beam_predict.predict_on_beam(
        predict.PredictConfig(
            input_dir=pipeline.image_dir,
            split=pipeline.split,
            output_dir=pipeline.prediction_dir,
            **teacher,
        ),
        pipeline.options,
    )


if __name__ == "__main__":
    command_line.run(main, define_flags, positional=True)

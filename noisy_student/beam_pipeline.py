"""The stages of `data_prep.beam_pipeline` on Apache Beam, with a teacher.

For example, on a few machines of Google Cloud:

    python -m noisy_student.beam_pipeline --input_dir=gs://... --eval_dir=gs://...
        --output_dir=gs://... --checkpoint=gs://... --num_label_classes=1000
        -- --runner=DataflowRunner --project=... --temp_location=gs://...

scripts/beam/dataflow.sh has all of Beam's options that this needs.
"""

import functools

from data_prep import beam_pipeline, command_line


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
    beam_pipeline.define_flags(flag_values)


def main(flag_values, options):
    """Prepares data on Beam as the flags say."""
    if "predict" in flag_values.stages and not flag_values.checkpoint:
        raise ValueError("--checkpoint is needed for --stages=predict.")
    teacher = {
        "checkpoint": flag_values.checkpoint,
        "use_ema": flag_values.use_ema,
        "head": flag_values.checkpoint_head,
        "batch_size": flag_values.eval_batch_size,
    }
    given = {
        "model_name": flag_values.model_name,
        "image_size": flag_values.input_image_size,
    }
    label = functools.partial(_label, teacher, given)
    beam_pipeline.run_from_flags(flag_values, options, label)


def _label(teacher, given, config):
    # Imported here: wrong flags need wait for neither TensorFlow nor Beam.
    from noisy_student import beam_predict, models, predict

    beam_predict.predict_on_beam(
        predict.PredictConfig(
            model=models.resolve(
                teacher["checkpoint"], head=teacher["head"], **given
            ),
            input_dir=config.image_dir,
            split=config.split,
            output_dir=config.prediction_dir,
            **teacher,
        ),
        config.options,
    )


if __name__ == "__main__":
    command_line.run(main, define_flags, positional=True)

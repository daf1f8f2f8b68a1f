"""The flags of what one training step computes, and in how much memory.

Part of `flag_declarations.py`; read by `flags.py` alone.
"""

from data_prep import command_line


def define_step_flags(flag_values):
    """Declares what the training step does besides the original's noise."""
    group = command_line.FlagGroup("Noise", flag_values)
    group.boolean(
        "unl_remove_aug",
        False,
        "Train on the evaluation view of unlabeled images, without crop, flip "
        "or augmentation.",
    )
    group.boolean(
        "unl_dropout", True, "Let dropout act on unlabeled images too."
    )
    group.boolean(
        "unl_stochastic_depth",
        True,
        "Let stochastic depth act on unlabeled images too.",
    )

    group = command_line.FlagGroup("Training step", flag_values)
    group.float(
        "label_data_sample_prob",
        1.0,
        "Probability of a labeled image to count in the loss, for labeled "
        "batches smaller than the number of replicas.",
        lower_bound=1e-6,
        upper_bound=1.0,
    )
    group.integer(
        "accumulate_steps",
        1,
        "Parts that each replica works its batch through in, one after the "
        "other, for less memory; batch norm sees one part at a time.",
        lower_bound=1,
    )
    group.boolean(
        "recompute_activations",
        False,
        "Compute the insides of the blocks a second time for the gradient, "
        "for less memory.",
    )
    group.boolean(
        "use_bfloat16",
        None,
        "Compute in bfloat16, with float32 weights and logits; none does on a "
        "TPU.",
    )


def define_teacher_noise_flags(flag_values):
    """Declares the noise of the online teacher."""
    group = command_line.FlagGroup("Online teacher", flag_values)
    group.boolean(
        "noise_teacher",
        False,
        "Let that teacher label augmented images, with its dropout and "
        "stochastic depth.",
    )

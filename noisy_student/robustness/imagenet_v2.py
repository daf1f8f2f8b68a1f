"""Evaluates a network on ImageNet-V2.

For example:

    python -m noisy_student.robustness.imagenet_v2
        --label_data_dir=imagenetv2-matched-frequency-format-val
        --checkpoint=noisy_student_b7.tar.gz

`--label_data_dir` is a released folder (`<folder>/<label 0..999>/<image>`),
shards of ImageNet's 1000 labels, or `tfds:imagenet_v2/matched-frequency`.

Source: Recht et al., ICML 2019.
"""

from data_prep import command_line
from noisy_student.robustness import benchmark, natural_images


def define_flags(flag_values):
    """Declares the flags of this command."""
    benchmark.define_flags(flag_values, eval_split="test")


def main(flag_values):
    """Evaluates the network that the flags name."""
    config = benchmark.config_from_flags(flag_values)
    natural_images.evaluate("imagenet_v2", config)


if __name__ == "__main__":
    command_line.run(main, define_flags)

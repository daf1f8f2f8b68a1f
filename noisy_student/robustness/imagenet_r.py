"""Evaluates a network on ImageNet-R, both ways.

As `imagenet_a` does: among the 200 classes of its images, and among all 1000.
For example:

    python -m noisy_student.robustness.imagenet_r
        --label_data_dir=imagenet-r --checkpoint=noisy_student_b7.tar.gz

`--label_data_dir` is the released folder (`imagenet-r/<synset>/<image>`),
shards of ImageNet's 1000 labels, or `tfds:imagenet_r`.

Source: Hendrycks et al., ICCV 2021.
"""

from data_prep import command_line
from noisy_student.robustness import benchmark, natural_images


def define_flags(flag_values):
    """Declares the flags of this command."""
    benchmark.define_flags(flag_values, eval_split="test")


def main(flag_values):
    """Evaluates the network that the flags name."""
    config = benchmark.config_from_flags(flag_values)
    natural_images.evaluate(
        "imagenet_r", config, classes=natural_images.subset("imagenet_r")
    )


if __name__ == "__main__":
    command_line.run(main, define_flags)

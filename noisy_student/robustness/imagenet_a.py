"""Evaluates a network on ImageNet-A, both ways.

Of its 200 classes a network may answer with those 200 alone, as the figures of
papers mean it, or with all 1000. For example:

    python -m noisy_student.robustness.imagenet_a
        --label_data_dir=imagenet-a --checkpoint=noisy_student_b7.tar.gz

`--label_data_dir` is the released folder (`imagenet-a/<synset>/<image>`),
shards of ImageNet's 1000 labels, or `tfds:imagenet_a`.

Source: Hendrycks et al., CVPR 2021; paper, Table 3.
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
        "imagenet_a", config, classes=natural_images.subset("imagenet_a")
    )


if __name__ == "__main__":
    command_line.run(main, define_flags)

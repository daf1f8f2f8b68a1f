"""How the `tf.data` pipelines of the project run.

TensorFlow would choose by itself, while a pipeline runs, how much of it goes on
at once. The thread that does so sleeps for times that double up to a minute.
An iterator that is closed sometimes waits until it wakes (TensorFlow 2.15): a
pass over some data could take twice its time, the half of it idle. So this is
switched off, and maps say how many calls go on at once: one for each core.
"""

import tensorflow as tf

# Batches that are ready while another one is computed with.
BATCHES_AHEAD = 2


def fixed(dataset):
    """Returns a dataset that comes in order and is not tuned while it runs.

    Args:
        dataset: `tf.data.Dataset`, whole: what is added to it later may set
            other options.
    """
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    return dataset.with_options(options)

"""What the workers of one run have in common, and which of them writes.

Several machines that train one model run the same command each; TF_CONFIG tells
them apart. They meet in `together`, so that all of them end when one has to.
On one machine, or one TPU, every function here is a formality.
"""

import contextlib
import functools
import json
import os
import re
import zlib

import tensorflow as tf

from data_prep import files
from noisy_student import run_dir

# What operations end with when a worker does not answer, and what others that
# wait for those are told.
_LOSSES = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.UnavailableError,
)
_ABORTED = "Collective ops is aborted by"


def num_named():
    """Returns how many workers TF_CONFIG names; 1 where it names none.

    Raises:
        ValueError: If TF_CONFIG does not say what this process is, or names
            something else than workers and a chief.
    """
    text = os.environ.get("TF_CONFIG") or "{}"
    try:
        config = json.loads(text)
        cluster, task = config.get("cluster", {}), config.get("task", {})
        counts = {job: _num_hosts(hosts) for job, hosts in cluster.items()}
        job, index = task.get("type"), task.get("index")
        is_there = type(index) is int and 0 <= index < counts.get(job, 0)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            "TF_CONFIG must be a JSON object with `cluster`, lists of "
            f"addresses, and `task`. Received: {text!r}."
        ) from error
    if sum(counts.values()) <= 1:
        return 1
    others = sorted({*counts, job} - {"chief", "worker"}, key=str)
    if others:
        raise ValueError(
            "TF_CONFIG may name a `chief` and `worker`s, one of which this "
            f"process is. Received: {others[0]!r}."
        )
    if counts.get("chief", 1) != 1:
        raise ValueError(
            f"TF_CONFIG may name one `chief`. Received: {counts['chief']}."
        )
    if not is_there:
        raise ValueError(
            f"TF_CONFIG: there is no {job} {index!r} among the "
            f"{counts.get(job, 0)} of its cluster."
        )
    return sum(counts.values())


def _num_hosts(hosts):
    if not isinstance(hosts, list):
        raise TypeError(f"no list: {hosts!r}")
    return len(hosts)


def require_one(command):
    """Raises a ValueError if TF_CONFIG names several workers.

    Args:
        command: What cannot be shared, for the message.
    """
    if (workers := num_named()) > 1:
        raise ValueError(
            f"{command} runs on one machine or one TPU; only training, "
            "evaluation and labelling are shared. Received: TF_CONFIG with "
            f"{workers} workers."
        )


def count(strategy):
    """Returns the number of workers of a `tf.distribute` strategy."""
    return len(_names(strategy))


def index(strategy):
    """Returns which worker this is, from 0."""
    resolver = _resolver(strategy)
    if resolver is None:
        return 0
    return _names(strategy).index(f"{resolver.task_type} {resolver.task_id}")


def is_chief(strategy):
    """Returns whether this worker writes what a run leaves behind."""
    return index(strategy) == 0


def name(strategy):
    """Returns what this worker is called, such as `worker 1`."""
    return _names(strategy)[index(strategy)]


def own_file(strategy, file_name):
    """Returns a file's name with the number of this worker, if of several."""
    if count(strategy) == 1:
        return file_name
    stem, suffix = os.path.splitext(file_name)
    number = f"{index(strategy):05d}-of-{count(strategy):05d}"
    return f"{stem}-{number}{suffix}"


def has_remote_hosts(strategy):
    """Returns whether input pipelines run in processes other than this one.

    Those of a TPU do, but on the TPU's own machine (`--tpu=local`).
    """
    if not isinstance(strategy, tf.distribute.TPUStrategy):
        return False
    devices = map(tf.DeviceSpec.from_string, strategy.extended.worker_devices)
    return any(device.job != "localhost" for device in devices)


def gather(strategy, value):
    """Returns the values of all workers, in order; all of them must call it.

    Args:
        strategy: `tf.distribute` strategy.
        value: int below 2**31, this worker's.
    """
    if count(strategy) == 1:
        return [value]

    rows = _sum_of_rows(strategy)(tf.constant(value, tf.int64))
    row = strategy.experimental_local_results(rows)[0]
    replicas = strategy.num_replicas_in_sync // count(strategy)
    return [int(number) for number in row[::replicas]]


@functools.lru_cache(maxsize=1)
def _sum_of_rows(strategy):
    """Returns value -> int64 [replicas], the values that all replicas gave."""

    def add(value):
        replica = tf.distribute.get_replica_context()
        row = value * tf.one_hot(
            replica.replica_id_in_sync_group,
            replica.num_replicas_in_sync,
            dtype=tf.int64,
        )
        return replica.all_reduce(tf.distribute.ReduceOp.SUM, row)

    # Outside a function TensorFlow warns at every call that it is slow.
    return tf.function(
        lambda value: strategy.run(add, args=(value,)), autograph=False
    )


@contextlib.contextmanager
def together(strategy):
    """Ends a block when all workers are through it, or fails on all of them.

    Raises:
        ValueError: If it failed elsewhere; names those workers. Where it
            failed, its own error goes on.
    """
    try:
        yield
    except Exception:
        # The error matters more than whether the others can be told.
        with contextlib.suppress(tf.errors.OpError):
            gather(strategy, 1)
        raise
    failures = gather(strategy, 0)
    failed = [n for n, has in zip(_names(strategy), failures) if has]
    if failed:
        raise ValueError(
            f"{name(strategy)} stops because {' and '.join(failed)} did: see "
            "the message there."
        )


@contextlib.contextmanager
def explain_loss(strategy):
    """Turns TensorFlow's errors about a lost worker into readable ones.

    Raises:
        ConnectionError: If another worker ended, or cannot be reached.
    """
    try:
        yield
    except tf.errors.OpError as error:
        is_loss = isinstance(error, _LOSSES) or _ABORTED in error.message
        if count(strategy) == 1 or not is_loss:
            raise
        # Where it happened comes before the cause, addresses and advice after.
        cause = error.message[max(error.message.find(_ABORTED), 0) :]
        cause = re.split(r"\s(?:Additional GRPC|The error could)", cause)[0]
        raise ConnectionError(
            f"{name(strategy)} lost another worker, which ended or cannot be "
            "reached. Start all of them again: training goes on from the last "
            f"checkpoint. TensorFlow says: {cause}"
        ) from error


def check_same(strategy, settings):
    """Raises a ValueError unless all workers were started alike.

    Args:
        strategy: `tf.distribute` strategy.
        settings: Anything whose `repr` tells all about it.
    """
    digests = gather(strategy, zlib.crc32(repr(settings).encode()) >> 1)
    if len(set(digests)) > 1:
        raise ValueError(
            "The workers have different settings or data: each needs the same "
            "command, version and files."
        )


def check_same_step(strategy, step):
    """Raises a ValueError unless all workers go on from the same step."""
    steps = gather(strategy, step)
    if len(set(steps)) > 1:
        raise ValueError(
            "The workers found checkpoints of different steps: "
            f"{', '.join(map(str, steps))}. --model_dir must be one directory "
            "that all of them see."
        )


def claim(strategy, directory, values):
    """Makes a directory the home of a run; `run_dir.claim` for all workers.

    Returns:
        The report of the run, if it is finished, else None.

    Raises:
        ValueError: If the chief finds another run there, or another worker
            does not find what the chief wrote.
    """
    with together(strategy):
        if is_chief(strategy):
            run_dir.claim(directory, values)
    with together(strategy):
        if not files.exists(os.path.join(directory, "config.json")):
            raise ValueError(
                f"--model_dir={directory}: the chief's config.json is not "
                "there. It must be one directory that all workers see."
            )
        return run_dir.read_report(directory)


def _names(strategy):
    resolver = _resolver(strategy)
    if resolver is None:
        return ["this process"]
    cluster = resolver.cluster_spec().as_dict()
    # TensorFlow counts replicas in this order, and its first task is the chief.
    return [
        f"{job} {index}"
        for job in ("chief", "worker")
        for index in range(len(cluster.get(job, ())))
    ]


def _resolver(strategy):
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return strategy.cluster_resolver
    return None

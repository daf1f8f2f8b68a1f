"""Which devices a run uses."""

import json
import os

import tensorflow as tf
from absl import logging


def create_strategy(hardware):
    """Returns the `tf.distribute` strategy for the devices at hand.

    A TPU if one is asked for, else all GPUs of this machine, else its CPU.

    Args:
        hardware: `config.HardwareConfig`.

    Raises:
        ValueError: If a TPU is asked for and none answers, or if TF_CONFIG
            names several workers.
    """
    _refuse_several_workers()
    if hardware.deterministic:
        tf.config.experimental.enable_op_determinism()
        # Initial weights are drawn, and then replaced where others are loaded.
        tf.random.set_seed(0)
    if hardware.use_tpu or (hardware.use_tpu is None and hardware.tpu):
        return _tpu_strategy(hardware)
    if hardware.num_virtual_devices > 1:
        return _virtual_cpu_strategy(hardware.num_virtual_devices)
    gpus = tf.config.list_logical_devices("GPU")
    if len(gpus) > 1:
        return tf.distribute.MirroredStrategy([gpu.name for gpu in gpus])
    device = gpus[0].name if gpus else "/cpu:0"
    return tf.distribute.OneDeviceStrategy(device)


def _refuse_several_workers():
    # Each would train for itself and write over the others' files.
    cluster = json.loads(os.environ.get("TF_CONFIG", "{}")).get("cluster", {})
    workers = sum(len(hosts) for hosts in cluster.values())
    if workers > 1:
        raise ValueError(
            "Training runs on one machine or one TPU. Received: TF_CONFIG "
            f"with {workers} workers."
        )


def _tpu_strategy(hardware):
    name = hardware.tpu or "local"
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
            name, zone=hardware.tpu_zone, project=hardware.gcp_project
        )
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise ValueError(
            f"No TPU answers to --tpu={name!r}: {error}"
        ) from error
    strategy = tf.distribute.TPUStrategy(resolver)
    logging.info("TPU with %d cores.", strategy.num_replicas_in_sync)
    return strategy


def _virtual_cpu_strategy(num_devices):
    cpus = tf.config.list_physical_devices("CPU")
    existing = tf.config.get_logical_device_configuration(cpus[0])
    if existing is None or len(existing) < num_devices:
        tf.config.set_logical_device_configuration(
            cpus[0], [tf.config.LogicalDeviceConfiguration()] * num_devices
        )
    return tf.distribute.MirroredStrategy(
        [f"/cpu:{i}" for i in range(num_devices)]
    )

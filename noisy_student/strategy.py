"""Which devices a run uses."""

import contextlib
import faulthandler
import os
import re

import tensorflow as tf
from absl import logging

from data_prep import files
from noisy_student import workers

_START_MINUTES = 15
_FOUND = ", which was found here (--use_tpu=false leaves it alone)"
_DEVICE_FILES = "/dev"
# Of TPUs up to v4. Other accelerators have theirs in a folder `accel`.
_TPU_FILE = re.compile(r"accel\d+")
_PCI_DEVICES = "/sys/bus/pci/devices"
# Vendor and device of TPUs v2 and v3, v4, v5p, v5e, v6e and 7x.
_TPU_CHIPS = frozenset(
    ("0x1ae0", chip)
    for chip in ("0x0027", "0x005e", "0x0062", "0x0063", "0x006f", "0x0076")
)


def create_strategy(hardware):
    """Returns the `tf.distribute` strategy for the devices at hand.

    A TPU if one is asked for, or found where nothing else is asked for; else
    all devices of all workers, if TF_CONFIG names several; else all GPUs of
    this machine, or its CPU. Call it before anything else makes TensorFlow look
    for devices.

    Args:
        hardware: `hardware_config.HardwareConfig`.

    Raises:
        ValueError: If a TPU is asked for or found and none answers, if
            TF_CONFIG does not describe workers, or if it does so beside a TPU
            or virtual devices.
    """
    num_workers = workers.num_named()
    if hardware.deterministic:
        tf.config.experimental.enable_op_determinism()
        # Initial weights are drawn, and then replaced where others are loaded.
        tf.random.set_seed(0)
    tpu = _tpu_name(hardware)
    if tpu is not None:
        _refuse_workers(
            num_workers,
            "a TPU's hosts need no TF_CONFIG; --use_tpu=false leaves the TPU "
            "alone",
        )
        strategy = _tpu_strategy(tpu, hardware)
    elif hardware.num_virtual_devices > 1:
        _refuse_workers(
            num_workers, "--num_virtual_devices splits one machine's CPU"
        )
        strategy = _virtual_cpu_strategy(hardware.num_virtual_devices)
    elif num_workers > 1:
        with _bounded_wait(num_workers):
            strategy = _several_workers_strategy()
    else:
        strategy = _local_strategy()
    logging.info("%s.", describe(strategy))
    return strategy


def describe(strategy):
    """Returns the devices of a strategy in words.

    Such as "2 replicas on GPU:0, GPU:1" or "32 replicas on the cores of a TPU
    with 4 hosts".
    """
    devices = [
        tf.DeviceSpec.from_string(name)
        for name in strategy.extended.worker_devices
    ]
    where = ", ".join(f"{d.device_type}:{d.device_index}" for d in devices)
    if devices[0].device_type == "TPU":
        hosts = len({device.task for device in devices})
        where = f"the cores of a TPU with {_plural(hosts, 'host')}"
    elif (num_workers := workers.count(strategy)) > 1:
        name = workers.name(strategy)
        where = f"{num_workers} workers; {name}, this one, has {where}"
    return f"{_plural(strategy.num_replicas_in_sync, 'replica')} on {where}"


def _plural(number, noun):
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _refuse_workers(num_workers, reason):
    if num_workers > 1:
        raise ValueError(
            f"{reason[0].upper()}{reason[1:]}. Received: TF_CONFIG with "
            f"{num_workers} workers."
        )


def _tpu_name(hardware):
    """Returns the name of the TPU to use, None to use none."""
    if hardware.use_tpu is False:
        return None
    named = hardware.tpu or os.environ.get("TPU_NAME")
    if hardware.use_tpu or hardware.tpu:
        return named or "local"
    if hardware.num_virtual_devices > 1:
        return None
    if named:
        logging.info("TPU_NAME names the TPU %s.", named)
        return named
    return "local" if _has_tpu() else None


def _has_tpu():
    """Returns whether this machine has a TPU, without starting it."""
    if any(map(_TPU_FILE.fullmatch, files.list_names(_DEVICE_FILES))):
        return True
    return any(
        _pci_identity(os.path.join(_PCI_DEVICES, name)) in _TPU_CHIPS
        for name in files.list_names(_PCI_DEVICES)
    )


def _pci_identity(folder):
    try:
        return tuple(
            files.read_bytes(os.path.join(folder, part)).decode().strip()
            for part in ("vendor", "device")
        )
    except OSError:
        return None


def _tpu_strategy(name, hardware):
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
            name, zone=hardware.tpu_zone, project=hardware.gcp_project
        )
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        found = "" if hardware.use_tpu or hardware.tpu else _FOUND
        raise ValueError(
            f"No TPU answers to --tpu={name!r}{found}: {error}"
        ) from error
    return tf.distribute.TPUStrategy(resolver)


@contextlib.contextmanager
def _bounded_wait(num_workers):
    """Ends the process if the block, in which workers meet, takes too long.

    TensorFlow waits for far longer, and meanwhile neither a signal, SIGKILL
    aside, nor another thread of Python gets through to it.
    """
    logging.info(
        "Waiting for all %d workers of TF_CONFIG, %d minutes at most.",
        num_workers,
        _START_MINUTES,
    )
    faulthandler.dump_traceback_later(60 * _START_MINUTES, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _several_workers_strategy():
    # One line per collective operation says nothing to users.
    tf.get_logger().setLevel("WARNING")
    kinds = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(
        # On GPUs TensorFlow takes NCCL where it can.
        implementation=kinds.AUTO if _prepare_gpus() else kinds.RING
    )
    return tf.distribute.MultiWorkerMirroredStrategy(
        communication_options=options
    )


def _local_strategy():
    _prepare_gpus()
    gpus = tf.config.list_logical_devices("GPU")
    if len(gpus) > 1:
        return tf.distribute.MirroredStrategy([gpu.name for gpu in gpus])
    device = gpus[0].name if gpus else "/cpu:0"
    return tf.distribute.OneDeviceStrategy(device)


def _prepare_gpus():
    """Lets GPUs be shared with other programs; returns how many there are."""
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        # TensorFlow would take all of their memory at once.
        tf.config.experimental.set_memory_growth(gpu, True)
    return len(gpus)


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

"""Records that training cannot use: found, named, counted and limited."""

import bisect
import collections
import os
import threading

import tensorflow as tf
from absl import logging

from data_prep import files, image_encoding, records, validation
from noisy_student import labeled_images

_DROPPED = "dropped:"


class DamagedRecordsError(ValueError):
    """More records cannot be used than the run may leave out."""


class DamageLog:
    """The damaged records of a run's streams.

    Args:
        directory: The run directory, where each stream that left something out
            has a file; None keeps the account in memory only.
    """

    def __init__(self, directory=None):
        self._directory = directory
        self._streams = []

    def open(self, name, stream, *, context=None, **settings):
        """Returns the `StreamDamage` of one stream of an input pipeline.

        Args:
            name: `labeled` or `unlabeled`.
            stream: Its `record_stream.RecordStream`.
            context: `tf.distribute.InputContext` of the pipeline.
            **settings: Further arguments of `StreamDamage`.
        """
        path = None
        if self._directory is not None:
            reader = ""
            if context and context.num_input_pipelines > 1:
                reader = (
                    f"-{context.input_pipeline_id:05d}"
                    f"-of-{context.num_input_pipelines:05d}"
                )
            path = os.path.join(self._directory, f"damaged_{name}{reader}.json")
        damage = StreamDamage(name, stream, path=path, **settings)
        self._streams.append(damage)
        return damage

    def raise_error(self):
        """Raises the error that ended one of the streams, if one did."""
        for stream in self._streams:
            if stream.error is not None:
                raise stream.error

    def log_summary(self):
        """Logs what each stream left out, and why."""
        for stream in self._streams:
            if stream.num_damaged:
                logging.warning("%s", stream.summary())


class StreamDamage:
    """What one stream leaves out.

    A run that goes on after a kill has to know which positions gave no image,
    so the account lies beside its checkpoints and is written before the next
    image is delivered.

    Args:
        name: `labeled` or `unlabeled`.
        stream: Its `record_stream.RecordStream`.
        kind: What its records are, a kind of `validation.validate`.
        num_classes: Number of classes.
        max_fraction: Share of the records that may be damaged.
        look: serialized, seed -> features; what fails on damaged records.
        path: JSON file of the account; None keeps it in memory.

    Attributes:
        error: `DamagedRecordsError` once the limit is passed, else None.
    """

    def __init__(
        self,
        name,
        stream,
        *,
        kind,
        num_classes,
        max_fraction,
        look,
        path=None,
    ):
        self._name = name
        self._stream = stream
        self._kind = kind
        self._num_classes = num_classes
        self._max_fraction = max_fraction
        self._look = look
        self._path = path
        self._lock = threading.Lock()
        self.error = None
        # (shard, record) -> its entry in the file; positions, sorted.
        self._records, self._positions = {}, []
        if path is not None and files.exists(path):
            for entry in files.read_json(path)["records"]:
                self._records[entry["shard"], entry["record"]] = entry
                self._positions += entry["positions"]
            self._positions.sort()

    @property
    def num_damaged(self):
        """Records found damaged."""
        return len(self._records)

    def position(self, num_delivered):
        """Returns the position in the stream after that many usable records."""
        position = num_delivered
        for damaged in self._positions:
            if damaged > position:
                break
            position += 1
        return position

    def report(self, gap, index, position, origins, order):
        """Takes note of rows that are missing before a row.

        Args:
            gap: How many are missing; those that could not even be read are
                not in this block, and a negative number means that there are
                more records than were counted.
            index: The row's place in its block.
            position: The row's place in the stream.
            origins: int64 [n, 2], the block's.
            order: int32 [n], the block's.

        Returns:
            int64 0.

        Raises:
            DamagedRecordsError: There are too many. It is kept in `error`,
                since TensorFlow puts its own in its place.
        """
        with self._lock:
            if self.error is not None:
                # The rows after an error are compared with those before it.
                raise self.error
            try:
                if not 0 <= gap <= index:
                    raise DamagedRecordsError(self._explain_loss())
                missing = origins[order[index - gap : index]]
                for offset, (shard, number) in enumerate(missing.tolist()):
                    path = self._stream.shards[shard]
                    self._add(path, number, int(position - gap) + offset)
                self._write()
                self._check_limit()
            except Exception as error:
                self.error = error
                raise
        return tf.constant(0, tf.int64).numpy()

    def summary(self):
        """Returns what was left out, and why, as one sentence."""
        where = f" They are listed in {self._path}." if self._path else ""
        return (
            f"{self.num_damaged} of {self._stream.num_records} {self._name} "
            f"records cannot be used: {self._reasons_in_words()}.{where}"
        )

    def _add(self, path, number, position):
        entry = self._records.get((path, number))
        if entry is None:
            reason, detail = self._find_reason(path, number, position)
            entry = {
                "shard": path,
                "record": number,
                "reason": reason,
                "detail": detail,
                "positions": [],
            }
            self._records[path, number] = entry
            logging.warning(
                "Left out %s record %d of %s: %s.",
                self._name,
                number,
                path,
                detail,
            )
        if position not in entry["positions"]:
            entry["positions"].append(position)
            bisect.insort(self._positions, position)

    def _find_reason(self, path, number, position):
        """Returns (reason, the same in words) of a record, read once more."""
        dataset = tf.data.TFRecordDataset(path).skip(number).take(1)
        serialized = next(dataset.as_numpy_iterator())
        problem = _find_image_problem(serialized)
        if problem is not None:
            return problem
        try:
            validation.check_record(
                serialized, self._kind, self._num_classes, ""
            )
            place = tf.constant(position, tf.int64)
            self._look(serialized, self._stream.view_seed(place))
        except records.RecordError as error:
            return "wrong_schema", str(error).rstrip(".")
        except tf.errors.OpError as error:
            return "unusable", labeled_images.first_cause(error)
        return "unusable", "TensorFlow failed on it, but only once"

    def _write(self):
        if self._path is None:
            return
        entries = sorted(
            self._records.values(), key=lambda e: (e["shard"], e["record"])
        )
        files.write_json(
            self._path,
            {
                "stream": self._name,
                "num_records": self._stream.num_records,
                "num_damaged": self.num_damaged,
                "reasons": dict(self._count_reasons()),
                "records": entries,
            },
        )

    def _check_limit(self):
        allowed = int(self._max_fraction * self._stream.num_records)
        if self.num_damaged > allowed:
            last = list(self._records.values())[-1]
            raise DamagedRecordsError(
                f"{self.summary()} --max_damaged_fraction="
                f"{self._max_fraction:g} leaves out {allowed} at most. The "
                f"last is record {last['record']} of {last['shard']!r}: "
                f"{last['detail']}."
            )

    def _count_reasons(self):
        return collections.Counter(
            sorted(entry["reason"] for entry in self._records.values())
        )

    def _reasons_in_words(self):
        return ", ".join(
            f"{count} {reason}"
            for reason, count in self._count_reasons().most_common()
        )

    def _explain_loss(self):
        """Returns which shard does not hold the records that were counted."""
        for path, count in zip(self._stream.shards, self._stream.counts):
            try:
                found = sum(1 for _ in records.read_records(path))
            except records.RecordError as error:
                return f"The {self._name} shards are damaged. {error}"
            if found != count:
                return (
                    f"{path!r} holds {found} records, but {count} by its "
                    "manifest: it was changed afterwards."
                )
        return f"Reading the {self._name} shards failed, but only once."


def _find_image_problem(serialized):
    """Returns (reason, the same in words) of a broken image, else None."""
    try:
        if not records.stores_image(serialized):
            return None
    except records.RecordError:
        return "wrong_schema", "no tf.train.Example"
    image_bytes, _ = records.unpack_image(serialized)
    reason = image_encoding.to_jpeg(image_bytes)[1]
    if not reason.startswith(_DROPPED):
        return None
    return reason[len(_DROPPED) :], image_encoding.describe_reason(reason)

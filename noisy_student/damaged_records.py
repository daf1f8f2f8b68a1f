"""Records that training cannot use: found, named, counted and limited."""

import bisect
import collections
import json
import math
import os
import threading

import numpy as np
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
        is_remote: Whether streams run on other machines, where this account
            cannot be kept: what is damaged then ends the run.
    """

    def __init__(self, directory=None, *, is_remote=False):
        self.is_remote = is_remote
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
            path = os.path.join(
                self._directory, f"damaged_{name}{reader}.jsonl"
            )
        damage = StreamDamage(name, stream, path=path, **settings)
        self._streams.append(damage)
        return damage

    def counts(self):
        """Returns {file name: positions known to give no image}."""
        return {
            os.path.basename(stream.path): stream.num_positions
            for stream in self._streams
            if stream.path is not None and stream.num_positions
        }

    def check_complete(self, counts):
        """Raises a ValueError if the files lost something since `counts`.

        Without it a resumed run would go on with other images than the ones
        that come next.

        Args:
            counts: What `counts` returned when a checkpoint was written.
        """
        for name, count in counts.items():
            path = os.path.join(self._directory, name)
            found = len(set(_read_positions(path)))
            if found < count:
                raise ValueError(
                    f"{path!r} lists {found} of the {count} damaged records "
                    "that were known when the last checkpoint was written: "
                    "without them the run does not know which images come "
                    "next. Put the file back, or start anew elsewhere."
                )

    def records_of_step(self, step):
        """Returns {stream: the records that one step trains on}.

        Each record is a dict of its `shard`, its index `record` in it, and its
        `key`. Reads the shards again.

        Args:
            step: The step, 1 for the first one.
        """
        found = {}
        # A process has as many streams of a name as it has input pipelines.
        for stream in self._streams:
            records = found.setdefault(stream.name, [])
            records.extend(stream.records_of_step(step))
        return found

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
        step_size: Usable records that one step takes of this stream.
        path: File of the account, a JSON object a line for each time a record
            is met; None keeps it in memory.
        is_new: Whether the stream starts with its first record. What lies at
            `path` then tells of a run that came to nothing, perhaps with other
            data, and is deleted.

    Attributes:
        name: As above.
        path: As above.
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
        step_size,
        path=None,
        is_new=False,
    ):
        self.name = name
        self.path = path
        self._stream = stream
        self._kind = kind
        self._num_classes = num_classes
        self._max_fraction = max_fraction
        self._look = look
        self._step_size = step_size
        self._lock = threading.Lock()
        self.error = None
        # (shard, record) -> (reason, the same in words); sorted positions.
        self._records, self._positions = {}, []
        if is_new and path is not None:
            files.remove(path)
        for line in self._read():
            place = line["shard"], line["record"]
            self._records[place] = line["reason"], line["detail"]
            self._positions.append(line["position"])
        self._positions.sort()

    @property
    def num_damaged(self):
        """Records found damaged."""
        return len(self._records)

    @property
    def num_positions(self):
        """Places of the stream that are known to give no image."""
        return len(self._positions)

    def records_of_step(self, step):
        """Returns the records of a step, as `DamageLog.records_of_step`."""
        start = self.position((step - 1) * self._step_size)
        damaged = set(self._positions)
        found = []
        for row in self._stream.dataset(start):
            if len(found) == self._step_size:
                break
            is_end = int(row.index) == len(row.order)
            if is_end or int(row.position) in damaged:
                continue
            number = int(row.order[int(row.index)])
            shard, index = row.origins[number].numpy().tolist()
            _, key = records.unpack_image(row.records[number].numpy())
            found.append(
                {
                    "shard": self._stream.shards[shard],
                    "record": index,
                    "key": key.decode(errors="replace"),
                }
            )
        return found

    def position(self, num_delivered):
        """Returns the position in the stream after that many usable records."""
        position = num_delivered
        for damaged in self._positions:
            if damaged > position:
                break
            position += 1
        return position

    def report(self, gap, position, missing, origins):
        """Takes note of rows that are missing before a row.

        Args:
            gap: How many are missing; a negative number means that there are
                more records than were counted.
            position: The row's place in the stream.
            missing: bytes [m], those of them that could be read.
            origins: int64 [m, 2], index of the shard and of the record in it.

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
                if gap != len(missing):
                    raise DamagedRecordsError(
                        f"Reading the {self.name} shards failed: "
                        f"{self._stream.find_fault()}"
                    )
                for offset, serialized in enumerate(missing.tolist()):
                    shard, number = origins[offset].tolist()
                    place = self._stream.shards[shard], number
                    self._add(place, serialized, int(position - gap) + offset)
                self._check_limit()
            except Exception as error:
                self.error = error
                raise
        return np.int64(0)

    def summary(self):
        """Returns what was left out, and why, as one sentence."""
        where = f" They are listed in {self.path}." if self.path else ""
        return (
            f"{self.num_damaged} of {self._stream.num_records} {self.name} "
            f"records cannot be used: {self._reasons_in_words()}.{where}"
        )

    def _add(self, place, serialized, position):
        if place not in self._records:
            reason, detail = self._find_reason(serialized, position)
            self._records[place] = reason, detail
            logging.warning(
                "Left out %s record %d of %s: %s.",
                self.name,
                place[1],
                place[0],
                detail,
            )
        index = bisect.bisect_left(self._positions, position)
        if self._positions[index : index + 1] != [position]:
            self._positions.insert(index, position)
            self._write(place, position)

    def _find_reason(self, serialized, position):
        """Returns (reason, the same in words) of a record."""
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

    def _read(self):
        if self.path is None or not files.exists(self.path):
            return []
        content = files.read_bytes(self.path)
        # A kill may have cut the last line short; the next one must not be
        # appended to it.
        whole = _whole_lines(content)
        if whole != content:
            files.write_bytes(self.path, whole)
        return list(map(json.loads, whole.splitlines()))

    def _write(self, place, position):
        if self.path is None:
            return
        reason, detail = self._records[place]
        line = {
            "shard": place[0],
            "record": place[1],
            "reason": reason,
            "detail": detail,
            "position": position,
        }
        with files.open_file(self.path, "a") as log:
            log.write(json.dumps(line) + "\n")

    def _check_limit(self):
        if self.num_damaged >= self._stream.num_records:
            raise DamagedRecordsError(f"{self.summary()} No record is left.")
        allowed = num_allowed(self._max_fraction, self._stream.num_records)
        if self.num_damaged > allowed:
            (shard, number), (_, detail) = list(self._records.items())[-1]
            raise DamagedRecordsError(
                f"{self.summary()} --max_damaged_fraction="
                f"{self._max_fraction:g} leaves out {allowed} at most. The "
                f"last is record {number} of {shard!r}: {detail}."
            )

    def _reasons_in_words(self):
        reasons = collections.Counter(
            reason for reason, _ in sorted(self._records.values())
        )
        return ", ".join(
            f"{count} {reason}" for reason, count in reasons.most_common()
        )


def _read_positions(path):
    """Returns the positions in an account; [] where there is no file."""
    if not files.exists(path):
        return []
    lines = _whole_lines(files.read_bytes(path)).splitlines()
    return [json.loads(line)["position"] for line in lines]


def _whole_lines(content):
    return content[: content.rfind(b"\n") + 1]


def num_allowed(max_fraction, num_records):
    """Returns how many of so many records may be damaged."""
    # A little more, since 0.29 * 100 is less than 29.
    return math.floor(max_fraction * num_records + 1e-6)


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
    if reason == "dropped:not_image" and validation.has_signature(image_bytes):
        # Cut off within its header.
        reason = "dropped:undecodable"
    return reason[len(_DROPPED) :], image_encoding.describe_reason(reason)

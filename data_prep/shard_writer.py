"""Writes a set of shards so that it can be killed and restarted anywhere.

Each shard is written under a temporary name and renamed when it is complete; a
hidden marker beside it, which comes first, says what it holds. When every shard
is done, the manifest replaces the markers. A shard with neither is another's.
"""

import collections
import contextlib
import itertools
import os

from data_prep import files, shards

KINDS = ("labeled", "unlabeled", "pseudo_labeled", "prediction")
_KINDS_WITH_LABEL = ("labeled", "pseudo_labeled")


class OpenShard:
    """A shard while it is written; made by `ShardedWriter.open_shard`."""

    def __init__(self, kind, record_writer):
        self._needs_label = kind in _KINDS_WITH_LABEL
        self._record_writer = record_writer
        self.num_records = 0
        self.num_bytes = None
        self.counters = collections.Counter()
        self.labels = None

    def write(self, serialized, label=None):
        """Appends one record.

        Args:
            serialized: bytes, a serialized `tf.train.Example`.
            label: int, the label stored in it; needed for the labeled kinds,
                for the manifest's range.
        """
        if self._needs_label:
            if label is None:
                raise ValueError("`label` is needed for labeled records.")
            low, high = self.labels or (label, label)
            self.labels = (min(low, int(label)), max(high, int(label)))
        self._record_writer.write(serialized)
        self.num_records += 1

    def count(self, reason, number=1):
        """Counts inputs by what became of them, each input exactly once.

        Args:
            reason: str such as "kept" or "dropped:undecodable".
            number: int, how many inputs.
        """
        self.counters[reason] += int(number)


class ShardedWriter:
    """Writes `<split>-%05d-of-%05d` shards and their manifest.

    `pending` are the shards still to write; `open_shard` writes one; `finish`
    writes the manifest. Several processes may write different shards of one
    set; the last calls `finish`. Prediction shards are called
    `<split>-info-%05d-of-%05d-%05d`, a file for each of the workers that share
    an image shard; they have the text file with their count beside them, and
    the manifest of `<split>-info`.

    Args:
        directory: Output folder; created with the first shard.
        split: Split in the file names.
        num_shards: int >= 1.
        kind: One of `KINDS`.
        config: JSON-able dict of all settings the bytes depend on.
        num_classes: Number of classes, if known.
        class_names: Names in label order, if known.
        num_workers: Workers that share each shard; more than one only of
            predictions.
        worker: Which of them writes here; what is pending is its own.

    Raises:
        ValueError: `kind` or `num_shards` is out of range, or the folder holds
            shards of the split made with another config (the difference is
            shown), or files that would be overwritten.
    """

    def __init__(
        self,
        directory,
        split,
        num_shards,
        *,
        kind,
        config,
        num_classes=None,
        class_names=None,
        num_workers=1,
        worker=0,
    ):
        if kind not in KINDS:
            raise ValueError(
                f"`kind` must be one of {KINDS}. Received: {kind!r}."
            )
        if num_shards < 1:
            raise ValueError(
                f"`num_shards` must be >= 1. Received: {num_shards}."
            )
        self._directory = os.fspath(directory)
        self._kind = kind
        self._num_shards = num_shards
        self._num_workers = num_workers
        self._worker = worker
        self._image_split = split
        self._split = f"{split}-info" if kind == "prediction" else split
        self._num_classes = num_classes
        self._class_names = None if class_names is None else tuple(class_names)
        self._config = {"num_shards": num_shards, **config}
        if num_workers > 1:
            self._config["num_workers"] = num_workers
        self._check_foreign_shards()
        self._settings = self._settings_of(self._merge([]))
        self._manifest = shards.read_manifest(self._directory, self._split)
        # Whether a manifest that appears later is that of a finished set.
        self._is_new = self._manifest is None
        if self._manifest:
            self._check_settings(self._settings_of(self._manifest))
        # Reads the markers, too: they may be another run's.
        if self.unfinished:
            # A shard was deleted after the manifest was written.
            self._manifest = None

    def path(self, index):
        """Returns the path of a shard, of this worker's part of it."""
        return self._path(index, self._worker)

    def _path(self, index, worker):
        name = shards.shard_name(self._split, index, self._num_shards)
        if self._kind == "prediction":
            name = shards.prediction_name(
                self._image_split, index, self._num_shards, worker
            )
        return os.path.join(self._directory, name)

    def paths(self):
        """Returns the paths of all shards, those of all workers; a list."""
        return [
            self._path(index, worker)
            for index in range(self._num_shards)
            for worker in range(self._num_workers)
        ]

    def _all_names(self):
        """Returns the names of the files of all workers, a set."""
        return set(map(os.path.basename, self.paths()))

    @property
    def num_shards(self):
        """Shards of the whole set."""
        return self._num_shards

    @property
    def pending(self):
        """Tuple of the indices of shards that are not complete yet."""
        return self._pending([self._worker])

    @property
    def unfinished(self):
        """Tuple of the indices of shards that some worker has not completed."""
        return self._pending(range(self._num_workers))

    def _pending(self, workers):
        missing = self._missing(workers)
        if missing and self._is_new and not self._manifest:
            # Another process may have finished, and removed the markers.
            self._manifest = shards.read_manifest(self._directory, self._split)
            if self._manifest:
                missing = self._missing(workers)
        return missing

    def _missing(self, workers):
        names = set(files.list_names(self._directory))
        return tuple(
            index
            for index in range(self._num_shards)
            if any(
                os.path.basename(self._path(index, worker)) not in names
                or not (self._manifest or self._read_marker(index, worker))
                for worker in workers
            )
        )

    @contextlib.contextmanager
    def open_shard(self, index, num_input=None):
        """Writes shard `index`: `with writer.open_shard(0) as shard: ...`.

        Args:
            index: int, one of `pending`.
            num_input: int, how many inputs the shard's counters have to add up
                to; None leaves that unchecked.

        Yields:
            `OpenShard`. If the block raises, nothing of the shard remains.

        Raises:
            ValueError: The counters do not add up to `num_input`.
        """
        # Imported here: a run that finds every shard done needs no TensorFlow.
        import tensorflow as tf

        path = self.path(index)
        temporary = files.temporary_path(path)
        files.make_dirs(self._directory)
        try:
            with tf.io.TFRecordWriter(temporary) as record_writer:
                shard = OpenShard(self._kind, record_writer)
                yield shard
            counted = sum(shard.counters.values())
            if num_input not in (None, counted):
                raise ValueError(
                    f"{path!r}: the counters {dict(shard.counters)} add up to "
                    f"{counted}, not to the {num_input} inputs."
                )
            shard.num_bytes = files.size(temporary)
            self._announce(index, shard)
            files.publish(temporary, path)
        except BaseException:
            files.remove(temporary)
            raise

    def _announce(self, index, shard):
        """Writes what belongs to a shard that is about to get its name.

        The marker comes before the shard: were it the other way round, a kill
        in between would leave a shard that looks like another's.
        """
        if not files.exists(self._marker_path(index, self._worker)):
            # One of before the set lost other shards: not what it will say.
            files.remove(self.path(index))
        if self._kind == "prediction":
            info = shards.info_name(index, self._num_shards, self._worker)
            files.write_json(
                os.path.join(self._directory, info),
                {"image_num": shard.num_records},
                indent=None,
            )
        self._write_marker(index, shard)

    def finish(self):
        """Writes the manifest once all shards are there, and returns it.

        Raises:
            ValueError: Some shards are not complete; names them.
        """
        if unfinished := self.unfinished:
            names = [os.path.basename(self.path(i)) for i in unfinished]
            raise ValueError(
                f"{len(names)} of {self._num_shards} shards are not written "
                f"yet in {self._directory!r}: {', '.join(names[:5])}."
            )
        if not self._manifest:
            markers = [
                [self._read_marker(i, w) for w in range(self._num_workers)]
                for i in range(self._num_shards)
            ]
            if not all(itertools.chain.from_iterable(markers)):
                # Another process has finished since, and removed markers.
                self._is_new = True
                return self.finish()
            self._manifest = self._merge(markers)
            shards.write_manifest(self._directory, self._manifest)
        self._clean()
        return self._manifest

    def _merge(self, markers_of_shards):
        markers = list(itertools.chain.from_iterable(markers_of_shards))
        counters = collections.Counter()
        for marker in markers:
            counters.update(marker["counters"])
        labels = [x for marker in markers for x in marker["labels"] or ()]
        return shards.Manifest(
            kind=self._kind,
            split=self._split,
            num_records=_sums("num_records", markers_of_shards),
            num_bytes=_sums("num_bytes", markers_of_shards),
            counters=dict(sorted(counters.items())),
            label_min=min(labels, default=None),
            label_max=max(labels, default=None),
            num_classes=self._num_classes,
            class_names=self._class_names,
            config=self._config,
        )

    def _marker_path(self, index, worker):
        folder, name = os.path.split(self._path(index, worker))
        return os.path.join(folder, _marker_name(name))

    def _write_marker(self, index, shard):
        files.write_json(
            self._marker_path(index, self._worker),
            {
                "num_records": shard.num_records,
                "num_bytes": shard.num_bytes,
                "counters": dict(sorted(shard.counters.items())),
                "labels": shard.labels,
                "settings": self._settings,
            },
        )

    def _read_marker(self, index, worker):
        path = self._marker_path(index, worker)
        if not files.exists(path):
            return None
        try:
            marker = files.read_json(path)
        except Exception:  # `tf.io.gfile` has its own error for missing files.
            if files.exists(path):
                raise
            return None
        self._check_settings(marker["settings"])
        return marker

    @staticmethod
    def _settings_of(manifest):
        """Returns all a restart must agree on."""
        return {
            "kind": manifest.kind,
            "num_classes": manifest.num_classes,
            "class_names": manifest.class_names,
            **manifest.config,
        }

    def _check_settings(self, before):
        if difference := files.describe_difference(before, self._settings):
            raise ValueError(
                f"{self._directory!r} holds {self._split!r} shards made with "
                f"other settings: {difference}. Write to another folder, or "
                "delete these shards first."
            )

    def _check_foreign_shards(self):
        own = self._all_names()
        names = set(files.list_names(self._directory))
        for name in sorted(names):
            parsed = shards.parse_name(name)
            if not parsed or name in own:
                continue
            if parsed["split"] == self._split:
                raise ValueError(
                    f"{self._directory!r} already holds other shards of "
                    f"{self._split!r}, such as {name!r}; this run would write "
                    f"{self._num_shards}. Write to another folder, or delete "
                    "these shards first."
                )
            self._check_other_predictions(name, parsed)
        unknown = [
            name
            for name in sorted(own & names)
            if _marker_name(name) not in names
            and not files.exists(
                os.path.join(self._directory, _marker_name(name))
            )
        ]
        # Read after the markers, which are removed once there is a manifest.
        if unknown and not shards.read_manifest(self._directory, self._split):
            raise ValueError(
                f"{self._directory!r} holds {unknown[0]!r}, which would be "
                "overwritten and may be an input: there is neither a manifest "
                "nor a marker of an unfinished run. Write to another folder, "
                "or move this file away first."
            )

    def _check_other_predictions(self, name, parsed):
        """Refuses predictions whose counts have the names of those here."""
        if (
            self._kind == "prediction"
            and parsed["worker"]
            and int(parsed["total"]) == self._num_shards
        ):
            raise ValueError(
                f"{self._directory!r} holds the predictions for another split, "
                f"such as {name!r}: the files with their counts have the same "
                "names (info-*.txt). Write to another folder."
            )

    def _clean(self):
        """Removes the markers and what killed runs left behind."""
        own = self._all_names()
        markers = set(map(_marker_name, own))
        for name in markers.intersection(files.list_names(self._directory)):
            files.remove(os.path.join(self._directory, name))
        own |= markers | {f"{self._split}.manifest.json"}
        if self._kind == "prediction":
            own |= {
                shards.info_name(index, self._num_shards, worker)
                for index in range(self._num_shards)
                for worker in range(self._num_workers)
            }
        files.remove_leftovers(self._directory, own)


def _marker_name(name):
    return f".{name}.done.json"


def _sums(name, markers_of_shards):
    """Returns the sum of a number over the workers' markers of each shard."""
    return tuple(
        sum(marker[name] for marker in markers) for markers in markers_of_shards
    )

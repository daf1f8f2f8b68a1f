"""The stages of filtering: count, choose, write; joined by files.

Count: a table for each prediction file, `prediction_table.py`.
Choose: the plan and the report, for which all tables are needed.
Write: each input shard to a file of its own, then the output shards from these.

Each stage finds what an earlier run finished and does not do it again.
"""

import dataclasses
import io
import os

import numpy as np

from data_prep import (
    balancing,
    counting,
    duplicate_keys,
    files,
    filter_report,
    prediction_checks,
    prediction_inputs,
    progress,
    shard_writer,
    spill,
)

REPORT_FILE = "report.json"
_PLAN_FILE = "choice.npz"
_CHOICE_FILE = "choice.json"


class Stages:
    """The stages of a run, and where each of them leaves its files.

    Args:
        config: `filter_unlabel.FilterConfig`.

    Raises:
        FileNotFoundError: Shards are missing; names them.
        ValueError: The folders hold a run with other settings; says which.
    """

    def __init__(self, config):
        self._config = config
        self._inputs = _find_inputs(config)
        num_inputs = len(self._inputs.images)
        # Of several workers' tasks the first chooses and writes.
        alone = len(self._inputs.predictions[0]) == 1
        self._writes = alone or config.task in (None, 0)
        self._chooses = self._writes and config.shard_id in (None, 0)
        self._num_outputs = config.num_output_shards or num_inputs
        self._shard_ids = range(num_inputs)
        if config.shard_id is not None:
            self._shard_ids = (config.shard_id,)
        self._table_settings = {
            "num_label_classes": config.num_label_classes,
            **self._inputs.settings(),
        }
        self._settings = {
            **dataclasses.asdict(config.balance),
            "num_output_shards": self._num_outputs,
            **self._table_settings,
        }
        files.check_settings(config.output_dir, self._settings)
        files.check_settings(config.prelim_stats_dir, self._table_settings)
        self._spills = spill.Spills(
            config.output_dir,
            num_inputs,
            self._num_outputs,
            len(filter_report.REASONS),
        )
        self._writer = shard_writer.ShardedWriter(
            os.path.join(config.output_dir, "data"),
            config.split,
            self._num_outputs,
            kind="pseudo_labeled",
            config=self._settings,
            num_classes=config.num_label_classes,
        )

    def _path(self, name):
        return os.path.join(self._config.output_dir, name)

    def run(self, only_get_stats):
        """Goes through the stages; see `filter_unlabel.run`."""
        report_path = self._path(REPORT_FILE)
        if files.exists(report_path) and not self._writer.pending:
            self._clean()
            return filter_report.report_from_json(files.read_json(report_path))
        self._count()
        if self._chooses:
            self._choose()
        elif only_get_stats or not self._writes:
            return None
        report = self._read_choice()
        if only_get_stats:
            return report
        self._spill()
        if self._write():
            filter_report.write_final_stats(self._config.output_dir, report)
            files.write_json(report_path, dataclasses.asdict(report))
            self._clean()
        return report

    def _clean(self):
        """Removes what is needed no more, and what killed runs left."""
        self._spills.remove()
        config = self._config
        stats = os.path.join(config.output_dir, "stats")
        for folder in (config.output_dir, stats, config.prelim_stats_dir):
            files.remove_leftovers(folder, files.list_names(folder))

    def _count(self):
        """First stage: a table for each shard."""
        config = self._config
        self._on_shards(
            "Check", self._check, {*self._shard_ids} & {*self._spills.pending}
        )
        self._tables = self._open_tables(
            counting.table_paths(self._inputs, config.prelim_stats_dir)
        )
        self._on_shards("Count", self._count_shards, self._not_counted())

    def _on_shards(self, name, work, shard_ids):
        """Does work that takes a list of input shards; here, in this process.

        Args:
            name: What is done.
            work: Method that takes the list, whole or in parts.
            shard_ids: Collection of int.
        """
        del name
        work(sorted(shard_ids))

    def _open_tables(self, paths):
        """Returns the tables of all shards."""
        return counting.Tables(paths, self._config.num_workers)

    def _check(self, shard_ids):
        prediction_checks.check_inputs(
            self._inputs,
            self._config.info_dir,
            self._config.num_label_classes,
            shard_ids,
        )

    def _not_counted(self):
        """Returns list of the shards that lack a file of the first stage."""
        return [
            shard
            for shard in self._shard_ids
            if self._lacking_stats(shard) or self._lacking_tables(shard)
        ]

    def _lacking_tables(self, shard):
        """Returns list of the tables that a shard lacks, or that are others'.

        They are there without a `config.json` until a choice is made: inputs
        may have been mended since.
        """
        return [
            path
            for worker, path in enumerate(self._tables.paths[shard])
            if not counting.has_table(
                self._config, self._inputs, shard, worker, path
            )
        ]

    def _lacking_stats(self, shard):
        """Returns list of the counts a shard lacks, or that may be others'.

        Unlike tables they do not say of which predictions they are.
        """
        is_settled = files.has_settings(self._config.prelim_stats_dir)
        return [
            path
            for path in self._prelim_stats_paths(shard)
            if not (is_settled and files.exists(path))
        ]

    def _prelim_stats_paths(self, shard):
        """Returns list of the original's counts, one for each of the tables."""
        if self._config.balance.selection != "binned":
            return []
        return [
            filter_report.prelim_stats_path(
                self._config.prelim_stats_dir, shard, worker
            )
            for worker in range(len(self._tables.paths[shard]))
        ]

    def _count_shards(self, shard_ids):
        counting.make_tables(self._config, self._inputs, shard_ids)
        for shard in shard_ids:
            lacking = self._lacking_stats(shard)
            for path, table in zip(
                self._prelim_stats_paths(shard), self._tables.paths[shard]
            ):
                if path in lacking:
                    alone = counting.Tables(((table,),))
                    filter_report.write_prelim_stats(
                        path,
                        alone.read(0, ("label", "confidence")),
                        self._config.num_label_classes,
                    )

    def _choose(self):
        """Second stage: what to keep of each class."""
        if files.exists(self._path(_CHOICE_FILE)):
            return
        config, balance = self._config, self._config.balance
        missing = [
            path
            for shard in range(len(self._tables.paths))
            for path in self._lacking_tables(shard)
        ]
        if missing:
            raise FileNotFoundError(
                f"{len(missing)} tables are missing, such as {missing[:5]}: "
                "the other shards (--shard_id) have to be counted first."
            )
        bins = balance.bins(config.num_label_classes)
        counts = counting.histogram(
            self._tables, config.num_label_classes, bins
        )
        if not balance.use_all:
            duplicate_keys.check(self._tables, self._inputs, int(counts.sum()))
        plan = balancing.choose(balance, counts, self._tables.measure)
        report = filter_report.make_report(balance, plan, self._tables)
        # Not before: what is found wrong until here is mended in the inputs or
        # by other flags, and the same folders will do.
        files.write_settings(config.prelim_stats_dir, self._table_settings)
        files.write_settings(config.output_dir, self._settings)
        buffer = io.BytesIO()
        np.savez(buffer, **plan.arrays())
        files.write_bytes(self._path(_PLAN_FILE), buffer.getvalue())
        filter_report.write_counts(
            config.prelim_stats_dir, bins.hundredths(counts)
        )
        filter_report.write_thresholds(config.output_dir, plan)
        files.write_json(self._path(_CHOICE_FILE), dataclasses.asdict(report))

    def _read_choice(self):
        """Returns the report of what was chosen."""
        path = self._path(_CHOICE_FILE)
        if not files.exists(path):
            raise FileNotFoundError(
                f"{path!r} is missing: nothing has been chosen yet, which "
                "--shard_id=0 does once all shards are counted "
                "(--only_get_stats=1)."
            )
        return filter_report.report_from_json(files.read_json(path))

    def _spill(self):
        """First half of the last stage: the records of each input shard."""
        pending = sorted({*self._shard_ids} & {*self._spills.pending})
        if not pending:
            return
        plan = self._read_plan()
        meter = progress.Progress("shards filtered", total=len(pending))
        for index in pending:
            self._spills.write(index, *self._filter(index, plan))
            meter.advance()

    def _read_plan(self):
        with np.load(io.BytesIO(files.read_bytes(self._path(_PLAN_FILE)))) as a:
            return balancing.restore_plan(self._config.balance, dict(a))

    def _filter(self, index, plan):
        """Returns what an input shard gives.

        Args:
            index: int, the input shard.
            plan: From `_read_plan`.

        Returns:
            (iterator of (output shard, order, label, serialized record),
            ascending; int64 [output shards, reasons], its images).
        """
        # Imported here: deciding and finished runs need no TensorFlow.
        from data_prep import filtered_shard

        table = self._tables.read(index)
        copies = plan.copies(table, index)
        reason = filter_report.reasons(self._config.balance, table, copies)
        hashes = table.hash
        if self._config.balance.use_all:
            hashes = filtered_shard.place_hashes(index, len(hashes))
        order = filtered_shard.order_of(hashes, plan.config.seed)
        home = filtered_shard.output_shard(order, self._num_outputs)
        return (
            self._copies(index, table, copies, hashes),
            _count_pairs(home, reason, self._num_outputs),
        )

    def _copies(self, index, table, copies, hashes):
        """Yields the records of an input shard, ascending in the order."""
        from data_prep import filtered_shard

        examples = filtered_shard.examples(
            self._inputs.images[index],
            self._inputs.predictions[index],
            table,
            copies,
            self._config.num_label_classes,
        )
        rows, order = filtered_shard.output_order(
            hashes, copies, self._config.balance.seed
        )
        outputs = filtered_shard.output_shard(order, self._num_outputs)
        for row, place, output in zip(
            rows.tolist(), order.tolist(), outputs.tolist()
        ):
            example, label = examples[row]
            yield output, place, label, example

    def _write(self):
        """Second half: the output shards. Returns whether all are done."""
        if missing := self._spills.pending:
            if not self._chooses:
                return False
            raise FileNotFoundError(
                f"{len(missing)} shards are not filtered yet, such as "
                f"--shard_id={missing[0]}."
            )
        pending = self._writer.pending
        if not self._chooses:
            pending = tuple({*pending} & {self._config.shard_id})
        meter = progress.Progress(
            "shards written",
            total=self._num_outputs,
            done=self._num_outputs - len(pending),
        )
        for output in pending:
            self._write_shard(output, *self._spills.read(output))
            meter.advance()
        if self._writer.pending:
            return False
        self._writer.finish()
        return True

    def _write_shard(self, output, found, counters):
        """Writes an output shard.

        Args:
            output: int, the shard.
            found: List of (order, serialized record, label).
            counters: int64 [reasons], the input counted there.
        """
        found.sort()
        with self._writer.open_shard(output, int(counters.sum())) as shard:
            for reason, number in filter_report.name_reasons(counters).items():
                shard.count(reason, number)
            for _, example, label in found:
                shard.write(example, label)
            # Before the shard has its name, so that it never lacks them.
            filter_report.write_shard_stats(
                self._config.output_dir,
                output,
                self._config.task or 0,
                [label for *_, label in found],
            )


def _find_inputs(config):
    inputs = prediction_inputs.find(
        config.input_dir,
        config.prediction_dir,
        config.file_prefix,
        config.num_shards,
    )
    num_inputs = len(inputs.images)
    num_workers = len(inputs.predictions[0])
    num_used = config.num_used_shards or num_inputs
    where = f"there are {num_inputs} shards in {config.input_dir!r}"
    if num_used > num_inputs:
        raise ValueError(f"--only_use_num_shards={num_used}, but {where}.")
    if config.shard_id is not None and config.shard_id >= num_used:
        raise ValueError(
            f"--shard_id={config.shard_id}, but {where}"
            + (
                f", of which {num_used} are used."
                if num_used < num_inputs
                else "."
            )
        )
    if config.total_replicas not in (None, num_workers):
        raise ValueError(
            f"--total_replicas={config.total_replicas}, but there are "
            f"{num_workers} prediction files for each shard in "
            f"{config.prediction_dir!r}."
        )
    return inputs.first(config.num_used_shards)


def _count_pairs(home, reason, num_outputs):
    """Returns int64 [num_outputs, reasons], the images of each pair."""
    num_reasons = len(filter_report.REASONS)
    counts = np.bincount(
        home * num_reasons + reason, minlength=num_outputs * num_reasons
    )
    return counts.reshape(num_outputs, num_reasons)

"""Work that is done shard by shard, and who does it."""

from data_prep import corpus_duplicates, progress


class InThisProcess:
    """Does all work here; `beam_deduplicate.OnBeam` has workers for it."""

    def for_each(self, name, values, work, *, total):
        """Calls a function with each of the values that are left to do.

        Args:
            name: What is done.
            values: Sequence, such as the numbers of shards.
            work: Function of one value; what it returns is ignored.
            total: int, how many values there are with those done before.
        """
        meter = progress.Progress(name, total=total, done=total - len(values))
        for value in values:
            work(value)
            meter.advance()

    def find_in_corpus(self, corpus):
        """Returns what `corpus_duplicates.find` does."""
        return corpus_duplicates.find(corpus)

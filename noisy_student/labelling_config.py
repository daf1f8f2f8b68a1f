"""Which images one labelling command labels.

Part of `config.py`, whose names these are for everybody else.
"""

import dataclasses
from typing import Optional

from data_prep import prob_storage


@dataclasses.dataclass(frozen=True)
class LabellingConfig:
    """The share of a labelling job that one command does.

    Attributes:
        input_dir: Directory of the image shards.
        split: Prefix of their names.
        shard_ids: Which of them to label, tuple of int below `num_shards`;
            None labels all.
        num_shards: How many there must be; None takes what is there.
        num_workers: Workers that share each shard, image by image.
        worker: Which of them this is, from 0.
        reassign: Whether shards that a filter wrote are labeled again and
            written with their images.
        info_dir: Directory that gets the count of each shard's images, as
            the predictions' own does; None writes it there alone.
        storage: How distributions are stored.
    """

    input_dir: Optional[str] = None
    split: str = "train"
    shard_ids: Optional[tuple] = None
    num_shards: Optional[int] = None
    num_workers: int = 1
    worker: int = 0
    reassign: bool = False
    info_dir: Optional[str] = None
    storage: prob_storage.ProbStorage = prob_storage.DEFAULT

    def __post_init__(self):
        if not 0 <= self.worker < self.num_workers:
            raise ValueError(
                "--worker_id must be below --total_replicas="
                f"{self.num_workers}. Received: {self.worker}."
            )
        for shard in self.shard_ids or ():
            if not 0 <= shard < self.num_shards:
                raise ValueError(
                    f"--shard_id must be below --num_shards={self.num_shards}. "
                    f"Received: {shard}."
                )

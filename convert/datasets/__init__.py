"""Labelled faces in the forms that people have on disk, read into one record.

A leaf: numpy, OpenCV and `edge.contract`; neither tensorflow nor keras. One reader a file, listed in `reading.READERS`.
"""

from convert.datasets.dataset import Dataset, Dropped, Images, concatenate
from convert.datasets.ferplus import majority_labels, vote_distributions
from convert.datasets.reading import READERS, hash_datasets, read_dataset, read_datasets
from convert.datasets.spec import DatasetSpec

__all__ = [
    "READERS",
    "Dataset",
    "DatasetSpec",
    "Dropped",
    "Images",
    "concatenate",
    "hash_datasets",
    "majority_labels",
    "read_dataset",
    "read_datasets",
    "vote_distributions",
]

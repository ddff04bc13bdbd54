"""Parts of the loader: collating samples, worker processes, and how batches travel."""

from . import collate, worker

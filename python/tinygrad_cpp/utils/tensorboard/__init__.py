"""Event files for TensorBoard, written without TensorBoard."""

from .writer import SummaryWriter

__all__ = ["SummaryWriter"]

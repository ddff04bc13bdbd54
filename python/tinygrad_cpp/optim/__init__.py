"""Optimizers, learning-rate schedulers, averages of weights."""

from . import lr_scheduler, swa_utils
from .algorithms import ASGD, SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, RAdam, RMSprop, Rprop
from .lbfgs import LBFGS
from .matrix import Adafactor, Muon, SparseAdam
from .optimizer import Optimizer

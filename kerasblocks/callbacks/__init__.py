"""Callbacks that Keras has not, or has for one backend only."""

from kerasblocks.callbacks.gradient_norm_logger import GradientNormLogger as GradientNormLogger
from kerasblocks.callbacks.run_history import RunHistory as RunHistory
from kerasblocks.callbacks.tensorboard_scalars import TensorBoardScalars as TensorBoardScalars
from kerasblocks.callbacks.terminate_on_nan import TerminateOnNaN as TerminateOnNaN
from kerasblocks.callbacks.warmup_cosine import WarmupCosine as WarmupCosine

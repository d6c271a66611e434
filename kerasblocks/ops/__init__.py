"""The arithmetic under the layers, as functions on tensors of any backend."""

from kerasblocks.ops.scaled_tanh import scaled_tanh as scaled_tanh
from kerasblocks.ops.smoothed_cross_entropy import smoothed_cross_entropy as smoothed_cross_entropy
from kerasblocks.ops.squared_distance import squared_distance as squared_distance

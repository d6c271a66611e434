"""The arithmetic under the layers, as functions on tensors of any backend."""

from kerasblocks.ops.causal_attention import causal_attention as causal_attention
from kerasblocks.ops.distillation_loss import distillation_loss as distillation_loss
from kerasblocks.ops.fast_paths import fast_paths_enabled as fast_paths_enabled
from kerasblocks.ops.fast_paths import use_fast_paths as use_fast_paths
from kerasblocks.ops.linear_distillation_loss import linear_distillation_loss as linear_distillation_loss
from kerasblocks.ops.local_response_normalization import (
    local_response_normalization as local_response_normalization,
)
from kerasblocks.ops.rms_norm import rms_norm as rms_norm
from kerasblocks.ops.rotary_embedding import rotary_embedding as rotary_embedding
from kerasblocks.ops.scaled_tanh import scaled_tanh as scaled_tanh
from kerasblocks.ops.smoothed_cross_entropy import smoothed_cross_entropy as smoothed_cross_entropy
from kerasblocks.ops.squared_distance import squared_distance as squared_distance
from kerasblocks.ops.swiglu import swiglu as swiglu
from kerasblocks.ops.swish import swish as swish

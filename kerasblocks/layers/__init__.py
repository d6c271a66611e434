"""Drop-in layers that Keras has not."""

from kerasblocks.layers.causal_self_attention import CausalSelfAttention as CausalSelfAttention
from kerasblocks.layers.code_distance import CodeDistance as CodeDistance
from kerasblocks.layers.connection_table_conv2d import ConnectionTableConv2D as ConnectionTableConv2D
from kerasblocks.layers.drop_path import DropPath as DropPath
from kerasblocks.layers.local_response_normalization import (
    LocalResponseNormalization as LocalResponseNormalization,
)
from kerasblocks.layers.residual_block import ResidualBlock as ResidualBlock
from kerasblocks.layers.rms_norm import RMSNorm as RMSNorm
from kerasblocks.layers.rotary_embedding import RotaryEmbedding as RotaryEmbedding
from kerasblocks.layers.subsampling2d import Subsampling2D as Subsampling2D
from kerasblocks.layers.swiglu import SwiGLU as SwiGLU
from kerasblocks.layers.swish import Swish as Swish

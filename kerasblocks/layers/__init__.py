"""Drop-in layers that Keras has not."""

from kerasblocks.layers.code_distance import CodeDistance as CodeDistance
from kerasblocks.layers.connection_table_conv2d import ConnectionTableConv2D as ConnectionTableConv2D
from kerasblocks.layers.subsampling2d import Subsampling2D as Subsampling2D

"""Builders of plain Keras models made of Keras's layers and ours, and text from language models."""

from kerasblocks.models.alexnet import alexnet as alexnet
from kerasblocks.models.cost import LayerCost as LayerCost
from kerasblocks.models.cost import ModelCost as ModelCost
from kerasblocks.models.cost import cost as cost
from kerasblocks.models.generate import generate as generate
from kerasblocks.models.lenet5 import lenet5 as lenet5
from kerasblocks.models.transformer_lm import CONFIGURATIONS as CONFIGURATIONS
from kerasblocks.models.transformer_lm import TransformerConfig as TransformerConfig
from kerasblocks.models.transformer_lm import transformer_layout as transformer_layout
from kerasblocks.models.transformer_lm import transformer_lm as transformer_lm

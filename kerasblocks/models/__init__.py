"""Builders of plain Keras models made of Keras's layers and ours."""

from kerasblocks.models.lenet5 import lenet5 as lenet5

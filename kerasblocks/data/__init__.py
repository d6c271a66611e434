"""Loaders with an embedded default and batches in a fixed order: what Keras leaves to global generators."""

from kerasblocks.data.array_batches import ArrayBatches as ArrayBatches
from kerasblocks.data.image_data import ImageData as ImageData
from kerasblocks.data.load_image import load_image as load_image
from kerasblocks.data.load_images import load_images as load_images

"""Loaders with an embedded default and batches in a fixed order: what Keras leaves to global generators."""

from kerasblocks.data.array_batches import ArrayBatches as ArrayBatches
from kerasblocks.data.audit import DataAudit as DataAudit
from kerasblocks.data.audit import audit as audit
from kerasblocks.data.augmented_batches import AugmentedBatches as AugmentedBatches
from kerasblocks.data.byte_pair_tokenizer import BytePairTokenizer as BytePairTokenizer
from kerasblocks.data.byte_tokenizer import ByteTokenizer as ByteTokenizer
from kerasblocks.data.character_tokenizer import CharacterTokenizer as CharacterTokenizer
from kerasblocks.data.colour_components import ColourComponents as ColourComponents
from kerasblocks.data.colour_components import colour_components as colour_components
from kerasblocks.data.image_batches import ImageBatches as ImageBatches
from kerasblocks.data.image_data import ImageData as ImageData
from kerasblocks.data.image_files import ImageFiles as ImageFiles
from kerasblocks.data.image_files import find_images as find_images
from kerasblocks.data.load_image import load_image as load_image
from kerasblocks.data.load_images import load_images as load_images
from kerasblocks.data.load_images import names_class_folders as names_class_folders
from kerasblocks.data.load_text import TextData as TextData
from kerasblocks.data.load_text import load_text as load_text
from kerasblocks.data.load_text import tokenizer_of as tokenizer_of
from kerasblocks.data.token_batches import TokenBatches as TokenBatches
from kerasblocks.data.token_batches import TokenWindows as TokenWindows

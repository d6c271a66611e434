"""What `Model.fit` lacks around it: the run directory and a record of the environment."""

from kerasblocks.training.environment import environment as environment
from kerasblocks.training.run_directory import RunDirectory as RunDirectory
from kerasblocks.training.run_directory import read_run_config as read_run_config

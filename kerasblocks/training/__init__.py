"""What `Model.fit` lacks: exact resume, a look inside the compiled step, the run directory, which weights decay."""

from kerasblocks.training._step_guard import CHECKS as CHECKS
from kerasblocks.training._step_program import global_gradient_norm as global_gradient_norm
from kerasblocks.training.batch_gradients import batch_gradients as batch_gradients
from kerasblocks.training.data_parallel import Replicas as Replicas
from kerasblocks.training.data_parallel import current_replicas as current_replicas
from kerasblocks.training.data_parallel import data_parallel as data_parallel
from kerasblocks.training.environment import environment as environment
from kerasblocks.training.instrumentation import StepInstrumentation as StepInstrumentation
from kerasblocks.training.instrumentation import step_instrumentation as step_instrumentation
from kerasblocks.training.left_as_it_was import left_as_it_was as left_as_it_was
from kerasblocks.training.nonfinite import NonFinite as NonFinite
from kerasblocks.training.nonfinite import locate_nonfinite as locate_nonfinite
from kerasblocks.training.peak_memory import peak_memory as peak_memory
from kerasblocks.training.run import Run as Run
from kerasblocks.training.run_directory import RunDirectory as RunDirectory
from kerasblocks.training.run_directory import read_run_config as read_run_config
from kerasblocks.training.weight_decay import exclude_vectors_from_weight_decay as exclude_vectors_from_weight_decay

"""Learning rates as functions of the step, and as schedules that an optimizer takes."""

from kerasblocks.schedules.step_decay import StepDecay as StepDecay
from kerasblocks.schedules.step_decay import step_decay as step_decay
from kerasblocks.schedules.warmup_cosine import WarmupCosineDecay as WarmupCosineDecay
from kerasblocks.schedules.warmup_cosine import warmup_cosine as warmup_cosine

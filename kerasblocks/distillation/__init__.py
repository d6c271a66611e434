"""Knowledge distillation: a student learns from a teacher."""

from kerasblocks.distillation.attention_transfer import AttentionTransfer as AttentionTransfer
from kerasblocks.distillation.distillation_loss import DistillationLoss as DistillationLoss
from kerasblocks.distillation.distiller import Distiller as Distiller
from kerasblocks.distillation.feature_distillation import FeatureDistillation as FeatureDistillation
from kerasblocks.distillation.logits_distillation import LogitsDistillation as LogitsDistillation
from kerasblocks.distillation.output_distillation import OutputDistillation as OutputDistillation
from kerasblocks.distillation.teacher_cache import TeacherCache as TeacherCache
from kerasblocks.distillation.teacher_ensemble import TeacherEnsemble as TeacherEnsemble

"""What holds for the tests that start a process for every backend.

The scripts that they run are no tests; collecting them would import Keras on whatever backend is found.
"""

import os

# One set of instructions and two threads on every machine: sums of other lengths round otherwise, and where a training
# comes near a kink of its activations, the last digit of a weight alone moves its losses by more than 1e-4.
os.environ |= {
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE",
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
    "OMP_NUM_THREADS": "2",
}

collect_ignore = ["lenet_steps.py", "moved_layers.py", "run_steps.py", "transformer_steps.py"]

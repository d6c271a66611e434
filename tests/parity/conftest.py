"""The scripts that every backend runs are no tests; collecting them would import Keras on whatever backend is found."""

collect_ignore = ["lenet_steps.py", "moved_layers.py", "run_steps.py", "transformer_steps.py"]

"""The script that every backend runs is no test; collecting it would import Keras on whatever backend is found."""

collect_ignore = ["lenet_steps.py"]

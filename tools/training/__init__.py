"""Parts of train.py, which combines them and holds the training step itself.

Before the first step: run (settings and state of an earlier call, environment.json), distributed (processes that
train together, signals), precision (number formats and kernels). In a step: state (all that a training changes;
last.pt). Around it: monitor (TensorBoard, progress bar, check for steps that are not finite). After an epoch:
validation, and console (printed rows).
"""

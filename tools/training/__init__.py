"""Parts of train.py, which combines them and holds the training step itself.

Before the first step: settings (command line), resume (state of an earlier call), distributed (processes that
train together), precision (number formats and kernels), environment (versions and machine), data_guard (checks
that the data stay the same). In a step: progress (weights, their moving average, sums over the items, position)
and failures (losses that are not finite). Around it: monitor, which reads numbers from the device without waiting
and writes them for TensorBoard; interruption (SIGTERM and Ctrl-C); checkpoints (state for resuming). After
an epoch: validation, and account (console output).
"""

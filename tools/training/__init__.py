"""Parts of train.py, each with one purpose; train.py is where they meet, and where the step itself is read.

Before the first step: distributed (the processes that train together), precision (number formats and kernels),
environment (what ran where). In a step: averaging (the moving average of the weights), totals (a step's result and
sums over the items), guards (what must not go on). Around it: watch, which reads numbers from the device without
waiting (readout) and hands them to the guard and to TensorBoard (board); interruption (SIGTERM and Ctrl-C);
progress and random_state (from where a training goes on). After an epoch: validation.
"""

"""Parts of train.py, each with one purpose; train.py is where they meet, and where the step itself is read.

Before the first step: settings (the command line), resume (where an earlier call stopped), distributed (the
processes that train together), precision (number formats and kernels), environment (what ran where), data_guard
(that the data stay the same). In a step: progress (what a training changes: weights and their moving average, sums
over the items, and how far it has come) and failures (losses that are not finite). Around it: monitor, which reads
numbers from the device without waiting and hands them to TensorBoard (board); interruption (SIGTERM and Ctrl-C);
checkpoints (what a resumed training needs). After an epoch: validation, and account (what the console says).
"""

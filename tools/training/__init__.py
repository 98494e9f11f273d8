"""Parts of train.py, each with one purpose; train.py is where they meet.

distributed: the processes that train together; precision: number formats and kernels; schedule: the learning
rate; averaging: the moving average of the weights; interruption: SIGTERM and Ctrl-C; progress: how far a training
has come, what its epochs gave, and its checkpoint; readout: numbers from the device without waiting; guards: what
must not go on; validation: loss, scores and what to look at; board: TensorBoard; environment: what ran where.
"""

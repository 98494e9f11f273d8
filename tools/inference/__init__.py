"""Enhancement of waveforms, sound files and live audio, and ONNX graphs.

from tools.inference import enhance
estimate = enhance(noisy, rate)
"""

from tools.inference.arrays import enhance

__all__ = ["enhance"]

"""Enhance a 16 kHz mono 16-bit WAV file with an exported network; needs numpy and onnxruntime, nothing else.

    python tools/enhance_onnx.py enhance.onnx noisy.wav enhanced.wav

Takes both kinds of graph that tools.export writes: of whole recordings, and (--streaming) of a step of a stream.
"""

import os
import sys
import wave

import numpy as np
import onnxruntime


def open_graph(path, sizes):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for axis, size in sizes.items():  # fixed sizes are faster
        options.add_free_dimension_override_by_name(axis, size)
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def enhance_stream(session, sizes, noisy):
    hop, edge, look_ahead = sizes["hop"], sizes["edge"], sizes["look_ahead"]
    state = {tensor.name: np.zeros(tensor.shape, np.float32) for tensor in session.get_inputs()[2:]}

    def step(block, present):
        estimate, *after = session.run(None, {"noisy": block[None], "present": np.float32([present]), **state})
        state.update(zip(state, after, strict=True))
        return estimate[0]

    # The transform needs silence up to the next hop and beyond, or the signal mirrored; the network then needs its
    # look-ahead.
    if sizes.get("mirrored"):
        whole = np.pad(noisy, (0, max(0, hop + 1 - len(noisy))))
        whole = np.pad(whole, (0, hop - len(whole) % hop), mode="reflect")
    else:
        whole = np.pad(noisy, (0, -len(noisy) % hop + edge * hop))
    hops = [step(block, 1) for block in whole.reshape(-1, hop)]  # hop by hop, like a live signal
    hops += [step(np.zeros(hop, np.float32), 0) for _ in range(look_ahead)]
    return np.concatenate(hops)[(edge + look_ahead) * hop :][: len(noisy)]


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    graph, source, target = sys.argv[1:]
    with wave.open(source) as file:
        found = file.getframerate(), file.getnchannels(), 8 * file.getsampwidth()
        if found != (16000, 1, 16):
            sys.exit(f"error: {source}: found {found}, expected (16000 Hz, 1 channel, 16 bit); use tools.enhance")
        noisy = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
    session = open_graph(graph, {})
    sizes = {key: int(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    if sizes:
        estimate = enhance_stream(open_graph(graph, {"hops": 1, "block": sizes["hop"]}), sizes, noisy)
    else:
        estimate = session.run(["estimate"], {"noisy": noisy[None]})[0][0]
    with wave.open(f"{target}.partial", "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", "not compressed"))
        file.writeframes(np.clip(np.round(estimate * 32768), -32768, 32767).astype("<i2").tobytes())
    os.replace(f"{target}.partial", target)
    print(f"{target}: {len(estimate) / 16000:.1f} s enhanced")


if __name__ == "__main__":
    main()

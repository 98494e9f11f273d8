"""Enhance a 16 kHz mono 16-bit WAV file with an exported network; needs numpy and onnxruntime, nothing else.

    python tools/enhance_onnx.py enhance.onnx noisy.wav enhanced.wav

Takes both kinds of graph that tools.export writes: of whole recordings, and (--streaming) of a step of a stream.
"""

import os
import sys
import wave

import numpy as np
import onnxruntime


def enhance_whole(session, noisy):
    return session.run(["estimate"], {"noisy": noisy[None]})[0][0]


def metadata(session):
    return {key: int(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}


def enhance_stream(session, noisy):
    sizes = metadata(session)
    hop, edge, look_ahead = sizes["hop"], sizes["edge"], sizes["look_ahead"]
    names = [output.name.replace("next_", "state_") for output in session.get_outputs()[1:]]
    shapes = {tensor.name: tensor.shape for tensor in session.get_inputs()}
    state = {name: np.zeros(shapes[name], np.float32) for name in names}

    def step(block, present):
        nonlocal state
        estimate, *after = session.run(None, {"noisy": block[None], "present": np.float32([present]), **state})
        state = dict(zip(names, after, strict=True))
        return estimate[0]

    # The transform needs silence up to the next hop and beyond, or the signal mirrored; the network then needs its
    # look-ahead.
    if sizes.get("mirrored"):
        whole = np.pad(noisy, (0, max(0, hop + 1 - len(noisy))))
        whole = np.pad(whole, (0, hop - len(whole) % hop), mode="reflect")
    else:
        whole = np.pad(noisy, (0, -len(noisy) % hop + edge * hop))
    hops = whole.reshape(-1, hop)
    pieces = [step(block, 1) for block in hops]  # hop by hop, like a live signal
    pieces += [step(np.zeros(hop, np.float32), 0) for _ in range(look_ahead)]
    return np.concatenate(pieces)[(edge + look_ahead) * hop :][: len(noisy)]


def main():
    if set(sys.argv[1:]) & {"-h", "--help"}:
        print(__doc__)
        return
    if len(sys.argv) != 4:
        raise ValueError("expected three arguments: GRAPH.onnx NOISY.wav ENHANCED.wav; --help explains them")
    graph, source, target = sys.argv[1:]
    for path in (graph, source):
        if not os.path.isfile(path):
            raise ValueError(f"{path}: no such file")
    if os.path.exists(target):
        raise ValueError(f"{target}: exists already; name another file")
    with wave.open(source) as file:
        found = file.getframerate(), file.getnchannels(), file.getsampwidth()
        if found != (16000, 1, 2):
            rate, channels, width = found
            raise ValueError(
                f"{source}: found {rate} Hz, {channels} channels and {8 * width} bit, expected 16000 Hz, 1 "
                "channel and 16 bit; convert it, or use python -m tools.enhance, which takes any recording"
            )
        noisy = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
    if not len(noisy):
        raise ValueError(f"{source}: found no samples in it, expected one or more")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    streaming = len(session.get_inputs()) > 1
    if streaming:  # fixed sizes are faster
        for axis, size in {"hops": 1, "block": metadata(session)["hop"]}.items():
            options.add_free_dimension_override_by_name(axis, size)
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    estimate = (enhance_stream if streaming else enhance_whole)(session, noisy)
    if not np.isfinite(estimate).all():
        raise ValueError(f"{graph}: its estimate holds NaN or infinity")
    with wave.open(f"{target}.partial", "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", "not compressed"))
        file.writeframes(np.clip(np.round(estimate * 32768), -32768, 32767).astype("<i2").tobytes())
    os.replace(f"{target}.partial", target)


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # onnxruntime raises many types
        reason = (str(error).splitlines() or ["cut off or empty"])[0]
        print(f"error: {' '.join(sys.argv[1:])}: {reason}", file=sys.stderr)
        sys.exit(2)

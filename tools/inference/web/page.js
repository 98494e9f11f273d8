import { draw } from "./spectrogram.js";

const $ = (id) => document.getElementById(id);
const RATE = 16000;
const FADE_SECONDS = 0.02;
const state = { ready: false, noisy: null, enhanced: null, factor: 0, shown: "enhanced", name: "" };
window.enhancer = state; // for tests
let worker, context, sources, startedAt, offset = 0, live;

function say(text, kind = "") {
  $("status").textContent = text;
  $("status").dataset.kind = kind;
}

function fail(error) {
  $("progress").hidden = true;
  say(String(error.message ?? error), "error");
}

// A module of one function with one SIMD instruction.
const SIMD = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11);

function start() {
  if (!globalThis.WebAssembly?.validate(SIMD)) {
    throw new Error("This browser has no WebAssembly SIMD, which the network needs; use a current Firefox, Chrome, Edge or Safari.");
  }
  if (location.protocol === "file:") {
    throw new Error("This page cannot run from the disk: serve the folder, python -m http.server -d FOLDER, and open http://localhost:8000");
  }
  worker = new Worker("worker.js", { type: "module" });
  worker.onerror = (event) => fail(event.message ?? "the worker did not start");
  worker.onmessage = ({ data }) => answers[data.type](data);
  worker.postMessage({ type: "load" });
}

const answers = {
  loaded({ network }) {
    state.ready = true;
    say(`Ready: ${network}.`);
  },
  progress({ share }) {
    $("progress").value = share;
  },
  enhanced({ channels, seconds }) {
    state.enhanced = channels;
    const length = channels[0].length / RATE;
    state.factor = seconds / length;
    $("progress").hidden = true;
    $("player").hidden = $("pictures").hidden = false;
    draw($("noisy-picture"), state.noisy[0]);
    draw($("enhanced-picture"), channels[0]);
    say(`${state.name}: ${length.toFixed(1)} s at 16 kHz in ${seconds.toFixed(1)} s, real-time factor ${state.factor.toFixed(2)}`);
  },
  input({ noisy, estimate, factor }) {
    if (!live) return; // stopped meanwhile
    state.factor = factor;
    live.loudspeaker.port.postMessage({ noisy, estimate });
    live.seconds += estimate.length / RATE;
    const slow = factor > 1 ? ", too slow for live audio on this machine" : "";
    say(`Microphone: ${live.seconds.toFixed(0)} s, real-time factor ${factor.toFixed(2)}${slow}; use headphones`);
  },
  error({ message }) {
    fail(message);
  },
};

async function open(file) {
  if (!state.ready) return;
  stop();
  await leaveMicrophone();
  $("player").hidden = $("pictures").hidden = true;
  try {
    // The context's rate is that of the result: the browser resamples.
    const decoded = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await file.arrayBuffer()).catch(() => {
      throw new Error(`${file.name}: this browser cannot decode it; expected a sound file, such as WAV, FLAC, MP3 or Ogg`);
    });
    state.noisy = Array.from({ length: decoded.numberOfChannels }, (_, n) => decoded.getChannelData(n));
    if (!state.noisy.every((channel) => channel.every(Number.isFinite))) {
      throw new Error(`${file.name}: found NaN or infinity among its samples, expected finite numbers`);
    }
    Object.assign(state, { enhanced: null, name: file.name });
    offset = 0;
    $("progress").hidden = false;
    $("progress").value = 0;
    say(`${state.name}: enhancing …`);
    worker.postMessage({ type: "file", channels: state.noisy });
  } catch (error) {
    fail(error);
  }
}

// The share of a signal in what is heard now.
function share(which) {
  const dry = state.shown === "noisy" ? 1 : Number($("dry").value);
  return which === "noisy" ? dry : 1 - dry;
}

// Both signals play all the time, in sync; switching only changes their gains.
function play() {
  context ??= new AudioContext();
  sources = ["noisy", "enhanced"].map((which) => {
    const source = context.createBufferSource();
    const gain = context.createGain();
    source.buffer = context.createBuffer(state[which].length, state[which][0].length, RATE);
    state[which].forEach((channel, n) => source.buffer.copyToChannel(channel, n));
    gain.gain.value = share(which);
    source.connect(gain).connect(context.destination);
    return { which, source, gain };
  });
  const begin = context.currentTime + 0.05;
  for (const { source } of sources) source.start(begin, offset);
  startedAt = begin - offset;
  sources[0].source.onended = () => {
    stop();
    offset = 0;
    move();
  };
  $("play").textContent = "Stop";
  requestAnimationFrame(move);
}

function stop() {
  if (!sources) return;
  offset = Math.max(0, context.currentTime - startedAt);
  sources[0].source.onended = null;
  for (const { source } of sources) source.stop();
  sources = null;
  $("play").textContent = "Play";
}

function move() {
  const at = sources ? Math.max(0, context.currentTime - startedAt) : offset;
  const place = state.noisy ? at / (state.noisy[0].length / RATE) : 0;
  for (const line of document.querySelectorAll(".at")) line.style.left = `${100 * Math.min(1, place)}%`;
  if (sources) requestAnimationFrame(move);
}

function mix() {
  for (const { which, gain } of sources ?? []) gain.gain.setTargetAtTime(share(which), context.currentTime, FADE_SECONDS / 3);
  live?.loudspeaker.port.postMessage({ share: share("enhanced") });
}

function show(which) {
  state.shown = which;
  for (const name of ["noisy", "enhanced"]) $(name).setAttribute("aria-pressed", String(name === which));
  mix();
}

// A WAV file of 32-bit floating point.
function encode(channels) {
  const [count, frames] = [channels.length, channels[0].length];
  const view = new DataView(new ArrayBuffer(44 + 4 * count * frames));
  const words = [0x46464952, 36 + 4 * count * frames, 0x45564157, 0x20746d66, 16, 3 | (count << 16), RATE, 4 * count * RATE];
  words.push((4 * count) | (32 << 16), 0x61746164, 4 * count * frames);
  words.forEach((word, n) => view.setUint32(4 * n, word, true));
  channels.forEach((channel, c) => channel.forEach((value, n) => view.setFloat32(44 + 4 * (n * count + c), value, true)));
  return new Blob([view], { type: "audio/wav" });
}

function save() {
  const dry = Number($("dry").value);
  const mixed = state.enhanced.map((channel, c) => channel.map((value, n) => value + dry * (state.noisy[c][n] - value)));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(encode(mixed));
  link.download = state.name.replace(/\.[^.]*$/, "") + "_enhanced.wav";
  link.click();
}

// A filter that removes what 16 kHz cannot hold.
function lowPass(audio) {
  const [half, cutoff] = [128, 7500 / audio.sampleRate];
  const taps = Float32Array.from({ length: 2 * half + 1 }, (_, n) => {
    const t = n - half;
    return (t ? Math.sin(2 * Math.PI * cutoff * t) / (Math.PI * t) : 2 * cutoff) * (0.5 + 0.5 * Math.cos((Math.PI * t) / half));
  });
  const buffer = audio.createBuffer(1, taps.length, audio.sampleRate);
  buffer.copyToChannel(taps, 0);
  return new ConvolverNode(audio, { buffer, disableNormalization: true });
}

async function useMicrophone() {
  if (live) {
    await leaveMicrophone();
    return say("Ready.");
  }
  stop();
  try {
    const constraints = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    const stream = await navigator.mediaDevices.getUserMedia({ audio: constraints });
    // Some browsers refuse or ignore another rate than the system's for a microphone, none for a loudspeaker.
    const [input, output] = [new AudioContext(), new AudioContext({ sampleRate: RATE })];
    for (const audio of [input, output]) await audio.audioWorklet.addModule("live.js");
    const microphone = new AudioWorkletNode(input, "microphone", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
    const loudspeaker = new AudioWorkletNode(output, "loudspeaker", { numberOfInputs: 0, outputChannelCount: [1] });
    worker.postMessage({ type: "live" });
    microphone.port.onmessage = ({ data }) => worker.postMessage({ type: "samples", samples: data });
    input.createMediaStreamSource(stream).connect(lowPass(input)).connect(microphone);
    loudspeaker.connect(output.destination);
    live = { stream, contexts: [input, output], loudspeaker, seconds: 0 };
    mix();
    $("microphone").textContent = "stop the microphone";
    $("player").hidden = false;
    for (const id of ["play", "save"]) $(id).hidden = true;
    $("pictures").hidden = true;
    say("Microphone: waiting for its sound …");
  } catch (error) {
    fail(`Microphone: ${error.message}`);
  }
}

async function leaveMicrophone() {
  if (!live) return;
  const { stream, contexts } = live;
  live = null;
  for (const track of stream.getTracks()) track.stop();
  for (const audio of contexts) await audio.close();
  $("microphone").textContent = "use the microphone";
  for (const id of ["play", "save"]) $(id).hidden = false;
  $("player").hidden = $("pictures").hidden = !state.enhanced;
}

$("choose").onclick = () => $("file").click();
$("file").onchange = () => $("file").files[0] && open($("file").files[0]);
$("microphone").onclick = useMicrophone;
$("play").onclick = () => (sources ? stop() : play());
$("noisy").onclick = () => show("noisy");
$("enhanced").onclick = () => show("enhanced");
$("dry").oninput = mix;
$("save").onclick = save;
for (const id of ["noisy-picture", "enhanced-picture"]) {
  $(id).onclick = (event) => {
    const playing = Boolean(sources);
    stop();
    offset = (event.offsetX / $(id).clientWidth) * (state.noisy[0].length / RATE);
    if (playing) play();
    move();
  };
}
document.ondragover = (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
};
document.ondragleave = () => $("drop").classList.remove("over");
document.ondrop = (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
};

try {
  start();
} catch (error) {
  fail(error);
}

import { decode, encode } from "./wav.js";
import { draw } from "./spectrogram.js";

const $ = (id) => document.getElementById(id);
const FADE_SECONDS = 0.02;
const state = { settings: null, noisy: null, enhanced: null, rate: 0, factor: 0, shown: "enhanced", name: "" };
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
  loaded({ settings }) {
    state.settings = settings;
    say(`Ready: ${settings.network}.`);
  },
  progress({ share }) {
    $("progress").value = share;
  },
  enhanced({ channels, seconds }) {
    state.enhanced = channels;
    state.factor = seconds / (channels[0].length / state.rate);
    $("progress").hidden = true;
    $("player").hidden = $("pictures").hidden = false;
    draw($("noisy-picture"), state.noisy[0], state.rate);
    draw($("enhanced-picture"), channels[0], state.rate);
    $("download").href = URL.createObjectURL(encode(channels, state.rate));
    $("download").download = state.name.replace(/\.[^.]*$/, "") + "_enhanced.wav";
    const length = channels[0].length / state.rate;
    say(`${state.name}: ${length.toFixed(1)} s at ${state.rate} Hz in ${seconds.toFixed(1)} s, real-time factor ${state.factor.toFixed(2)}`);
  },
  heard(data) {
    if (!live) return; // stopped meanwhile
    state.factor = data.factor;
    live.node.port.postMessage({ noisy: data.noisy, estimate: data.estimate });
    live.seconds += data.estimate.length / 16000;
    const slow = data.factor > 1 ? ", too slow for live audio on this machine" : "";
    say(`Microphone: ${live.seconds.toFixed(0)} s, real-time factor ${data.factor.toFixed(2)}${slow}; use headphones`);
  },
  error({ message }) {
    fail(message);
  },
};

const kept = () => ({ limit_db: Number($("limit").value), highband: $("highband").value, mix: Number($("mix").value) });

async function open(file) {
  if (!state.settings) return;
  stop();
  await leaveMicrophone();
  try {
    const { channels, rate } = await decode(file.name, await file.arrayBuffer(), state.settings.rates);
    Object.assign(state, { noisy: channels, enhanced: null, rate, name: file.name });
    offset = 0;
    enhance();
  } catch (error) {
    fail(error);
  }
}

function enhance() {
  if (!state.noisy) return;
  stop();
  state.enhanced = null;
  $("progress").hidden = false;
  $("progress").value = 0;
  say(`${state.name}: enhancing …`);
  worker.postMessage({ type: "file", channels: state.noisy, rate: state.rate, kept: kept() });
}

// Both signals play all the time, in sync; switching only changes their gains.
function play() {
  context ??= new AudioContext();
  sources = ["noisy", "enhanced"].map((which) => {
    const source = context.createBufferSource();
    const gain = context.createGain();
    source.buffer = context.createBuffer(state[which].length, state[which][0].length, state.rate);
    state[which].forEach((channel, n) => source.buffer.copyToChannel(channel, n));
    gain.gain.value = Number(which === state.shown);
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
  const share = state.noisy ? at / (state.noisy[0].length / state.rate) : 0;
  for (const line of document.querySelectorAll(".at")) line.style.left = `${100 * Math.min(1, share)}%`;
  if (sources) requestAnimationFrame(move);
}

function show(which) {
  state.shown = which;
  for (const name of ["noisy", "enhanced"]) $(name).setAttribute("aria-pressed", String(name === which));
  for (const { which: name, gain } of sources ?? []) {
    gain.gain.setTargetAtTime(Number(name === which), context.currentTime, FADE_SECONDS / 3);
  }
  live?.node.port.postMessage({ share: Number(which === "enhanced") });
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
    const audio = new AudioContext({ sampleRate: 16000 });
    await audio.audioWorklet.addModule("live.js");
    const node = new AudioWorkletNode(audio, "live", { outputChannelCount: [1] });
    worker.postMessage({ type: "live", kept: kept() });
    node.port.onmessage = ({ data }) => worker.postMessage({ type: "samples", samples: data });
    audio.createMediaStreamSource(stream).connect(node).connect(audio.destination);
    live = { stream, audio, node, seconds: 0 };
    $("microphone").textContent = "stop the microphone";
    $("player").hidden = false;
  } catch (error) {
    fail(`Microphone: ${error.message}`);
  }
}

async function leaveMicrophone() {
  if (!live) return;
  const { stream, audio } = live;
  live = null;
  for (const track of stream.getTracks()) track.stop();
  await audio.close();
  $("microphone").textContent = "use the microphone";
}

$("choose").onclick = () => $("file").click();
$("file").onchange = () => $("file").files[0] && open($("file").files[0]);
$("microphone").onclick = useMicrophone;
$("play").onclick = () => (sources ? stop() : state.enhanced && play());
$("noisy").onclick = () => show("noisy");
$("enhanced").onclick = () => show("enhanced");
for (const id of ["limit", "highband", "mix"]) $(id).onchange = enhance;
for (const id of ["noisy-picture", "enhanced-picture"]) {
  $(id).onclick = (event) => {
    const playing = Boolean(sources);
    stop();
    offset = (event.offsetX / $(id).clientWidth) * (state.noisy[0].length / state.rate);
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

// Runs the network outside of the page's thread, at 16 kHz.

import * as ort from "./ort/ort.wasm.min.mjs";

const BLOCK = 4000; // samples
const LEAD = 4800; // samples, 0.3 s
const FRAME = 320; // samples, 20 ms
let session, settings, live;

function join(...parts) {
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

// The gain that brings a channel to a usual level, as tools/inference/signal_chain.py.
function usualGain(channel) {
  const powers = [];
  for (let start = 0; start + FRAME <= channel.length; start += FRAME) {
    powers.push(channel.subarray(start, start + FRAME).reduce((sum, value) => sum + (value * value) / FRAME, 0));
  }
  const level = Math.sqrt(powers.sort((a, b) => a - b)[Math.floor(0.95 * powers.length)] ?? 0);
  const peak = channel.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return level > 0 ? Math.min(Math.min(0.1, Math.max(0.02, level)) / level, 1 / peak) : 1;
}

// One channel through the network, as models/streaming/__init__.py.
class Stream {
  constructor() {
    this.state = {};
    for (const [name, shape] of Object.entries(settings.state)) {
      const size = shape.reduce((product, n) => product * n, 1);
      this.state[name] = new ort.Tensor("float32", new Float32Array(size), shape);
    }
    this.waiting = new Float32Array(0); // less than a hop
    this.tail = new Float32Array(0); // the end of what was fed
    this.arrived = this.given = 0; // samples
    this.early = (settings.edge + settings.look_ahead) * settings.hop; // samples of output before the signal, to drop
  }

  async push(samples) {
    this.arrived += samples.length;
    const all = join(this.waiting, samples);
    const whole = all.length - (all.length % settings.hop);
    this.waiting = all.slice(whole);
    return this.feed(all.slice(0, whole), 1);
  }

  async flush() {
    const { hop, edge, look_ahead, mirrored } = settings;
    let ending;
    if (mirrored) {
      const fill = new Float32Array(Math.max(0, hop + 1 - this.arrived));
      const input = join(this.tail, this.waiting, fill);
      const more = hop - ((this.arrived + fill.length) % hop);
      ending = join(this.waiting, fill, input.slice(-1 - more, -1).reverse());
    } else {
      ending = join(this.waiting, new Float32Array(((hop - (this.arrived % hop)) % hop) + edge * hop));
    }
    const left = this.arrived - this.given;
    const estimate = join(await this.feed(ending, 1), await this.feed(new Float32Array(look_ahead * hop), 0));
    return estimate.slice(0, left);
  }

  async feed(samples, present) {
    if (samples.length === 0) return samples;
    const hops = samples.length / settings.hop;
    const results = await session.run({
      noisy: new ort.Tensor("float32", samples, [1, samples.length]),
      present: new ort.Tensor("float32", new Float32Array(hops).fill(present), [hops]),
      ...this.state,
    });
    for (const name of Object.keys(this.state)) this.state[name] = results[name.replace("state_", "next_")];
    this.tail = join(this.tail, samples).slice(-2 * settings.hop);
    const estimate = results.estimate.data;
    const drop = Math.min(this.early, estimate.length);
    this.early -= drop;
    this.given += estimate.length - drop;
    return estimate.slice(drop);
  }
}

async function load() {
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
  const fetched = async (name) => {
    const response = await fetch(name);
    if (!response.ok) throw new Error(`${name}: ${response.status} ${response.statusText}`);
    return response;
  };
  settings = await (await fetched("settings.json")).json();
  const graph = await (await fetched("network.onnx")).arrayBuffer();
  session = await ort.InferenceSession.create(graph, { executionProviders: ["wasm"] });
  postMessage({ type: "loaded", network: settings.network });
}

async function enhanceFile({ channels }) {
  const begun = performance.now();
  const estimates = [];
  for (const [number, given] of channels.entries()) {
    const [stream, gain] = [new Stream(), usualGain(given)];
    const channel = given.map((value) => gain * value);
    const lead = channel.slice(1, LEAD + 1).reverse(); // warms up the state
    const parts = [await stream.push(lead)];
    for (let start = 0; start < channel.length; start += BLOCK) {
      parts.push(await stream.push(channel.subarray(start, start + BLOCK)));
      postMessage({ type: "progress", share: (number + start / channel.length) / channels.length });
    }
    estimates.push(join(...parts, await stream.flush()).slice(lead.length).map((value) => value / gain));
  }
  postMessage({ type: "enhanced", channels: estimates, seconds: (performance.now() - begun) / 1000 });
}

async function enhanceLive({ samples }) {
  const begun = performance.now();
  const estimate = await live.stream.push(samples);
  live.seconds += (performance.now() - begun) / 1000;
  live.samples += samples.length;
  const noisy = join(live.noisy, samples);
  live.noisy = noisy.slice(estimate.length);
  postMessage({ type: "input", noisy: noisy.slice(0, estimate.length), estimate, factor: live.seconds / (live.samples / 16000) });
}

function startLive() {
  live = { stream: new Stream(), noisy: new Float32Array(0), seconds: 0, samples: 0 };
}

const answers = { load, file: enhanceFile, live: startLive, samples: enhanceLive };
let queue = Promise.resolve(); // messages are processed in order
onmessage = ({ data }) => {
  queue = queue.then(() => answers[data.type](data)).catch((error) => postMessage({ type: "error", message: String(error.message ?? error) }));
};

// Runs the network outside of the page's thread.

import * as ort from "./ort/ort.wasm.min.mjs";
import { Chain } from "./chain.js";

const BLOCK_SECONDS = 0.25;
let parts, live;

async function load() {
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
  const fetched = async (name) => {
    const response = await fetch(name);
    if (!response.ok) throw new Error(`${name}: ${response.status} ${response.statusText}`);
    return response;
  };
  const settings = await (await fetched("settings.json")).json();
  const tables = new Float32Array(await (await fetched("resamplers.bin")).arrayBuffer());
  const graph = await (await fetched("network.onnx")).arrayBuffer();
  const session = await ort.InferenceSession.create(graph, { executionProviders: ["wasm"] });
  parts = { ort, session, settings, tables };
  postMessage({ type: "loaded", settings });
}

async function enhanceFile({ channels, rate, kept }) {
  let peak = 0;
  for (const channel of channels) for (const value of channel) peak = Math.max(peak, Math.abs(value));
  const begun = performance.now();
  const block = Math.round(BLOCK_SECONDS * rate);
  const estimates = [];
  for (const [number, channel] of channels.entries()) {
    const chain = new Chain(parts, rate, kept, peak);
    const estimate = new Float32Array(channel.length);
    let at = 0;
    const add = (piece) => {
      estimate.set(piece, at);
      at += piece.length;
    };
    for (let start = 0; start < channel.length; start += block) {
      add(await chain.push(channel.subarray(start, start + block)));
      postMessage({ type: "progress", share: (number + start / channel.length) / channels.length });
    }
    add(await chain.push(new Float32Array(0), true));
    estimates.push(estimate);
  }
  const seconds = (performance.now() - begun) / 1000;
  postMessage({ type: "enhanced", channels: estimates, seconds });
}

async function enhanceLive(samples) {
  const begun = performance.now();
  const estimate = await live.chain.push(samples);
  live.seconds += (performance.now() - begun) / 1000;
  live.samples += samples.length;
  live.noisy = Float32Array.from([...live.noisy, ...samples]);
  const noisy = live.noisy.slice(0, estimate.length);
  live.noisy = live.noisy.slice(estimate.length);
  postMessage({ type: "heard", noisy, estimate, factor: live.seconds / (live.samples / 16000) });
}

let queue = Promise.resolve(); // messages are processed in order
onmessage = ({ data }) => {
  const answers = {
    load,
    file: () => enhanceFile(data),
    live: () => {
      live = { chain: new Chain(parts, 16000, data.kept, 1), noisy: new Float32Array(0), seconds: 0, samples: 0 };
    },
    samples: () => enhanceLive(data.samples),
  };
  queue = queue.then(answers[data.type]).catch((error) => postMessage({ type: "error", message: String(error.message ?? error) }));
};

// Enhancement of a signal at any rate, block by block: as tools/inference/signal_chain.py and high_band.py, for one
// channel.

import { transform } from "./spectrogram.js";

const RATE = 16000;
const join = (...parts) => {
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
};

// y[m] = sum over k of taps[m * down % up][k] * x[floor(m * down / up) + k], k from -half to half.
class Resampler {
  constructor({ up, down, half }, taps) {
    Object.assign(this, { up, down, half, taps });
    this.x = new Float32Array(half); // input that later outputs need; silence before the beginning
    this.first = -half; // number of x[0]
    this.received = 0;
    this.given = 0;
  }

  push(samples, last) {
    this.received += samples.length;
    this.x = join(this.x, samples, new Float32Array(last ? this.half + 1 : 0));
    const end = last ? Math.round((this.received * this.up) / this.down) : Infinity;
    const out = [];
    for (; this.given < end; this.given++) {
      const centre = Math.floor((this.given * this.down) / this.up);
      const start = centre - this.half - this.first;
      if (start + 2 * this.half >= this.x.length) break;
      const row = ((this.given * this.down) % this.up) * (2 * this.half + 1);
      let sum = 0;
      for (let k = 0; k <= 2 * this.half; k++) sum += this.taps[row + k] * this.x[start + k];
      out.push(sum);
    }
    const unneeded = Math.floor((this.given * this.down) / this.up) - this.half - this.first;
    const drop = Math.max(0, Math.min(unneeded, this.x.length));
    this.x = this.x.slice(drop);
    this.first += drop;
    return Float32Array.from(out);
  }
}

// The network hop by hop; session: an onnxruntime session of the graph, settings: settings.json.
class Network {
  constructor(ort, session, settings) {
    Object.assign(this, { ort, session, settings });
    this.state = Object.fromEntries(
      settings.state.map(({ name, shape }) => {
        const size = shape.reduce((product, n) => product * n, 1);
        return [name, new ort.Tensor("float32", new Float32Array(size), shape)];
      }),
    );
    this.waiting = new Float32Array(0); // less than a hop
    this.tail = new Float32Array(0); // the end of what was fed
    this.arrived = this.given = 0; // samples
    this.early = (settings.edge + settings.look_ahead) * settings.hop; // samples of output before the signal, to drop
  }

  async push(samples) {
    this.arrived += samples.length;
    const all = join(this.waiting, samples);
    const whole = all.length - (all.length % this.settings.hop);
    this.waiting = all.slice(whole);
    return this.feed(all.slice(0, whole), 1);
  }

  async flush() {
    const { hop, edge, look_ahead, mirrored } = this.settings;
    let ending;
    if (mirrored) {
      const fill = new Float32Array(Math.max(0, hop + 1 - this.arrived));
      const heard = join(this.tail, this.waiting, fill);
      const more = hop - ((this.arrived + fill.length) % hop);
      const mirror = Float32Array.from({ length: more }, (_, n) => heard[heard.length - 2 - n]);
      ending = join(this.waiting, fill, mirror);
    } else {
      ending = join(this.waiting, new Float32Array(((hop - (this.arrived % hop)) % hop) + edge * hop));
    }
    const left = this.arrived - this.given;
    const estimate = join(await this.feed(ending, 1), await this.feed(new Float32Array(look_ahead * hop), 0));
    return estimate.slice(0, left);
  }

  async feed(samples, present) {
    const { hop } = this.settings;
    if (samples.length === 0) return samples;
    const hops = samples.length / hop;
    const inputs = {
      noisy: new this.ort.Tensor("float32", samples, [1, samples.length]),
      present: new this.ort.Tensor("float32", new Float32Array(hops).fill(present), [hops]),
      ...this.state,
    };
    const results = await this.session.run(inputs);
    for (const name of Object.keys(this.state)) this.state[name] = results[name.replace("state_", "next_")];
    this.tail = join(this.tail, samples).slice(-2 * hop);
    const estimate = results.estimate.data;
    const drop = Math.min(this.early, estimate.length);
    this.early -= drop;
    this.given += estimate.length - drop;
    return estimate.slice(drop);
  }
}

// A limit to the attenuation, as in tools/inference/limiter.py.
class Limiter {
  constructor({ frame, hop }, floor) {
    Object.assign(this, { frame, hop, floor });
    this.window = Float64Array.from({ length: frame }, (_, n) => Math.sqrt(0.5 - 0.5 * Math.cos((2 * Math.PI * n) / frame)));
    this.noisy = this.estimate = new Float32Array(frame - hop);
    this.sums = new Float64Array(frame);
    this.early = frame - hop;
    this.arrived = this.given = 0;
  }

  push(noisy, estimate, last) {
    const { frame, hop } = this;
    this.arrived += estimate.length;
    const more = new Float32Array(last ? ((hop - (this.arrived % hop)) % hop) + frame - hop : 0);
    this.noisy = join(this.noisy, noisy, more);
    this.estimate = join(this.estimate, estimate, more);
    const count = Math.max(0, Math.floor((this.estimate.length - frame) / hop) + 1);
    const out = new Float32Array(count * hop);
    for (let number = 0; number < count; number++) {
      this.addFrame(number * hop);
      out.set(this.sums.subarray(0, hop), number * hop);
      this.sums.copyWithin(0, hop);
      this.sums.fill(0, frame - hop);
    }
    this.noisy = this.noisy.slice(count * hop);
    this.estimate = this.estimate.slice(count * hop);
    const drop = Math.min(this.early, out.length);
    this.early -= drop;
    const ready = out.slice(drop, drop + this.arrived - this.given);
    this.given += ready.length;
    return ready;
  }

  addFrame(start) {
    const { frame, hop, floor, window } = this;
    // Both signals in one transform: the estimate as real, the noisy signal as imaginary part.
    const re = window.map((weight, n) => weight * this.estimate[start + n]);
    const im = window.map((weight, n) => weight * this.noisy[start + n]);
    transform(re, im);
    const [outRe, outIm] = [new Float64Array(frame), new Float64Array(frame)];
    for (let k = 0; k <= frame / 2; k++) {
      const m = (frame - k) % frame;
      const [yr, yi] = [(re[k] + re[m]) / 2, (im[k] - im[m]) / 2];
      const [xr, xi] = [(im[k] + im[m]) / 2, (re[m] - re[k]) / 2];
      const [size, least] = [Math.hypot(yr, yi), floor * Math.hypot(xr, xi)];
      const lacking = floor * (1 - Math.min(size / Math.max(least, 1e-15), 1));
      const [dr, di] = [yr + lacking * xr, yi + lacking * xi];
      const scale = Math.max(size, least) / Math.max(Math.hypot(dr, di), 1e-15);
      [outRe[k], outIm[k]] = [dr * scale, di * scale];
      if (m !== k) [outRe[m], outIm[m]] = [dr * scale, -di * scale];
    }
    // The inverse transform: the transform of the conjugate, divided by its length.
    transform(outRe, outIm.map((value) => -value));
    for (let n = 0; n < frame; n++) this.sums[n] += (outRe[n] / frame) * window[n] * ((2 * hop) / frame);
  }
}

// The network's gain in the upper part of its band, over time.
class Gains {
  constructor({ frame, memory, high_pass }, floor) {
    Object.assign(this, { frame, memory, high_pass, floor });
    this.filters = [0, 1].map(() => high_pass.map(() => [0, 0]));
    this.waiting = [[], []];
    this.energies = [0, 0];
    this.gains = []; // at the beginning of each frame
    this.first = 0; // frame of gains[0]
  }

  filter(which, samples) {
    const out = this.waiting[which];
    for (let x of samples) {
      this.high_pass.forEach(([b0, b1, b2, , a1, a2], n) => {
        const memory = this.filters[which][n];
        const y = b0 * x + memory[0];
        memory[0] = b1 * x - a1 * y + memory[1];
        memory[1] = b2 * x - a2 * y;
        x = y;
      });
      out.push(x);
    }
  }

  push(estimate, noisy, last) {
    this.filter(0, estimate);
    this.filter(1, noisy);
    const sum = (values) => values.reduce((total, value) => total + value * value, 0);
    while (this.waiting[0].length >= (last ? 1 : this.frame)) {
      const [y, x] = this.waiting.map((values) => sum(values.splice(0, this.frame)));
      this.energies = [this.memory * this.energies[0] + y, this.memory * this.energies[1] + x];
      const gain = Math.sqrt(this.energies[0] / Math.max(this.energies[1], 1e-12));
      this.gains.push(Math.min(1, Math.max(this.floor, gain)));
    }
  }

  knownUntil() {
    return Math.max(0, this.first + this.gains.length - 1) * this.frame;
  }

  at(time) {
    const place = time / this.frame - this.first;
    const before = Math.min(Math.max(0, Math.floor(place)), this.gains.length - 1);
    const after = Math.min(before + 1, this.gains.length - 1);
    const way = Math.min(1, Math.max(0, place - before));
    return (1 - way) * this.gains[before] + way * this.gains[after];
  }

  forget(time) {
    const passed = Math.min(Math.max(0, Math.floor(time / this.frame) - this.first), this.gains.length - 1);
    if (passed > 0) {
      this.gains.splice(0, passed);
      this.first += passed;
    }
  }
}

// kept: {mix, limit_db (0: no limit), highband}; peak: highest magnitude of the whole signal.
export class Chain {
  constructor({ ort, session, settings, tables }, rate, kept, peak) {
    const floor = kept.limit_db > 0 ? 10 ** (-kept.limit_db / 20) : 0;
    this.network = new Network(ort, session, settings);
    this.rate = rate;
    this.mix = kept.mix;
    this.way = rate > RATE ? kept.highband : "drop";
    this.gain = Math.max(peak, 1);
    if (rate !== RATE) {
      const resampler = (kind) => {
        const index = settings.resamplers[rate][kind];
        const size = index.up * (2 * index.half + 1);
        return new Resampler(index, tables.subarray(index.offset, index.offset + size));
      };
      this.down = resampler("down");
      this.up = resampler("up");
      if (this.way !== "drop") this.upNoisy = resampler("up");
      this.gains = new Gains(settings, floor);
    }
    this.limiter = floor > 0 ? new Limiter(settings.limiter, floor) : null;
    this.unlimited = new Float32Array(0); // the noisy signal that the limiter has not seen
    this.low = this.estimates = this.noisyLow = this.present = this.forMix = new Float32Array(0);
    this.taken = this.given = this.raised = 0;
  }

  async push(noisy, last = false) {
    this.taken += noisy.length;
    noisy = noisy.map((value) => value / this.gain);
    const x = this.down ? this.down.push(noisy, last) : noisy;
    let y = await this.network.push(x);
    if (last) y = join(y, await this.network.flush());
    if (this.limiter) {
      this.unlimited = join(this.unlimited, x);
      const matching = this.unlimited.slice(0, y.length);
      this.unlimited = this.unlimited.slice(y.length);
      y = this.limiter.push(matching, y, last);
    }
    if (this.up) y = this.raise(noisy, x, y, last);
    const left = this.taken - this.given;
    y = y.slice(0, left);
    if (last) y = join(y, new Float32Array(left - y.length));
    this.given += y.length;
    this.forMix = join(this.forMix, noisy);
    const now = this.forMix.slice(0, y.length);
    this.forMix = this.forMix.slice(y.length);
    return y.map((value, n) => (value + this.mix * (now[n] - value)) * this.gain);
  }

  raise(noisy, x, y, last) {
    if (this.way === "drop") return this.up.push(y, last);
    this.present = join(this.present, noisy);
    this.low = join(this.low, x);
    const matching = this.low.slice(0, y.length);
    this.low = this.low.slice(y.length);
    if (this.way === "follow") this.gains.push(y, matching, last);
    this.estimates = join(this.estimates, this.up.push(y, last));
    this.noisyLow = join(this.noisyLow, this.upNoisy.push(matching, last));
    let ready = Math.min(this.estimates.length, this.present.length);
    if (this.way === "follow" && !last) {
      const known = Math.floor((this.gains.knownUntil() * this.rate) / RATE);
      ready = Math.min(ready, Math.max(0, known - this.raised));
    }
    const out = new Float32Array(ready);
    for (let n = 0; n < ready; n++) {
      const gain = this.way === "keep" ? 1 : this.gains.at(((this.raised + n) * RATE) / this.rate);
      out[n] = this.estimates[n] + gain * (this.present[n] - this.noisyLow[n]);
    }
    this.raised += ready;
    if (ready && this.way === "follow") this.gains.forget(((this.raised - 1) * RATE) / this.rate);
    for (const name of ["estimates", "noisyLow", "present"]) this[name] = this[name].slice(ready);
    return out;
  }
}

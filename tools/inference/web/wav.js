// Exact reading and writing of WAV files; other formats are decoded by the browser.

const MOST_CHANNELS = 8;
const RATES = [8000, 768000];

function readWav(buffer) {
  const view = new DataView(buffer);
  const text = (at) => String.fromCharCode(...new Uint8Array(buffer, at, 4));
  let form;
  for (let at = 12; at + 8 <= buffer.byteLength; ) {
    const [name, size] = [text(at), view.getUint32(at + 4, true)];
    if (name === "fmt ") {
      const coding = view.getUint16(at + 8, true);
      form = {
        coding: coding === 0xfffe ? view.getUint16(at + 32, true) : coding,
        channels: view.getUint16(at + 10, true),
        rate: view.getUint32(at + 12, true),
        bits: view.getUint16(at + 22, true),
      };
    }
    if (name === "data") return { ...form, start: at + 8, size: Math.min(size, buffer.byteLength - at - 8) };
    at += 8 + size + (size % 2);
  }
  return form;
}

function samplesOf(buffer, { coding, channels, bits, start, size }) {
  const view = new DataView(buffer);
  const bytes = bits / 8;
  const read = {
    "1/8": (at) => (view.getUint8(at) - 128) / 128,
    "1/16": (at) => view.getInt16(at, true) / 32768,
    "1/24": (at) => ((view.getUint16(at, true) | (view.getInt8(at + 2) << 16)) / 8388608),
    "1/32": (at) => view.getInt32(at, true) / 2147483648,
    "3/32": (at) => view.getFloat32(at, true),
    "3/64": (at) => view.getFloat64(at, true),
  }[`${coding}/${bits}`];
  if (!read) return null;
  const frames = Math.floor(size / bytes / channels);
  return Array.from({ length: channels }, (_, channel) =>
    Float32Array.from({ length: frames }, (_, n) => read(start + (n * channels + channel) * bytes)),
  );
}

function rateOf(bytes) {
  const found = String.fromCharCode(...bytes.subarray(0, 4));
  if (found === "fLaC") return (bytes[18] << 12) | (bytes[19] << 4) | (bytes[20] >> 4);
  return 48000; // to which the browser then resamples
}

// Channels and rate of a sound file; throws an Error with the reason if it cannot be read.
export async function decode(name, buffer, supported) {
  if (buffer.byteLength === 0) throw new Error(`${name}: the file is empty`);
  const bytes = new Uint8Array(buffer);
  const isWav = String.fromCharCode(...bytes.subarray(0, 4)) === "RIFF";
  const form = isWav ? readWav(buffer) : null;
  if (isWav && !form?.channels) throw new Error(`${name}: the WAV header has no channels; is the file damaged?`);
  let rate = form?.rate ?? rateOf(bytes);
  if (rate === 0) throw new Error(`${name}: found a rate of 0 Hz, expected ${RATES[0]} or more`);
  let channels = form && supported.includes(rate) ? samplesOf(buffer, form) : null;
  if (!channels) {
    if (!supported.includes(rate)) rate = 48000;
    const context = new OfflineAudioContext(1, 1, rate);
    const decoded = await context.decodeAudioData(buffer.slice(0)).catch(() => {
      throw new Error(`${name}: this browser cannot decode it; expected a sound file, such as WAV, FLAC, MP3 or Ogg`);
    });
    channels = Array.from({ length: decoded.numberOfChannels }, (_, n) => decoded.getChannelData(n));
  }
  if (channels.length > MOST_CHANNELS) {
    throw new Error(`${name}: found ${channels.length} channels, expected ${MOST_CHANNELS} at most; use tools.enhance`);
  }
  if (!channels[0].length) throw new Error(`${name}: found no samples in it`);
  if (channels.some((channel) => !channel.every(Number.isFinite))) {
    throw new Error(`${name}: found NaN or infinity among its samples, expected finite numbers`);
  }
  return { channels, rate };
}

// A WAV file of 32-bit floating point.
export function encode(channels, rate) {
  const [count, frames] = [channels.length, channels[0].length];
  const view = new DataView(new ArrayBuffer(44 + 4 * count * frames));
  const words = [0x46464952, 36 + 4 * count * frames, 0x45564157, 0x20746d66, 16];
  words.forEach((word, n) => view.setUint32(4 * n, word, true));
  view.setUint16(20, 3, true);
  view.setUint16(22, count, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 4 * count * rate, true);
  view.setUint16(32, 4 * count, true);
  view.setUint16(34, 32, true);
  view.setUint32(36, 0x61746164, true);
  view.setUint32(40, 4 * count * frames, true);
  channels.forEach((channel, c) =>
    channel.forEach((value, n) => view.setFloat32(44 + 4 * (n * count + c), value, true)),
  );
  return new Blob([view], { type: "audio/wav" });
}

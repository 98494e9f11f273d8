// Audio threads of the microphone: one sends its signal to the page at 16 kHz, the other plays the result.

const RATE = 16000;
const BLOCK = 320; // samples, 20 ms
const FADE = 1 / 320;
const MOST_WAITING = 1600; // samples, 100 ms: what is later is dropped

// At any rate of the browser's; the page has removed what is above 8 kHz.
class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = [];
    this.place = 0; // of the next sample at 16 kHz, in samples after `before`
    this.before = 0; // the last sample of the earlier call
  }

  process([[input]]) {
    if (!input) return true;
    const step = sampleRate / RATE;
    for (; this.place < input.length; this.place += step) {
      const n = Math.floor(this.place);
      const left = n > 0 ? input[n - 1] : this.before;
      this.block.push(left + (this.place - n) * (input[n] - left));
    }
    this.place -= input.length;
    this.before = input[input.length - 1];
    while (this.block.length >= BLOCK) this.port.postMessage(Float32Array.from(this.block.splice(0, BLOCK)));
    return true;
  }
}

class Loudspeaker extends AudioWorkletProcessor {
  constructor() {
    super();
    this.noisy = [];
    this.estimate = [];
    this.share = this.wanted = 1; // of the enhanced signal
    this.port.onmessage = ({ data }) => {
      if (data.share !== undefined) this.wanted = data.share;
      else {
        this.noisy.push(...data.noisy);
        this.estimate.push(...data.estimate);
        const late = Math.max(0, this.estimate.length - MOST_WAITING);
        for (const signal of [this.noisy, this.estimate]) signal.splice(0, late);
      }
    };
  }

  process(_, [[out]]) {
    if (this.estimate.length >= out.length) {
      const [noisy, estimate] = [this.noisy.splice(0, out.length), this.estimate.splice(0, out.length)];
      for (let n = 0; n < out.length; n++) {
        this.share += Math.max(-FADE, Math.min(FADE, this.wanted - this.share));
        out[n] = this.share * estimate[n] + (1 - this.share) * noisy[n];
      }
    }
    return true;
  }
}

registerProcessor("microphone", Microphone);
registerProcessor("loudspeaker", Loudspeaker);

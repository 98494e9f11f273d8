// Audio thread of the microphone: sends its signal to the page and plays the result, noisy or enhanced.

const BLOCK = 320; // samples, 20 ms
const FADE = 1 / 320;

class Live extends AudioWorkletProcessor {
  constructor() {
    super();
    this.heard = [];
    this.noisy = [];
    this.estimate = [];
    this.share = this.wanted = 1; // of the enhanced signal
    this.port.onmessage = ({ data }) => {
      if (data.share !== undefined) this.wanted = data.share;
      else {
        this.noisy.push(...data.noisy);
        this.estimate.push(...data.estimate);
      }
    };
  }

  process([input], [output]) {
    if (input[0]) this.heard.push(...input[0]);
    while (this.heard.length >= BLOCK) this.port.postMessage(Float32Array.from(this.heard.splice(0, BLOCK)));
    const out = output[0];
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

registerProcessor("live", Live);

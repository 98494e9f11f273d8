// A spectrogram on a canvas: time to the right, 0 Hz to half the rate upwards, 80 dB below the loudest.

const SIZE = 1024;
const RANGE_DB = 80;
const COLOURS = [[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]];

// The Fourier transform in place: real and imaginary part, a power of two of points.
export function transform(re, im) {
  const size = re.length;
  for (let n = 1, m = 0; n < size; n++) {
    let bit = size >> 1;
    for (; m & bit; bit >>= 1) m ^= bit;
    m ^= bit;
    if (n < m) [re[n], re[m], im[n], im[m]] = [re[m], re[n], im[m], im[n]];
  }
  for (let length = 2; length <= size; length *= 2) {
    for (let start = 0; start < size; start += length) {
      for (let k = 0; k < length / 2; k++) {
        const angle = (-2 * Math.PI * k) / length;
        const [a, b] = [start + k, start + k + length / 2];
        const [c, s] = [Math.cos(angle), Math.sin(angle)];
        const [x, y] = [re[b] * c - im[b] * s, re[b] * s + im[b] * c];
        [re[b], im[b]] = [re[a] - x, im[a] - y];
        re[a] += x;
        im[a] += y;
      }
    }
  }
}

export function draw(canvas, samples) {
  const [width, height] = [Math.min(900, Math.max(1, Math.ceil(samples.length / 64))), 256];
  [canvas.width, canvas.height] = [width, height];
  const levels = [];
  for (let column = 0; column < width; column++) {
    const start = Math.round((column / width) * samples.length) - SIZE / 2;
    const re = new Float32Array(SIZE);
    const im = new Float32Array(SIZE);
    for (let n = 0; n < SIZE; n++) re[n] = (samples[start + n] ?? 0) * (0.5 - 0.5 * Math.cos((2 * Math.PI * n) / SIZE));
    transform(re, im);
    for (let row = 0; row < height; row++) {
      const bin = Math.round((row / height) * (SIZE / 2));
      levels.push(10 * Math.log10(re[bin] ** 2 + im[bin] ** 2 + 1e-12));
    }
  }
  const top = levels.reduce((most, level) => Math.max(most, level), -120);
  const picture = canvas.getContext("2d").createImageData(width, height);
  levels.forEach((level, n) => {
    const place = Math.min(1, Math.max(0, 1 + (level - top) / RANGE_DB)) * (COLOURS.length - 1);
    const [low, way] = [Math.min(COLOURS.length - 2, Math.floor(place)), place - Math.min(COLOURS.length - 2, Math.floor(place))];
    const at = 4 * ((height - 1 - (n % height)) * width + Math.floor(n / height));
    for (let c = 0; c < 3; c++) picture.data[at + c] = (1 - way) * COLOURS[low][c] + way * COLOURS[low + 1][c];
    picture.data[at + 3] = 255;
  });
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

/* The mathematics of the lecture's page: a score on a grid, and particles that follow it.
 *
 * `LECTURE`, the constant of data.js, has the numbers. Levels count from 0, the largest sigma, to L - 1.
 * Nothing here knows the page. */
"use strict";

const LectureDynamics = (() => {
  /** A generator of random numbers with the seed's sequence: Marsaglia's xorshift with 128 bits. */
  function random(seed) {
    let a = 123456789 ^ (seed * 2654435761), b = 362436069, c = 521288629, d = 88675123 + seed;
    let spare = null;

    function uniform() {
      const t = a ^ (a << 11);
      a = b; b = c; c = d;
      d = d ^ (d >>> 19) ^ t ^ (t >>> 8);
      return ((d >>> 0) + 0.5) / 4294967296; // never 0: its logarithm is taken
    }

    function normal() {
      if (spare !== null) {
        const kept = spare;
        spare = null;
        return kept;
      }
      const radius = Math.sqrt(-2 * Math.log(uniform())), angle = 2 * Math.PI * uniform();
      spare = radius * Math.sin(angle);
      return radius * Math.cos(angle);
    }

    for (let warm = 0; warm < 64; warm++) uniform(); // neighbouring seeds begin alike
    return { normal };
  }

  /** 16-bit integers, little-endian, from base64. */
  function integers(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    return Int16Array.from({ length: bytes.length / 2 }, (_, i) => view.getInt16(2 * i, true));
  }

  /** score(level, x, y) writes the score into `out`, interpolated linearly in both coordinates.
   *
   * The lines of the grid lie at width sinh(k u), u even in [-1, 1]. Outside of the grid it is that of the edge. */
  function field(data, name) {
    const { points, extent, widths } = data.grid;
    const values = integers(data[name].values), units = data[name].units;
    const factors = widths.map((width) => Math.asinh(extent / width));
    const lines = widths.map((width, level) =>
      Float64Array.from({ length: points }, (_, i) => width * Math.sinh(factors[level] * ((2 * i) / (points - 1) - 1))));
    const out = new Float64Array(2);

    function cell(level, x) {
      const u = Math.asinh(x / widths[level]) / factors[level];
      return Math.max(0, Math.min(points - 2, Math.floor(((u + 1) / 2) * (points - 1))));
    }

    function score(level, x, y) {
      const i = cell(level, x), j = cell(level, y), line = lines[level];
      const fx = Math.max(0, Math.min(1, (x - line[i]) / (line[i + 1] - line[i])));
      const fy = Math.max(0, Math.min(1, (y - line[j]) / (line[j + 1] - line[j])));
      const low = 2 * ((level * points + j) * points + i), high = low + 2 * points;
      const a = (1 - fx) * (1 - fy), b = fx * (1 - fy), c = (1 - fx) * fy, d = fx * fy;
      for (let k = 0; k < 2; k++) {
        const sum = a * values[low + k] + b * values[low + 2 + k] + c * values[high + k] + d * values[high + 2 + k];
        out[k] = units[level] * sum;
      }
      return out;
    }

    return { name, score };
  }

  /** Index of the most probable mode of a clean point at (x, y). */
  function owner(mixture, x, y) {
    let best = 0, most = -Infinity;
    for (let k = 0; k < mixture.weights.length; k++) {
      const [mx, my] = mixture.means[k], v = mixture.variances[k];
      const log = Math.log(mixture.weights[k] / v) - ((x - mx) ** 2 + (y - my) ** 2) / (2 * v);
      if (log > most) { most = log; best = k; }
    }
    return best;
  }

  /** Particles at the start of sampling, and the steps that `dynamics` makes of them.
   *
   * dynamics: "plain" (Langevin at one level), "annealed" or "flow". Equal seeds begin at equal points. */
  function simulation(data, dynamics, source, count, seed) {
    const { sigmas, epsilon, steps_per_level: perLevel, mixture } = data, L = sigmas.length;
    const rng = random(seed), xs = new Float64Array(count), ys = new Float64Array(count);
    const before = { xs: new Float64Array(count), ys: new Float64Array(count) };
    const [[a, b], [c, d]] = data.start.root, [mx, my] = data.start.mean;
    for (let i = 0; i < count; i++) {
      const zx = rng.normal(), zy = rng.normal();
      xs[i] = mx + a * zx + b * zy;
      ys[i] = my + c * zx + d * zy;
    }
    const smallest = sigmas[L - 1];
    // Annealed Langevin ends with a denoising step; the flow takes one step for each level.
    const total = { plain: L * perLevel, annealed: L * perLevel + 1, flow: L }[dynamics];
    const state = { dynamics, xs, ys, before, count, total, step: 0, level: dynamics === "plain" ? L - 1 : 0 };

    /** x <- x + e s + sqrt(2 e) z with e = epsilon (sigma / sigma_L)^2. */
    function langevin(level) {
      const e = epsilon * (sigmas[level] / smallest) ** 2, noise = Math.sqrt(2 * e);
      for (let i = 0; i < count; i++) {
        const s = source.score(level, xs[i], ys[i]);
        xs[i] += e * s[0] + noise * rng.normal();
        ys[i] += e * s[1] + noise * rng.normal();
      }
    }

    /** x <- x + sigma^2 s */
    function denoise(level) {
      const variance = sigmas[level] ** 2;
      for (let i = 0; i < count; i++) {
        const s = source.score(level, xs[i], ys[i]);
        xs[i] += variance * s[0];
        ys[i] += variance * s[1];
      }
    }

    /** Heun's step of dx/dsigma = -sigma s(x, sigma) to the next level; Euler's to sigma = 0. */
    function heun(level) {
      if (level === L - 1) return denoise(level);
      const sigma = sigmas[level], next = sigmas[level + 1], h = next - sigma;
      for (let i = 0; i < count; i++) {
        const first = source.score(level, xs[i], ys[i]), dx = -sigma * first[0], dy = -sigma * first[1];
        const second = source.score(level + 1, xs[i] + h * dx, ys[i] + h * dy);
        xs[i] += (h / 2) * (dx - next * second[0]);
        ys[i] += (h / 2) * (dy - next * second[1]);
      }
    }

    function advance(steps) {
      for (; steps > 0 && state.step < total; steps--) {
        if (dynamics === "flow") {
          before.xs.set(xs);
          before.ys.set(ys);
          heun(state.step);
          state.level = Math.min(L - 1, state.step + 1);
        } else if (dynamics === "annealed") {
          state.level = Math.min(L - 1, Math.floor(state.step / perLevel));
          if (state.step === L * perLevel) denoise(L - 1);
          else langevin(state.level);
        } else langevin(state.level);
        state.step++;
      }
      return state;
    }

    function weights() {
      const counts = mixture.weights.map(() => 0);
      for (let i = 0; i < count; i++) counts[owner(mixture, xs[i], ys[i])]++;
      return counts.map((n) => n / count);
    }

    return Object.assign(state, { advance, weights });
  }

  return { random, field, owner, simulation };
})();

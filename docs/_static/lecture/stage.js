/* The moving figure: controls, drawing, and the clock. The mathematics is in dynamics.js. */
"use strict";

(() => {
  const at = (name) => document.getElementById(`lecture-${name}`);
  const VIEW = 10; // half the width of the picture
  const SEED = 1;
  const ARROWS = 15; // along each side
  const MILLISECONDS = 15; // for the steps of a frame
  const { sigmas, mixture, score_error: errors, steps_per_level: perLevel } = LECTURE;
  const L = sigmas.length;
  const fields = { learned: LectureDynamics.field(LECTURE, "learned"), exact: LectureDynamics.field(LECTURE, "exact") };
  const canvas = at("canvas"), pen = canvas.getContext("2d"), backdrop = document.createElement("canvas");
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const shown = { level: L - 1, probe: [0, 0], drawn: "" };
  let simulation, playing = false, frame = 0, due = 0, last = 0, colours = {};
  let intervals = [], costs = [], told = 0;

  const chosen = (name) => document.querySelector(`#lecture input[name="${name}"]:checked`).value;
  const level = (slider) => L - 1 - Number(slider.value); // the slider's right end is the largest sigma
  const fixed = (x, digits) => x.toFixed(digits).replace("-", "−");

  // The run -------------------------------------------------------------------------------------

  function restart() {
    const count = Number(at("count").value);
    simulation = LectureDynamics.simulation(LECTURE, chosen("dynamics"), fields[chosen("field")], count, SEED);
    if (simulation.dynamics === "plain") simulation.level = shown.level;
    due = 0;
    show(simulation.level);
  }

  function choose() {
    if (chosen("dynamics") === "plain") shown.level = L - 1;
    restart();
  }

  function play(on) {
    if (on && simulation.step === simulation.total) restart();
    if (on && !playing) {
      intervals = [];
      last = 0;
      frame = requestAnimationFrame(tick);
    }
    if (!on) cancelAnimationFrame(frame);
    playing = on;
    at("probe").setAttribute("aria-live", on ? "off" : "polite"); // a moving level would be read out all the time
    at("play").textContent = on ? "Pause" : "Play";
    tell();
  }

  function tick(now) {
    const begun = performance.now(), passed = last ? now - last : 0;
    last = now;
    // After a pause of the browser the run goes on where it was.
    due += (Math.min(passed, 100) / 1000) * (simulation.total / Number(at("seconds").value));
    const steps = Math.floor(due);
    due -= steps;
    // A frame drops the steps that it has no time for. The run then lasts longer.
    for (let i = 0; i < steps && performance.now() - begun < MILLISECONDS; i++) simulation.advance(1);
    if (simulation.level !== shown.level) show(simulation.level);
    draw();
    costs = [...costs.slice(-59), performance.now() - begun];
    if (passed) intervals = [...intervals.slice(-59), passed];
    if (simulation.step === simulation.total) play(false);
    else frame = requestAnimationFrame(tick);
    if (now - told > 150) {
      told = now;
      tell();
    }
  }

  // Numbers -------------------------------------------------------------------------------------

  const median = (values) => values.slice().sort((a, b) => a - b)[values.length >> 1];

  function tell() {
    simulation.weights().forEach((weight, k) => { at(`now-${k}`).textContent = weight.toFixed(3); });
    const { step, total, dynamics, level: here } = simulation;
    const unit = dynamics === "flow" ? "" : `, ${perLevel} steps at each level`;
    const where = dynamics === "plain" ? "" : ` Level ${here + 1} of ${L}${unit}.`;
    at("status").textContent = `Step ${step.toLocaleString("en")} of ${total.toLocaleString("en")}.${where}`;
    const rate = playing && intervals.length > 5 ? `${Math.round(1000 / median(intervals))} frames a second` : "Paused";
    const cost = costs.length ? `; ${median(costs).toFixed(1)} ms of computing for each frame` : "";
    at("speed").textContent = `${rate}${cost}.`;
  }

  function show(now) {
    shown.level = now;
    const sigma = sigmas[now].toPrecision(2), slider = at("sigma");
    slider.value = L - 1 - now;
    slider.setAttribute("aria-valuetext", `sigma ${sigma}, level ${now + 1} of ${L}`);
    at("sigma-shown").textContent = `σ = ${sigma}, level ${now + 1} of ${L}`;
    at("error").textContent = `The learned score differs from the exact one by ${(100 * errors[now]).toFixed(1)} % at this level.`;
    read();
    draw();
    tell();
  }

  function read() {
    const [x, y] = shown.probe, pair = (a, b) => `(${fixed(a, 2)}, ${fixed(b, 2)})`;
    const scores = Object.values(fields).map((field) => `${field.name} ${pair(...field.score(shown.level, x, y))}`);
    at("probe").textContent = `Score at (${fixed(x, 1)}, ${fixed(y, 1)}): ${scores.join(", ")}`;
  }

  // Drawing -------------------------------------------------------------------------------------

  function restyle() {
    const style = getComputedStyle(at("canvas").closest(".lecture"));
    for (const name of ["learned", "exact", "heavier", "lighter", "text", "muted"])
      colours[name] = style.getPropertyValue(`--lecture-${name}`).trim();
    shown.drawn = "";
    draw();
  }

  function resize() {
    const side = Math.max(1, Math.round(canvas.clientWidth * devicePixelRatio));
    if (canvas.width !== side) canvas.width = canvas.height = backdrop.width = backdrop.height = side;
    shown.drawn = "";
    draw();
  }

  const across = (x) => ((x + VIEW) / (2 * VIEW)) * canvas.width;
  const down = (y) => ((VIEW - y) / (2 * VIEW)) * canvas.width;

  /** Arrows along the score; t = sigma |s| is drawn as t / (1 + t) of the distance between arrows. */
  function arrows(field, colour, brush) {
    const cell = (2 * VIEW) / ARROWS, tip = canvas.width / 120;
    brush.beginPath();
    for (let i = 0; i < ARROWS; i++) for (let j = 0; j < ARROWS; j++) {
      const x = -VIEW + (i + 0.5) * cell, y = -VIEW + (j + 0.5) * cell;
      const [u, v] = field.score(shown.level, x, y), size = Math.hypot(u, v), t = size * sigmas[shown.level];
      if (size === 0) continue;
      const length = (0.95 * cell * t) / (1 + t), ex = across(x + (u / size) * length), ey = down(y + (v / size) * length);
      const angle = Math.atan2(-v, u);
      brush.moveTo(across(x), down(y));
      brush.lineTo(ex, ey);
      for (const turn of [-2.6, 2.6]) {
        brush.moveTo(ex, ey);
        brush.lineTo(ex + tip * Math.cos(angle + turn), ey + tip * Math.sin(angle + turn));
      }
    }
    brush.strokeStyle = colour;
    brush.lineWidth = Math.max(1, devicePixelRatio);
    brush.stroke();
  }

  /** Draws the fields on the canvas behind, unless they are there already. */
  function fieldsBehind() {
    const names = at("both").checked ? ["learned", "exact"] : [chosen("field")];
    const wanted = `${shown.level} ${names}`;
    if (wanted === shown.drawn) return;
    shown.drawn = wanted;
    const brush = backdrop.getContext("2d");
    brush.clearRect(0, 0, backdrop.width, backdrop.height);
    for (const name of names) arrows(fields[name], colours[name], brush);
  }

  function draw() {
    if (!simulation) return;
    fieldsBehind();
    const size = Math.max(2, Math.round(1.6 * devicePixelRatio));
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.globalAlpha = 0.55;
    pen.drawImage(backdrop, 0, 0);
    pen.globalAlpha = 0.8;
    const { xs, ys, before, count, dynamics, step, total } = simulation;
    // The flow takes few steps; between two of them the particles are drawn on a straight line.
    const part = dynamics === "flow" && step > 0 && step < total ? due : 1;
    for (const [k, name] of ["heavier", "lighter"].entries()) {
      pen.fillStyle = colours[name];
      for (let i = 0; i < count; i++) {
        if (LectureDynamics.owner(mixture, xs[i], ys[i]) !== k) continue;
        const x = part === 1 ? xs[i] : before.xs[i] + part * (xs[i] - before.xs[i]);
        const y = part === 1 ? ys[i] : before.ys[i] + part * (ys[i] - before.ys[i]);
        pen.fillRect(across(x) - size / 2, down(y) - size / 2, size, size);
      }
    }
    pen.globalAlpha = 1;
    pen.strokeStyle = colours.text;
    pen.lineWidth = devicePixelRatio;
    pen.beginPath();
    pen.arc(across(shown.probe[0]), down(shown.probe[1]), 5 * devicePixelRatio, 0, 2 * Math.PI);
    pen.stroke();
  }

  // Controls ------------------------------------------------------------------------------------

  function probe(x, y) {
    const inside = (value) => Math.max(-VIEW, Math.min(VIEW, value));
    shown.probe = [inside(x), inside(y)];
    read();
    if (!playing) draw();
  }

  function connect() {
    at("missing").remove();
    at("sigma").max = L - 1;
    mixture.weights.forEach((weight, k) => { at(`true-${k}`).textContent = weight.toFixed(3); });
    at("play").addEventListener("click", () => play(!playing));
    at("restart").addEventListener("click", () => { restart(); play(!still.matches || playing); });
    at("dynamics").addEventListener("change", () => { choose(); play(playing || !still.matches); });
    at("field").addEventListener("change", (event) => (event.target.type === "radio" ? restart() : draw()));
    at("count").addEventListener("change", restart);
    at("sigma").addEventListener("input", () => {
      // Only plain Langevin dynamics stays at the reader's level; the others go through all levels.
      if (simulation.dynamics === "plain") simulation.level = level(at("sigma"));
      else play(false);
      show(level(at("sigma")));
    });
    canvas.addEventListener("pointermove", (event) => {
      const box = canvas.getBoundingClientRect(), scale = (2 * VIEW) / box.width;
      probe((event.clientX - box.left) * scale - VIEW, VIEW - (event.clientY - box.top) * scale);
    });
    canvas.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!move) return;
      event.preventDefault();
      probe(shown.probe[0] + 0.5 * move[0], shown.probe[1] + 0.5 * move[1]);
    });
    new ResizeObserver(resize).observe(canvas);
    new MutationObserver(restyle).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  }

  connect();
  restart();
  restyle();
  resize();
  play(!still.matches);
})();

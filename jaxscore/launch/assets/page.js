"use strict";
// The page of one run or of many. Text from a run's files goes into the page as text nodes only; plotly
// reads a little markup in names, so those are escaped.

const COLOURS = ["#1f5fa8", "#e0822f", "#2c8c4a", "#b3261e", "#7b4fb0", "#7a5230", "#c9418f", "#6b6b6b", "#9a9a1c", "#1797a6"];
const LEVELS = "loss by noise level";
const WAITING = "time waiting for data, %";
const FIRST = ["loss", "validation", LEVELS, "grad_norm", "steps_per_second", WAITING];
const TITLES = new Map(Object.entries({
  validation: "validation loss", grad_norm: "gradient norm", steps_per_second: "steps per second", skipped: "skipped steps",
}));
const LEFT_OUT = new Set(["input_wait"]); // its share of the time is drawn
const POLL_MS = 3000;
const PATIENCE_MS = 20000;

let data = JSON.parse(document.getElementById("data").textContent);
let lost = false;
const hidden = new Set();
// Metrics may have any name, such as "constructor".
const orders = Object.create(null);
const logarithmic = Object.create(null);
const charts = Object.create(null);
let level = null;
let picture = null;
let trainingStep = Infinity;
let flagsOpen = false;

// Small parts -------------------------------------------------------------------------------------

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function number(value) {
  if (typeof value !== "number") return value == null ? "" : String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return String(Number(value.toPrecision(4)));
}

function shown(value) {
  if (value === null || value === undefined) return "None";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

// The number that a cell begins with, such as "18.22 ± 0.86" or "30,000"; null if there is none.
function leading(text) {
  const found = /^[+-]?(\d[\d,]*)?\.?\d+(e[+-]?\d+)?/i.exec(String(text).trim());
  return found ? Number(found[0].replaceAll(",", "")) : null;
}

function compare(a, b) {
  const [x, y] = [leading(a), leading(b)];
  if (x !== null && y !== null && x !== y) return x - y;
  if ((x === null) !== (y === null)) return x === null ? 1 : -1;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

// A table whose headings sort it. Rows are {cells: [node or text], keys: [text to sort by]}.
function table(id, heading, rows) {
  const order = orders[id];
  if (order) {
    const blank = (row) => row.keys[order.column] === "";
    rows = [...rows].sort((a, b) =>
      blank(a) - blank(b) || order.sign * compare(a.keys[order.column], b.keys[order.column]));
  }
  const head = heading.map((title, column) => {
    const sorted = order && order.column === column;
    const turn = () => {
      if (sorted && order.sign < 0) delete orders[id]; // the third time the rows stand as they were
      else orders[id] = { column, sign: sorted ? -1 : 1 };
      render();
    };
    const direction = sorted ? (order.sign > 0 ? "ascending" : "descending") : "none";
    const button = el("button", { type: "button", onclick: turn, "data-key": `${id}/${column}`,
      "aria-label": title || `column ${column + 1}` }, title || "–");
    const text = rows.every((row) => leading(row.keys[column]) === null);
    return el("th", { scope: "col", "aria-sort": direction, class: text && "text" }, button);
  });
  const body = rows.map((row) => el("tr", {}, ...row.cells.map((cell, i) =>
    el(i ? "td" : "th", i ? { class: leading(row.keys[i]) === null && "text" } : { scope: "row" }, cell))));
  const whole = el("table", { id }, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...body));
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "table", "data-key": `${id}/box` }, whole);
}

// A section is built again only if what it shows has changed; focus and scrolling stay where they are.
function section(id, title, input, build) {
  let node = document.getElementById(id);
  if (!node) main.append((node = el("section", { id, hidden: true })));
  const signature = JSON.stringify(input);
  if (node.signature === signature) return;
  node.signature = signature;
  const key = document.activeElement?.dataset?.key;
  const scrolled = [...node.querySelectorAll(".scroll")].map((box) => [box.scrollLeft, box.scrollTop]);
  const children = build();
  node.hidden = !children.length;
  node.replaceChildren(...(title && children.length ? [el("h2", {}, title)] : []), ...children);
  [...node.querySelectorAll(".scroll")].forEach((box, i) => {
    if (scrolled[i]) [box.scrollLeft, box.scrollTop] = scrolled[i];
  });
  if (key && node.querySelector(`[data-key="${CSS.escape(key)}"]`) !== document.activeElement) {
    node.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
  }
}

const main = document.querySelector("main");
const colour = (run) => COLOURS[data.runs.indexOf(run) % COLOURS.length];
const visible = () => data.runs.filter((run) => !hidden.has(run.name));
const swatch = (run) => {
  const box = el("span", { class: "swatch" });
  box.style.background = colour(run);
  return box;
};

// The run's progress ------------------------------------------------------------------------------

const last = (values) => [...(values || [])].reverse().find((value) => value !== null && value !== undefined);

function progress(run) {
  const step = last(run.log.step);
  if (step === undefined) return run.evaluated ? "evaluated" : "no line of metrics yet";
  const of = run.steps ? ` of ${number(run.steps)}` : "";
  const state = run.evaluated ? "; evaluated" : step >= run.steps ? "; trained, not evaluated" : "; not finished";
  return `step ${number(step)}${of}${state}`;
}

function ago(seconds) {
  if (seconds === null || seconds === undefined) return "";
  const [n, unit] = seconds < 120 ? [seconds, "s"] : seconds < 7200 ? [seconds / 60, "min"] : [seconds / 3600, "h"];
  return `last line ${Math.round(n)} ${unit} ago`;
}

function status() {
  const one = data.runs.length === 1;
  const parts = one ? [data.runs[0].experiment, progress(data.runs[0]), ago(data.ages[0])] : [`${data.runs.length} runs, ${visible().length} shown`];
  if (data.live) parts.push(lost ? "the server does not answer: this is its last word" : "live");
  const text = parts.filter(Boolean).join(" · ");
  const node = document.getElementById("status");
  if (node.textContent !== text) node.textContent = text;
  document.querySelector("h1").textContent = one ? data.runs[0].name : "Runs";
}

function problems() {
  const one = data.runs.length === 1;
  const found = data.runs.flatMap((run) => run.problems.map((text) => (one ? text : `${run.name}: ${text}`)));
  section("problems", "", found, () => found.map((text) => el("p", { class: "problem" }, text)));
}

function thinned() {
  const found = data.runs.filter((run) => run.log.every > 1).map((run) =>
    `${run.name}: metrics.jsonl has ${number(run.log.lines)} lines; the curves have every ${number(run.log.every)}th`);
  return found.map((text) => el("p", { class: "quiet" }, text));
}

// One run: how it was started ---------------------------------------------------------------------

function about(run) {
  const start = run.launches.at(-1);
  const flags = Object.entries(run.config);
  const changed = start?.changed;
  const pair = (name, value) => ({ cells: [name, ...value], keys: [name, ...value] });
  const parts = [];
  if (start) {
    const known = (value, text) => (value === null ? [] : [text]);
    const line = [...known(start.devices, start.devices), ...known(start.processes, `${number(start.processes)} process${start.processes === 1 ? "" : "es"}`),
      ...known(start.jaxscore, `jaxscore ${start.jaxscore}`), ...known(start.jax, `jax ${start.jax}`), ...known(start.python, `Python ${start.python}`)];
    const command = start.command === null ? "Started from a notebook." : el("code", {}, shown(start.command));
    parts.push(el("p", {}, command), el("p", {}, line.join(" · ")));
    parts.push(el("p", { class: "quiet" }, `started ${run.launches.map((each) =>
      `${shown(each.started)} from step ${number(each.step)}`).slice(-5).join("; ")}`));
  } else parts.push(el("p", { class: "problem" }, "launches.jsonl is missing: how this run was started is not known"));
  if (changed && Object.keys(changed).length) {
    const rows = Object.entries(changed).map(([name, [was, is]]) => pair(name, [shown(was), shown(is)]));
    parts.push(el("h3", {}, "Different from the recipe"), table("changed", ["flag", "recipe", "this run"], rows));
  } else if (changed) parts.push(el("p", {}, "All flags are those of the recipe."));
  const rows = flags.map(([name, value]) => pair(name, [shown(value)]));
  const details = el("details", { open: flagsOpen, ontoggle: () => (flagsOpen = details.open) },
    el("summary", { "data-key": "flags" }, `all ${flags.length} flags`), table("flags", ["flag", "value"], rows));
  parts.push(details);
  return parts;
}

// Many runs ---------------------------------------------------------------------------------------

function runsTable() {
  const validated = data.runs.some((run) => run.log.scalars.validation);
  const heading = ["run", "experiment", "step", "of", "loss", ...(validated ? ["validation"] : []), "steps/s", "state"];
  const rows = data.runs.map((run) => {
    const toggle = () => {
      hidden.has(run.name) ? hidden.delete(run.name) : hidden.add(run.name);
      render();
    };
    const box = el("input", { type: "checkbox", checked: !hidden.has(run.name), onchange: toggle, "data-key": `show ${run.name}` });
    const scalar = (name) => number(last(run.log.scalars[name]));
    const keys = [run.name, run.experiment, number(last(run.log.step)), number(run.steps), scalar("loss"),
      ...(validated ? [scalar("validation")] : []), scalar("steps_per_second"), progress(run).split("; ")[1] || ""];
    return { cells: [el("label", {}, box, swatch(run), run.name), ...keys.slice(1)], keys };
  });
  const all = (on) => () => {
    data.runs.forEach((run) => (on ? hidden.delete(run.name) : hidden.add(run.name)));
    render();
  };
  const buttons = el("p", {}, el("button", { type: "button", onclick: all(true), "data-key": "all" }, "show all"), " ",
    el("button", { type: "button", onclick: all(false), "data-key": "none" }, "show none"));
  return [table("runs-table", heading, rows), buttons];
}

function differences() {
  const names = [...new Set(data.runs.flatMap((run) => Object.keys(run.config)))];
  const value = (run, name) => (Object.hasOwn(run.config, name) ? shown(run.config[name]) : "");
  const differing = names.filter((name) => new Set(data.runs.map((run) => value(run, name))).size > 1);
  if (!differing.length) return [el("p", {}, "All flags are equal.")];
  const rows = visible().map((run) => {
    const keys = [run.name, ...differing.map((name) => value(run, name))];
    return { cells: [el("span", {}, swatch(run), run.name), ...keys.slice(1)], keys };
  });
  return [table("differences-table", ["run", ...differing], rows)];
}

// Tables with one heading are joined, so that runs of an experiment stand below each other.
function results() {
  const groups = new Map();
  for (const run of visible().filter((each) => each.table)) {
    const [heading] = run.table.rows;
    const key = JSON.stringify(heading.slice(1));
    if (!groups.has(key)) groups.set(key, { heading, rows: [], notes: new Set() });
    const group = groups.get(key);
    group.rows.push(...run.table.rows.slice(1).map((cells) => [run, cells]));
    run.table.notes.forEach((note) => group.notes.add(note));
  }
  const one = data.runs.length === 1;
  return [...groups.values()].flatMap((group, place) => {
    const rows = group.rows.map(([run, cells]) => one ? { cells, keys: cells }
      : { cells: [el("span", {}, swatch(run), run.name), ...cells], keys: [run.name, ...cells] });
    const notes = [...group.notes].map((note) => el("p", { class: "quiet" }, note));
    return [table(`results-${place}`, one ? group.heading : ["run", ...group.heading], rows), ...notes];
  });
}

// Charts ------------------------------------------------------------------------------------------

const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

function bins(edges) {
  return [...edges, null].map((high, i) =>
    high === null ? `σ > ${number(edges[i - 1])}` : `${i ? number(edges[i - 1]) : 0} < σ ≤ ${number(high)}`);
}

// Colours from dark to light that stay apart, for n levels.
function shade(i, n) {
  const ramp = [[68, 1, 84], [58, 82, 190], [20, 150, 140], [110, 190, 60], [235, 150, 20]];
  const at = n > 1 ? (i / (n - 1)) * (ramp.length - 1) : 0;
  const low = Math.min(Math.floor(at), ramp.length - 2);
  return `rgb(${ramp[low].map((part, k) => Math.round(part + (at - low) * (ramp[low + 1][k] - part))).join(", ")})`;
}

// Returns {name of the chart: [trace]}; a trace is {name, colour, x, y}.
function curves() {
  const found = Object.create(null);
  const add = (chart, trace) => trace.y.some((y) => y !== null) && (found[chart] ??= []).push(trace);
  const runs = visible();
  const one = data.runs.length === 1;
  for (const run of runs) {
    const own = { name: run.name, colour: colour(run), x: run.log.step };
    for (const [name, y] of Object.entries(run.log.scalars)) if (!LEFT_OUT.has(name)) add(name, { ...own, y });
    bins(run.log.edges || []).slice(0, run.log.by_sigma.length).forEach((name, i, all) => {
      const trace = one ? { name, colour: shade(i, all.length) } : { name: run.name, colour: own.colour };
      if (one || name === level) add(LEVELS, { ...trace, x: own.x, y: run.log.by_sigma[i] });
    });
  }
  return found;
}

const legend = (chart) => chart === LEVELS && data.runs.length === 1;

function levels() {
  return [...new Set(data.runs.flatMap((run) => (run.log.edges ? bins(run.log.edges) : [])))];
}

function drawCharts() {
  if (data.runs.length > 1) level ??= levels()[0] ?? null;
  const found = curves();
  const names = Object.keys(found).sort((a, b) =>
    (FIRST.indexOf(a) + 1 || 99) - (FIRST.indexOf(b) + 1 || 99) || a.localeCompare(b));
  const notes = thinned();
  const none = visible().length ? el("p", { class: "problem" }, "There is no curve: no line of metrics.jsonl could be read.")
    : el("p", { class: "quiet" }, "All runs are hidden.");
  section("charts", "Training", [names, none.textContent, notes.map((note) => note.textContent)], () =>
    names.length ? [...notes, el("div", { class: "grid" }, ...names.map((name) => chart(name).box))] : [none]);
  for (const name of names) draw(charts[name], found[name]);
}

function chart(name) {
  if (charts[name]) return charts[name];
  const title = TITLES.get(name) || name;
  const keys = "arrow keys show values, + and - zoom, 0 shows all";
  const plot = el("div", { class: legend(name) ? "tall plot" : "plot", tabindex: 0, role: "img", "data-key": `plot ${name}`,
    "aria-label": `${title} against the step; ${keys}`, title: keys });
  const said = el("output", { "aria-live": "polite" });
  const own = { name, plot, said, traces: [], at: null };
  const log = el("input", { type: "checkbox", "data-key": `log ${name}`, onchange: () => {
    logarithmic[name] = log.checked;
    draw(own, own.traces);
  } });
  own.log = log;
  const bar = el("div", { class: "bar" }, el("h3", {}, title), el("label", {}, log, " log"));
  own.box = el("div", { class: "chart" }, bar, plot, said);
  if (name === LEVELS && data.runs.length > 1) {
    own.choose = el("select", { "aria-label": "noise level", onchange: () => {
      level = own.choose.value;
      render();
    } });
    bar.insertBefore(own.choose, bar.lastChild);
  }
  plot.addEventListener("keydown", (event) => key(own, event));
  return (charts[name] = own);
}

function draw(own, traces) {
  own.traces = traces;
  if (own.choose && own.choose.options.length !== levels().length) {
    own.choose.replaceChildren(...levels().map((text) => el("option", { value: text, selected: text === level }, text)));
  }
  const positive = traces.every((trace) => trace.y.every((y) => y === null || y > 0));
  own.log.disabled = !positive;
  const log = positive && (logarithmic[own.name] ?? own.name === LEVELS);
  own.log.checked = log;
  const few = (trace) => trace.y.filter((y) => y !== null).length < 12;
  const drawn = traces.map((trace) => ({
    type: "scatter", mode: few(trace) ? "lines+markers" : "lines", name: escaped(trace.name), x: trace.x, y: trace.y,
    line: { color: trace.colour, width: 1.6 }, hoverinfo: "x+y+name", connectgaps: true,
  }));
  const layout = {
    margin: { l: 55, r: 10, t: 8, b: 36 }, font: { size: 11 }, showlegend: legend(own.name), uirevision: own.name + log,
    legend: { orientation: "h", y: -0.25, yanchor: "top" }, hovermode: traces.length <= 10 ? "x unified" : "closest",
    hoverlabel: { namelength: 40 }, xaxis: { title: { text: "step" } }, yaxis: { type: log ? "log" : "linear" },
  };
  Plotly.react(own.plot, drawn, layout, { displayModeBar: false, responsive: true }).then(() => {
    if (own.listens) return;
    own.listens = true;
    own.plot.on("plotly_hover", (event) => tell(own, event.points[0].x));
  });
}

function tell(own, x) {
  own.at = x;
  const values = own.traces.map((trace) => [trace.name, trace.y[trace.x.indexOf(x)]]).filter(([, y]) => y != null);
  const few = values.slice(0, 12).map(([name, y]) => (own.traces.length > 1 ? `${name}: ${number(y)}` : number(y)));
  const rest = values.length > 12 ? [`and ${values.length - 12} more`] : [];
  own.said.textContent = `step ${number(x)}: ${[...few, ...rest].join("; ")}`;
}

function key(own, event) {
  const axis = own.plot.layout.xaxis;
  const xs = [...new Set(own.traces.flatMap((trace) => trace.x))].sort((a, b) => a - b);
  const zoom = (factor) => {
    const [low, high] = axis.range;
    const middle = own.at !== null && own.at >= low && own.at <= high ? own.at : (low + high) / 2;
    const half = ((high - low) / 2) * factor;
    Plotly.relayout(own.plot, { "xaxis.range": [middle - half, middle + half] });
  };
  const place = own.at === null ? -1 : xs.findIndex((x) => x >= own.at);
  const moves = {
    ArrowRight: Math.min(place + 1, xs.length - 1), ArrowLeft: Math.max(place - 1, 0), Home: 0, End: xs.length - 1,
  };
  if (event.key in moves && xs.length) {
    tell(own, xs[moves[event.key]]);
    Plotly.Fx.hover(own.plot, { xval: own.at });
  } else if (event.key === "+" || event.key === "=") zoom(0.5);
  else if (event.key === "-") zoom(2);
  else if (event.key === "0") Plotly.relayout(own.plot, { "xaxis.autorange": true, "yaxis.autorange": true });
  else return;
  event.preventDefault();
}

// Pictures ----------------------------------------------------------------------------------------

function figure(found, caption) {
  const text = found.reduced ? `${caption} (smaller than ${found.file})` : caption;
  if (found.problem) return el("figure", {}, el("p", { class: "problem" }, `${found.file} ${found.problem}`));
  const broken = (event) => event.target.replaceWith(el("p", { class: "problem" }, `${found.file} cannot be shown`));
  const image = () => el("img", { src: found.src, alt: caption, loading: data.live ? "lazy" : "eager", onerror: broken });
  const open = () => {
    const dialog = document.querySelector("dialog");
    dialog.querySelector("img, .problem").replaceWith(image());
    dialog.querySelector("p:last-of-type").textContent = text;
    dialog.showModal();
  };
  const button = el("button", { type: "button", "aria-label": `${caption}: enlarge`, "data-key": `picture ${caption}`, onclick: open }, image());
  return el("figure", {}, button, el("figcaption", {}, text));
}

function training(runs) {
  const steps = [...new Set(runs.flatMap((run) => run.pictures.filter((p) => p.step !== null).map((p) => p.step)))].sort((a, b) => a - b);
  if (!steps.length) return [];
  const nearest = () => Math.max(0, steps.findLastIndex((step) => step <= trainingStep));
  const said = el("output", {});
  const grid = el("div", { class: "grid" });
  const show = () => {
    const step = steps[nearest()];
    said.textContent = ` step ${number(step)}`;
    slider.setAttribute("aria-valuetext", said.textContent);
    // Of each run the last picture up to this step, because runs need not have pictures of the same steps.
    grid.replaceChildren(...runs.flatMap((run) => run.pictures.filter((p) => p.step !== null && p.step <= step).slice(-1).map((p) =>
      figure(p, `${runs.length > 1 ? `${run.name}, ` : ""}step ${number(p.step)}`))));
  };
  const move = () => {
    const place = Number(slider.value);
    trainingStep = place === steps.length - 1 ? Infinity : steps[place];
    show();
  };
  const slider = el("input", { type: "range", min: 0, max: steps.length - 1, value: nearest(), "aria-label": "step of training",
    oninput: move, "data-key": "training" });
  show();
  return [el("h3", {}, "Samples as training went on"), el("p", { class: "training" }, slider, said), grid];
}

function pictures() {
  const runs = visible();
  const of = (run) => run.pictures.filter((found) => found.step === null);
  if (data.runs.length === 1) {
    return [...training(runs), el("div", { class: "grid" }, ...of(runs[0]).map((found) => figure(found, found.name)))];
  }
  const names = [...new Set(data.runs.flatMap((run) => of(run).map((found) => found.name)))];
  if (!names.includes(picture)) picture = names.includes("samples") ? "samples" : names[0] ?? null;
  const choose = el("select", { "aria-label": "picture", "data-key": "picture", onchange: () => {
    picture = choose.value;
    render();
  } }, ...names.map((name) => el("option", { value: name, selected: name === picture }, name)));
  const side = runs.flatMap((run) => of(run).filter((found) => found.name === picture).map((found) => figure(found, run.name)));
  return [...training(runs), ...(names.length ? [el("p", {}, choose), el("div", { class: "grid" }, ...side)] : [])];
}

// The page ----------------------------------------------------------------------------------------

function render() {
  const one = data.runs.length === 1;
  status();
  problems();
  section("runs", "", [one, data.runs, [...hidden], orders["runs-table"]], () => (one ? [] : runsTable()));
  section("about", "", [one, data.runs[0].launches, data.runs[0].config, orders.changed, orders.flags], () => (one ? about(data.runs[0]) : []));
  section("results", "Results", [data.runs.map((run) => [run.name, run.table]), [...hidden], orders], results);
  section("differences", "What differs", [one, data.runs.map((run) => [run.name, run.config]), [...hidden], orders["differences-table"]],
    () => (one ? [] : differences()));
  drawCharts();
  section("pictures", "Pictures", [data.runs.map((run) => run.pictures), [...hidden], picture],
    () => (data.runs.some((run) => run.pictures.length) ? pictures() : [el("p", { class: "quiet" }, "There is no picture yet.")]));
}

async function fetched() {
  try {
    const answer = await fetch("data.json", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

// A page of many runs asks less often, so that it takes no more than a tenth of a processor from the training.
async function refresh() {
  const begin = performance.now();
  const found = await fetched();
  lost = found === null;
  if (lost) status();
  else {
    data = found;
    render();
  }
  setTimeout(refresh, Math.max(POLL_MS, lost ? 0 : 10 * (performance.now() - begin)));
}

render();
if (data.live) setTimeout(refresh, POLL_MS);

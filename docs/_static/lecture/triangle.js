/* The trilemma's triangle: a disc for each row, whose numbers are shown while it is pointed at or focused. */
"use strict";

(() => {
  const rows = LECTURE.trilemma;
  const svg = document.getElementById("lecture-triangle"), card = document.getElementById("lecture-card");
  const legend = document.getElementById("lecture-legend");
  const across = (x) => 40 + 360 * x, down = (y) => 350 - 360 * y;
  const CORNERS = [["quality", 0.5, Math.sqrt(3) / 2], ["coverage", 0, 0], ["speed", 1, 0]];

  /** Unit vector away from the other discs, the nearest of which count most. */
  function away(i) {
    const [x, y] = rows[i].at, sum = [0, 1e-6];
    rows.forEach(({ at: [u, v] }, j) => {
      const squared = (x - u) ** 2 + (y - v) ** 2;
      if (j === i || squared === 0) return;
      sum[0] += (x - u) / squared ** 2;
      sum[1] += (y - v) / squared ** 2;
    });
    return sum.map((part) => part / Math.hypot(...sum));
  }

  function element(name, attributes, text = "") {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
    return made;
  }

  const number = (x) => Number(x.toPrecision(3)).toLocaleString("en", { maximumFractionDigits: 4 });
  const interval = ([mean, reach]) => number(mean) + (reach === null ? "" : ` ± ${number(reach)}`);
  const title = (row) => `${row.family}, ${row.sampler}`;

  /** [heading, value with its interval, value from 0 to 1] of a row's numbers. */
  const lines = (row) => [
    ["Fréchet distance", interval(row.frechet), `quality ${row.scaled.quality.toFixed(2)}`],
    ["recall", interval(row.recall), `coverage ${row.scaled.coverage.toFixed(2)}`],
    ["seconds for 1,000", interval(row.seconds), `speed ${row.scaled.speed.toFixed(2)}`],
    ["evaluations", row.evaluations.toLocaleString("en"), ""],
  ];

  function show(chosen) {
    for (const part of document.querySelectorAll("#lecture-trilemma .lecture-shown")) part.classList.remove("lecture-shown");
    svg.querySelectorAll("g")[chosen].classList.add("lecture-shown");
    legend.children[chosen].classList.add("lecture-shown");
    const heading = document.createElement("p"), table = document.createElement("table");
    heading.textContent = `${chosen + 1}. ${title(rows[chosen])}`;
    for (const [name, ...cells] of lines(rows[chosen])) {
      const line = table.insertRow(), head = document.createElement("th");
      head.scope = "row";
      head.textContent = name;
      line.append(head);
      for (const cell of cells) line.insertCell().textContent = cell;
    }
    card.replaceChildren(heading, table);
  }

  function disc(row, i) {
    const [x, y] = row.at, mean = (row.scaled.quality + row.scaled.coverage + row.scaled.speed) / 3;
    const text = lines(row).map((line) => line.join(" ").trim()).join("; ");
    const group = element("g", { tabindex: 0, role: "img", "aria-label": `${i + 1}. ${title(row)}: ${text}` });
    const radius = Math.sqrt(60 + 240 * mean) * 0.75; // the area grows with the mean, as in the printed figure
    group.append(element("circle", { cx: across(x), cy: down(y), r: radius, fill: row.colour, "fill-opacity": 0.75 }));
    const [dx, dy] = away(i).map((part) => part * (radius + 10));
    const place = { x: across(x) + dx, y: down(y) - dy, "text-anchor": "middle", "dominant-baseline": "central" };
    group.append(element("text", place, String(i + 1)));
    group.addEventListener("pointerenter", () => show(i));
    group.addEventListener("focus", () => show(i));
    return group;
  }

  const edge = CORNERS.map(([, x, y]) => `${across(x)},${down(y)}`).join("L");
  svg.append(element("path", { d: `M${edge}Z` }));
  for (const [name, x, y] of CORNERS)
    svg.append(element("text", { x: across(x), y: down(y) + (y ? -10 : 24), "text-anchor": "middle" }, name));
  svg.append(...rows.map(disc));
  legend.append(...rows.map((row, i) => {
    const item = document.createElement("li"), swatch = document.createElement("span");
    swatch.className = "lecture-swatch";
    swatch.style.background = row.colour;
    item.append(swatch, title(row));
    item.addEventListener("pointerenter", () => show(i));
    return item;
  }));
})();

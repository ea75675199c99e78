"use strict";

const { boards, provenances } = JSON.parse(document.getElementById("data").textContent);
const view = { board: 0, source: "", metric: "", sort: "", falling: true, picked: [] };
const MINUS = "\u2212";

// ---- small things ------------------------------------------------------------------------------

const at = (id) => document.getElementById(id);
const known = (x) => x !== null && x !== undefined;
const number = (x, digits = 2) => (known(x) ? x.toFixed(digits).replace("-", MINUS) : "\u2013");
const signed = (x, digits = 2) => (x >= 0 ? "+" : "") + number(x, digits);
const interval = (low, high) => `${number(low)} to ${number(high)}`;
const FONT = () => `12px ${getComputedStyle(document.body).fontFamily}`;

/** An element. Text goes in as text: a name never becomes markup. */
function el(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "line", "rect", "circle", "path", "text", "title"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== ""));
  return node;
}

const board = () => boards[view.board];
const isLess = (metric = view.metric) => board().less.includes(metric); // better where less
const cell = (row, metric = view.metric) => row.cells[view.source]?.[metric] ?? null;
const hasTracks = (row) => Boolean(cell(row)?.tracks);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const letter = (row) => "AB"[view.picked.indexOf(row)] ?? "";

// ---- statistics --------------------------------------------------------------------------------

/** Quantile of sorted values, with linear interpolation. */
function quantile(sorted, q) {
  const place = (sorted.length - 1) * q, low = Math.floor(place);
  return sorted[low] + (place - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
}

const sortedCopy = (values) => Float64Array.from(values).sort();
const median = (values) => quantile(sortedCopy(values), 0.5);

/** Seeded uniform numbers (mulberry32): the same rows give the same interval. */
function uniform(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** 95 % percentile interval of the median, resampling tracks. */
function bootstrap(values, resamples = 5000) {
  const random = uniform(0), n = values.length, drawn = new Float64Array(n);
  const medians = new Float64Array(resamples);
  for (let i = 0; i < resamples; i++) {
    for (let k = 0; k < n; k++) drawn[k] = values[Math.floor(random() * n)];
    medians[i] = quantile(drawn.sort(), 0.5);
  }
  medians.sort();
  return [0.025, 0.975].map((q) => medians[Math.round((resamples - 1) * q)]);
}

/** Complementary error function, within 1.2e-7 of its value (Chebyshev fit, Numerical Recipes). */
function erfc(x) {
  const t = 1 / (1 + x / 2);
  const c = [-1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277];
  return t * Math.exp(-x * x + c.reduceRight((sum, a) => sum * t + a, 0));
}

/** Share of the sums of signed ranks 1..n that are as far from the middle as this one, exactly. */
function exactTail(n, positive) {
  const total = (n * (n + 1)) / 2, ways = new Float64Array(total + 1);
  ways[0] = 1;
  for (let rank = 1; rank <= n; rank++) for (let sum = total; sum >= rank; sum--) ways[sum] += ways[sum - rank];
  let tail = 0;
  for (let sum = 0; sum <= Math.min(positive, total - positive); sum++) tail += ways[sum];
  return Math.min(1, (2 * tail) / 2 ** n);
}

/**
 * Two-sided Wilcoxon signed-rank p, zeros dropped: counted out for up to 50 differences without
 * ties, else by the normal approximation, its variance less by the ties.
 */
function wilcoxon(differences) {
  const d = differences.filter((x) => x !== 0).sort((x, y) => Math.abs(x) - Math.abs(y));
  const n = d.length;
  if (n === 0) return 1;
  let positive = 0, ties = 0;
  for (let i = 0, j; i < n; i = j) {
    for (j = i + 1; j < n && Math.abs(d[j]) === Math.abs(d[i]); j++);
    const rank = (i + 1 + j) / 2;
    for (let k = i; k < j; k++) if (d[k] > 0) positive += rank;
    ties += (j - i) ** 3 - (j - i);
  }
  if (n <= 50 && ties === 0) return exactTail(n, positive);
  const deviation = Math.sqrt((n * (n + 1) * (2 * n + 1) - ties / 2) / 24);
  return Math.min(1, erfc(Math.abs(positive - (n * (n + 1)) / 4) / deviation / Math.SQRT2));
}

/** What two rows differ by, over the tracks that both have. */
function compare(a, b) {
  const [x, y] = [cell(a).tracks, cell(b).tracks];
  const tracks = board().tracks.map((_, i) => i).filter((i) => known(x[i]) && known(y[i]));
  const differences = tracks.map((i) => x[i] - y[i]);
  if (differences.length < 2) return { tracks, differences };
  const [low, high] = bootstrap(differences);
  const won = differences.filter((d) => (isLess() ? d < 0 : d > 0)).length, tied = differences.filter((d) => d === 0).length;
  return { tracks, differences, low, high, median: median(differences), p: wilcoxon(differences), won, tied, share: (won + tied / 2) / differences.length };
}

// ---- the table ---------------------------------------------------------------------------------

const COLUMNS = {
  rank: { title: "Rank", of: (row) => (cell(row)?.rank ? parseInt(cell(row).rank, 10) : null), rising: true },
  name: { title: "System", of: (row) => row.name.toLowerCase(), rising: true },
  interval: { title: "95 % interval", of: (row) => cell(row)?.low },
  tracks: { title: "Tracks", of: (row) => cell(row)?.n },
  oracle: { title: "Of oracle", of: (row) => cell(row)?.of_oracle },
  parameters: { title: "Parameters", of: (row) => row.parameters, rising: true },
  cost: { title: "CPU s per s", of: (row) => row.cost, rising: true },
};

const column = (id) => COLUMNS[id] ?? { title: id, of: (row) => cell(row, id)?.value, rising: isLess(id) };

/** Columns that hold anything on this tab; metrics that stand beside show when they are chosen. */
function columns() {
  const others = board().columns.filter((metric) => metric !== view.metric);
  return ["rank", "name", view.metric, "interval", "tracks", "oracle", ...others, "parameters", "cost"].filter(
    (id) => id === "name" || id === view.metric || board().rows.some((row) => known(column(id).of(row))));
}

/** Rows in the order of the table: what has no value stands last, whichever way it is sorted. */
function sorted(rows) {
  const { of } = column(view.sort), sign = view.falling ? -1 : 1;
  return rows.map((row) => [of(row), row]).sort(([x, a], [y, b]) => {
    if (!known(x) || !known(y)) return known(y) - known(x) || a.name.localeCompare(b.name);
    return sign * (x < y ? -1 : x > y ? 1 : 0) || a.name.localeCompare(b.name);
  }).map(([, row]) => row);
}

/** Sections: one per provenance, which are never ranked together; oracles and mixture apart. */
function sections() {
  const shown = board().rows.filter((row) => row.provenance === "not measured" || row.cells[view.source]);
  const systems = Object.entries(provenances).map(([id, about]) => ({
    id, about, said: SAID[id] ?? "", rows: sorted(shown.filter((row) => row.role === "system" && row.provenance === id)),
  }));
  const bounds = { id: "bound", about: "oracles and mixture", said: SAID.bound,
    rows: sorted(shown.filter((row) => row.role !== "system")) };
  return [...systems.slice(0, -1), bounds, systems.at(-1)].filter(({ rows }) => rows.length);
}

const SAID = { "bound": "what ideal masks reach, and the mixture left as it is; no ranks",
  "not measured": "with the command that would do it" };
const BADGES = { "measured": "rescored", "re-aggregated": "reaggregated", "copied": "copied", "not measured": "missing", "bound": "bound" };

function drawTable() {
  const ids = columns(), scale = rangeOf(board().rows.map((row) => cell(row)).filter((c) => known(c?.low)).flatMap((c) => [c.value, c.low, c.high]).filter(known));
  const head = el("tr", {}, el("th", { class: "pick", scope: "col" }, el("span", { title: "Choose two rows to compare them" }, "Pair")),
    ids.map((id) => {
      const { title, rising } = column(id), active = view.sort === id;
      const press = () => {
        view.falling = active ? !view.falling : !rising;
        view.sort = id;
        drawAll();
        document.querySelector(`[data-column="${CSS.escape(id)}"]`).focus();
      };
      return el("th", { scope: "col", class: ["name", "interval"].includes(id) ? null : "n",
        "aria-sort": active ? (view.falling ? "descending" : "ascending") : null },
      el("button", { type: "button", "data-column": id, onclick: press }, title + (board().metrics.includes(id) && board().units[id] ? ` (${board().units[id]})` : "")));
    }));
  const bodies = sections().map(({ id, about, said, rows }) => el("tbody", {},
    el("tr", { class: "section" }, el("th", { colspan: ids.length + 1, scope: "rowgroup" },
      el("div", {}, el("span", { class: `badge ${BADGES[id]}` }, about), el("span", { class: "soft" }, said)))),
    rows.map((row) => (id === "not measured" ? missing(row, ids) : line(row, ids, scale, id === "bound")))));
  at("table").replaceChildren(
    el("caption", {}, el("span", {}, (view.source ? `${view.source}, ${view.metric}. ` : "") + (isLess() ? "Less is better. " : "") + "Systems that the tracks cannot tell apart share a rank, as 1-3. "
      + "Each group has ranks of its own."), el("span", { id: "hint" }, "Click two rows to compare them track by track.")),
    el("thead", {}, head), ...bodies);
}

/** The scale of intervals drawn in the table. */
function rangeOf(values) {
  const sorted = sortedCopy(values);
  return sorted.length ? [sorted[0], sorted.at(-1)] : [0, 1];
}

function line(row, ids, scale, bound) {
  const toggle = () => pick(row);
  const box = el("input", { type: "checkbox", "aria-label": `Compare ${row.name}`, checked: Boolean(letter(row)), "data-row": row.id });
  box.addEventListener("change", toggle);
  const node = el("tr", { class: `row ${letter(row)}` },
    el("td", { class: "pick" }, el("label", {}, box, el("span", { class: "letter" }, letter(row)))),
    ids.map((id) => field(row, id, scale, bound)));
  node.addEventListener("click", (event) => {
    if (!event.target.closest("label") && !String(getSelection())) toggle();
  });
  return node;
}

function field(row, id, scale, bound) {
  const c = cell(row);
  switch (id) {
    case "name": {
      const notes = [bound ? `${row.role}, ${row.provenance}` : "", ...row.remarks];
      return el("th", { scope: "row", class: "name" }, row.name, said(notes));
    }
    case "rank": return el("td", { class: "n" }, c?.rank || "\u2013");
    case "interval": return el("td", { class: "interval" }, known(c?.low) ? [whisker(c, scale), interval(c.low, c.high)] : "\u2013");
    case "tracks": return el("td", { class: "n" },
      known(c?.n) ? (known(board().n_test) ? `${c.n} of ${board().n_test}` : String(c.n)) : "\u2013");
    case "oracle": return el("td", { class: "n" }, known(c?.of_oracle) ? `${number(c.of_oracle, 0)} %` : "\u2013");
    case "parameters": return el("td", { class: "n" }, known(row.parameters) ? row.parameters.toLocaleString("en") : "\u2013");
    case "cost": return el("td", { class: "n" }, known(row.cost) ? row.cost.toPrecision(2) : "\u2013");
    default: {
      const value = cell(row, id), main = id === view.metric;
      return el("td", { class: main ? "n value" : "n" }, number(value?.value),
        main && known(value?.spread) ? el("small", {}, `seeds: ${number(value.spread)} apart`) : "");
    }
  }
}

const said = (notes) => el("small", {}, notes.filter(Boolean).join(" \u00b7 "));

/** A system that nobody measured: its name, and what would do it. */
function missing(row, ids) {
  return el("tr", {}, el("td", { class: "pick" }),
    el("th", { scope: "row", class: "name", colspan: ids.length }, row.name, said(row.remarks), row.command ? el("code", {}, row.command) : ""));
}

function whisker(c, [low, high]) {
  const x = (value) => number(4 + (92 * (value - low)) / (high - low || 1), 1).replace(MINUS, "-");
  return el("svg", { width: 100, height: 12, "aria-hidden": "true", style: "vertical-align:-1px;margin-right:.5rem" },
    el("line", { x1: x(c.low), x2: x(c.high), y1: 6, y2: 6, stroke: "currentColor", "stroke-width": 1.5 }),
    el("circle", { cx: x(c.value), cy: 6, r: 3, fill: "currentColor" }));
}

// ---- two rows ----------------------------------------------------------------------------------

function pick(row) {
  const place = view.picked.indexOf(row);
  if (place >= 0) view.picked.splice(place, 1);
  else view.picked = [...view.picked, row].slice(-2);
  drawAll();
  document.querySelector(`[data-row="${row.id}"]`)?.focus({ preventScroll: true });
}

function clearPair() {
  view.picked = [];
  drawAll();
}

/** Why a row has no place in a comparison of tracks. */
function whyNot(row) {
  if (!cell(row)) return `${row.name} has no ${view.source}.`;
  if (row.provenance === "copied") return `${row.name} is copied from a publication that gives no values of single tracks.`;
  return `${row.name} has no values of single tracks for ${view.metric}.`;
}

function drawPair() {
  const panel = at("pair"), [a, b] = view.picked, children = [];
  panel.classList.toggle("empty", !a);
  const name = (row) => el("span", { class: `is-${letter(row).toLowerCase()}` }, `${letter(row)} ${row.name}`);
  children.push(el("button", { type: "button", class: "close", "aria-label": "Clear the comparison", onclick: clearPair }, "\u00d7"),
    el("h2", {}, "Two rows, track by track"));
  if (!b) {
    children.push(el("p", { class: "soft" }, a ? [name(a), " is chosen. Choose a second row."] : "Choose two rows of the table."));
    if (a && !hasTracks(a)) children.push(el("p", {}, whyNot(a)));
  } else if (!hasTracks(a) || !hasTracks(b)) {
    children.push(el("p", {}, name(a), ", ", name(b)), ...[a, b].filter((row) => !hasTracks(row)).map((row) => el("p", {}, whyNot(row))),
      el("p", { class: "soft" }, "Without the tracks nothing can be said about the pair; intervals and values alone do not decide it."));
  } else children.push(...paired(a, b, name));
  for (const row of view.picked) children.push(...about(row));
  panel.replaceChildren(...children);
}

/** What is known of a row beside its figures. */
function about(row) {
  const c = cell(row), facts = known(c?.frames) ? [...row.facts, ["valid frames", `${c.valid} of ${c.frames}`]] : [...row.facts];
  facts.push(...(c?.beside ?? []).map(([statistic, value]) => [`${statistic} of ${view.metric}`, number(value)]));
  if (row.command) facts.push(["measure here", el("code", {}, row.command)]);
  if (!facts.length) return [];
  return [el("h3", { class: `is-${letter(row).toLowerCase()}` }, row.name), el("dl", {}, facts.map(([term, value]) => [el("dt", {}, term), el("dd", {}, value)]))];
}

function paired(a, b, name) {
  const result = compare(a, b), n = result.differences.length, unit = board().units[view.metric] ?? "";
  const heading = el("p", {}, name(a), ` ${MINUS} `, name(b), `, ${view.source}, ${view.metric}`);
  if (n < 2) return [heading, el("p", {}, `They have ${n === 1 ? "one track" : "no track"} in common: nothing to compare.`)];
  const fact = (term, id, value) => [el("dt", {}, term), el("dd", { id }, value)];
  const p = result.p < 1e-4 ? result.p.toExponential(0).replace("-", MINUS) : result.p.toFixed(4);
  const facts = el("dl", {},
    fact("median difference", "pair-median", `${signed(result.median)} ${unit}`),
    fact("95 % interval", "pair-interval", interval(result.low, result.high)),
    fact("Wilcoxon p", "pair-p", p),
    fact("tracks won by A", "pair-won", `${number(100 * result.share, 0)} % (${result.won} of ${n}${result.tied ? `, ${result.tied} equal count half` : ""})`));
  facts.dataset.result = JSON.stringify({ ...result, tracks: undefined, differences: undefined, n });
  const warnings = [];
  if (a.provenance !== b.provenance) warnings.push(el("p", { class: "soft" }, `They differ in provenance (${a.provenance}, ${b.provenance}): look at the method of scoring before believing the difference.`));
  return [heading, facts, bars(result), ...warnings, el("p", { class: "soft" },
    "Difference of each track, sorted. One test, not corrected for the number of pairs; ranks are.")];
}

/** The differences, sorted, as bars. */
function bars({ differences, tracks }) {
  const width = 300, height = 96, order = differences.map((d, i) => [d, board().tracks[tracks[i]]]).sort(([x], [y]) => y - x);
  const reach = Math.max(...differences.map(Math.abs)) || 1, step = (width - 40) / order.length;
  const y = (d) => height / 2 - (d / reach) * (height / 2 - 8);
  return el("svg", { viewBox: `0 0 ${width} ${height}`, width: "100%", style: "max-width:24rem", role: "img",
    "aria-label": `Differences of ${order.length} tracks, from ${signed(order.at(-1)[0])} (${order.at(-1)[1]}) to ${signed(order[0][0])} (${order[0][1]})` },
  [reach, 0, -reach].map((d) => el("g", {}, el("line", { class: "grid", x1: 40, x2: width, y1: y(d), y2: y(d) }),
    el("text", { class: "soft", x: 36, y: y(d) + 4, "text-anchor": "end" }, d === 0 ? "0" : signed(d, reach < 1 ? 2 : 1)))),
  order.map(([d, track], i) => el("rect", { x: 40 + i * step, width: Math.max(step - (step > 3 ? 1 : 0), 0.6), y: Math.min(y(0), y(d)),
    height: Math.max(Math.abs(y(d) - y(0)), 0.5), style: `fill:var(--${d >= 0 === !isLess() ? "a" : "b"})` }, el("title", {}, `${track}: ${signed(d)}`))));
}

// ---- box plots ---------------------------------------------------------------------------------

const rowsWithTracks = () => sections().flatMap(({ rows }) => rows)
  .filter((row) => hasTracks(row) && cell(row).tracks.some(known));

/** Quartiles, whiskers within 1.5 times their distance, and what lies beyond. */
function box(values) {
  const s = sortedCopy(values), [q1, q2, q3] = [0.25, 0.5, 0.75].map((q) => quantile(s, q)), reach = 1.5 * (q3 - q1);
  const inside = s.filter((v) => v >= q1 - reach && v <= q3 + reach);
  return { q1, q2, q3, low: inside[0], high: inside.at(-1), beyond: [...s].filter((v) => v < inside[0] || v > inside.at(-1)) };
}

function ticks(low, high, n) {
  const rough = (high - low) / Math.max(n, 1), power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const list = [];
  for (let t = Math.ceil(low / step) * step; t <= high + 1e-9; t += step) list.push(Math.abs(t) < 1e-9 ? 0 : +t.toFixed(6));
  return list;
}

const pen = document.createElement("canvas").getContext("2d");

/** Names as they fit beside a plot of some width, and the room that they take. */
function labels(rows, width) {
  pen.font = FONT();
  const most = Math.min(width * 0.34, 220), wide = (text) => pen.measureText(text).width;
  const names = rows.map(({ name }) => {
    let fits = name;
    for (let n = name.length; wide(fits) > most; n--) fits = `${name.slice(0, n - 1)}\u2026`;
    return fits;
  });
  return { names, left: Math.ceil(Math.max(...names.map(wide))) + 12 };
}

function drawBoxes() {
  const place = at("boxes"), rows = rowsWithTracks(), width = place.clientWidth;
  at("boxes-figure").hidden = !rows.length;
  if (!rows.length || !width) return;
  const stats = rows.map((row) => box(cell(row).tracks.filter(known)));
  const low = Math.min(...stats.map((s) => s.low)), high = Math.max(...stats.map((s) => s.high)), pad = (high - low) * 0.04 || 1;
  const { names, left } = labels(rows, width), pitch = 20, bottom = rows.length * pitch + 6, right = width - 26;
  const x = (v) => left + ((v - low + pad) / (high - low + 2 * pad)) * (right - left);
  const grid = ticks(low, high, width / 90).map((t) => el("g", {},
    el("line", { class: "grid", x1: x(t), x2: x(t), y1: 0, y2: bottom }),
    el("text", { class: "soft", x: x(t), y: bottom + 14, "text-anchor": "middle" }, number(t, Number.isInteger(t) ? 0 : 1))));
  const drawn = rows.map((row, i) => {
    const s = stats[i], y = i * pitch + 12, paint = letter(row) ? `var(--${letter(row).toLowerCase()})` : "var(--box)";
    const out = (side) => s.beyond.filter((v) => (side < 0 ? v < low - pad : v > high + pad)).length;
    const edge = (side) => (out(side) ? el("text", { class: "soft", x: side < 0 ? left + 1 : right + 3, y: y + 4 }, (side < 0 ? "\u2039" : "\u203a") + out(side)) : null);
    const ink = { stroke: "var(--ink)", "stroke-width": 1 };
    return el("g", {},
      el("title", {}, `${row.name}: median ${number(s.q2)}, quartiles ${interval(s.q1, s.q3)}, whiskers ${interval(s.low, s.high)}`),
      el("rect", { x: 0, y: y - pitch / 2, width, height: pitch, fill: "transparent" }),
      el("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, names[i]),
      el("line", { x1: x(s.low), x2: x(s.q1), y1: y, y2: y, ...ink }), el("line", { x1: x(s.q3), x2: x(s.high), y1: y, y2: y, ...ink }),
      el("rect", { x: x(s.q1), width: Math.max(x(s.q3) - x(s.q1), 1), y: y - 5, height: 10, style: `fill:${paint}`, stroke: "var(--ink)", "stroke-width": 0.75 }),
      el("line", { x1: x(s.q2), x2: x(s.q2), y1: y - 5, y2: y + 5, stroke: "var(--ink)", "stroke-width": 2 }),
      s.beyond.filter((v) => v >= low - pad && v <= high + pad).map((v) => el("circle", { cx: x(v), cy: y, r: 1.6, fill: "none", stroke: "var(--ink)", "stroke-width": 0.8 })),
      edge(-1), edge(1));
  });
  place.replaceChildren(el("svg", { width, height: bottom + 20, viewBox: `0 0 ${width} ${bottom + 20}`, role: "img",
    "aria-label": `Box plots of ${view.metric} over tracks: ` + rows.map((row, i) => `${row.name} ${number(stats[i].q2)}`).join(", ") }, grid, drawn));
}

// ---- heat map ----------------------------------------------------------------------------------

// Cividis, which reads the same with and without red and green.
const CIVIDIS = ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"]
  .map((hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)));

function cividis(t) {
  const place = Math.min(Math.max(t, 0), 1) * (CIVIDIS.length - 1), i = Math.min(Math.floor(place), CIVIDIS.length - 2);
  return `rgb(${CIVIDIS[i].map((c, k) => Math.round(c + (place - i) * (CIVIDIS[i + 1][k] - c))).join(" ")})`;
}

let heat = null; // what the canvas shows: rows, order of tracks, geometry, cursor

function drawHeat() {
  const canvas = at("heat"), rows = rowsWithTracks(), room = at("heat-room").clientWidth;
  at("heat-figure").hidden = !rows.length;
  if (!rows.length || !room) return;
  const values = rows.map((row) => cell(row).tracks);
  const middle = board().tracks.map((_, t) => median(values.map((v) => v[t]).filter(known)));
  const order = middle.map((m, t) => [m, t]).filter(([m]) => !Number.isNaN(m)).sort(([x], [y]) => x - y).map(([, t]) => t);
  const all = sortedCopy(values.flat().filter(known)), low = quantile(all, 0.05), high = quantile(all, 0.95);
  const { names, left } = labels(rows, room), pitch = 18;
  const w = Math.min(Math.max(Math.floor((room - left) / order.length), 3), 28);
  heat = { rows, names, values, order, left, pitch, w, low, high, cursor: heat?.cursor ?? [0, 0] };
  heat.cursor = [Math.min(heat.cursor[0], rows.length - 1), Math.min(heat.cursor[1], order.length - 1)];
  const width = Math.ceil(left + w * order.length) + 1, height = rows.length * pitch + 2, dense = Math.max(devicePixelRatio || 1, 2);
  Object.assign(canvas, { width: width * dense, height: height * dense });
  Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
  paintHeat();
  drawLegend(low, high);
  at("readout").textContent = `Point at a cell, or focus the map and use the arrow keys.`;
}

function paintHeat(marked = false) {
  const canvas = at("heat"), ctx = canvas.getContext("2d"), { rows, names, values, order, left, pitch, w, low, high, cursor } = heat;
  const dense = canvas.width / parseFloat(canvas.style.width);
  ctx.setTransform(dense, 0, 0, dense, 0, 0);
  ctx.clearRect(0, 0, canvas.width, canvas.height);
  ctx.font = FONT();
  ctx.textAlign = "right";
  ctx.textBaseline = "middle";
  rows.forEach((row, r) => {
    ctx.fillStyle = colour(letter(row) ? `--${letter(row).toLowerCase()}` : "--ink");
    ctx.fillText(names[r], left - 8, r * pitch + pitch / 2);
    order.forEach((t, k) => {
      const v = values[r][t];
      ctx.fillStyle = known(v) ? cividis((v - low) / (high - low || 1)) : colour("--gap");
      ctx.fillRect(left + k * w, r * pitch + 1, w > 6 ? w - 0.5 : w, pitch - 1);
      if (!known(v)) { // no value: a stroke, so that it is no colour of the scale
        ctx.fillStyle = colour("--soft");
        ctx.fillRect(left + k * w + w * 0.25, r * pitch + pitch / 2, w / 2, 1);
      }
    });
  });
  if (marked) {
    const [r, k] = cursor, [x, y, cw, ch] = [left + k * w, r * pitch + 1, w, pitch - 1];
    ctx.lineWidth = 4; ctx.strokeStyle = colour("--paper"); ctx.strokeRect(x, y, cw, ch);
    ctx.lineWidth = 2; ctx.strokeStyle = colour("--ink"); ctx.strokeRect(x, y, cw, ch);
  }
}

function drawLegend(low, high) {
  const width = 180, n = 40;
  const x = (v) => 10 + ((v - low) / (high - low || 1)) * (width - 20);
  at("legend").replaceChildren(el("svg", { width: width + 150, height: 30, role: "img", "aria-label": `Colours from ${number(low, 1)} (dark blue) to ${number(high, 1)} (yellow)` },
    Array.from({ length: n }, (_, i) => el("rect", { x: 10 + (i * (width - 20)) / n, width: (width - 20) / n + 0.5, height: 10, fill: cividis((i + 0.5) / n) })),
    ticks(low, high, 4).map((t) => el("text", { class: "soft", x: x(t), y: 24, "text-anchor": "middle" }, number(t, Number.isInteger(t) ? 0 : 1))),
    el("text", { class: "soft", x: width, y: 10 }, `${view.metric} ${board().units[view.metric] ?? ""}`),
    el("rect", { x: width + 80, width: 12, height: 10, style: "fill:var(--gap)" }), el("rect", { x: width + 83, width: 6, y: 5, height: 1, style: "fill:var(--soft)" }),
    el("text", { class: "soft", x: width + 97, y: 10 }, "no value")));
}

function moveTo(r, k) {
  const { rows, order, values } = heat;
  heat.cursor = [Math.min(Math.max(r, 0), rows.length - 1), Math.min(Math.max(k, 0), order.length - 1)];
  paintHeat(true);
  const [row, track] = [rows[heat.cursor[0]], order[heat.cursor[1]]], value = values[heat.cursor[0]][track];
  at("readout").textContent = `${row.name}, ${board().tracks[track]}: ${known(value) ? `${number(value)} ${board().units[view.metric] ?? ""}` : "no value"}`;
}

function heatEvents() {
  const canvas = at("heat"), point = (event) => {
    const k = Math.floor((event.offsetX - heat.left) / heat.w), r = Math.floor(event.offsetY / heat.pitch);
    if (k >= 0 && k < heat.order.length && r < heat.rows.length) moveTo(r, k);
  };
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);
  canvas.addEventListener("pointerleave", () => paintHeat(document.activeElement === canvas));
  canvas.addEventListener("focus", () => moveTo(...heat.cursor));
  canvas.addEventListener("blur", () => paintHeat());
  canvas.addEventListener("keydown", (event) => {
    const [r, k] = heat.cursor, last = heat.order.length - 1;
    const to = { ArrowUp: [r - 1, k], ArrowDown: [r + 1, k], ArrowLeft: [r, k - 1], ArrowRight: [r, k + 1], Home: [r, 0], End: [r, last] }[event.key];
    if (to) { event.preventDefault(); moveTo(...to); }
  });
}

// ---- the page ----------------------------------------------------------------------------------

function drawTabs() {
  at("tabs").replaceChildren(...board().sources.map((source, i) => el("button", {
    type: "button", role: "tab", id: `tab-${i}`, "aria-controls": "panel", "aria-selected": String(source === view.source),
    tabindex: source === view.source ? 0 : -1, onclick: () => openTab(i),
  }, source)));
  at("panel").setAttribute("aria-labelledby", view.source ? `tab-${board().sources.indexOf(view.source)}` : "tabs");
}

function openTab(i) {
  show({ source: board().sources[i] });
  at(`tab-${i}`).focus();
}

function drawAll() {
  drawTable();
  drawPair();
  drawBoxes();
  drawHeat();
}

/** Shows a board and a source. What does not exist there falls back to the first. */
function show({ index = view.board, source = view.source, metric = view.metric }) {
  if (index !== view.board || !view.metric) view.picked = [];
  view.board = index;
  view.source = board().sources.includes(source) ? source : board().sources[0] ?? "";
  const metrics = board().metrics;
  view.metric = metrics.includes(metric) ? metric : metrics[0];
  view.sort = view.metric;
  view.falling = !isLess();
  at("board").value = index;
  at("metric").replaceChildren(...metrics.map((m) => el("option", { value: m, selected: m === view.metric }, m)));
  at("metric").parentElement.hidden = metrics.length < 2;
  at("about").replaceChildren(...board().notes.map((note) => el("p", {}, note)));
  drawTabs();
  drawAll();
  history.replaceState(null, "", "#" + new URLSearchParams({ board: board().key, source: view.source, metric: view.metric }));
}

function start() {
  at("board").replaceChildren(...boards.map((b, i) => el("option", { value: i }, b.title)));
  at("board").addEventListener("change", (event) => show({ index: Number(event.target.value) }));
  at("metric").addEventListener("change", (event) => show({ metric: event.target.value }));
  at("tabs").addEventListener("keydown", (event) => {
    const n = board().sources.length, i = board().sources.indexOf(view.source);
    const to = { ArrowRight: (i + 1) % n, ArrowLeft: (i + n - 1) % n, Home: 0, End: n - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    openTab(to);
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") clearPair(); });
  heatEvents();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  for (const [event, on] of [["beforeprint", true], ["afterprint", false]]) {
    addEventListener(event, () => { // the canvas is no style sheet's: it is painted anew on white
      document.documentElement.classList.toggle("printing", on);
      drawHeat();
    });
  }
  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; drawBoxes(); drawHeat(); } });
  const asked = new URLSearchParams(location.hash.slice(1));
  const index = Math.max(boards.findIndex((b) => b.key === asked.get("board")), 0);
  show({ index, source: asked.get("source") ?? "", metric: asked.get("metric") ?? "" });
}

start();

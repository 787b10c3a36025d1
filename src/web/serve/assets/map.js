// How synthetic each place has looked over the last minutes, drawn over the picture. Bands of scores differ by their pattern
// as well as by their colour, and the place that looks most synthetic is told in words.
import { el, moment, score } from "./base.js";

const ns = "http://www.w3.org/2000/svg";

const shape = (name, attributes, ...children) => {
  const node = document.createElementNS(ns, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
};

// From the least to the most synthetic; what was not judged belongs to none and stays empty.
const BANDS = [
  { name: "clear", paint: "#4fd07a", opacity: 0.12, marks: [["M0 1 L1 0", 0.05]], says: (about) => `striped: clear, below ${about.unsure_from.toFixed(2)}` },
  { name: "unsure", paint: "#ffbf3f", opacity: 0.25, marks: [["M0.5 0.5 h0.001", 0.45]], says: (about) => `dotted: unsure, from ${about.unsure_from.toFixed(2)}` },
  { name: "synthetic", paint: "#ff5a4f", opacity: 0.4, marks: [["M0 1 L1 0 M0 0 L1 1", 0.14]], says: (about) => `crossed: synthetic, from ${about.threshold.toFixed(2)}` },
];

const band = (value, about) => (value === null ? -1 : value >= about.threshold ? 2 : value >= about.unsure_from ? 1 : 0);

let count = 0;

// Patterns of all bands, in units of so many pixels; their ids are unlike any others on the page.
const patterns = (unit) => {
  count += 1;
  const ids = BANDS.map(({ name }) => `map-${count}-${name}`);
  const defs = shape("defs", {}, ...BANDS.map(({ paint, opacity, marks }, at) => shape("pattern",
    { id: ids[at], patternUnits: "userSpaceOnUse", width: unit, height: unit },
    shape("rect", { width: unit, height: unit, fill: paint, "fill-opacity": opacity }),
    ...marks.map(([d, width]) => shape("path", { d, stroke: paint, "stroke-width": width, "stroke-linecap": "round", fill: "none", transform: `scale(${unit})` })))));
  return { ids, defs };
};

export const drawMap = (map, about) => {
  const svg = shape("svg", { viewBox: `0 0 ${map.width} ${map.height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const { ids, defs } = patterns(map.width / 48);
  svg.append(defs);
  for (let row = 0; row < map.rows; row += 1) {
    // Neighbours of one band become one rectangle.
    for (let column = 0; column < map.columns;) {
      const of = (c) => band(map.values[row * map.columns + c], about);
      const [from, which] = [column, of(column)];
      while (column < map.columns && of(column) === which) column += 1;
      if (which < 0) continue;
      svg.append(shape("rect", {
        x: from * map.side, y: row * map.side, width: (column - from) * map.side, height: map.side,
        fill: `url(#${ids[which]})`, "data-band": BANDS[which].name,
      }));
    }
  }
  return svg;
};

// The same in words, for those who do not see it.
export const tellMap = (map) => {
  const known = map.values.map((value, at) => ({ value, at })).filter(({ value }) => value !== null);
  if (!known.length) return "No place was judged yet.";
  const { value, at } = known.reduce((most, next) => (next.value > most.value ? next : most));
  const [column, row] = [at % map.columns, Math.floor(at / map.columns)];
  const third = (n, all, names) => names[Math.min(2, Math.floor(((n + 0.5) / all) * 3))];
  const where = `${third(row, map.rows, ["at the top", "in the middle", "at the bottom"])} ${third(column, map.columns, ["on the left", "centre", "on the right"])}`;
  return `Most synthetic: ${score(value)} ${where} (pixel ${column * map.side}, ${row * map.side}; covered by ${map.judged[at]} judged tiles). ` +
    `${known.length} of ${map.values.length} places judged since ${moment(map.since)}.`;
};

export const legend = (about) => el("ul", { class: "legend" },
  ...BANDS.map((one, at) => {
    const svg = shape("svg", { viewBox: "0 0 24 16", width: 24, height: 16, "aria-hidden": "true" });
    const { ids, defs } = patterns(8);
    svg.append(defs, shape("rect", { width: 24, height: 16, fill: `url(#${ids[at]})` }));
    return el("li", {}, svg, one.says(about));
  }),
  el("li", {}, el("span", { class: "empty" }), "empty: not judged"));

// What all parts of the page use: elements, questions to the box, tiles over a picture.
export const el = (name, attributes = {}, ...children) => {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "class") node.className = value;
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((c) => c !== undefined && c !== null));
  return node;
};

export const score = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));

export const moment = (text) => (text ? new Date(text).toLocaleString() : "–");

// The answer, or an error whose message is what the box said.
const answer = async (path, request) => {
  const response = await fetch(path, request);
  if (response.status === 401) location.assign("/login");
  const body = await response.json().catch(() => ({}));
  if (!response.ok) {
    throw Object.assign(new Error(body.error ?? `${response.status} ${response.statusText}`), { status: response.status, body });
  }
  return body;
};

export const ask = (path) => answer(path, { headers: { accept: "application/json" } });

export const send = (path, body) => answer(path, {
  method: "POST",
  headers: { accept: "application/json", "content-type": "application/json" },
  body: JSON.stringify(body),
});

// Red for what looks generated, from where spotd is unsure; green for the rest. The number stands beside it, so that
// colour is never all there is.
export const colour = (value, about) =>
  value >= about.threshold ? "#ff5a4f" : value >= about.unsure_from ? "#ffbf3f" : "#4fd07a";

// Tiles over a picture: rectangles with their scores, in the frame's own pixels.
export const tiles = (frame, about) => {
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  svg.setAttribute("viewBox", `0 0 ${frame.width} ${frame.height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const line = Math.max(1, frame.width / 320);
  for (const tile of frame.tiles) {
    const rect = document.createElementNS(ns, "rect");
    const paint = colour(tile.score, about);
    const all = { x: tile.x + line, y: tile.y + line, width: tile.width - 2 * line, height: tile.height - 2 * line, fill: paint, "fill-opacity": 0.12, stroke: paint, "stroke-width": line };
    for (const [key, value] of Object.entries(all)) rect.setAttribute(key, value);
    const text = document.createElementNS(ns, "text");
    const size = Math.max(10, frame.width / 36);
    const place = { x: tile.x + 3 * line, y: tile.y + size + line, fill: "#fff", stroke: "#000", "stroke-width": line * 0.7, "paint-order": "stroke", "font-size": size };
    for (const [key, value] of Object.entries(place)) text.setAttribute(key, value);
    text.textContent = tile.score.toFixed(2);
    svg.append(rect, text);
  }
  return svg;
};

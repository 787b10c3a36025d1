// The mean spectrum of an event's frame beside its source's normal one, computed when somebody asks for it.
import { ask, el } from "./base.js";

// A square of values as a picture, each value one pixel.
const draw = (side, values, paint, name) => {
  const canvas = el("canvas", { width: side, height: side, role: "img", "aria-label": name });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(side, side);
  values.forEach((value, at) => pixels.data.set([...paint(value), 255], 4 * at));
  context.putImageData(pixels, 0, 0);
  return el("figure", {}, canvas, el("figcaption", {}, name));
};

const grey = (low, high) => (value) => Array(3).fill(Math.round(255 * Math.min(1, Math.max(0, (value - low) / (high - low || 1)))));

// Red where there is more than normally, blue where there is less; white is as always.
const change = (value) => {
  const part = Math.min(1, Math.abs(value));
  const rest = Math.round(255 * (1 - part));
  return value > 0 ? [255, rest, rest] : [rest, rest, 255];
};

const pictures = ({ side, event, normal, pictures: count }) => {
  const all = normal ? [...event, ...normal] : event;
  const paint = grey(all.reduce((a, b) => Math.min(a, b)), all.reduce((a, b) => Math.max(a, b)));
  const shown = [draw(side, event, paint, "this event's frame")];
  if (!normal) return [...shown, el("p", {}, "No picture of this source was clear since spotd started, so there is nothing to compare with.")];
  const differences = event.map((value, at) => value - normal[at]);
  const most = differences.reduce((best, value, at) => (value > differences[best] ? at : best), 0);
  const cycles = (n) => ((n - side / 2) / side).toFixed(3);
  return [...shown, draw(side, normal, paint, `the source while clear, ${count} picture(s)`), draw(side, differences, change, "difference"),
    el("p", {}, `The largest excess is ${differences[most].toFixed(2)} (log10) at ${cycles(most % side)}, ${cycles(Math.floor(most / side))} cycles per pixel. Points and lines on a grid are what upsampling leaves; a change of scene changes all frequencies.`)];
};

export const spectrum = (id) => {
  const place = el("div", { class: "tiles", role: "status" });
  const part = el("details", { id: "spectrum" }, el("summary", {}, "Mean spectrum, beside the source's normal one"), place);
  part.addEventListener("toggle", async () => {
    if (!part.open || place.childElementCount) return;
    place.replaceChildren(el("p", {}, "computing"));
    try {
      place.replaceChildren(...pictures(await ask(`/api/v1/events/${id}/spectrum`)));
    } catch (error) {
      place.replaceChildren(el("p", {}, error.message));
    }
  });
  return part;
};

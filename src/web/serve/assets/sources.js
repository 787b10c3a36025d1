// A card for each source: picture with tiles, state, verdict, scores and their curve.
import { ask, el, moment, score, tiles } from "./base.js";
import { drawMap, legend, tellMap } from "./map.js";

const cards = new Map();
const KEEP = 600;

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Both thresholds, drawn across the curve.
const lines = (about) => ({
  hooks: {
    draw: [(u) => {
      const { ctx, bbox } = u;
      ctx.save();
      ctx.lineWidth = devicePixelRatio;
      ctx.setLineDash([5 * devicePixelRatio, 4 * devicePixelRatio]);
      for (const [value, name] of [[about.threshold, "--synthetic"], [about.unsure_from, "--unsure"]]) {
        const y = u.valToPos(value, "y", true);
        ctx.strokeStyle = css(name);
        ctx.beginPath();
        ctx.moveTo(bbox.left, y);
        ctx.lineTo(bbox.left + bbox.width, y);
        ctx.stroke();
      }
      ctx.restore();
    }],
  },
});

const curve = (place, data, about) => {
  const axis = { stroke: () => css("--soft"), grid: { stroke: () => css("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
  const options = {
    width: place.clientWidth || 320, height: 130, legend: { show: false }, cursor: { show: false },
    scales: { x: { time: true }, y: { range: [0, 1] } },
    axes: [{ ...axis, space: 70 }, { ...axis, size: 34, splits: () => [0, 0.5, 1] }],
    series: [
      {},
      { label: "frame", stroke: () => css("--soft"), width: 0, points: { show: true, size: 3, fill: css("--soft") }, paths: () => null },
      { label: "median", stroke: () => css("--link"), width: 2 },
    ],
    plugins: [lines(about)],
  };
  return new uPlot(options, data, place);
};

// What lies over the picture, each switched by itself.
const layers = (id, parts) => {
  const one = (name, shown, ...nodes) => {
    const button = el("button", { type: "button", "data-layer": name.toLowerCase(), "aria-pressed": String(shown) }, name);
    button.addEventListener("click", () => {
      const now = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(now));
      for (const node of nodes) node.hidden = !now;
      if (now && nodes.includes(parts.heat)) showMap(id);
    });
    return button;
  };
  return el("div", { class: "layers", role: "group", "aria-label": `Over the picture of ${id}` },
    one("Tiles", true, parts.over), one("Map", false, parts.heat, parts.told));
};

// The map is asked for while it is shown, and every other second at most.
const showMap = async (id) => {
  const one = cards.get(id);
  if (!one || one.mapping || one.parts.heat.hidden || document.hidden || document.getElementById("overview").hidden) return;
  one.mapping = true;
  const text = one.parts.told.firstChild;
  try {
    const map = await ask(`/api/v1/sources/${encodeURIComponent(id)}/map`);
    one.parts.heat.replaceChildren(drawMap(map, one.about));
    text.textContent = tellMap(map);
  } catch (error) {
    one.parts.heat.replaceChildren();
    text.textContent = `No map: ${error.message}`;
  } finally {
    setTimeout(() => { one.mapping = false; }, 1500);
  }
};

const card = async (source, about) => {
  const parts = {
    verdict: el("span", { class: "badge" }), state: el("span", { class: "why" }), why: el("p", { class: "why" }),
    image: el("img", { alt: "", hidden: true }), none: el("span", { class: "none" }, "no picture yet"), over: el("div", { class: "over" }), heat: el("div", { class: "heat", hidden: true }),
    told: el("div", { hidden: true }, el("p", { class: "why" }, "No map yet."), legend(about)),
    scene: el("div", { class: "scene" }), curve: el("div", { class: "curve", role: "img", "aria-label": `Scores of ${source.id} over the last ten minutes` }),
    raw: el("dd"), smoothed: el("dd"), peak: el("dd"), parts: el("dd"), frames: el("dd"),
  };
  parts.scene.append(parts.image, parts.heat, parts.over, parts.none);
  const list = el("dl", {}, el("dt", {}, "frame"), parts.raw, el("dt", {}, "median"), parts.smoothed, el("dt", {}, "peak"), parts.peak,
    el("dt", {}, "parts"), parts.parts, el("dt", {}, "frames"), parts.frames);
  const root = el("section", { class: "card", "aria-label": source.id }, el("div", { class: "row" }, el("h3", {}, source.id), parts.verdict),
    parts.state, parts.why, parts.scene, layers(source.id, parts), parts.told, parts.curve, list);
  document.getElementById("sources").append(root);
  const history = await ask(`/api/v1/sources/${encodeURIComponent(source.id)}/history`);
  const data = [history.at, history.raw, history.smoothed];
  const one = { parts, data, about, plot: curve(parts.curve, data, about), verdict: undefined, loading: false };
  new ResizeObserver(() => one.plot.setSize({ width: parts.curve.clientWidth, height: 130 })).observe(parts.curve);
  cards.set(source.id, one);
};

// A picture is asked for when the one before has come, and only while somebody looks.
const picture = async (id, one) => {
  if (one.loading || document.hidden || document.getElementById("overview").hidden) return;
  one.loading = true;
  try {
    const response = await fetch(`/api/v1/sources/${encodeURIComponent(id)}/picture`);
    if (response.ok) {
      const before = one.url;
      one.url = URL.createObjectURL(await response.blob());
      one.parts.image.src = one.url;
      one.parts.image.alt = `Newest picture of ${id}`;
      one.parts.image.hidden = false;
      one.parts.none.hidden = true;
      if (before) URL.revokeObjectURL(before);
    }
  } catch {
    // The box is away: the status line says so.
  } finally {
    one.loading = false;
  }
};

const reasons = { degraded: "too little is left of the picture to find much" };

const fill = (source, one, about) => {
  const { parts } = one;
  parts.verdict.textContent = source.verdict;
  parts.verdict.className = `badge ${source.state === "live" ? source.verdict : ""}`;
  parts.state.textContent = source.paused ? `${source.state}, paused` : source.state;
  parts.why.textContent = source.why ?? (source.reason ? `${source.reason}: ${reasons[source.reason] ?? ""}` : "");
  parts.raw.textContent = score(source.raw);
  parts.smoothed.textContent = score(source.smoothed);
  parts.peak.textContent = score(source.peak);
  const logits = source.newest?.logits;
  parts.parts.textContent = logits ? `network ${logits.network.toFixed(2)}, coherence ${logits.coherence?.toFixed(2) ?? "–"} (logits)` : "–";
  const dropped = Object.values(source.dropped).reduce((sum, n) => sum + n, 0);
  parts.frames.textContent = `${source.judged} judged, ${dropped} dropped, last ${moment(source.last_frame)}`;
  if (source.newest) {
    parts.scene.style.aspectRatio = `${source.newest.width} / ${source.newest.height}`;
    parts.over.replaceChildren(tiles(source.newest, about));
  }
};

export const showSources = async (sources, about) => {
  for (const source of sources) {
    await card(source, about);
    fill(source, cards.get(source.id), about);
  }
};

export const updateSources = (sources, about) => {
  for (const source of sources) {
    const one = cards.get(source.id);
    if (!one) continue;
    fill(source, one, about);
    if (one.verdict !== undefined && one.verdict !== source.verdict) {
      document.getElementById("news").textContent = `${source.id} is ${source.verdict} now, was ${one.verdict}`;
    }
    one.verdict = source.verdict;
    if (source.point && source.point[0] > (one.data[0].at(-1) ?? 0)) {
      one.data.forEach((column, i) => {
        column.push(source.point[i]);
        if (column.length > KEEP) column.shift();
      });
      one.plot.setData(one.data);
    }
    if (source.state === "live") picture(source.id, one);
    showMap(source.id);
  }
};

// What was flagged: a gallery with filters, and one event with everything that the log has of it.
import { ask, el, moment, score, tiles } from "./base.js";
import { judgement, standing } from "./review.js";
import { spectrum } from "./spectrum.js";

const form = document.getElementById("filter");
const list = document.getElementById("events");
const older = document.getElementById("older");
const newer = document.getElementById("newer");
let before = "";
let next = "";

const query = () => {
  const all = new URLSearchParams();
  for (const [key, value] of new FormData(form)) {
    if (value) all.set(key, key === "from" || key === "to" ? new Date(value).toISOString() : value);
  }
  if (before) all.set("before", before);
  return all;
};

const picture = (id, sha256) => `/api/v1/events/${id}/evidence/${sha256}`;

const entry = (event) => {
  const shown = event.picture && !event.removed;
  const image = shown ? el("img", { src: picture(event.id, event.picture), alt: "", loading: "lazy" })
    : el("span", { class: "nothing" }, event.removed ? "picture has made room" : "no picture");
  const what = event.kind === "alert" ? "alert" : event.ended ? "flag" : "flag, going on";
  return el("li", {}, el("a", { href: `#event/${event.id}` }, image,
    el("span", {}, `${event.source}: ${what}`), el("span", { class: "soft" }, `${moment(event.began)}, peak ${score(event.peak)}`),
    standing(event.review) ? el("span", { class: "reviewed" }, standing(event.review)) : undefined));
};

export const refreshEvents = async () => {
  try {
    const page = await ask(`/api/v1/events?${query()}`);
    list.replaceChildren(...page.events.map(entry));
    document.getElementById("no-events").hidden = page.events.length > 0;
    next = page.next ?? "";
  } catch (error) {
    list.replaceChildren(el("li", {}, `The events cannot be listed: ${error.message}`));
    next = "";
  }
  older.hidden = !next;
  newer.hidden = !before;
};

export const bindEvents = (ids) => {
  form.elements.source.append(...ids.map((id) => el("option", { value: id }, id)));
  form.addEventListener("change", () => { before = ""; refreshEvents(); });
  form.addEventListener("submit", (e) => e.preventDefault());
  older.addEventListener("click", () => { before = next; refreshEvents(); });
  newer.addEventListener("click", () => { before = ""; refreshEvents(); });
};

const check = (name, { holds, text }) =>
  el("li", { class: holds === true ? "yes" : holds === false ? "no" : "none" },
    `${name}: ${holds === true ? "holds" : holds === false ? "does not hold" : "not checked"}, ${text}`);

// Asked for first, so that the page can say why there is none.
const bundle = (id) => {
  const path = `/api/v1/events/${id}/bundle`;
  const problem = el("span", { id: "bundle-problem", role: "alert" });
  const link = el("a", { id: "bundle", href: path, download: "" }, "Download the evidence (ZIP)");
  link.addEventListener("click", async (event) => {
    if (link.dataset.there) {
      delete link.dataset.there;
      return;
    }
    event.preventDefault();
    problem.textContent = "";
    try {
      const there = await fetch(path, { method: "HEAD" });
      if (!there.ok) await ask(path);
      link.dataset.there = "yes";
      link.click();
    } catch (error) {
      problem.textContent = ` There is none: ${error.message}`;
    }
  });
  return el("p", {}, link, ", to be checked elsewhere with ", el("code", {}, `spotd-verify event-${id}`), ".", problem);
};

const gone = "The pictures have made room; the records and their hashes remain.";

const notices = (event) => {
  const all = [];
  if (event.removed && event.first.evidence) all.push(gone);
  if (event.first.clock === "set-back") all.push("The box's clock was set back before this record: its times are earlier than those of the record before.");
  if (event.reviewed?.clock === "set-back") all.push("The box's clock was set back before the newest judgement.");
  return all;
};

// The event that is shown, and how its judgement is brought up to date.
let shown;

const page = (event, about) => {
  const { first } = event;
  const judged = judgement(event.id);
  judged.show(event.reviewed);
  shown = { event, judged };
  const files = first.evidence;
  const scene = files && !event.removed && first.frame
    ? el("div", { class: "scene", id: "event-scene" }, el("img", { src: picture(event.id, files.frame.sha256), alt: `The flagged frame of ${event.source}` }),
      tiles({ ...first.frame, tiles: first.tiles }, about))
    : el("p", {}, event.removed ? gone : first.evidence_error ?? "No picture was kept.");
  if (first.frame && scene.className === "scene") scene.style.aspectRatio = `${first.frame.width} / ${first.frame.height}`;
  const numbers = [
    ["verdict", event.verdict], ["frame", score(first.raw)], ["median", score(first.smoothed)], ["peak", score(event.peak)],
    ["synthetic from", score(first.threshold)], ["unsure from", score(first.unsure_from)], ["captured", moment(event.began)],
    ["ended", event.ended ? moment(event.ended) : "not yet"], ["records", event.records],
    ["model", `${first.model.name} ${first.model.version} (${first.model.precision})`],
    ["network", first.logits ? `${first.logits.network.toFixed(2)} (logit)` : "–"],
    ["coherence", first.logits?.coherence !== undefined ? `${first.logits.coherence.toFixed(2)} (logit)` : "–"],
    ["hash", first.hash],
  ];
  const kept = files && !event.removed ? files.tiles.map((tile) => el("figure", {}, el("img", { src: picture(event.id, tile.sha256), alt: `Tile at ${tile.x}, ${tile.y}`, loading: "lazy" }),
    el("figcaption", {}, `${tile.x}, ${tile.y}: ${score(tile.score)}`))) : [];
  if (kept.length && files.map) {
    kept.push(el("figure", {}, el("img", { class: "map", src: picture(event.id, files.map.sha256), alt: "Map of the minutes before", loading: "lazy" }),
      el("figcaption", {}, `Map since ${moment(files.map.since)}: from black, clear, to white, synthetic; a pixel is ${files.map.side} of the frame's; striped where nothing was judged`)));
  }
  return [
    el("p", {}, el("a", { href: "#" }, "Back to all sources")),
    el("h2", { id: "event-title", tabindex: "-1" }, `${event.source}: ${event.kind} ${event.id}`),
    el("div", { id: "event-notices", role: "status" }, ...notices(event).map((text) => el("p", { class: "notice" }, text))),
    scene,
    judged.part,
    el("dl", {}, ...numbers.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))])),
    el("h3", {}, "Does it still hold?"),
    el("ul", { class: "checks" }, check("Chain", event.checks.chain), check("Evidence", event.checks.evidence), check("Signature", event.checks.signature)),
    bundle(event.id),
    ...(files ? [spectrum(event.id)] : []),
    ...(kept.length ? [el("h3", {}, "Tiles kept losslessly"), el("div", { class: "tiles" }, ...kept)] : []),
    el("h3", {}, "The record, every member"),
    el("pre", { tabindex: "0" }, JSON.stringify(first, null, 2)),
    ...(event.last ? [el("h3", {}, "Its newest record"), el("pre", { tabindex: "0" }, JSON.stringify(event.last, null, 2))] : []),
  ];
};

// Something was written: the event that is shown may have changed. What an operator is typing stays.
export const refreshEvent = async () => {
  const before = shown;
  if (!before || document.getElementById("event").hidden) return;
  try {
    const event = await ask(`/api/v1/events/${before.event.id}`);
    if (shown !== before) return;
    before.judged.update(event.reviewed);
    if (event.removed && !before.event.removed) {
      before.event.removed = true;
      for (const image of document.querySelectorAll("#event .scene img, #event .tiles img")) {
        image.replaceWith(el("span", { class: "nothing" }, "picture has made room"));
      }
    }
    document.getElementById("event-notices").replaceChildren(...notices(event).map((text) => el("p", { class: "notice" }, text)));
  } catch (error) {
    if (shown === before) document.getElementById("event-notices").replaceChildren(el("p", { class: "notice" }, error.message));
  }
};

export const showEvent = async (id, about) => {
  const place = document.getElementById("event");
  shown = undefined;
  place.replaceChildren(el("h2", { id: "event-title" }, `Event ${id}`), el("p", {}, "reading the log"));
  try {
    place.replaceChildren(...page(await ask(`/api/v1/events/${id}`), about));
  } catch (error) {
    place.replaceChildren(el("p", {}, el("a", { href: "#" }, "Back to all sources")), el("h2", { id: "event-title", tabindex: "-1" }, `Event ${id}`), el("p", { role: "alert" }, error.message));
  }
  document.getElementById("event-title").focus();
};

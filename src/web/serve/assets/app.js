// The page: sources as they are now, what was flagged, and one event whole. No framework: four modules, and uPlot for
// the curves. Whatever comes from the box goes into the page as text, never as HTML.
import { ask } from "./base.js";
import { showSources, updateSources } from "./sources.js";
import { bindEvents, refreshEvent, refreshEvents, showEvent } from "./events.js";

const connection = document.getElementById("connection");
const alarm = document.getElementById("alarm");

const listen = (about) => {
  let changes;
  const live = new EventSource("/api/v1/live");
  live.addEventListener("second", (message) => {
    const second = JSON.parse(message.data);
    connection.textContent = `live, ${new Date(second.at).toLocaleTimeString()}`;
    connection.className = "";
    alarm.hidden = !second.alarm;
    alarm.textContent = second.alarm ? `Flag log: ${second.alarm}` : "";
    updateSources(second.sources, about);
    if (changes !== undefined && second.changes !== changes) {
      refreshEvents(about);
      refreshEvent();
    }
    changes = second.changes;
  });
  live.onerror = () => {
    connection.textContent = "the box does not answer; trying again";
    connection.className = "lost";
  };
};

const route = (about) => {
  const id = location.hash.match(/^#event\/([0-9A-Z]+)$/)?.[1];
  document.getElementById("overview").hidden = Boolean(id);
  document.getElementById("event").hidden = !id;
  if (id) showEvent(id, about);
};

const start = async () => {
  const about = await ask("/api/v1");
  document.getElementById("node").textContent = `on ${about.node}`;
  document.title = `spotd on ${about.node}`;
  document.getElementById("about").textContent =
    `${about.model.name} ${about.model.version} (${about.model.precision}), synthetic from ${about.threshold.toFixed(3)}, unsure from ${about.unsure_from.toFixed(3)}`;
  const sources = await ask("/api/v1/sources");
  await showSources(sources, about);
  bindEvents(sources.map((source) => source.id), about);
  await refreshEvents(about);
  addEventListener("hashchange", () => route(about));
  route(about);
  listen(about);
};

start().catch((error) => {
  connection.textContent = `the page cannot be shown: ${error.message}`;
  connection.className = "lost";
});

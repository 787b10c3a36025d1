// The operator's judgement of an event: what stands, and buttons to say otherwise.
import { el, moment, send } from "./base.js";

const words = { confirmed: "confirmed", "false-alarm": "false alarm" };

// What counts now, in words; nothing where nobody has judged or it was taken back.
export const standing = (review) => (review && words[review.review] ? `${words[review.review]}, says ${review.by}` : "");

// The name is given once and kept in this browser, where it may keep something.
const operator = {
  get: () => { try { return localStorage.getItem("spotd-operator") ?? ""; } catch { return ""; } },
  set: (name) => { try { localStorage.setItem("spotd-operator", name); } catch { /* asked for again the next time */ } },
};

// The part of an event's page; `show` brings it up to date when somebody else has judged.
export const judgement = (id) => {
  let newest;
  const stands = el("p", { id: "review-standing", role: "status" });
  const comment = el("p", { id: "review-comment" });
  const problem = el("p", { id: "review-problem", role: "alert", hidden: true });
  const by = el("input", { name: "by", required: true, maxlength: 80, autocomplete: "name", value: operator.get() });
  const remark = el("textarea", { name: "comment", maxlength: 1000, rows: 2 });
  const button = (review, text) => el("button", { type: "button", "data-review": review }, text);
  const back = button("withdrawn", "Take back");
  const buttons = [button("confirmed", "Confirmed"), button("false-alarm", "False alarm"), back];
  const form = el("form", { id: "review" }, el("label", {}, "Your name ", by), el("label", {}, "Note (optional) ", remark), el("span", { class: "row" }, ...buttons));

  const say = (text) => {
    problem.textContent = text;
    problem.hidden = !text;
  };
  const show = (review) => {
    newest = review ?? undefined;
    const word = words[newest?.review];
    stands.textContent = word ? `Judged: ${word}, by ${newest.by}, ${moment(newest.written)}`
      : newest ? `Nobody's judgement stands: ${newest.by} has taken it back, ${moment(newest.written)}` : "Nobody has judged this event yet.";
    comment.textContent = newest?.comment ?? "";
    comment.hidden = !newest?.comment;
    back.hidden = !word;
    for (const one of buttons) one.setAttribute("aria-pressed", String(Boolean(newest) && one.dataset.review === newest.review && one !== back));
  };
  const judge = async (review) => {
    say("");
    if (!form.reportValidity()) return;
    for (const one of buttons) one.disabled = true;
    try {
      const body = { review, by: by.value, comment: remark.value || undefined, replaces: newest?.id };
      show(await send(`/api/v1/events/${id}/review`, body));
      operator.set(by.value.trim());
      remark.value = "";
    } catch (error) {
      if (error.status === 409) show(error.body.standing);
      say(`Not kept: ${error.message}`);
    } finally {
      for (const one of buttons) one.disabled = false;
    }
  };
  for (const one of buttons) one.addEventListener("click", () => judge(one.dataset.review));
  form.addEventListener("submit", (event) => event.preventDefault());
  const part = el("section", { "aria-labelledby": "review-title" }, el("h3", { id: "review-title" }, "Your judgement"), stands, comment, form, problem);
  // What a colleague has said in the meantime is said here too.
  const update = (review) => {
    if (review && review.id !== newest?.id) {
      show(review);
      say("");
    }
  };
  return { part, show, update };
};

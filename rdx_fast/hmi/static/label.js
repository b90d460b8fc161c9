// The queue of parts that wait for a person's judgement, one at a time.

import { get, isUser, session } from "./api.js";
import { scoreBar } from "./chart.js";
import { h } from "./dom.js";
import { addKeys } from "./keys.js";
import { isJudged, labelForm } from "./labelling.js";
import { signIn } from "./login.js";
import { attempt, complain } from "./notes.js";
import { Picture } from "./picture.js";
import { listen, stream } from "./stream.js";
import { count, moment, reasonText, t } from "./texts.js";
import { badge } from "./verdict.js";
import { countWaiting } from "./waiting.js";

const BATCH = 30;

export function open(root) {
  if (!isUser()) {
    const button = h("button", { class: "primary", onclick: signIn }, t("login.title"));
    root.append(h("div", { class: "locked" }, h("p", {}, t("label.needs_user")), button));
    return () => {};
  }
  const picture = new Picture();
  const form = labelForm(saved);
  const waits = h("p", { class: "queue-count", role: "status" });
  const facts = h("div", { class: "queue-facts" });
  const last = h("p", { class: "muted", role: "status" });
  const back = h("button", { type: "button", onclick: () => move(-1) }, `← ${t("label.back")}`);
  const skip = h("button", { type: "button", onclick: () => move(1) }, `${t("label.skip")} →`);
  root.append(
    h("h1", { class: "unseen" }, t("label.title")),
    h(
      "div",
      { class: "queue" },
      h("section", { class: "panel" }, picture.element),
      h("section", { class: "panel queue-side" }, waits, facts, form.element, h("div", { class: "actions" }, back, skip), last),
    ),
  );
  let parts = [];
  let place = 0;
  let waiting = 0;
  let closed = false;

  async function load() {
    const told = await get("/api/queue", { limit: BATCH });
    if (closed) return;
    // Those already seen stay before, so that one can go back to them.
    const known = new Set(parts.map((part) => part.inspection_id));
    parts = [...parts.slice(-BATCH), ...told.parts.filter((part) => !known.has(part.inspection_id))];
    waiting = told.waiting;
  }

  function draw() {
    const part = parts[place];
    waits.replaceChildren(h("strong", {}, count(waiting)), ` ${t("label.waiting")}`);
    back.disabled = place === 0;
    skip.disabled = !part;
    form.show(part ?? null);
    if (!part) {
      facts.replaceChildren();
      picture.clear(t("label.empty"));
      return;
    }
    facts.replaceChildren(
      h(
        "p",
        { class: "queue-part" },
        badge(part.result),
        h("a", { href: `#/part/${part.inspection_id}` }, t("live.part", { part: part.part_id })),
        part.sampled ? h("span", { class: "chip", title: t("part.sampled_long") }, t("part.sampled")) : null,
      ),
      h("p", { class: "muted" }, `${moment(part.triggered_at)} · ${t("column.job")} ${part.job}`),
      scoreBar(part),
    );
    picture.show(part).catch((error) => {
      if (error.status === 404) picture.clear(t("part.no_picture"));
      else complain(error);
    });
  }

  async function move(by) {
    const seen = parts[place]?.inspection_id;
    let to = place + by;
    if (to >= parts.length) {
      await attempt(load);
      to = parts.findIndex((part) => part.inspection_id === seen) + by;
    }
    place = Math.min(Math.max(to, 0), parts.length);
    if (!closed) draw();
  }

  function saved(part, given) {
    const at = parts.findIndex((one) => one.inspection_id === part.inspection_id);
    const again = parts[at].labelledNow;
    parts[at] = { ...part, labelledNow: true };
    if (!again) waiting = Math.max(0, waiting - 1);
    last.textContent = t("label.saved", { part: part.part_id, verdict: t(`agreed.${given.verdict}`), reason: reasonText(given.reason) });
    countWaiting().catch(complain);
    if (at === place) move(1);
  }

  const removeKeys = addKeys({
    ...form.keys,
    ArrowRight: ["label.skip", () => move(1)],
    ArrowLeft: ["label.back", () => move(-1)],
  });
  // A queue that is empty goes on with the next part that comes.
  let busy = true;
  async function refill() {
    const known = new Set(parts.map((part) => part.inspection_id));
    const isNew = (part) => !known.has(part.inspection_id) && !part.labels.some(({ user }) => user === session.user);
    const hasCome = stream.recent.some((part) => isJudged(part) && part.has_frame && isNew(part));
    if (busy || parts[place] || !hasCome) return;
    busy = true;
    await attempt(load);
    busy = false;
    if (!closed) draw();
  }
  const stop = listen((what) => what === "parts" && refill());
  attempt(load).then(() => {
    busy = false;
    if (!closed) draw();
  });
  return () => {
    closed = true;
    stop();
    removeKeys();
    picture.close();
  };
}

// What is happening now.

import { query } from "./api.js";
import { scoreBar, Trend } from "./chart.js";
import { h, keyed } from "./dom.js";
import { addKeys } from "./keys.js";
import { countsPanel } from "./live_counts.js";
import { alarmsList, stationPanel } from "./live_station.js";
import { VerdictPanel } from "./live_verdict.js";
import { complain } from "./notes.js";
import { Picture } from "./picture.js";
import { agreedBadge, badge } from "./verdict.js";
import { isCurrent, listen, newest, stream } from "./stream.js";
import { clock, number, t } from "./texts.js";

const PICTURE_MS = 500; // at most so often a new picture
const STRIP_MS = 2000; // at most so often new thumbnails

/** Tells parts apart: ids begin anew when the records are replaced. */
const identity = (part) => `${part.inspection_id} ${part.triggered_at}`;

export function open(root) {
  const verdict = new VerdictPanel();
  const score = h("div", { class: "panel score" });
  const bar = h("div", {});
  const trend = new Trend();
  score.append(h("h2", {}, t("live.score")), bar, trend.element);
  const counts = countsPanel();
  const station = stationPanel();
  const alarms = alarmsList();
  const live = livePicture();
  const strip = h("ol", { class: "strip" });
  const recent = h("tbody", {});
  const grid = h(
    "div",
    { class: "live" },
    verdict.element,
    score,
    counts.element,
    live.element,
    h("section", { class: "panel strip-panel" }, h("h2", {}, t("live.rejects")), strip),
    station.element,
    h(
      "section",
      { class: "panel recent" },
      h("h2", {}, t("live.recent")),
      h("table", { class: "plain" }, recentHead(), recent),
    ),
  );
  root.append(h("h1", { class: "unseen" }, t("live.title")), alarms.element, grid);

  // Each new entry fetches a picture: at a line that rejects all parts, these would be many.
  let stripTimer = null;
  let stripDrawn = -STRIP_MS;
  function drawStrip() {
    stripTimer = null;
    stripDrawn = performance.now();
    keyed(
      strip,
      stream.strip,
      identity,
      stripEntry,
      (one) => `${one.result}${one.agreed}${one.has_frame}`,
    );
  }

  function drawCurrent() {
    verdict.draw();
    grid.dataset.current = isCurrent();
  }
  const update = {
    link() {
      drawCurrent();
      station.draw(stream.status);
    },
    status() {
      drawCurrent();
      station.draw(stream.status);
      alarms.draw(stream.status?.alarms ?? []);
      update.counts(); // of the active job, which may be another one now
    },
    parts() {
      verdict.draw();
      const part = newest();
      bar.replaceChildren(...(part ? [scoreBar(part)] : []));
      trend.show(stream.trend);
      keyed(recent, stream.recent, identity, recentRow);
      stripTimer ??= setTimeout(drawStrip, stripDrawn + STRIP_MS - performance.now());
      live.next();
    },
    counts: () => counts.draw(stream.counts, stream.status?.job?.id),
  };
  const drawAll = () => Object.values(update).forEach((draw) => draw());
  if (stream.begun) drawAll();
  const stop = listen((what) => update[what]());
  const clockTimer = setInterval(() => verdict.draw(), 1000);
  const removeKeys = addKeys({
    " ": ["live.hold_key", live.toggleHold],
    Enter: [
      "live.open_key",
      () => newest() && (location.hash = `#/part/${live.shown() ?? newest().inspection_id}`),
    ],
  });
  return () => {
    stop();
    clearInterval(clockTimer);
    clearTimeout(stripTimer);
    removeKeys();
    live.close();
    trend.close();
  };
}

const recentHead = () =>
  h(
    "thead",
    {},
    h(
      "tr",
      {},
      ["part", "time", "result", "score"].map((name) =>
        h("th", { scope: "col" }, t(`column.${name}`)),
      ),
    ),
  );

const recentRow = (part) =>
  h(
    "tr",
    {},
    h("td", {}, h("a", { href: `#/part/${part.inspection_id}` }, String(part.part_id))),
    h("td", {}, clock(part.triggered_at)),
    h("td", {}, badge(part.result), agreedBadge(part.agreed)),
    h(
      "td",
      { class: "figure" },
      part.score === null ? h("small", {}, part.error ?? "–") : number(part.score),
    ),
  );

// The browser would show the picture of an id that it had before: the time is in the address.
const stripEntry = ({ triggered_at, ...part }) =>
  h(
    "li",
    {},
    h(
      "a",
      { href: `#/part/${part.inspection_id}`, data: { result: part.result } },
      part.has_frame
        ? h("img", {
            src: `/api/parts/${part.inspection_id}/frame${query({ width: 240, triggered_at })}`,
            alt: "",
            loading: "lazy",
          })
        : h("small", {}, t("picture.none")),
      h("span", {}, badge(part.result), String(part.part_id)),
      agreedBadge(part.agreed),
    ),
  );

/** The picture of the newest part, fetched when the last one is there, at most twice a second. */
function livePicture() {
  const picture = new Picture();
  let busy = false;
  let timer = 0;
  let held = false;
  let closed = false;
  let tried = null; // the newest part that was asked for
  const hold = h(
    "button",
    {
      type: "button",
      "aria-pressed": "false",
      title: t("live.hold_key"),
      onclick: () => toggleHold(),
    },
    t("live.hold"),
  );
  const openPart = h("a", { class: "button" }, t("live.open"));
  picture.element.querySelector(".picture-tools").append(hold, openPart);
  openPart.hidden = true;

  function toggleHold() {
    held = !held;
    hold.setAttribute("aria-pressed", String(held));
    next();
  }

  /** Have the button open a part. */
  function offer(part) {
    openPart.hidden = !part;
    if (part) openPart.href = `#/part/${part.inspection_id}`;
  }

  async function next() {
    const part = newest();
    if (!part) {
      tried = null;
      offer(null);
      picture.clear(t("live.waiting"));
      return;
    }
    if (busy || held || closed || document.hidden || identity(part) === tried) return;
    if (!part.has_frame) {
      // If one is stored yet, the part comes again.
      offer(part);
      picture.clear(t("live.no_picture", { part: part.part_id }));
      return;
    }
    busy = true;
    const begun = performance.now();
    tried = identity(part);
    try {
      const caption = t("live.caption", {
        part: part.part_id,
        result: part.result,
        time: clock(part.triggered_at),
      });
      if (await picture.show(part, { caption })) offer(part);
    } catch (error) {
      // The next part may have come meanwhile; its picture is asked for next.
      const isLast = newest() && identity(newest()) === tried;
      if (error.status === 404 && isLast)
        picture.clear(t("live.no_picture", { part: part.part_id }));
      else if (error.status !== 404 && error.status !== 0 && error.name !== "AbortError")
        complain(error);
    }
    if (closed) return;
    timer = setTimeout(
      () => {
        busy = false;
        next();
      },
      Math.max(0, PICTURE_MS - (performance.now() - begun)),
    );
  }

  document.addEventListener("visibilitychange", next);
  picture.clear(t("live.waiting"));
  return {
    element: h(
      "section",
      { class: "panel live-picture", "aria-label": t("live.picture") },
      picture.element,
    ),
    next,
    toggleHold,
    shown: () => picture.part?.inspection_id ?? null,
    close() {
      closed = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", next);
      picture.close();
    },
  };
}
